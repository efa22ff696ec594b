//! Every mode connects, gives the identity it should, and names what it lacks.

use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use meshrelay_pki::authority::DEFAULT_LEAF_VALIDITY;
use meshrelay_pki::reload::{DEFAULT_EXPIRED_LIMIT, ReloadingClientCert};
use meshrelay_pki::tls::{ClientFiles, FilePair, ServerFiles};
use meshrelay_pki::{ClientTls, ServerTls, TlsMode};
use rustls::ClientConfig;

use crate::loopback::*;

/// Writes files of a user's own: an authority, and one certificate for each side.
fn own_files(folder: &Path) -> (ServerFiles, ClientFiles) {
    let root = root();
    let write = |name: &str, content: &str| {
        std::fs::write(folder.join(name), content).unwrap();
        folder.join(name)
    };
    let made = root.sign_server(&names(), now(), DEFAULT_LEAF_VALIDITY).unwrap();
    let (issued, key) = issue(&root, "cluster1", now(), DEFAULT_LEAF_VALIDITY);
    let ca = write("my-ca.pem", root.bundle_pem());
    let server = FilePair {
        certificate: write("server.pem", &made.certificate.chain_pem),
        key: write("server-key.pem", &made.key_pem),
    };
    let agent = FilePair { certificate: write("agent.pem", &issued.chain_pem), key: write("agent-key.pem", &key) };
    (
        ServerFiles { certificate: server, client_ca: Some(ca.clone()) },
        ClientFiles { server_ca: vec![ca], certificate: Some(agent) },
    )
}

#[tokio::test]
async fn every_mode_connects() {
    let folder = tempfile::tempdir().unwrap();
    let (server_files, client_files) = own_files(folder.path());
    for (mode, identity) in [
        (TlsMode::Mtls, Some(Some("cluster1"))),
        (TlsMode::OwnCertificates, Some(Some("cluster1"))),
        (TlsMode::SimpleTls, Some(None)),
        (TlsMode::Insecure, None),
    ] {
        let server = ServerTls::load(mode, &server_files, SignedDuration::ZERO, time()).unwrap();
        let client = ClientTls::load(mode, &client_files, time()).unwrap();
        let seen = match (server, client) {
            (ServerTls::Tls(server), ClientTls::Tls(client)) => {
                let (peer, dialled) = connect(&server.config, &client.config).await;
                dialled.unwrap();
                Some(peer.unwrap().map(|peer| peer.cluster.to_string()))
            }
            (ServerTls::Insecure, ClientTls::Insecure) => None,
            sides => panic!("{mode:?} gives {sides:?}"),
        };
        assert_eq!(seen.as_ref().map(Option::as_deref), identity, "{mode:?}");
    }
}

#[tokio::test]
async fn what_a_mode_needs_is_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (mut server_files, mut client_files) = own_files(folder.path());
    std::fs::remove_file(folder.path().join("agent-key.pem")).unwrap();
    let error = ClientTls::load(TlsMode::OwnCertificates, &client_files, time()).unwrap_err();
    assert!(error.code() == "MR0308" && error.to_string().contains("agent-key.pem"), "{error}");
    client_files.certificate = None;
    assert_eq!(ClientTls::load(TlsMode::Mtls, &client_files, time()).unwrap_err().code(), "MR0313");
    server_files.client_ca = None;
    let limit = DEFAULT_EXPIRED_LIMIT;
    assert_eq!(ServerTls::load(TlsMode::Mtls, &server_files, limit, time()).unwrap_err().code(), "MR0313");
    assert!(ServerTls::load(TlsMode::SimpleTls, &server_files, limit, time()).is_ok());
}

#[tokio::test]
async fn mutual_tls_gives_the_cluster_and_works_before_registration_too() {
    let root = root();
    let server = server(&server_cert(&root), Some(&clients(root.bundle_pem())));
    let trust = servers(root.bundle_pem());
    let (peer, dialled) = connect(&server, &client(&trust, good_client(&root, "cluster1"))).await;
    let peer = peer.unwrap().unwrap();
    assert_eq!((peer.cluster.as_str(), peer.expired), ("cluster1", false));
    dialled.unwrap();

    let unregistered = Some(Arc::new(ReloadingClientCert::default()));
    let (peer, dialled) = connect(&server, &client(&trust, unregistered)).await;
    assert_eq!(peer.unwrap(), None);
    dialled.unwrap();
    for local in ["localhost:9900", "127.0.0.1", "[::1]:9900"] {
        connect_as(local, &server, &client(&trust, None)).await.1.unwrap();
    }
}

#[tokio::test]
async fn simple_tls_asks_for_no_certificate() {
    let root = root();
    let server = server(&server_cert(&root), None);
    let (peer, dialled) = connect(&server, &client(&servers(root.bundle_pem()), good_client(&root, "cluster1"))).await;
    assert_eq!(peer.unwrap(), None, "one that is offered is not looked at");
    dialled.unwrap();
}

#[tokio::test]
async fn tls_1_2_works_too() {
    let root = root();
    let server = server(&server_cert(&root), Some(&clients(root.bundle_pem())));
    let old = ClientConfig::builder_with_details(meshrelay_pki::tls::provider(), time())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(servers(root.bundle_pem()));
    let mut old = old.with_client_cert_resolver(good_client(&root, "cluster1").unwrap());
    old.alpn_protocols = vec![b"h2".to_vec()];
    let (peer, dialled) = connect(&server, &Arc::new(old)).await;
    assert_eq!(peer.unwrap().unwrap().cluster.as_str(), "cluster1");
    dialled.unwrap();
}
