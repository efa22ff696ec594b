use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use meshrelay_cluster::{Admission, DirectoryCluster, DirectoryOptions};
use meshrelay_pki::tls::{ClientTls, TlsMode, system_time};
use meshrelay_pki::watch::{DEFAULT_POLL_PERIOD, FileWatch};
use meshrelay_pki::{AgentState, ClusterName, GraceRatio};
use meshrelay_process::machine::{Clock, Tasks};
use meshrelay_process::readiness::Readiness;
use meshrelay_process::{VERSION, admin};
use meshrelay_relay::grpc::{Client, Identity};
use meshrelay_relay::{Limits, Timing};
use meshrelay_snapshot::{ClusterFacts, Name};
use prometheus_client::registry::Registry;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::certificate::Certificate;
use crate::connector::{Connector, Dialer};
use crate::core::{Core, Surroundings};
use crate::in_force::FollowRule;
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
    tasks: Tasks,
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
        self.tasks.finished().await;
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
        let tasks = Tasks::default();
        let core = Core::new(
            &settings,
            Surroundings {
                clock: Clock::default(),
                tasks: tasks.clone(),
                metrics: metrics.clone(),
                readiness: readiness.clone(),
                stop: stop.clone(),
                seed: rand::rng().random(),
                follow: FollowRule::default(),
            },
        );
        let status_of = core.status();

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
        core.run(&settings, cluster, client, Arc::new(Dialer { connector, certificate })).await;
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
