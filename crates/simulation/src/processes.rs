//! Servers and agents as processes on machines of their own: they start, stop, die, and may lose their disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use meshrelay_agent::deletions::DeletionFiles;
use meshrelay_agent::{DeleteBrake, FollowRule};
use meshrelay_cluster::ClusterView;
use meshrelay_pki::TlsMode;
use meshrelay_process::machine::{Clock, Tasks};
use meshrelay_relay::grpc::{Client, Identity};
use meshrelay_relay::{Limits, Timing};
use meshrelay_server::{SafeModeScope, Translate};
use meshrelay_store::SnapshotStore;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::SimulatedCluster;
use crate::fleet::{self, CLUSTERS, MANAGEMENT};
use crate::network::{Dialer, Network};
use crate::picture;
use crate::situations::Situation;
use crate::trace::{Context, note};

/// A computer: a disk, and a clock that may be wrong.
pub(crate) struct Machine {
    disk: Mutex<tempfile::TempDir>,
    /// Milliseconds.
    skew: Arc<AtomicI64>,
    /// The most that it ever was.
    highest: AtomicI64,
    /// Less than this it may not be any more.
    least: AtomicI64,
    context: Arc<Context>,
}

/// The present time when a simulation begins.
const EPOCH: i64 = 1_800_000_000;

/// How far clocks may be wrong, milliseconds: five hours.
const SKEW: u64 = 5 * 3_600_000;

fn disk() -> tempfile::TempDir {
    // In memory where there is such a thing: nothing here is to outlive the process.
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

impl Machine {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        let machine = Self {
            disk: Mutex::new(disk()),
            skew: Arc::default(),
            highest: AtomicI64::new(i64::MIN),
            least: AtomicI64::new(i64::MIN),
            context: Arc::clone(context),
        };
        machine.set_clock();
        machine
    }

    /// Puts the clock right, or wrong by hours. A machine that lost its disk knows from its clock alone which version of an
    /// input it gave last, so that one does not go back.
    pub(crate) fn set_clock(&self) {
        let skew = if self.context.chance(0.5) { 0 } else { self.context.below(2 * SKEW) as i64 - SKEW as i64 };
        let skew = skew.max(self.least.load(Ordering::Relaxed));
        self.highest.fetch_max(skew, Ordering::Relaxed);
        self.skew.store(skew, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (skew, context) = (Arc::clone(&self.skew), Arc::downgrade(&self.context));
        Clock::new(move || {
            let since = context.upgrade().map_or(Duration::ZERO, |context| context.now());
            let since = SignedDuration::try_from(since).unwrap();
            Timestamp::from_second(EPOCH).unwrap() + since + SignedDuration::from_millis(skew.load(Ordering::Relaxed))
        })
    }

    pub(crate) fn lose_disk(&self) {
        *self.disk.lock() = disk();
        self.least.store(self.highest.load(Ordering::Relaxed), Ordering::Relaxed);
        self.set_clock();
    }

    fn folder(&self) -> std::path::PathBuf {
        self.disk.lock().path().to_owned()
    }
}

/// How the plane is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) servers: usize,
    pub(crate) safe_mode: bool,
    pub(crate) window: u64,
    pub(crate) scope: SafeModeScope,
    pub(crate) takeover_window: u64,
    pub(crate) brake: DeleteBrake,
    pub(crate) follow: FollowRule,
}

pub(crate) struct Server {
    pub(crate) index: usize,
    pub(crate) machine: Machine,
    /// What it sees of the management cluster.
    pub(crate) views: watch::Sender<Arc<ClusterView>>,
    process: Option<(meshrelay_server::Core, CancellationToken)>,
    starts: u64,
}

impl Server {
    pub(crate) fn new(index: usize, context: &Arc<Context>) -> Self {
        let views = watch::Sender::new(Arc::default());
        Self { index, machine: Machine::new(context), views, process: None, starts: 0 }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn start(
        &mut self,
        setup: &Setup,
        store: Option<Arc<dyn SnapshotStore>>,
        view: Arc<ClusterView>,
        network: &Network,
    ) {
        if self.is_up() {
            return;
        }
        self.starts += 1;
        let (context, index) = (Arc::clone(&self.machine.context), self.index);
        note!(context, "server {index} starts");
        let settings = meshrelay_server::Settings {
            management_cluster: MANAGEMENT.to_owned(),
            state_directory: self.machine.folder(),
            tls_mode: TlsMode::Insecure,
            safe_mode: setup.safe_mode,
            safe_start_window: setup.window,
            safe_mode_scope: setup.scope,
            ..meshrelay_server::Settings::default()
        };
        let stop = CancellationToken::new();
        let watched = Arc::clone(&context);
        let surroundings = meshrelay_server::Surroundings {
            replica: format!("server-{index}-{}", self.starts),
            store,
            clock: self.machine.clock(),
            translate: Translate::new(move |translator, inputs, versions| {
                let states = inputs.clusters.iter().map(|(name, input)| (name.clone(), fleet::mark(input).0)).collect();
                watched.oracle.lock().translated(versions, &states);
                note!(watched, "server {index} translates {states:?}");
                watched.met(Situation::Translation);
                picture::translate(translator, inputs)
            }),
            tasks: Tasks::default(),
            stop: stop.clone(),
            ..meshrelay_server::Surroundings::default()
        };
        let core = meshrelay_server::Core::new(settings, surroundings, None).unwrap();
        self.views.send_replace(view);
        core.run(self.views.subscribe()).unwrap();
        network.serve(index, core.transport());
        self.process = Some((core, stop));
    }

    /// Asks agents to go, and ends a while later.
    pub(crate) async fn stop(&mut self, network: &Network) {
        let Some((core, _)) = &self.process else { return };
        note!(self.machine.context, "server {} stops in good order", self.index);
        core.relay().drain("the server is stopping");
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.kill(network);
    }

    pub(crate) fn kill(&mut self, network: &Network) {
        let Some((core, stop)) = self.process.take() else { return };
        let context = &self.machine.context;
        note!(context, "server {} is gone", self.index);
        core.kill();
        stop.cancel();
        network.server_gone(self.index, || context.chance(0.7).then(|| context.millis(800)));
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> Option<meshrelay_server::ServerStatus> {
        self.process.as_ref().map(|(core, _)| core.status().borrow().clone())
    }
}

pub(crate) struct Agent {
    pub(crate) index: usize,
    pub(crate) machine: Machine,
    pub(crate) cluster: Arc<SimulatedCluster>,
    process: Option<(Tasks, CancellationToken, watch::Receiver<meshrelay_agent::AgentStatus>)>,
    starts: u64,
}

impl Agent {
    pub(crate) fn new(index: usize, context: &Arc<Context>, view: Arc<ClusterView>) -> Self {
        let cluster = Arc::new(SimulatedCluster::new(CLUSTERS[index], context, view));
        Self { index, machine: Machine::new(context), cluster, process: None, starts: 0 }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn start(&mut self, setup: &Setup, network: &Arc<Network>) {
        if self.is_up() {
            return;
        }
        self.starts += 1;
        let context = &self.machine.context;
        note!(context, "agent {} starts", self.index);
        let settings = meshrelay_agent::Settings {
            cluster: CLUSTERS[self.index].to_owned(),
            server_address: network.addresses(setup.servers).parse().unwrap(),
            state_directory: self.machine.folder(),
            takeover_window: setup.takeover_window,
            delete_brake: setup.brake.clone(),
            ..meshrelay_agent::Settings::default()
        };
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let surroundings = meshrelay_agent::Surroundings {
            clock: self.machine.clock(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            seed: context.below(u64::MAX),
            follow: setup.follow,
            ..meshrelay_agent::Surroundings::default()
        };
        let core = meshrelay_agent::Core::new(&settings, surroundings);
        let status = core.status();
        let identity = Identity {
            cluster: CLUSTERS[self.index].into(),
            instance: format!("agent-{}-{}", self.index, self.starts),
            software_version: meshrelay_process::VERSION.to_owned(),
            token: None,
        };
        let client = Arc::new(Client::new(identity, Limits::default(), Timing::default()));
        let dial = Arc::new(Dialer {
            network: Arc::clone(network),
            agent: self.index,
            servers: setup.servers,
            connections: Default::default(),
        });
        let cluster = Arc::clone(&self.cluster);
        tasks.spawn(async move { core.run(&settings, cluster, client, dial).await });
        self.process = Some((tasks, stop, status));
    }

    pub(crate) fn kill(&mut self, network: &Network) {
        let Some((tasks, _, _)) = self.process.take() else { return };
        let context = &self.machine.context;
        note!(context, "agent {} is gone", self.index);
        tasks.kill();
        network.agent_gone(self.index, || context.chance(0.7).then(|| context.millis(800)));
    }

    pub(crate) fn status(&self) -> Option<meshrelay_agent::AgentStatus> {
        self.process.as_ref().map(|(_, _, status)| status.borrow().clone())
    }

    /// Somebody looks at the deletions that are held, and says that they are meant.
    pub(crate) fn approve(&self) {
        let files = DeletionFiles::new(&self.machine.folder(), CLUSTERS[self.index]);
        if let Ok(Some(held)) = files.held()
            && files.approval().is_ok_and(|approval| approval.is_none())
        {
            note!(self.machine.context, "agent {}: {} deletions are approved", self.index, held.objects.len());
            files.approve(&held, (self.machine.clock()).now()).unwrap();
        }
    }
}
