//! Certificates and authorities that change while both sides live.

use std::sync::Arc;

use jiff::SignedDuration;
use meshrelay_pki::authority::DEFAULT_LEAF_VALIDITY;
use meshrelay_pki::registration::{Registrar, RegistrarOptions, RegistrationRequest};
use meshrelay_pki::reload::{DEFAULT_EXPIRED_LIMIT, ReloadingClientCert};
use meshrelay_pki::tls::{LiveClient, LiveServer, server_name};
use meshrelay_pki::watch::FileWatch;
use meshrelay_pki::{AgentState, ClusterName, ServerOptions, ServerState, TlsRefusal};
use rustls::client::Resumption;
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::loopback::*;

#[tokio::test]
async fn a_change_of_roots_is_made_before_it_is_broken() {
    let (old, new) = (root(), root());
    let cert = server_cert(&old);
    let verifier = clients(old.bundle_pem());
    let server = server(&cert, Some(&verifier));
    let trust = servers(old.bundle_pem());
    let (old_client, new_client) = (good_client(&old, "cluster1"), good_client(&new, "cluster1"));
    let works = async |certificate: &Option<Arc<ReloadingClientCert>>| {
        let (accepted, dialled) = connect(&server, &client(&trust, certificate.clone())).await;
        accepted.is_ok() && dialled.is_ok()
    };
    assert!(works(&old_client).await && !works(&new_client).await);

    let both = format!("{}{}", old.bundle_pem(), new.bundle_pem());
    verifier.replace(both.as_bytes(), "both").unwrap();
    trust.replace(both.as_bytes(), "both").unwrap();
    assert!(works(&old_client).await && works(&new_client).await);

    let made = new.sign_server(&names(), now(), DEFAULT_LEAF_VALIDITY).unwrap();
    cert.replace(made.certificate.chain_pem.as_bytes(), made.key_pem.as_bytes(), "new").unwrap();
    assert!(works(&old_client).await && works(&new_client).await);

    verifier.replace(new.bundle_pem().as_bytes(), "new").unwrap();
    trust.replace(new.bundle_pem().as_bytes(), "new").unwrap();
    assert!(!works(&old_client).await && works(&new_client).await);

    assert!(verifier.replace(b"garbage", "bad").is_err() && trust.replace(b"", "bad").is_err());
    assert_eq!(cert.replace(new.bundle_pem().as_bytes(), made.key_pem.as_bytes(), "bad").unwrap_err().code(), "MR0305");
    assert!(works(&new_client).await, "a bad replacement changes nothing");
}

#[tokio::test]
async fn a_renewed_client_certificate_counts_from_the_next_connection() {
    let root = root();
    let server = server(&server_cert(&root), Some(&clients(root.bundle_pem())));
    let certificate = good_client(&root, "cluster1").unwrap();
    let config = client(&servers(root.bundle_pem()), Some(Arc::clone(&certificate)));
    let first = connect(&server, &config).await.0.unwrap().unwrap();
    let (issued, key) = issue(&root, "cluster1", now(), days(30));
    certificate.replace(issued.chain_pem.as_bytes(), key.as_bytes(), "renewed").unwrap();
    let second = connect(&server, &config).await.0.unwrap().unwrap();
    assert_ne!(first.validity, second.validity, "no session of the old certificate is resumed");
    assert_eq!(second.validity, issued.validity);
}

/// How the client's second connection begins.
async fn second_handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> HandshakeKind {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut kind = None;
    for _ in 0..2 {
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(stream).await.unwrap();
            stream.write_u8(7).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let dial = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = server_name("localhost").unwrap();
            let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, stream).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 7);
            stream.get_ref().1.handshake_kind()
        };
        kind = tokio::join!(accept, dial).1;
    }
    kind.unwrap()
}

#[tokio::test]
async fn neither_side_resumes_a_session() {
    let root = root();
    let server = server(&server_cert(&root), Some(&clients(root.bundle_pem())));
    let client = client(&servers(root.bundle_pem()), good_client(&root, "cluster1"));
    let mut willing_server = ServerConfig::clone(&server);
    willing_server.session_storage = ServerSessionMemoryCache::new(8);
    willing_server.send_tls13_tickets = 2;
    let willing_server = Arc::new(willing_server);
    let mut willing_client = ClientConfig::clone(&client);
    willing_client.resumption = Resumption::default();
    let willing_client = Arc::new(willing_client);
    assert_eq!(second_handshake(&willing_server, &willing_client).await, HandshakeKind::Resumed);
    assert_eq!(second_handshake(&server, &willing_client).await, HandshakeKind::Full);
    assert_eq!(second_handshake(&willing_server, &client).await, HandshakeKind::Full);
}

#[tokio::test]
async fn two_state_folders_meet_register_and_go_on_while_certificates_change() {
    let (mgmt, workload) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let begin = now() - days(200);
    let server_state = ServerState::load_or_create(mgmt.path(), &ServerOptions::new("gloo-mesh"), begin).unwrap();
    let agent_state = AgentState::open(workload.path()).unwrap();
    agent_state.bootstrap(&server_state.root_ca_pem(), server_state.shared_token()).unwrap();
    let server = LiveServer::load(&server_state.mtls_files(), DEFAULT_EXPIRED_LIMIT, time()).unwrap();
    let agent = LiveClient::load(&agent_state.mtls_files(), time()).unwrap();
    let (peer, dialled) = connect(&server.config, &agent.config).await;
    assert_eq!(peer.unwrap(), None);
    dialled.unwrap();

    let options = RegistrarOptions::default();
    let registrar =
        Registrar::new(server_state.authority(), server_state.shared_token(), server_state.tokens(), options).unwrap();
    let cluster = ClusterName::new("cluster1").unwrap();
    let token = agent_state.token().unwrap().unwrap();
    assert!(registrar.is_shared_token(token.reveal()) && !registrar.is_shared_token("another"));
    let csr = agent_state.signing_request(&cluster).unwrap();
    let request = RegistrationRequest { token: token.reveal(), csr: &csr, peer: None };
    let registration = registrar.register(&cluster, &request, now()).unwrap();
    agent_state.store(&registration.certificate.chain_pem, &registration.certificate.ca_pem).unwrap();
    assert!(agent_state.load_into(agent.certificate.as_ref().unwrap()).unwrap());
    let (peer, dialled) = connect(&server.config, &agent.config).await;
    assert_eq!(peer.unwrap().unwrap().cluster, cluster);
    dialled.unwrap();

    let mut watch = FileWatch::new(server.watched);
    assert!(server_state.renew_server_certificate(now() + days(100)).unwrap());
    watch.poll();
    assert!(watch.poll(), "the new certificate is picked up");
    let (accepted, _) = connect(&server.config, &agent.config).await;
    assert_eq!(
        TlsRefusal::of(&accepted.unwrap_err()),
        Some(TlsRefusal::OwnExpired),
        "not valid for the agent's clock yet"
    );
    assert_eq!(server.certificate.validity().unwrap().not_before, now() + days(100) - SignedDuration::from_mins(5));
}
