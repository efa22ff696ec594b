//! Connections to the three kinds of installation: one server, Sentinels with their master, a Redis Cluster.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::time::timeout;

use super::failure;
use crate::StoreError;
use crate::settings::{CertSettings, RedisSettings};

/// A connection that is shared by clones.
#[derive(Clone)]
pub(super) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn query(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Node(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }
}

/// Opens two connections to one place: for calls, and for waiting. `response` is the longest wait for any answer; calls
/// have shorter deadlines of their own.
pub(super) async fn open(settings: &RedisSettings, response: Duration) -> Result<(Connection, Connection), StoreError> {
    let login = Login::read(settings)?;
    let certificates = certificates(&settings.certs)?;
    let opening = Opening { settings, login, certificates, response };
    let client = opening.client().await.map_err(|error| opening.failed(&error))?;
    let (calls, waits) =
        tokio::try_join!(opening.connection(&client), opening.connection(&client)).map_err(|e| opening.failed(&e))?;
    Ok((calls, waits))
}

/// User and password; without `Debug`, so that neither can get into a log.
struct Login {
    username: Option<String>,
    password: Option<String>,
}

impl Login {
    fn read(settings: &RedisSettings) -> Result<Self, StoreError> {
        let auth = &settings.auth;
        if !auth.enabled {
            return Ok(Self { username: None, password: None });
        }
        let username = match read(&auth.username_file) {
            Err(StoreError::File { .. }) if !auth.username_file.exists() => None,
            text => Some(line(&auth.username_file, text?)?).filter(|name| !name.is_empty()),
        };
        let password = line(&auth.password_file, read(&auth.password_file)?)?;
        if password.is_empty() {
            return Err(file(&auth.password_file, "it is empty"));
        }
        Ok(Self { username, password: Some(password) })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| file(path, error))
}

fn line(path: &Path, bytes: Vec<u8>) -> Result<String, StoreError> {
    let text = String::from_utf8(bytes).map_err(|_| file(path, "it is not text"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn file(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::File { path: path.to_owned(), reason: reason.to_string() }
}

fn certificates(settings: &CertSettings) -> Result<Option<TlsCertificates>, StoreError> {
    if !settings.enabled {
        return Ok(None);
    }
    // The client library takes the provider of the process; it is an error to set it twice, and no harm.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client_tls = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    let root_cert = settings.ca_cert_file.as_deref().map(read).transpose()?;
    if let (Some(path), Some(pem)) = (&settings.ca_cert_file, &root_cert)
        && !pem.windows(PEM.len()).any(|window| window == PEM)
    {
        return Err(file(path, "there is no certificate in it"));
    }
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

/// How a certificate begins in PEM.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What is needed to get from settings to a connection.
struct Opening<'a> {
    settings: &'a RedisSettings,
    login: Login,
    certificates: Option<TlsCertificates>,
    response: Duration,
}

/// Where to connect to, once that is known.
enum Target {
    Node(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Opening<'_> {
    async fn client(&self) -> RedisResult<Target> {
        let addresses = self.settings.addresses().map_err(|_| invalid("address"))?;
        let places = addresses.into_iter().map(|(host, port)| self.place(host, port)).collect::<Vec<_>>();
        if !self.settings.connection.master_name.is_empty() {
            return Ok(Target::Node(Box::new(self.master(places).await?)));
        }
        if places.len() > 1 {
            return Ok(Target::Cluster(Box::new(self.cluster(places)?)));
        }
        let place = places.into_iter().next().ok_or_else(|| invalid("address"))?;
        let client = self.node(place.clone())?;
        // One address may be that of a whole cluster, as managed ones have it.
        if self.is_cluster(&client).await? {
            return Ok(Target::Cluster(Box::new(self.cluster(vec![place])?)));
        }
        Ok(Target::Node(Box::new(client)))
    }

    fn place(&self, host: String, port: u16) -> ConnectionAddr {
        match self.certificates {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }

    fn info(&self, place: ConnectionAddr, db: i64) -> RedisResult<ConnectionInfo> {
        let mut info = RedisConnectionInfo::default().set_db(db).set_lib_name("meshrelay", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.login.username {
            info = info.set_username(username);
        }
        if let Some(password) = &self.login.password {
            info = info.set_password(password);
        }
        Ok(place.into_connection_info()?.set_redis_settings(info))
    }

    fn node(&self, place: ConnectionAddr) -> RedisResult<Client> {
        let info = self.info(place, self.settings.db)?;
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }

    fn cluster(&self, places: Vec<ConnectionAddr>) -> RedisResult<ClusterClient> {
        let connection = &self.settings.connection;
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let nodes: Vec<_> = places.into_iter().map(|place| self.info(place, 0)).collect::<RedisResult<_>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(connection.dial_timeout.0)
            .response_timeout(self.response)
            .retries(connection.max_redirects)
            .min_retry_wait(millis(connection.min_retry_backoff.0))
            .max_retry_wait(millis(connection.max_retry_backoff.0));
        if let Some(certificates) = &self.certificates {
            builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
        }
        builder.build()
    }

    /// The master, as the first Sentinel that answers names it; it was asked whether it agrees.
    async fn master(&self, places: Vec<ConnectionAddr>) -> RedisResult<Client> {
        let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
        let name = &self.settings.connection.master_name;
        let mut builder = SentinelClientBuilder::new(places, name, SentinelServerType::Master)?
            .set_client_to_redis_db(self.settings.db);
        if let Some(username) = &self.login.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        let mut sentinels = builder.build()?;
        let all = self.settings.connection.dial_timeout.0.saturating_mul(count.saturating_add(1));
        timeout(all, sentinels.async_get_client()).await.map_err(|_| timed_out())?
    }

    async fn is_cluster(&self, client: &Client) -> RedisResult<bool> {
        let connection = self.to_node(client).await?;
        match connection.query(redis::cmd("INFO").arg("server")).await {
            Ok(Value::BulkString(info)) => Ok(String::from_utf8_lossy(&info).contains("redis_mode:cluster")),
            // Whoever may not ask is told so by the first call, with what is to be permitted.
            Ok(_) => Ok(false),
            Err(error) if error.is_io_error() => Err(error),
            Err(_) => Ok(false),
        }
    }

    async fn connection(&self, target: &Target) -> RedisResult<Connection> {
        match target {
            Target::Node(client) => self.to_node(client).await,
            Target::Cluster(client) => {
                // Each node is connected to with the time-out; finding out about all of them takes a few steps.
                let all = self.settings.connection.dial_timeout.0.saturating_mul(3);
                let connection = timeout(all, client.get_async_connection()).await.map_err(|_| timed_out())??;
                Ok(Connection::Cluster(connection))
            }
        }
    }

    async fn to_node(&self, client: &Client) -> RedisResult<Connection> {
        let dial = self.settings.connection.dial_timeout.0;
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(dial)).set_response_timeout(Some(self.response));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        // The library's time-out does not cover everything that it does to connect.
        Ok(Connection::Node(timeout(dial, connection).await.map_err(|_| timed_out())??))
    }

    fn failed(&self, error: &RedisError) -> StoreError {
        let address = self.settings.address.clone();
        let mut failure = failure::classify(error, &address);
        if !self.settings.connection.master_name.is_empty()
            && matches!(error.kind(), ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::EmptySentinelList)
        {
            let master = self.settings.connection.master_name.clone();
            failure = StoreError::NoMaster { address, master, reason: error.to_string() };
        }
        failure
    }
}

fn invalid(setting: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, setting).into()
}

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within dialTimeout").into()
}
