use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_cluster::{Admission, Cluster as _, DirectoryCluster, DirectoryOptions};
use meshrelay_pki::registration::{Registrar, RegistrarOptions};
use meshrelay_pki::reload::{DEFAULT_EXPIRED_LIMIT, ReloadingServerCert};
use meshrelay_pki::tls::{ServerTls, TlsMode, system_time};
use meshrelay_pki::watch::{DEFAULT_POLL_PERIOD, FileWatch};
use meshrelay_pki::{ExpiryState, GraceRatio, ServerState, Token};
use meshrelay_process::admin;
use meshrelay_process::machine::{Clock, Tasks};
use meshrelay_process::readiness::Readiness;
use meshrelay_relay::grpc::{RelayHandle, tune_server};
use meshrelay_store::RedisStore;
use prometheus_client::registry::Registry;
use rand::RngExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

use crate::cluster_metrics::ClusterCollector;
use crate::core::{Core, Surroundings};
use crate::metrics::TrafficCollector;
use crate::translation::Translate;
use crate::{Metrics, ServerError, ServerStatus, Settings, listener};

/// How often it is looked whether the server's certificate has to be renewed.
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);

/// How long agents may take to leave when the server stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// A running management server.
#[derive(Debug)]
pub struct Server {
    /// Where agents connect.
    pub relay_address: SocketAddr,
    /// Where health is served.
    pub health_address: SocketAddr,
    /// Where metrics are served.
    pub stats_address: SocketAddr,
    root_ca: String,
    token: Option<Token>,
    relay: RelayHandle,
    readiness: Readiness,
    status: watch::Receiver<ServerStatus>,
    tasks: Tasks,
}

impl Server {
    /// What the server can tell about itself and its clusters, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<ServerStatus> {
        self.status.clone()
    }

    /// What the server waits for.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The authorities that agents must trust, PEM; empty without TLS.
    pub fn root_ca_pem(&self) -> &str {
        &self.root_ca
    }

    /// The token that agents register with.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The streams of agents.
    pub fn relay(&self) -> &RelayHandle {
        &self.relay
    }

    /// Waits until everything has ended after a stop.
    pub async fn finished(&self) {
        self.tasks.finished().await;
    }

    /// Starts a server; it runs until `stop` is cancelled.
    ///
    /// # Errors
    /// [`ServerError`] for settings, certificates or addresses that cannot be used.
    pub async fn start(settings: Settings, stop: CancellationToken) -> Result<Self, ServerError> {
        let directory = settings.management_directory.clone().ok_or(ServerError::Missing {
            setting: "managementDirectory",
            hint: "give --management-directory with the folder that holds the management cluster's manifests",
        })?;
        std::fs::create_dir_all(&settings.state_directory)?;
        let (metrics, readiness, tasks) = (Metrics::default(), Readiness::new(), Tasks::default());

        let Security { tls, registrar, root_ca, token, watch } = Security::load(&settings, &tasks, &stop)?;
        let tls_config = match tls {
            ServerTls::Insecure => None,
            ServerTls::Tls(live) => {
                let (reloads, followed) = watch::channel(Vec::new());
                let files = FileWatch::new(live.watched.into_iter().chain(watch).collect());
                tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                    files.run(DEFAULT_POLL_PERIOD, reloads).await;
                    // Files are followed for as long as somebody could ask how they stand.
                    drop(followed);
                }));
                let expiry = watch_expiry(live.certificate, metrics.clone());
                tasks.spawn(stop.clone().run_until_cancelled_owned(expiry));
                Some(live.config)
            }
        };
        let named = settings.replica_name.clone().unwrap_or_else(|| std::process::id().to_string());
        let store = settings.redis.clone().map(|redis| RedisStore::start(redis, &settings.management_cluster));
        let core = Core::new(
            settings.clone(),
            Surroundings {
                replica: format!("{named}-{:08x}", rand::rng().random::<u32>()),
                store: store.transpose()?.map(|store| Arc::new(store) as _),
                clock: Clock::default(),
                translate: Translate::default(),
                tasks: tasks.clone(),
                metrics: metrics.clone(),
                readiness: readiness.clone(),
                stop: stop.clone(),
            },
            registrar,
        )?;
        let (relay, status_of) = (core.relay(), core.status());

        let mut registry = Registry::default();
        metrics.register(&mut registry);
        registry.register_collector(Box::new(TrafficCollector(relay.clone())));
        registry.register_collector(Box::new(ClusterCollector(status_of.clone())));
        let listen = |what, address| move |source| ServerError::Listen { what, address, source };
        let health = admin::health_router(readiness.clone()).merge(admin::status_router(status_of.clone()));
        let (health_address, health) = admin::serve(settings.health_address, health, stop.clone())
            .await
            .map_err(listen("health", settings.health_address))?;
        let (stats_address, stats) =
            admin::serve(settings.stats_address, admin::metrics_router(Arc::new(registry)), stop.clone())
                .await
                .map_err(listen("metrics", settings.stats_address))?;
        tasks.spawn(async { drop((health.await, stats.await)) });

        let listing = readiness.register_task("first listing of the management cluster");
        let options = DirectoryOptions {
            admission: Admission::new(settings.clock, None),
            ..DirectoryOptions::new(
                settings.management_cluster.as_str(),
                directory,
                settings.state_directory.join("none"),
            )
        };
        let cluster = DirectoryCluster::open(options).await;
        drop(listing);
        core.run(cluster.watch())?;
        // The cluster is followed for as long as it lives.
        tasks.spawn({
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                drop(cluster);
            }
        });

        let listener =
            TcpListener::bind(settings.relay_address).await.map_err(listen("the relay", settings.relay_address))?;
        let relay_address = listener.local_addr()?;
        let connections = listener::accept(listener, tls_config, metrics, stop.clone());
        let router = tune_server(tonic::transport::Server::builder())
            .add_service(InterceptedService::new(core.service.into_server(), listener::identify));
        tasks.spawn(drain_on_stop(relay.clone(), stop.clone()));
        tasks.spawn({
            let relay = relay.clone();
            async move {
                let drained = async {
                    stop.cancelled().await;
                    // Streams end by themselves once drained; those that do not are cut off.
                    let gone = async {
                        while relay.open_streams() > 0 {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    };
                    if tokio::time::timeout(DRAIN_DEADLINE, gone).await.is_err() {
                        relay.cut();
                    }
                };
                let serving = router.serve_with_incoming_shutdown(connections, std::future::pending());
                tokio::select! {
                    served = serving => if let Err(error) = served {
                        tracing::error!(%error, "the relay ended");
                        stop.cancel();
                    },
                    () = drained => {}
                }
            }
        });
        tracing::info!(%relay_address, %health_address, %stats_address, tls = ?settings.tls_mode, "started");
        Ok(Self {
            relay_address,
            health_address,
            stats_address,
            root_ca,
            token,
            relay,
            readiness,
            status: status_of,
            tasks,
        })
    }
}

/// Shows when the server's certificate ends, and says so while there is time to do something about it.
async fn watch_expiry(certificate: Arc<ReloadingServerCert>, metrics: Metrics) {
    let mut check = tokio::time::interval(RENEWAL_CHECK);
    loop {
        check.tick().await;
        let Some(validity) = certificate.validity() else { continue };
        metrics.certificate_expires.set(validity.not_after.as_second());
        if let ExpiryState::LastFifth | ExpiryState::Expired = validity.state(GraceRatio::default(), Timestamp::now()) {
            tracing::error!(ends = %validity.not_after, "the server's certificate is in the last fifth of its life");
        }
    }
}

async fn drain_on_stop(relay: RelayHandle, stop: CancellationToken) {
    stop.cancelled().await;
    relay.drain("the server is stopping");
}

/// Certificates and tokens of the chosen mode.
struct Security {
    tls: ServerTls,
    registrar: Option<Arc<Registrar>>,
    root_ca: String,
    token: Option<Token>,
    watch: Option<meshrelay_pki::watch::Watched>,
}

impl Security {
    fn load(settings: &Settings, tasks: &Tasks, stop: &CancellationToken) -> Result<Self, ServerError> {
        let given = settings.token.as_deref().map(|token| Token::new(token, "the setting token")).transpose()?;
        let load = |files| ServerTls::load(settings.tls_mode, files, DEFAULT_EXPIRED_LIMIT, system_time());
        let mode = settings.tls_mode;
        if mode == TlsMode::Insecure {
            tracing::warn!("connections are not encrypted and agents are not verified: for trying things out only");
            return Ok(Self {
                tls: ServerTls::Insecure,
                registrar: None,
                root_ca: String::new(),
                token: given,
                watch: None,
            });
        }
        if mode == TlsMode::OwnCertificates {
            let tls = load(&settings.own_files()?)?;
            return Ok(Self { tls, registrar: None, root_ca: String::new(), token: given, watch: None });
        }
        let mut state = ServerState::load_or_create(&settings.state_directory, &settings.pki(), Timestamp::now())?;
        let files = if mode == TlsMode::Mtls { state.mtls_files() } else { state.simple_tls_files() };
        let tls = load(&files)?;
        let token = given.or_else(|| state.shared_token().cloned());
        let registrar = Registrar::new(state.authority(), token.as_ref(), state.tokens(), RegistrarOptions::default())?;
        let (root_ca, watch) = (state.root_ca_pem(), state.take_watch());
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut check = tokio::time::interval(RENEWAL_CHECK);
            loop {
                check.tick().await;
                if let Err(error) = state.renew_server_certificate(Timestamp::now()) {
                    tracing::error!(%error, "the server's certificate could not be renewed");
                }
            }
        }));
        Ok(Self { tls, registrar: Some(Arc::new(registrar)), root_ca, token, watch })
    }
}
