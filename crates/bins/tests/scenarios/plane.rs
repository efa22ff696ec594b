use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use meshrelay_testbed::{Agent, Fleet, Redis, Server, Watcher, copy, wait_for};

use crate::PROGRAMS;
use crate::quotes::Log;

/// The clusters of a plane with workloads.
pub(crate) const CLUSTERS: [&str; 3] = ["cluster1", "cluster2", "cluster3"];

/// One more: two of them can be missing while two need each other.
pub(crate) const FOUR_CLUSTERS: [&str; 4] = ["cluster1", "cluster2", "cluster3", "cluster4"];

/// Arguments of agents: a server that takes over is believed soon.
const AGENT_OPTIONS: [&str; 2] = ["--takeover-window", "2"];

/// What a server knows of the fleet beside its certificates and tokens.
const MEMORY: [&str; 3] = ["warm-clusters.json", "allocations.json", "last-accepted.json"];

/// What the tests edit while something is broken.
const EDITED: &str = "virtualservice-routetable-reviews";

/// Replicas of the management server with one Redis, and the agents of clusters that depend on each other.
pub(crate) struct Plane {
    watcher: Option<Watcher>,
    pub(crate) clusters: &'static [&'static str],
    pub(crate) agents: BTreeMap<&'static str, Agent>,
    /// By number; none while a replica is down.
    pub(crate) servers: Vec<Option<Server>>,
    pub(crate) relays: Vec<SocketAddr>,
    pub(crate) redis: Redis,
    pub(crate) fleet: Fleet,
    options: Vec<String>,
    agent_options: Vec<String>,
}

impl Plane {
    /// Some replicas with further arguments; each agent prefers another one. From now on everything is watched.
    pub(crate) fn start(replicas: usize, options: &[&str]) -> Self {
        Self::of(&CLUSTERS, replicas, options)
    }

    /// With these clusters.
    pub(crate) fn of(clusters: &'static [&'static str], replicas: usize, options: &[&str]) -> Self {
        Self::start_so(clusters, replicas, options, &AGENT_OPTIONS, Redis::start(&[]))
    }

    /// With a Redis that is set up otherwise.
    pub(crate) fn start_with(replicas: usize, options: &[&str], redis: Redis) -> Self {
        Self::start_so(&CLUSTERS, replicas, options, &AGENT_OPTIONS, redis)
    }

    /// With arguments for agents.
    pub(crate) fn start_so(
        clusters: &'static [&'static str],
        replicas: usize,
        options: &[&str],
        agent_options: &[&str],
        redis: Redis,
    ) -> Self {
        let mut plane = Self {
            watcher: None,
            clusters,
            agents: BTreeMap::new(),
            servers: Vec::new(),
            relays: Vec::new(),
            redis,
            fleet: Fleet::wide(PROGRAMS, clusters.len() as u8),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            agent_options: agent_options.iter().map(|&option| option.to_owned()).collect(),
        };
        for number in 0..replicas {
            if number > 0 {
                // Replicas share secrets, as they would in a cluster.
                copy(&plane.fleet.state("server0"), &plane.fleet.state(&state(number)));
            }
            plane.relays.push(plane.fleet.any_port());
            plane.servers.push(None);
            plane.start_server(number);
        }
        copy(&plane.fleet.state("server0"), &plane.fleet.state("server"));
        for cluster in clusters {
            plane.fleet.bootstrap(cluster);
            plane.start_agent(cluster);
        }
        plane.fleet.wait_until_converged();
        plane.watch_all_but(&[]);
        plane
    }

    /// Watches what is applied from now on, but for what is edited: files with these texts in their paths may change.
    pub(crate) fn watch_all_but(&mut self, edited: &[&str]) {
        if let Some(before) = self.watcher.take() {
            before.finish();
        }
        let edited: Vec<&str> = edited.iter().copied().chain([EDITED]).collect();
        self.watcher = Some(Watcher::of_contents(&self.fleet, &edited));
    }

    /// Does something to Redis, until all replicas say this of it.
    pub(crate) fn redis_until(&mut self, does: impl FnOnce(&mut Redis), said: Log) {
        let marks: Vec<usize> = self.running().map(|server| server.process.mark()).collect();
        does(&mut self.redis);
        for (server, mark) in self.running().zip(marks) {
            said.said_since(mark, &server.process, &[]);
        }
    }

    /// Starts a replica where it was.
    pub(crate) fn start_server(&mut self, number: usize) {
        self.start_server_under(&[], number);
    }

    pub(crate) fn start_server_under(&mut self, words: &[&str], number: usize) {
        let (state, redis) = (self.fleet.state(&state(number)), self.redis.address());
        let mut further = vec!["--state-directory", state.to_str().unwrap(), "--redis-address", &redis];
        further.extend(self.options.iter().map(String::as_str));
        let server = Server::start_under(words, &self.fleet, self.relays[number], &further);
        self.relays[number] = server.relay;
        self.servers[number] = Some(server);
    }

    /// Replaces the arguments of replicas that are started from now on.
    pub(crate) fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// As a crash: without a word to anybody.
    pub(crate) fn kill_server(&mut self, number: usize) {
        self.servers[number] = None;
    }

    pub(crate) fn server(&self, number: usize) -> &Server {
        self.servers[number].as_ref().unwrap()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().flatten()
    }

    /// Takes from a replica that is down what it knew of the fleet, as a container without a volume loses it.
    pub(crate) fn forget(&self, number: usize) {
        for file in MEMORY {
            let _ = fs::remove_file(self.fleet.state(&state(number)).join(file));
        }
    }

    /// The replicas in the order in which an agent prefers them.
    pub(crate) fn preferred(&self, cluster: &str) -> Vec<SocketAddr> {
        let mut relays = self.relays.clone();
        let first = self.clusters.iter().position(|name| *name == cluster).unwrap();
        relays.rotate_left(first % self.relays.len());
        relays
    }

    /// The replica that an agent prefers.
    pub(crate) fn home(&self, cluster: &str) -> usize {
        let first = self.preferred(cluster)[0];
        self.relays.iter().position(|relay| *relay == first).unwrap()
    }

    pub(crate) fn start_agent(&mut self, cluster: &'static str) {
        self.start_agent_at(cluster, &self.preferred(cluster));
    }

    pub(crate) fn start_agent_at(&mut self, cluster: &'static str, relays: &[SocketAddr]) {
        self.start_agent_under(&[], cluster, relays);
    }

    pub(crate) fn start_agent_under(&mut self, words: &[&str], cluster: &'static str, relays: &[SocketAddr]) {
        let further: Vec<&str> = self.agent_options.iter().map(String::as_str).collect();
        self.agents.insert(cluster, Agent::start_under(words, &self.fleet, cluster, relays, &further));
    }

    pub(crate) fn kill_agent(&mut self, cluster: &str) {
        self.agents.remove(cluster).unwrap();
    }

    /// An edit whose whole effect is in the cluster of its own; it gets through.
    pub(crate) fn edit(&self, before: u32, percent: u32) {
        self.fleet.shift_traffic(before, percent);
        self.fleet.wait_for_shifted_traffic(percent);
    }

    /// Waits until a replica, or any of them, has the push of an agent.
    pub(crate) fn wait_until_connected(&self, cluster: &str, number: Option<usize>) {
        let name = format!("relay_push_clients_connected{{cluster=\"{cluster}\"}}");
        let servers: Vec<&Server> = match number {
            Some(number) => vec![self.server(number)],
            None => self.running().collect(),
        };
        wait_for(format_args!("the agent of {cluster} at a server"), || {
            let connected = servers.iter().any(|server| server.endpoints.metric(&name) == Some(1.0));
            if connected { Ok(()) } else { Err("none".to_owned()) }
        });
    }

    /// Waits until everything is as if nothing had happened, and nothing was lost on the way.
    pub(crate) fn settles(mut self) {
        self.fleet.wait_until_converged();
        for server in self.running() {
            server.endpoints.wait_until_ready();
            wait_for("the end of all waiting and holding", || {
                let status = server.endpoints.status();
                let calm = status["waitingFor"] == serde_json::json!([]) && status["deletionsHeld"].is_null();
                if calm { Ok(()) } else { Err(status.to_string()) }
            });
        }
        for agent in self.agents.values() {
            agent.endpoints.wait_until_ready();
            wait_for("nothing that is held or frozen", || {
                let status = agent.endpoints.status();
                let calm = status["held"].is_null() && status["frozen"] == serde_json::json!({});
                if calm { Ok(()) } else { Err(status.to_string()) }
            });
        }
        self.watcher.take().unwrap().finish();
    }
}

fn state(number: usize) -> String {
    format!("server{number}")
}
