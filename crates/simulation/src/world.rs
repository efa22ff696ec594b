//! One run: a plane, its agents, what happens to them, and what has to be true in the end.

use std::sync::Arc;
use std::time::Duration;

use meshrelay_agent::{DeleteBrake, FollowRule};
use meshrelay_cluster::ClusterView;
use meshrelay_server::SafeModeScope;
use meshrelay_store::SnapshotStore;

use crate::fleet::{self, CLUSTERS, Code, MANAGEMENT};
use crate::network::{Network, Notices, Topology};
use crate::picture::{content, picture};
use crate::processes::{Agent, Server, Setup};
use crate::shared_store::{SharedStore, StoreFault};
use crate::situations::Situation;
use crate::tests::Defect;
use crate::trace::{Context, note};

/// How long after the last fault everything has to be as it should be: the longest windows, one after the other, and what
/// connections take.
const PATIENCE: Duration = Duration::from_secs(900);

pub(crate) struct World {
    context: Arc<Context>,
    defect: Option<Defect>,
    setup: Setup,
    store: Option<Arc<SharedStore>>,
    network: Arc<Network>,
    management: Arc<ClusterView>,
    servers: Vec<Server>,
    agents: Vec<Agent>,
    /// What starts again, and when.
    due: Vec<(Duration, Process)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    Server(usize),
    Agent(usize),
}

impl World {
    pub(crate) fn new(context: &Arc<Context>, defect: Option<Defect>) -> Self {
        // A store would know what nobody waits for, and a window after a takeover would be long enough.
        let is_alone = defect == Some(Defect::NobodyIsWaitedFor);
        let topologies = [Topology::Balancer, Topology::Name, Topology::List];
        let topology = context.pick(if is_alone { &topologies[2..] } else { &topologies }).unwrap();
        let servers = 2 + context.below(2) as usize;
        // Replicas share a store; planes that are listed may be on their own.
        let store = !is_alone && (topology != Topology::List || context.chance(0.6));
        let is_old = defect == Some(Defect::OldBehaviour);
        let setup = Setup {
            servers,
            safe_mode: context.chance(0.3),
            window: context.pick(&[180, 180, 30]).unwrap(),
            scope: context.pick(&[SafeModeScope::Fleet, SafeModeScope::Dependents]).unwrap(),
            takeover_window: if is_old || is_alone { 0 } else { context.pick(&[180, 60]).unwrap() },
            brake: DeleteBrake {
                enabled: !is_old,
                min_objects: context.pick(&[10, 4]).unwrap(),
                ..DeleteBrake::default()
            },
            follow: defect.map_or_else(FollowRule::default, Defect::rule),
        };
        note!(context, "{topology:?} {setup:?}, a store: {store}");
        let view = |cluster: &str, code: Code| {
            let number = context.oracle.lock().state(cluster, code);
            fleet::view(cluster, code, number, true)
        };
        let waits = if is_old || defect == Some(Defect::NobodyIsWaitedFor) { fleet::SKIP_WARMING } else { 0 };
        Self {
            defect,
            store: store.then(|| Arc::new(SharedStore::new(context))),
            network: Arc::new(Network::new(context, topology)),
            management: view(MANAGEMENT, waits),
            servers: (0..servers).map(|index| Server::new(index, context)).collect(),
            agents: (0..CLUSTERS.len()).map(|index| Agent::new(index, context, view(CLUSTERS[index], 0))).collect(),
            due: Vec::new(),
            context: Arc::clone(context),
            setup,
        }
    }

    pub(crate) async fn run(mut self) -> Result<(), String> {
        self.start_all();
        self.converge("after the start").await?;
        let actions = 6 + self.context.below(12);
        for _ in 0..actions {
            let gap = match self.context.below(20) {
                0..10 => self.context.millis(3_000),
                10..17 => self.context.millis(40_000),
                _ => self.context.millis(240_000),
            };
            self.advance(gap).await?;
            self.act().await;
            self.look();
        }
        self.end_faults();
        let converged = self.converge("after the last fault").await;
        for server in &mut self.servers {
            server.kill(&self.network);
        }
        for agent in &mut self.agents {
            agent.kill(&self.network);
        }
        converged
    }

    fn start(&mut self, process: Process) {
        match process {
            Process::Server(at) => {
                let store = self.store.clone().map(|store| store as Arc<dyn SnapshotStore>);
                self.servers[at].start(&self.setup, store, Arc::clone(&self.management), &self.network);
            }
            Process::Agent(at) => self.agents[at].start(&self.setup, &self.network),
        }
    }

    fn start_all(&mut self) {
        self.due.clear();
        (0..self.servers.len()).for_each(|at| self.start(Process::Server(at)));
        (0..self.agents.len()).for_each(|at| self.start(Process::Agent(at)));
    }

    /// Lets time pass.
    async fn advance(&mut self, by: Duration) -> Result<(), String> {
        let end = self.context.now() + by;
        loop {
            let now = self.context.now();
            let ready: Vec<Process> =
                self.due.iter().filter(|(at, _)| *at <= now).map(|(_, process)| *process).collect();
            self.due.retain(|(at, _)| *at > now);
            ready.into_iter().for_each(|process| self.start(process));
            if let Some(failure) = self.context.failure() {
                return Err(failure);
            }
            if now >= end {
                return Ok(());
            }
            let next = self.due.iter().map(|(at, _)| *at).min().map_or(end, |at| at.min(end));
            tokio::time::sleep(next - now).await;
        }
    }

    /// Between any two steps of others.
    async fn some_steps(&self) {
        for _ in 0..self.context.below(8) {
            tokio::task::yield_now().await;
        }
    }

    fn later(&mut self, process: Process) {
        // Some do not come back before the faults end.
        if self.context.chance(0.85) {
            let most = self.context.pick(&[2_000, 30_000, 260_000]).unwrap();
            let at = self.context.now() + self.context.millis(most);
            self.due.push((at, process));
        }
    }

    async fn act(&mut self) {
        if let Some(store) = &self.store {
            store.copy();
        }
        self.some_steps().await;
        let (agent, server) = (self.context.below(3) as usize, self.context.below(self.servers.len() as u64) as usize);
        match self.context.below(100) {
            0..26 => self.edit(agent),
            26..31 => self.edit_management(&[fleet::NO_DESTINATION, fleet::SECOND_ROUTE]),
            31..35 => {
                self.context.met(Situation::Registration);
                self.edit_management(&[fleet::UNREGISTERED << agent]);
            }
            35..40 => self.toggle(CLUSTERS[agent], fleet::HIDDEN),
            40..43 => self.edit_management(&[fleet::HIDDEN_CONFIG, fleet::HIDDEN_REGISTRATION]),
            43..50 => self.crash_agent(agent),
            50..60 => self.crash_server(server),
            60..63 => self.rolling_upgrade().await,
            63..67 => self.crash_all(),
            67..73 => {
                let fault = self.context.pick(&[StoreFault::Away, StoreFault::Slow, StoreFault::Flaky]).unwrap();
                self.store_does(|store| store.set_fault(fault));
                self.context.met_if(Situation::StoreFault, self.store.is_some());
            }
            73..76 => self.store_does(|store| store.set_fault(StoreFault::None)),
            76..79 => {
                self.context.met_if(Situation::StoreLoss, self.store.is_some());
                self.store_does(SharedStore::lose_all);
            }
            79..82 => {
                self.context.met_if(Situation::StoreLoss, self.store.is_some());
                self.store_does(SharedStore::lose_last);
            }
            82..88 => {
                note!(self.context, "the connection of agent {agent} is cut");
                self.context.met(Situation::CutConnection);
                self.network.cut_agent(agent, || notices(&self.context));
            }
            88..93 => {
                note!(self.context, "agent {agent} and server {server} do not reach each other");
                self.context.met(Situation::UnreachableServer);
                self.network.part(agent, server, || notices(&self.context));
            }
            93..96 => {
                note!(self.context, "the network is whole");
                self.network.heal();
            }
            96..98 => {
                self.agents[agent].machine.set_clock();
                self.servers[server].machine.set_clock();
            }
            _ => {
                let unreadable = &self.agents[agent].cluster.is_unreadable;
                let was = *unreadable.lock();
                *unreadable.lock() = !was;
                note!(self.context, "cluster {} can be listed: {was}", CLUSTERS[agent]);
            }
        }
    }

    fn store_does(&self, what: impl FnOnce(&SharedStore)) {
        if let Some(store) = &self.store {
            what(store);
        }
    }

    fn edit(&mut self, agent: usize) {
        let bit = self.context.pick(&[fleet::NO_CART, fleet::NO_WEB, fleet::MOVED]).unwrap();
        self.toggle(CLUSTERS[agent], bit);
    }

    fn edit_management(&mut self, bits: &[Code]) {
        let bit = self.context.pick(bits).unwrap();
        self.toggle(MANAGEMENT, bit);
    }

    fn toggle(&mut self, cluster: &str, bit: Code) {
        let code = self.context.oracle.lock().code(cluster) ^ bit;
        self.set(cluster, code);
    }

    fn set(&mut self, cluster: &str, code: Code) {
        let number = self.context.oracle.lock().state(cluster, code);
        note!(self.context, "cluster {cluster} has state {number}, variant {code}");
        let states_doubts = !matches!(self.defect, Some(Defect::OldBehaviour | Defect::DoubtsUnstated));
        let view = fleet::view(cluster, code, number, states_doubts);
        self.context.met_if(Situation::Unreadable, fleet::complete(cluster, code) != code);
        match CLUSTERS.iter().position(|name| *name == cluster) {
            Some(at) => drop(self.agents[at].cluster.views.send_replace(view)),
            None => {
                self.servers.iter().for_each(|server| drop(server.views.send_replace(Arc::clone(&view))));
                self.management = view;
            }
        }
    }

    fn crash_agent(&mut self, at: usize) {
        self.context.met(Situation::AgentCrash);
        self.agents[at].kill(&self.network);
        if self.context.chance(0.3) {
            note!(self.context, "agent {at} loses its disk");
            self.context.met(Situation::LostDisk);
            self.agents[at].machine.lose_disk();
        }
        self.agents[at].machine.set_clock();
        self.later(Process::Agent(at));
    }

    fn crash_server(&mut self, at: usize) {
        self.context.met(Situation::ServerCrash);
        self.servers[at].kill(&self.network);
        if self.context.chance(0.4) {
            note!(self.context, "server {at} loses its disk");
            self.context.met(Situation::LostDisk);
            self.servers[at].machine.lose_disk();
        }
        self.servers[at].machine.set_clock();
        self.later(Process::Server(at));
    }

    /// One server after the other.
    async fn rolling_upgrade(&mut self) {
        note!(self.context, "a rolling upgrade");
        self.context.met(Situation::RollingUpgrade);
        for at in 0..self.servers.len() {
            self.servers[at].stop(&self.network).await;
            tokio::time::sleep(self.context.millis(2_000)).await;
            self.start(Process::Server(at));
            tokio::time::sleep(self.context.millis(10_000)).await;
        }
    }

    /// Everything at once, of which some comes back.
    fn crash_all(&mut self) {
        note!(self.context, "everything is gone at once");
        self.context.met(Situation::EverythingGoneAtOnce);
        if self.context.chance(0.5) {
            self.store_does(SharedStore::lose_all);
        }
        for at in 0..self.servers.len() {
            self.crash_server(at);
        }
        for at in 0..self.agents.len() {
            if self.context.chance(0.6) {
                self.crash_agent(at);
            }
        }
        self.due.push((self.context.now() + self.context.millis(3_000), Process::Server(0)));
    }

    fn end_faults(&mut self) {
        note!(self.context, "the faults are over");
        self.store_does(|store| store.set_fault(StoreFault::None));
        self.network.heal();
        for cluster in std::iter::once(MANAGEMENT).chain(CLUSTERS) {
            let code = self.context.oracle.lock().code(cluster);
            if fleet::complete(cluster, code) != code {
                self.set(cluster, fleet::complete(cluster, code));
            }
        }
        for agent in &self.agents {
            *agent.cluster.is_unreadable.lock() = false;
        }
        self.start_all();
    }

    /// Takes note of what servers and agents say of themselves.
    fn look(&self) {
        for status in self.servers.iter().filter_map(Server::status) {
            self.context.met_if(Situation::Halt, !status.waiting_for.is_empty());
            self.context.met_if(Situation::SafeStartOver, !status.running_without.is_empty());
            self.context.met_if(Situation::ServerDoubts, status.deletions_held.is_some());
        }
        for status in self.agents.iter().filter_map(Agent::status) {
            self.context.met_if(Situation::Frozen, !status.frozen.is_empty());
            self.context.met_if(
                Situation::ServerBehind,
                status.frozen.values().any(|frozen| frozen.reason.contains("had a part in")),
            );
            if let Some(held) = &status.held {
                self.context.met_if(Situation::DeleteBrake, held.digest.is_some());
                self.context.met_if(Situation::AnotherServerTookOver, held.reason.contains("took over"));
            }
        }
        let down = self.agents.iter().filter(|agent| !agent.is_up()).count()
            + self.servers.iter().filter(|server| !server.is_up()).count();
        self.context.met_if(Situation::SeveralDown, down > 1);
    }

    async fn converge(&mut self, when: &str) -> Result<(), String> {
        let begun = self.context.now();
        loop {
            self.advance(Duration::from_secs(1)).await?;
            let Err(difference) = self.is_converged() else {
                note!(self.context, "converged");
                return Ok(());
            };
            let waited = self.context.now() - begun;
            if waited > PATIENCE {
                let failure = format!("not as it should be {PATIENCE:?} {when}: {difference}; {}", self.describe());
                self.context.fail(failure.clone());
                return Err(failure);
            }
            if waited.as_secs().is_multiple_of(30) {
                for agent in &self.agents {
                    if agent.status().is_some_and(|status| status.held.is_some_and(|held| held.digest.is_some())) {
                        self.context.met(Situation::Approval);
                        agent.approve();
                    }
                }
            }
        }
    }

    fn is_converged(&self) -> Result<(), String> {
        let codes = self.context.oracle.lock().codes();
        let wanted = picture(&codes);
        for agent in &self.agents {
            let name = CLUSTERS[agent.index];
            if !fleet::is_registered(codes[MANAGEMENT], name) {
                continue;
            }
            let nothing = Default::default();
            let wanted = wanted.get(name).unwrap_or(&nothing);
            let applied = agent.cluster.applied();
            if let Some(key) = wanted.keys().find(|key| !applied.contains_key(*key)) {
                return Err(format!("cluster {name} lacks {key}"));
            }
            for (key, object) in &applied {
                match wanted.get(key) {
                    None => return Err(format!("cluster {name} has {key} still")),
                    Some(wanted) if *wanted != content(object) && **wanted != *content(object) => {
                        return Err(format!("cluster {name} has another {key}: {:?}, not {wanted:?}", content(object)));
                    }
                    Some(_) => {}
                }
            }
            let status = agent.status().unwrap_or_default();
            if let Some(frozen) = status.frozen.values().next() {
                return Err(format!("cluster {name} is frozen still: {}", frozen.reason));
            }
            if let Some(held) = status.held {
                return Err(format!("cluster {name} holds deletions still: {}", held.reason));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let servers: Vec<_> = self.servers.iter().filter_map(Server::status).collect();
        let halts: Vec<_> = servers
            .iter()
            .map(|status| (&status.waiting_for, status.waiting_for_store, &status.deletions_held))
            .collect();
        let agents: Vec<_> = self.agents.iter().filter_map(Agent::status).collect();
        let agents: Vec<_> = agents
            .iter()
            .map(|status| (&status.cluster, &status.server, &status.last_error, &status.held, &status.frozen))
            .collect();
        format!("servers wait for {halts:?}; agents: {agents:?}")
    }
}

/// One side may learn of a lost connection only by its own deadline.
fn notices(context: &Context) -> Notices {
    let notice = || context.chance(0.6).then(|| context.millis(1_500));
    (notice(), notice())
}
