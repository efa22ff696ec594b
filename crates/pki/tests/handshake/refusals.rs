//! Wrong certificates, each refused for its own reason on both sides.

use std::sync::Arc;

use meshrelay_pki::TlsRefusal;
use meshrelay_pki::authority::DEFAULT_LEAF_VALIDITY;
use meshrelay_pki::reload::ReloadingServerCert;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::loopback::*;

#[tokio::test]
async fn an_unknown_authority_is_refused_on_both_sides() {
    let (root, other) = (root(), root());
    let server = server(&server_cert(&root), Some(&clients(root.bundle_pem())));
    let stranger = client(&servers(root.bundle_pem()), good_client(&other, "cluster1"));
    let refused = refusals(connect(&server, &stranger).await);
    assert_eq!(refused, (Some(TlsRefusal::UnknownAuthority), Some(TlsRefusal::OwnAuthorityUnknown)));

    let distrustful = client(&servers(other.bundle_pem()), good_client(&root, "cluster1"));
    let refused = refusals(connect(&server, &distrustful).await);
    assert_eq!(refused, (Some(TlsRefusal::OwnAuthorityUnknown), Some(TlsRefusal::UnknownAuthority)));
}

#[tokio::test]
async fn another_name_and_another_purpose_are_refused() {
    let root = root();
    let cert = server_cert(&root);
    let server = server(&cert, Some(&clients(root.bundle_pem())));
    let trust = servers(root.bundle_pem());
    let (_, dialled) = connect_as("relay.example.org", &server, &client(&trust, None)).await;
    assert_eq!(TlsRefusal::of(&dialled.unwrap_err()), Some(TlsRefusal::WrongName));

    let made = root.sign_server(&names(), now(), DEFAULT_LEAF_VALIDITY).unwrap();
    let as_client = client_cert(&made.certificate.chain_pem, &made.key_pem);
    let (accepted, _) = connect(&server, &client(&trust, as_client)).await;
    assert_eq!(TlsRefusal::of(&accepted.unwrap_err()), Some(TlsRefusal::WrongPurpose));

    let (agent, key) = issue(&root, "localhost", now(), DEFAULT_LEAF_VALIDITY);
    let impostor = ReloadingServerCert::new(agent.chain_pem.as_bytes(), key.as_bytes(), "agent").unwrap();
    let impostor = crate::loopback::server(&Arc::new(impostor), None);
    let (_, dialled) = connect_as("localhost", &impostor, &client(&trust, None)).await;
    assert_eq!(TlsRefusal::of(&dialled.unwrap_err()), Some(TlsRefusal::WrongPurpose));
}

#[tokio::test]
async fn an_expired_certificate_is_let_in_marked_and_only_for_a_while() {
    let root = root();
    let server = server(&server_cert(&root), Some(&clients(root.bundle_pem())));
    let trust = servers(root.bundle_pem());
    let ended = |days_ago: i64| {
        let (issued, key) = issue(&root, "cluster1", now() - days(365 + days_ago), days(365));
        client(&trust, client_cert(&issued.chain_pem, &key))
    };
    let (peer, dialled) = connect(&server, &ended(29)).await;
    assert!(peer.unwrap().unwrap().expired);
    dialled.unwrap();

    let refused = refusals(connect(&server, &ended(31)).await);
    assert_eq!(refused, (Some(TlsRefusal::Expired), Some(TlsRefusal::OwnExpired)));

    let other = crate::loopback::root();
    let (issued, key) = issue(&other, "cluster1", now() - days(370), days(365));
    let (accepted, _) = connect(&server, &client(&trust, client_cert(&issued.chain_pem, &key))).await;
    assert_eq!(
        TlsRefusal::of(&accepted.unwrap_err()),
        Some(TlsRefusal::UnknownAuthority),
        "expired, and of a stranger"
    );

    let (issued, key) = issue(&root, "cluster1", now() + days(1), days(365));
    let (accepted, _) = connect(&server, &client(&trust, client_cert(&issued.chain_pem, &key))).await;
    assert_eq!(TlsRefusal::of(&accepted.unwrap_err()), Some(TlsRefusal::NotYetValid));
}

#[tokio::test]
async fn plain_text_to_a_tls_port_is_told_apart() {
    let root = root();
    let server = server(&server_cert(&root), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (stream, _) = listener.accept().await?;
        TlsAcceptor::from(server).accept(stream).await
    };
    let dial = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    let (accepted, _) = tokio::join!(accept, dial);
    assert_eq!(TlsRefusal::of(&accepted.map(drop).unwrap_err()), Some(TlsRefusal::NotTls));
}
