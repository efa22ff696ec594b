use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_cluster::ClusterView;
use meshrelay_pki::registration::Registrar;
use meshrelay_pki::tls::TlsMode;
use meshrelay_process::VERSION;
use meshrelay_process::machine::{Clock, Tasks};
use meshrelay_process::readiness::Readiness;
use meshrelay_relay::Limits;
use meshrelay_relay::grpc::{RelayHandle, RelayService, ServerSettings, Transport};
use meshrelay_snapshot::Name;
use meshrelay_store::SnapshotStore;
use meshrelay_translate::{Options, Translator};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::ServerHub;
use crate::inputs::Inputs;
use crate::registrar::ServerRegistrar;
use crate::replicas::{self, Rebalancing, Replicas, StoredOutputs};
use crate::sharing::{SharedMemory, Sharing};
use crate::state_file::StateFile;
use crate::translation::{Memory, SafeMode, Translate, TranslationLoop};
use crate::warm::{self, WARM_FILE};
use crate::{Metrics, ServerError, ServerStatus, Settings, management, reports_file};

/// What the core of a server has around it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Tells replicas apart.
    pub replica: String,
    /// What the replicas share, if there are several.
    pub store: Option<Arc<dyn SnapshotStore>>,
    /// The machine's clock.
    pub clock: Clock,
    /// How it translates.
    pub translate: Translate,
    /// Where its tasks run.
    pub tasks: Tasks,
    /// Counts what happens.
    pub metrics: Metrics,
    /// Says what is waited for.
    pub readiness: Readiness,
    /// Ends it in good order.
    pub stop: CancellationToken,
}

/// A management server without its edges, which are sockets, certificates, and the folders that it watches.
pub struct Core {
    pub(crate) service: RelayService<ServerRegistrar, ServerHub>,
    hub: Arc<ServerHub>,
    shared_memory: Option<Arc<SharedMemory>>,
    status: watch::Receiver<ServerStatus>,
    settings: Settings,
    surroundings: Surroundings,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("surroundings", &self.surroundings).finish_non_exhaustive()
    }
}

impl Core {
    /// A core that goes on from what is in the state folder, and shares inputs with replicas. With `pki` it lets agents in.
    ///
    /// # Errors
    /// [`ServerError`] for files that cannot be used.
    pub fn new(
        settings: Settings,
        surroundings: Surroundings,
        pki: Option<Arc<Registrar>>,
    ) -> Result<Self, ServerError> {
        std::fs::create_dir_all(&settings.state_directory)?;
        let Surroundings { replica, store, clock, tasks, metrics, stop, .. } = surroundings.clone();
        let warm_file = StateFile::new(&settings.state_directory, WARM_FILE);
        let warm = warm::load(&warm_file, clock.now())?;
        let inputs = Inputs::new(Name::from(&settings.management_cluster), warm.clone()).with_clock(clock);
        let inputs = Arc::new(inputs);
        let rebalancing = store.as_ref().map(|_| Arc::new(Rebalancing::new(settings.rebalance.clone(), &replica)));
        let stored_outputs = store.is_some().then(Arc::<StoredOutputs>::default);
        let shared_memory = store.is_some().then(Arc::<SharedMemory>::default);
        if let Some((store, memory)) = store.zip(shared_memory.clone()) {
            tasks.spawn(Sharing::new(store, Arc::clone(&inputs), memory, metrics.clone(), &*replica).run(stop));
        }
        let (status, status_of) = watch::channel(ServerStatus { replica: replica.clone(), ..ServerStatus::default() });
        let hub = Arc::new(ServerHub {
            inputs: Arc::clone(&inputs),
            outputs: Mutex::new(BTreeMap::new()),
            status: Arc::new(status),
            metrics,
            tls_mode: settings.tls_mode,
            pki: pki.clone(),
            rebalancing,
            stored_outputs,
            warm_file: Mutex::new((warm_file, warm)),
        });
        let service = RelayService::new(
            ServerRegistrar { inputs, pki },
            Arc::clone(&hub),
            ServerSettings {
                instance: replica,
                software_version: VERSION.to_owned(),
                require_certificate: matches!(settings.tls_mode, TlsMode::Mtls | TlsMode::OwnCertificates),
                limits: Limits { object_bytes: settings.max_object_bytes, ..Limits::default() },
                ..ServerSettings::default()
            },
        );
        Ok(Self { service, hub, shared_memory, status: status_of, settings, surroundings })
    }

    /// Follows the management cluster and translates.
    ///
    /// # Errors
    /// [`ServerError`] for files that cannot be used.
    pub fn run(&self, views: watch::Receiver<Arc<ClusterView>>) -> Result<(), ServerError> {
        let (settings, hub) = (&self.settings, &self.hub);
        let Surroundings { replica, store, translate, tasks, readiness, stop, .. } = &self.surroundings;
        let namespace = settings.namespace.clone();
        tasks.spawn(management::follow(views, namespace, Arc::clone(hub), self.relay(), stop.clone()));

        let memory = Memory::load(&settings.state_directory, self.shared_memory.clone())?.with(translate.clone());
        let options = Options { admin_namespace: settings.namespace.clone(), ..Options::default() };
        let (reports, newest_reports) = watch::channel(None);
        let leader = match store.clone() {
            Some(store) => {
                let replicas = Replicas { store, replica: replica.clone(), hub: Arc::clone(hub) };
                replicas.start(&self.relay(), &newest_reports, tasks, stop)
            }
            None => replicas::alone(hub),
        };
        if let Some(path) = settings.reports_file.clone() {
            tasks.spawn(reports_file::keep(path, newest_reports, leader));
        }
        let translation = TranslationLoop {
            safe_mode: SafeMode::new(Arc::clone(hub), settings, readiness.clone()),
            hub: Arc::clone(hub),
            translator: memory.remind(Translator::new(options)),
            memory,
            reports,
            stop: stop.clone(),
        };
        tasks.spawn(translation.run(readiness.register_task("first translation")));
        Ok(())
    }

    /// What it can tell about itself and its clusters, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<ServerStatus> {
        self.status.clone()
    }

    /// The streams of agents.
    pub fn relay(&self) -> RelayHandle {
        self.service.handle()
    }

    /// The way to it within the same process.
    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(self.service.clone())
    }

    /// Ends everything where it stands, as when the process dies.
    pub fn kill(&self) {
        self.surroundings.tasks.kill();
        self.relay().cut();
    }
}
