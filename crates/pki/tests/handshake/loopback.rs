//! Certificates made for a test, a stopped clock, and a connection between two configurations.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use meshrelay_pki::authority::{
    Authority, DEFAULT_LEAF_VALIDITY, DEFAULT_ROOT_VALIDITY, IssuedCertificate, ServerNames,
};
use meshrelay_pki::reload::{
    DEFAULT_EXPIRED_LIMIT, ReloadingClientCert, ReloadingClientVerifier, ReloadingServerCert, ReloadingServerVerifier,
};
use meshrelay_pki::tls::{client_config, server_config, server_name};
use meshrelay_pki::{ClusterName, PeerIdentity, TlsRefusal, check_csr, csr, peer_identity};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// A clock that stands still, so that no test depends on the machine's.
#[derive(Debug)]
struct Stopped;

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

pub(crate) fn time() -> Arc<dyn TimeProvider> {
    Arc::new(Stopped)
}

pub(crate) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

pub(crate) fn root() -> Authority {
    Authority::create(now() - days(1000), DEFAULT_ROOT_VALIDITY).unwrap()
}

pub(crate) fn names() -> ServerNames {
    ServerNames { namespace: "gloo-mesh".into(), additional: vec![], local: true }
}

pub(crate) fn server_cert(authority: &Authority) -> Arc<ReloadingServerCert> {
    let made = authority.sign_server(&names(), now(), DEFAULT_LEAF_VALIDITY).unwrap();
    Arc::new(
        ReloadingServerCert::new(made.certificate.chain_pem.as_bytes(), made.key_pem.as_bytes(), "server").unwrap(),
    )
}

/// A client certificate with its key.
pub(crate) fn issue(
    authority: &Authority,
    cluster: &str,
    from: Timestamp,
    life: SignedDuration,
) -> (IssuedCertificate, String) {
    let cluster = ClusterName::new(cluster).unwrap();
    let request = csr::generate(&cluster).unwrap();
    let checked = check_csr(&request.der, &cluster).unwrap();
    (authority.sign_client(&checked, from, life).unwrap(), request.key_pem.to_string())
}

pub(crate) fn client_cert(chain: &str, key: &str) -> Option<Arc<ReloadingClientCert>> {
    let certificate = ReloadingClientCert::default();
    certificate.replace(chain.as_bytes(), key.as_bytes(), "client").unwrap();
    Some(Arc::new(certificate))
}

pub(crate) fn good_client(authority: &Authority, cluster: &str) -> Option<Arc<ReloadingClientCert>> {
    let (issued, key) = issue(authority, cluster, now(), DEFAULT_LEAF_VALIDITY);
    client_cert(&issued.chain_pem, &key)
}

pub(crate) fn clients(bundle: &str) -> Arc<ReloadingClientVerifier> {
    Arc::new(ReloadingClientVerifier::new(bundle.as_bytes(), DEFAULT_EXPIRED_LIMIT, "roots").unwrap())
}

pub(crate) fn servers(bundle: &str) -> Arc<ReloadingServerVerifier> {
    Arc::new(ReloadingServerVerifier::new(bundle.as_bytes(), "roots").unwrap())
}

pub(crate) fn server(
    cert: &Arc<ReloadingServerCert>,
    clients: Option<&Arc<ReloadingClientVerifier>>,
) -> Arc<ServerConfig> {
    Arc::new(server_config(Arc::clone(cert), clients.cloned(), time()).unwrap())
}

pub(crate) fn client(
    servers: &Arc<ReloadingServerVerifier>,
    cert: Option<Arc<ReloadingClientCert>>,
) -> Arc<ClientConfig> {
    Arc::new(client_config(Arc::clone(servers), cert, time()).unwrap())
}

pub(crate) type Peer = Option<PeerIdentity>;

/// Connects, sends a byte each way, and returns what both sides saw.
pub(crate) async fn connect_as(
    authority: &str,
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> (io::Result<Peer>, io::Result<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(stream).await?;
        let connection = stream.get_ref().1;
        assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
        let peer = connection.peer_certificates().map(|chain| peer_identity(chain, now()).unwrap());
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.shutdown().await?;
        Ok(peer)
    };
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        let name = server_name(authority).unwrap();
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, stream).await?;
        stream.write_u8(7).await?;
        assert_eq!(stream.read_u8().await?, 7);
        Ok(())
    };
    tokio::join!(accept, dial)
}

pub(crate) async fn connect(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> (io::Result<Peer>, io::Result<()>) {
    connect_as("gloo-mesh-mgmt-server.gloo-mesh", server, client).await
}

pub(crate) fn refusals<A, B>(
    (server, client): (io::Result<A>, io::Result<B>),
) -> (Option<TlsRefusal>, Option<TlsRefusal>) {
    let server = server.err().expect("the server refuses");
    let client = client.err().expect("the client notices");
    (TlsRefusal::of(&server), TlsRefusal::of(&client))
}
