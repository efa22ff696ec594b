//! rustls configurations for the modes in which the relay runs.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use jiff::SignedDuration;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::error::PkiError;
use crate::reload::{ReloadingClientCert, ReloadingClientVerifier, ReloadingServerCert, ReloadingServerVerifier};
use crate::secret_dir::{Contents, read_together};
use crate::watch::{Watched, required};

/// How the relay connection is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Both sides have certificates; authorities are made and agents' certificates issued by the server.
    #[default]
    Mtls,
    /// Only the server has a certificate; agents show the shared token.
    SimpleTls,
    /// Both sides have certificates, all given by the user.
    OwnCertificates,
    /// Plain text. Whoever reaches the port can be any cluster; for trying things out.
    Insecure,
}

/// The server's side in one of the modes.
#[derive(Debug)]
pub enum ServerTls {
    /// Accept through its configuration.
    Tls(Box<LiveServer>),
    /// Accept plain connections: there is no peer certificate and no secrecy.
    Insecure,
}

/// The agent's side in one of the modes.
#[derive(Debug)]
pub enum ClientTls {
    /// Connect through its configuration.
    Tls(Box<LiveClient>),
    /// Connect in plain text.
    Insecure,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePair {
    /// The certificate, then its intermediates.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Where the server's side reads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate.
    pub certificate: FilePair,
    /// Authorities whose client certificates are accepted; without it, client certificates are not asked for (simple TLS).
    pub client_ca: Option<PathBuf>,
}

/// Where the agent's side reads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Authorities of the server; all of those that exist are trusted together, at least one must.
    pub server_ca: Vec<PathBuf>,
    /// The agent's certificate, which may appear later; without it, none is shown (simple TLS).
    pub certificate: Option<FilePair>,
}

/// The server's side, live: what the configuration holds follows the files once [`LiveServer::watched`] is polled.
#[derive(Debug)]
pub struct LiveServer {
    /// The configuration to accept with.
    pub config: Arc<ServerConfig>,
    /// The server's certificate.
    pub certificate: Arc<ReloadingServerCert>,
    /// The verifier of client certificates, unless the mode has none.
    pub clients: Option<Arc<ReloadingClientVerifier>>,
    /// To be given to a [`crate::watch::FileWatch`].
    pub watched: Vec<Watched>,
}

/// The agent's side, live.
#[derive(Debug)]
pub struct LiveClient {
    /// The configuration to connect with.
    pub config: Arc<ClientConfig>,
    /// The verifier of the server's certificate.
    pub servers: Arc<ReloadingServerVerifier>,
    /// The agent's certificate, unless the mode has none.
    pub certificate: Option<Arc<ReloadingClientCert>>,
    /// To be given to a [`crate::watch::FileWatch`].
    pub watched: Vec<Watched>,
}

/// The one crypto provider; always passed explicitly, so that nothing depends on a default of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// The clock of the machine, for the places where rustls asks for one.
pub fn system_time() -> Arc<dyn TimeProvider> {
    Arc::new(rustls::time_provider::DefaultTimeProvider)
}

/// The name against which the server's certificate is checked (`relay.authority`); a port is cut off.
///
/// # Errors
/// [`PkiError::Name`] when it is neither a DNS name nor an IP address.
pub fn server_name(authority: &str) -> Result<ServerName<'static>, PkiError> {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None if authority.matches(':').count() == 1 => authority.split(':').next().unwrap_or(authority),
        None => authority,
    };
    ServerName::try_from(host.to_owned()).map_err(|_| PkiError::Name { name: authority.escape_default().to_string() })
}

/// The server's configuration: HTTP/2, TLS 1.3 or 1.2. Without `clients`, client certificates are not asked for.
///
/// # Errors
/// [`PkiError::Tls`] when rustls refuses.
pub fn server_config(
    certificate: Arc<ReloadingServerCert>,
    clients: Option<Arc<ReloadingClientVerifier>>,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, PkiError> {
    let builder = ServerConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()
        .map_err(PkiError::tls)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session skips the check of the client's certificate, and connections live too long to gain from it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The agent's configuration: HTTP/2, TLS 1.3 or 1.2. Without `certificate`, none is shown.
///
/// # Errors
/// [`PkiError::Tls`] when rustls refuses.
pub fn client_config(
    servers: Arc<ReloadingServerVerifier>,
    certificate: Option<Arc<ReloadingClientCert>>,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()
        .map_err(PkiError::tls)?
        .dangerous()
        .with_custom_certificate_verifier(servers);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would go on under the certificate that a renewal has just replaced.
    config.resumption = Resumption::disabled();
    Ok(config)
}

impl ServerTls {
    /// Loads what a mode needs: nothing when insecure, no authorities of clients in simple TLS, all of `files` otherwise.
    ///
    /// # Errors
    /// A missing or bad file, named; [`PkiError::Setting`] when a mode with client certificates has no authorities for them.
    pub fn load(
        mode: TlsMode,
        files: &ServerFiles,
        expired_limit: SignedDuration,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, PkiError> {
        let client_ca = match mode {
            TlsMode::Insecure => return Ok(Self::Insecure),
            TlsMode::SimpleTls => None,
            TlsMode::Mtls | TlsMode::OwnCertificates => {
                Some(files.client_ca.clone().ok_or_else(|| unset("client authorities", "a file of CA certificates"))?)
            }
        };
        let files = ServerFiles { certificate: files.certificate.clone(), client_ca };
        Ok(Self::Tls(Box::new(LiveServer::load(&files, expired_limit, time)?)))
    }
}

impl ClientTls {
    /// Loads what a mode needs: nothing when insecure, no certificate in simple TLS, all of `files` otherwise. With own
    /// certificates the agent's must exist, since nobody will issue one.
    ///
    /// # Errors
    /// A missing or bad file, named; [`PkiError::Setting`] when a mode with client certificates has no files for one.
    pub fn load(mode: TlsMode, files: &ClientFiles, time: Arc<dyn TimeProvider>) -> Result<Self, PkiError> {
        let certificate = match mode {
            TlsMode::Insecure => return Ok(Self::Insecure),
            TlsMode::SimpleTls => None,
            TlsMode::Mtls | TlsMode::OwnCertificates => Some(
                files.certificate.clone().ok_or_else(|| unset("client certificate", "a certificate and a key file"))?,
            ),
        };
        if let Some(pair) = certificate.as_ref().filter(|_| mode == TlsMode::OwnCertificates) {
            pair.read()?;
        }
        let files = ClientFiles { server_ca: files.server_ca.clone(), certificate };
        Ok(Self::Tls(Box::new(LiveClient::load(&files, time)?)))
    }
}

fn unset(setting: &'static str, expected: &'static str) -> PkiError {
    PkiError::Setting { setting, found: "not set".to_owned(), expected }
}

impl LiveServer {
    /// Reads the files and builds the configuration. `expired_limit`: see [`ReloadingClientVerifier`].
    ///
    /// # Errors
    /// A missing or bad file, named.
    pub fn load(
        files: &ServerFiles,
        expired_limit: SignedDuration,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, PkiError> {
        let (certificate, pair) = Watched::load("server certificate", files.certificate.paths(), |contents, paths| {
            let (chain, key, origin) = pair(contents, paths)?;
            ReloadingServerCert::new(chain, key, &origin)
        })?;
        let pair_of = Arc::clone(&certificate);
        let mut watched = vec![pair.then(move |contents, paths| {
            let (chain, key, origin) = self::pair(contents, paths)?;
            pair_of.replace(chain, key, &origin)
        })];
        let mut clients = None;
        if let Some(ca) = &files.client_ca {
            let (verifier, loaded) = Watched::load("client authorities", vec![ca.clone()], |contents, paths| {
                ReloadingClientVerifier::new(required(contents, paths, 0)?, expired_limit, &origin(paths))
            })?;
            let target = Arc::clone(&verifier);
            watched.push(
                loaded.then(move |contents, paths| target.replace(required(contents, paths, 0)?, &origin(paths))),
            );
            clients = Some(verifier);
        }
        let config = Arc::new(server_config(Arc::clone(&certificate), clients.clone(), time)?);
        Ok(Self { config, certificate, clients, watched })
    }
}

impl LiveClient {
    /// Reads the files and builds the configuration.
    ///
    /// # Errors
    /// A missing or bad file, named. A certificate that does not exist yet is no error.
    pub fn load(files: &ClientFiles, time: Arc<dyn TimeProvider>) -> Result<Self, PkiError> {
        let (servers, loaded) = Watched::load("server authorities", files.server_ca.clone(), |contents, paths| {
            ReloadingServerVerifier::new(&bundle(contents, paths)?, &origin(paths))
        })?;
        let target = Arc::clone(&servers);
        let mut watched =
            vec![loaded.then(move |contents, paths| target.replace(&bundle(contents, paths)?, &origin(paths)))];
        let mut certificate = None;
        if let Some(files) = &files.certificate {
            let apply = |target: &ReloadingClientCert, contents: &Contents, paths: &[PathBuf]| {
                if contents.iter().all(Option::is_none) {
                    return Ok(());
                }
                let (chain, key, origin) = pair(contents, paths)?;
                target.replace(chain, key, &origin)
            };
            let (resolver, loaded) = Watched::load("client certificate", files.paths(), |contents, paths| {
                let resolver = ReloadingClientCert::default();
                apply(&resolver, contents, paths)?;
                Ok(resolver)
            })?;
            let target = Arc::clone(&resolver);
            watched.push(loaded.then(move |contents, paths| apply(&target, contents, paths)));
            certificate = Some(resolver);
        }
        let config = Arc::new(client_config(Arc::clone(&servers), certificate.clone(), time)?);
        Ok(Self { config, servers, certificate, watched })
    }
}

impl FilePair {
    /// Both paths: certificate, key.
    pub fn paths(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }

    /// Reads both as of one moment.
    ///
    /// # Errors
    /// [`PkiError::Read`] or [`PkiError::Missing`].
    pub fn read(&self) -> Result<(Vec<u8>, zeroize::Zeroizing<Vec<u8>>), PkiError> {
        let paths = self.paths();
        let contents = read_together(&paths)?;
        let (chain, key, _) = pair(&contents, &paths)?;
        Ok((chain.to_vec(), zeroize::Zeroizing::new(key.to_vec())))
    }
}

fn pair<'a>(contents: &'a Contents, paths: &[PathBuf]) -> Result<(&'a [u8], &'a [u8], String), PkiError> {
    Ok((required(contents, paths, 0)?, required(contents, paths, 1)?, origin(paths)))
}

fn bundle(contents: &Contents, paths: &[PathBuf]) -> Result<Vec<u8>, PkiError> {
    if contents.iter().all(Option::is_none) {
        required(contents, paths, 0)?;
    }
    let mut bundle = Vec::new();
    for part in contents.iter().flatten() {
        bundle.extend_from_slice(part);
        bundle.push(b'\n');
    }
    Ok(bundle)
}

fn origin(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_all_forms_give_their_host() {
        let shown = |authority| format!("{:?}", server_name(authority).unwrap());
        assert!(shown("gloo-mesh-mgmt-server.gloo-mesh:9900").contains("\"gloo-mesh-mgmt-server.gloo-mesh\""));
        assert_eq!(shown("localhost"), shown("localhost:1"));
        assert_eq!(shown("127.0.0.1:9900"), shown("127.0.0.1"));
        assert_eq!(shown("[::1]:9900"), shown("::1"));
        assert_eq!(server_name("a b").unwrap_err().code(), "MR0310");
    }

    #[test]
    fn modes_are_written_as_in_settings() {
        let written =
            serde_json::to_string(&[TlsMode::Mtls, TlsMode::SimpleTls, TlsMode::OwnCertificates, TlsMode::Insecure]);
        assert_eq!(written.unwrap(), r#"["mtls","simple-tls","own-certificates","insecure"]"#);
    }
}
