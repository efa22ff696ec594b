//! How Redis is reached, in the original's names. `docs/redis.md` has the table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::span::Span;

/// The port of an address that states none.
const PORT: u16 = 6379;

/// Settings of a Redis. Unknown keys are rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `HOST:PORT`; several, with commas in between, are a Redis Cluster, or the Sentinels of `masterName`.
    pub address: String,
    /// Number of the database; a Redis Cluster has only 0.
    pub db: i64,
    /// Log-in.
    pub auth: AuthSettings,
    /// TLS.
    pub certs: CertSettings,
    /// Time-outs and retries.
    pub connection: ConnectionSettings,
    /// How many changes the feed keeps; who is further behind looks at everything.
    pub feed_length: usize,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            address: "gloo-mesh-redis.gloo-mesh:6379".to_owned(),
            db: 0,
            auth: AuthSettings::default(),
            certs: CertSettings::default(),
            connection: ConnectionSettings::default(),
            // A change is some 60 bytes there; a replica is this far behind after minutes of the largest load.
            feed_length: 10_000,
        }
    }
}

/// Log-in to Redis. The files are read anew for every connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether to log in.
    pub enabled: bool,
    /// File with the name of the user; when it is missing or empty, the default user.
    pub username_file: PathBuf,
    /// File with the password.
    pub password_file: PathBuf,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let directory = PathBuf::from("/etc/redis-auth-secrets");
        Self { enabled: false, username_file: directory.join("username"), password_file: directory.join("password") }
    }
}

/// TLS to Redis, and to Sentinels. The files are read anew for every connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CertSettings {
    /// Whether connections use TLS.
    pub enabled: bool,
    /// Authorities that sign the certificates of Redis, PEM; without it, those of the system.
    pub ca_cert_file: Option<PathBuf>,
    /// Our certificate, PEM, for a Redis that asks for one.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
}

impl Default for CertSettings {
    fn default() -> Self {
        let ca_cert_file = Some(PathBuf::from("/etc/redis-certs/redis.crt"));
        Self { enabled: false, ca_cert_file, cert_file: None, key_file: None }
    }
}

/// Time-outs, retries, and the kind of installation. All of the original's names are accepted; those that are said to
/// have no effect tune a pool of connections or reading from replicas, and there is neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConnectionSettings {
    /// How often a call is tried again when the connection broke or Redis is not ready; negative: never.
    pub max_retries: i32,
    /// First wait before a call is tried again, and before another attempt to connect; it doubles.
    pub min_retry_backoff: Span,
    /// Longest such wait.
    pub max_retry_backoff: Span,
    /// Longest time to connect to one address.
    pub dial_timeout: Span,
    /// Longest time that a call may take that reads.
    pub read_timeout: Span,
    /// Longest time that a call may take that writes.
    pub write_timeout: Span,
    /// How many redirections of a Redis Cluster are followed.
    pub max_redirects: u32,
    /// Name of the master that Sentinels watch; `address` is then the Sentinels'.
    pub master_name: String,
    /// No effect: calls share one connection, another one waits for changes.
    pub pool_size: i32,
    /// No effect.
    pub pool_fifo: bool,
    /// No effect.
    pub pool_timeout: Span,
    /// No effect.
    pub min_idle_conns: i32,
    /// No effect.
    pub max_idle_conns: i32,
    /// No effect.
    pub conn_max_idle_time: Span,
    /// No effect.
    pub conn_max_lifetime: Span,
    /// No effect: everything is read from the master, since a replica may lack what the feed already told.
    pub read_only: bool,
    /// No effect, as `readOnly`.
    pub route_by_latency: bool,
    /// No effect, as `readOnly`.
    pub route_randomly: bool,
    /// No effect: every call has its deadline.
    pub context_timeout_enabled: bool,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max_retries: 3,
            min_retry_backoff: Span::millis(8),
            max_retry_backoff: Span::millis(512),
            dial_timeout: Span::millis(5_000),
            read_timeout: Span::millis(3_000),
            write_timeout: Span::millis(3_000),
            max_redirects: 3,
            master_name: String::new(),
            pool_size: 0,
            pool_fifo: false,
            pool_timeout: Span::millis(4_000),
            min_idle_conns: 0,
            max_idle_conns: 0,
            conn_max_idle_time: Span::millis(300_000),
            conn_max_lifetime: Span::default(),
            read_only: false,
            route_by_latency: false,
            route_randomly: false,
            context_timeout_enabled: false,
        }
    }
}

impl RedisSettings {
    /// The addresses, each as host and port.
    pub(crate) fn addresses(&self) -> Result<Vec<(String, u16)>, StoreError> {
        let expected = "expected HOST:PORT, or several of them with commas in between, found";
        let wrong = |found: &str| StoreError::Settings { setting: "address", problem: format!("{expected} {found}") };
        if self.address.contains('@') {
            // Not shown: it goes into logs, and may be a password.
            return Err(wrong("a log-in in it, which auth.usernameFile and auth.passwordFile are for"));
        }
        let wrong = |found: &str| wrong(&format!("{found:?}"));
        self.address.split(',').map(str::trim).map(|text| host_and_port(text).ok_or_else(|| wrong(text))).collect()
    }

    /// Refuses what cannot work, before anything is tried.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let wrong = |setting, problem: &str| Err(StoreError::Settings { setting, problem: problem.to_owned() });
        let addresses = self.addresses()?;
        if self.db < 0 {
            return wrong("db", "expected 0 or more");
        }
        if self.db != 0 && addresses.len() > 1 && self.connection.master_name.is_empty() {
            return wrong("db", "several addresses are a redis cluster, which has only database 0");
        }
        if self.certs.cert_file.is_some() != self.certs.key_file.is_some() {
            return wrong("certs", "certFile and keyFile belong together: give both or neither");
        }
        if self.feed_length == 0 {
            return wrong("feedLength", "expected 1 or more");
        }
        let ConnectionSettings { dial_timeout, read_timeout, write_timeout, min_retry_backoff, .. } = &self.connection;
        let spans = [
            ("connection.dialTimeout", dial_timeout),
            ("connection.readTimeout", read_timeout),
            ("connection.writeTimeout", write_timeout),
            // Attempts to connect without a pause would keep a core busy.
            ("connection.minRetryBackoff", min_retry_backoff),
        ];
        match spans.into_iter().find(|(_, span)| span.0.is_zero()) {
            Some((setting, _)) => wrong(setting, "expected more than 0"),
            None => Ok(()),
        }
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    (!host.is_empty() && host.chars().all(is_name)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_settings_read_as_they_are() {
        let text = r#"{"address": "redis.example.com:6380", "db": 2, "auth": {"enabled": true},
            "certs": {"enabled": true, "caCertFile": "/ca"}, "connection": {"maxRetries": -1, "minRetryBackoff": "8ms",
            "dialTimeout": "5s", "poolSize": 20, "poolFifo": true, "connMaxLifetime": "1h", "routeByLatency": true}}"#;
        let settings: RedisSettings = serde_json::from_str(text).unwrap();
        settings.check().unwrap();
        assert_eq!(settings.connection.dial_timeout, Span::millis(5000));
        assert_eq!(settings.connection.max_redirects, 3);
        let again = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<RedisSettings>(&again).unwrap(), settings);
        RedisSettings::default().check().unwrap();
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        for text in
            [r#"{"adress": ""}"#, r#"{"connection": {"readTimeOut": "3s"}}"#, r#"{"connection": {"readTimeout": 3}}"#]
        {
            serde_json::from_str::<RedisSettings>(text).unwrap_err();
        }
    }

    #[test]
    fn addresses_of_all_forms_are_read() {
        let addresses =
            |address: &str| RedisSettings { address: address.to_owned(), ..RedisSettings::default() }.addresses();
        assert_eq!(addresses("a").unwrap(), [("a".to_owned(), 6379)]);
        assert_eq!(
            addresses("a:1, [::1]:2,[fe80::1]").unwrap()[1..],
            [("::1".to_owned(), 2), ("fe80::1".to_owned(), 6379)]
        );
        for wrong in ["", "a,", ":1", "a:b", "a:1:2", "redis://a:1", "[::1", "[::1]2", "a b:1", "a:70000"] {
            assert_eq!(addresses(wrong).unwrap_err().code(), "MR0912", "{wrong}");
        }
    }

    #[test]
    fn a_log_in_within_an_address_is_refused_and_not_repeated() {
        for address in ["redis://us:pa@a:1", "us:pa@a:1", "b:1,us:p,a@a:1"] {
            let settings = RedisSettings { address: address.to_owned(), ..RedisSettings::default() };
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains("passwordFile") && !error.contains("us:p"), "{error}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        let check = |change: fn(&mut RedisSettings)| {
            let mut settings = RedisSettings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(check(|s| s.connection.read_timeout = Span::default()).contains("connection.readTimeout"));
        assert!(check(|s| s.db = -1).contains("db"));
        assert!(check(|s| (s.db, s.address) = (1, "a,b".to_owned())).contains("redis cluster"));
        assert!(check(|s| s.certs.key_file = Some("/key".into())).contains("certFile"));
        assert!(check(|s| s.feed_length = 0).contains("feedLength"));
    }
}
