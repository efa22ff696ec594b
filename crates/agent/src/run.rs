use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_cluster::{Admission, Cluster, ClusterView, DirectoryCluster, DirectoryOptions};
use meshrelay_pki::tls::{ClientTls, TlsMode, system_time};
use meshrelay_pki::watch::{DEFAULT_POLL_PERIOD, FileWatch};
use meshrelay_pki::{AgentState, ClusterName, GraceRatio};
use meshrelay_process::readiness::Readiness;
use meshrelay_process::{VERSION, admin};
use meshrelay_relay::grpc::{Client, Identity, Progress, Reconnect};
use meshrelay_relay::{End, Held, Limits, Received, RefusalReason, Sent, Timing};
use meshrelay_snapshot::{ClusterFacts, Name, Snapshot};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::Certificate;
use crate::connector::Connector;
use crate::deletions::DeletionFiles;
use crate::discovery::Input;
use crate::held_output::HeldOutputFile;
use crate::in_force::InForce;
use crate::input_version::{self, InputVersionFile};
use crate::link::Link;
use crate::output::{Hold, Outputs};
use crate::takeover::Takeover;
use crate::{AgentError, AgentStatus, Metrics, Settings};

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Where health is served.
    pub health_address: SocketAddr,
    /// Where metrics are served.
    pub stats_address: SocketAddr,
    readiness: Readiness,
    status: watch::Receiver<AgentStatus>,
    tasks: TaskTracker,
}

impl Agent {
    /// What the agent can tell about itself, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// What the agent waits for.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Waits until everything has ended after a stop.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }

    /// Starts an agent; it runs until `stop` is cancelled.
    ///
    /// # Errors
    /// [`AgentError`] for settings, certificates or addresses that cannot be used.
    pub async fn start(settings: Settings, stop: CancellationToken) -> Result<Self, AgentError> {
        let missing = |setting, hint| AgentError::Missing { setting, hint };
        if settings.cluster.is_empty() {
            return Err(missing("cluster", "give --cluster or CLUSTER_NAME"));
        }
        let found = settings.delete_brake.max_percent;
        if found > 100 {
            let (setting, expected) = ("deleteBrake.maxPercent", "at most 100");
            return Err(AgentError::Setting { setting, expected, found: found.to_string() });
        }
        let cluster_name = ClusterName::new(&settings.cluster)?;
        let directory = settings.directory.clone().ok_or_else(|| {
            missing("directory", "give --directory with the folder that holds the cluster's manifests")
        })?;
        let output = settings.output_directory.clone().unwrap_or_else(|| PathBuf::from(".meshrelay"));
        let name = Name::from(&settings.cluster);
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let readiness = Readiness::new();
        let (status, status_of) = watch::channel(AgentStatus {
            cluster: settings.cluster.clone(),
            version: VERSION.to_owned(),
            servers: settings.server_address.as_slice().to_vec(),
            ..AgentStatus::default()
        });
        let status = Arc::new(status);
        let tasks = TaskTracker::new();

        let state = AgentState::open(&settings.state_directory)?;
        let (tls, own_certificate) = match settings.tls_mode {
            TlsMode::OwnCertificates => (load_tls(&settings, &settings.own_files()?)?, true),
            TlsMode::Mtls => (load_tls(&settings, &state.mtls_files())?, false),
            TlsMode::SimpleTls | TlsMode::Insecure => (load_tls(&settings, &state.simple_tls_files())?, true),
        };
        let addresses = settings.server_address.as_slice().to_vec();
        let connector = Connector::new(&settings.authority, &tls, metrics.clone())?;
        let client = Arc::new(Client::new(identity(&settings, &state)?, Limits::default(), Timing::default()));
        let mut certificate = None;
        if let ClientTls::Tls(live) = tls {
            if let Some(in_use) = live.certificate.filter(|_| !own_certificate) {
                let certificate_of = Arc::new(Certificate {
                    cluster: cluster_name,
                    state,
                    token: settings.token.clone(),
                    grace: GraceRatio::new(settings.client_tls_secret_rotation_grace_period_ratio)?,
                    in_use,
                    connector: connector.clone(),
                    client: Arc::clone(&client),
                    metrics: metrics.clone(),
                    addresses: addresses.clone(),
                    registering: tokio::sync::Mutex::default(),
                });
                tasks.spawn({
                    let (certificate, stop) = (Arc::clone(&certificate_of), stop.clone());
                    async move { certificate.keep_renewed(stop).await }
                });
                certificate = Some(certificate_of);
            }
            let (reloads, followed) = watch::channel(Vec::new());
            let files = FileWatch::new(live.watched);
            tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                files.run(DEFAULT_POLL_PERIOD, reloads).await;
                // Files are followed for as long as somebody could ask how they stand.
                drop(followed);
            }));
        }

        let health = admin::health_router(readiness.clone()).merge(admin::status_router(status_of.clone()));
        let (health_address, health) = listen("health", settings.health_address, health, &stop).await?;
        let (stats_address, stats) =
            listen("metrics", settings.stats_address, admin::metrics_router(Arc::new(registry)), &stop).await?;
        tasks.spawn(async { drop((health.await, stats.await)) });

        let listing = readiness.register_task("first listing of the cluster");
        let cluster = Arc::new(DirectoryCluster::open(directory_options(&settings, directory, output)).await);
        drop(listing);
        let (inputs, inputs_of) = watch::channel(None);
        let changed_at = Arc::new(Mutex::new(Instant::now()));
        tasks.spawn(follow_inputs(
            Input::new(name.clone(), settings.discovery()),
            cluster.watch(),
            inputs,
            Arc::clone(&changed_at),
            metrics.clone(),
            Arc::clone(&status),
            stop.clone(),
        ));

        let file = HeldOutputFile::new(&settings.state_directory, name.clone());
        let (held, in_force) = restore(&file, &settings, &name).await;
        // With one server there is nothing to take over.
        let window = if addresses.len() > 1 { settings.takeover_window } else { 0 };
        let takeover = Arc::new(Takeover::open(&settings.state_directory, Duration::from_secs(window)));
        let deletions = DeletionFiles::new(&settings.state_directory, name.clone());
        let applier = Outputs {
            cluster,
            file,
            in_force: tokio::sync::Mutex::new(in_force),
            brake: settings.delete_brake.clone(),
            hold: Hold::load(&deletions).await,
            deletions,
            metrics: metrics.clone(),
            status: Arc::clone(&status),
            readiness: readiness.clone(),
            takeover: Arc::clone(&takeover),
        };
        let link = Arc::new(Link::new(
            addresses,
            connector.clone(),
            Arc::clone(&client),
            certificate,
            takeover,
            metrics.clone(),
            Arc::clone(&status),
            stop.clone(),
        ));
        tasks.spawn({
            let link = Arc::clone(&link);
            async move { link.prefer().await }
        });
        tasks.spawn({
            let mut version_file = InputVersionFile::open(&settings.state_directory);
            let acknowledged = Mutex::new(Some(readiness.register_task("the server to hold the first input snapshot")));
            let (client, stop, link) = (Arc::clone(&client), stop.clone(), Arc::clone(&link));
            let progress =
                Follow { connector: connector.clone(), metrics: metrics.clone(), status: Arc::clone(&status) };
            async move {
                let reconnect = Reconnect { client: &client, connections: &*link, stop };
                let versions = version_file.versions(input_version::now());
                let on_progress = |event| {
                    if let Progress::Event(Sent::Given(version)) = &event {
                        version_file.given(*version);
                    }
                    if let Progress::Event(Sent::Acknowledged { kind: Some(_), .. }) = &event {
                        progress.metrics.push_time.observe(changed_at.lock().elapsed().as_secs_f64());
                    }
                    if let Progress::Event(Sent::Acknowledged { .. }) = &event {
                        acknowledged.lock().take();
                    }
                    progress.push(event);
                };
                reconnect.push(inputs_of, versions, input_version::now, on_progress).await;
            }
        });
        tasks.spawn({
            let progress = Follow { connector, metrics, status };
            async move {
                let reconnect = Reconnect { client: &client, connections: &*link, stop };
                reconnect.pull(held, &applier, |event| progress.pull(event)).await;
            }
        });
        tasks.close();
        tracing::info!(cluster = %name, server = %settings.server_address, %health_address, %stats_address, "started");
        Ok(Self { health_address, stats_address, readiness, status: status_of, tasks })
    }
}

fn load_tls(settings: &Settings, files: &meshrelay_pki::tls::ClientFiles) -> Result<ClientTls, AgentError> {
    Ok(ClientTls::load(settings.tls_mode, files, system_time())?)
}

fn identity(settings: &Settings, state: &AgentState) -> Result<Identity, AgentError> {
    let shown = matches!(settings.tls_mode, TlsMode::SimpleTls | TlsMode::Insecure);
    let stored = if shown { state.token()?.map(|token| token.reveal().to_owned()) } else { None };
    Ok(Identity {
        cluster: Name::from(&settings.cluster),
        instance: format!("{}-{:08x}", std::process::id(), rand::rng().random::<u32>()),
        software_version: VERSION.to_owned(),
        token: settings.token.clone().filter(|_| shown).or(stored),
    })
}

fn directory_options(settings: &Settings, directory: PathBuf, output: PathBuf) -> DirectoryOptions {
    let defaults = Admission::default();
    DirectoryOptions {
        admission: Admission { clock: settings.clock.unwrap_or(defaults.clock), addresses: settings.addresses.clone() },
        facts: ClusterFacts {
            kubernetes_version: settings.kubernetes_version.clone().unwrap_or_default(),
            ..ClusterFacts::default()
        },
        ..DirectoryOptions::new(settings.cluster.as_str(), directory, output)
    }
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
    router: axum::Router,
    stop: &CancellationToken,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), AgentError> {
    admin::serve(address, router, stop.clone()).await.map_err(|source| AgentError::Listen { what, address, source })
}

async fn restore(file: &HeldOutputFile, settings: &Settings, name: &Name) -> (Option<Held>, InForce) {
    let (reader, name) = (file.clone(), name.clone());
    let (folder, cluster) = (settings.state_directory.clone(), name.clone());
    let read = tokio::task::spawn_blocking(move || {
        let held = reader.load().unwrap_or_else(|error| {
            tracing::warn!(%error, "the last output cannot be read back; what is applied stays until the server speaks");
            None
        });
        let in_force = InForce::load(&folder, &cluster, held.as_ref());
        (held, in_force)
    });
    read.await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading the last output failed");
        (None, InForce::load(&settings.state_directory, &name, None))
    })
}

async fn follow_inputs(
    mut input: Input,
    mut views: watch::Receiver<Arc<ClusterView>>,
    inputs: watch::Sender<Option<Arc<Snapshot>>>,
    changed_at: Arc<Mutex<Instant>>,
    metrics: Metrics,
    status: Arc<watch::Sender<AgentStatus>>,
    stop: CancellationToken,
) {
    loop {
        let view = Arc::clone(&views.borrow_and_update());
        let raw = view.snapshot.clone();
        let updated = tokio::task::spawn_blocking(move || {
            let snapshot = input.update(&raw);
            (input, snapshot)
        });
        let snapshot;
        match updated.await {
            Ok(after) => (input, snapshot) = after,
            Err(error) => {
                tracing::error!(%error, "discovery failed");
                return stop.cancel();
            }
        }
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.input_objects.set(count(snapshot.len()));
        metrics.problems.set(count(view.problems.len()));
        status.send_modify(|status| {
            status.input_objects = snapshot.len();
            status.problems = view.problems.iter().map(ToString::to_string).collect();
        });
        *changed_at.lock() = Instant::now();
        inputs.send_replace(Some(snapshot));
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Follows what happens on the two streams.
struct Follow {
    connector: Connector,
    metrics: Metrics,
    status: Arc<watch::Sender<AgentStatus>>,
}

impl Follow {
    fn push(&self, progress: Progress<Sent>) {
        match progress {
            Progress::Event(Sent::Opened(_)) => {
                self.metrics.push_connected.set(1);
                self.status.send_modify(|status| {
                    status.pushing = true;
                    status.last_error.clear();
                });
            }
            Progress::Event(Sent::Withheld(withheld)) => {
                self.metrics.withheld.set(i64::try_from(withheld.len()).unwrap_or(i64::MAX));
                for object in withheld.iter() {
                    tracing::error!(reason = object.reason(), "an object of the input does not travel; the rest does");
                }
            }
            Progress::Event(Sent::Nacked { reason, message }) => {
                tracing::warn!(code = reason.code(), message, "the server refused a transfer");
            }
            Progress::Event(_) => {}
            Progress::Ended(end) => {
                self.metrics.push_connected.set(0);
                self.ended(&end, &self.metrics.push_errors);
                self.status.send_modify(|status| status.pushing = false);
            }
        }
    }

    fn pull(&self, progress: Progress<Received>) {
        match progress {
            Progress::Event(Received::Opened(_)) => {
                self.metrics.pull_connected.set(1);
                self.status.send_modify(|status| status.pulling = true);
            }
            Progress::Event(Received::Rejected { reason, message }) => {
                tracing::warn!(code = reason.code(), message, "refused an output");
            }
            Progress::Event(Received::Committed(_)) => {}
            Progress::Ended(end) => {
                self.metrics.pull_connected.set(0);
                self.ended(&end, &self.metrics.pull_errors);
                self.status.send_modify(|status| status.pulling = false);
            }
        }
    }

    fn ended(&self, end: &End, errors: &prometheus_client::metrics::counter::Counter) {
        if let End::Refused(refusal) = end {
            self.metrics.refused(refusal.reason);
            if refusal.reason == RefusalReason::ExpiredCertificate {
                self.connector.certificate_refused();
            }
        }
        if !matches!(end, End::Finished | End::Drained(_) | End::Superseded) {
            errors.inc();
            self.status.send_modify(|status| status.last_error = end.to_string());
        }
    }
}
