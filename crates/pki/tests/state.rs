//! State folders of server and agent: created, kept, renewed, followed live, and registration between the two.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test, also in its helpers, a failure is a panic")]

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use meshrelay_pki::registration::{
    Credential, Registrar, RegistrarOptions, Registration, RegistrationRefusal, RegistrationRequest,
};
use meshrelay_pki::reload::DEFAULT_EXPIRED_LIMIT;
use meshrelay_pki::tls::{LiveClient, LiveServer, system_time};
use meshrelay_pki::token_store::{DEFAULT_TOKEN_LIFE, Redeemed, TokenRefusal};
use meshrelay_pki::watch::FileWatch;
use meshrelay_pki::{
    AgentState, ClusterName, PeerIdentity, PkiError, ServerOptions, ServerState, Token, check_csr, csr, peer_identity,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

fn day(n: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * n)
}

fn open(state: &Path, now: Timestamp) -> Result<ServerState, PkiError> {
    ServerState::load_or_create(state, &ServerOptions::new("gloo-mesh"), now)
}

fn read(state: &Path, file: &str) -> String {
    fs::read_to_string(state.join(file)).unwrap()
}

const ALL: [&str; 9] = [
    "relay-root-tls-secret/ca.crt",
    "relay-root-tls-secret/tls.key",
    "relay-tls-signing-secret/ca.crt",
    "relay-tls-signing-secret/tls.crt",
    "relay-tls-signing-secret/tls.key",
    "relay-identity-token-secret/token",
    "relay-server-tls-secret/ca.crt",
    "relay-server-tls-secret/tls.crt",
    "relay-server-tls-secret/tls.key",
];

#[test]
fn everything_is_made_once_and_kept() {
    let state = tempfile::tempdir().unwrap();
    open(state.path(), day(0)).unwrap();
    let before = ALL.map(|file| read(state.path(), file));
    assert_eq!(before[0], before[3], "the root signs");
    open(state.path(), day(100)).unwrap();
    assert_eq!(ALL.map(|file| read(state.path(), file)), before);
}

#[test]
fn the_servers_certificate_is_renewed_when_due_or_when_a_name_is_missing() {
    let state = tempfile::tempdir().unwrap();
    let server = open(state.path(), day(0)).unwrap();
    let certificate = || read(state.path(), "relay-server-tls-secret/tls.crt");
    let first = certificate();
    assert!(!server.renew_server_certificate(day(200)).unwrap());
    assert!(server.renew_server_certificate(day(300)).unwrap());
    let second = certificate();
    assert_ne!(first, second);
    let mut options = ServerOptions::new("gloo-mesh");
    options.names.additional.push("relay.example.org".into());
    ServerState::load_or_create(state.path(), &options, day(301)).unwrap();
    let third = certificate();
    assert_ne!(second, third);
    ServerState::load_or_create(state.path(), &options, day(302)).unwrap();
    assert_eq!(certificate(), third);
    let ca = ALL[..6].iter().map(|file| read(state.path(), file)).collect::<Vec<_>>();
    open(state.path(), day(400)).unwrap();
    assert_eq!(ALL[..6].iter().map(|file| read(state.path(), file)).collect::<Vec<_>>(), ca);
}

#[test]
fn a_certificate_of_the_user_is_never_replaced() {
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(other.path(), day(0)).unwrap();
    let theirs = state.path().join("relay-server-tls-secret");
    fs::create_dir_all(&theirs).unwrap();
    for file in ["ca.crt", "tls.crt", "tls.key"] {
        fs::copy(other.path().join("relay-server-tls-secret").join(file), theirs.join(file)).unwrap();
    }
    let before = read(state.path(), "relay-server-tls-secret/tls.crt");
    open(state.path(), day(360)).unwrap();
    assert_eq!(read(state.path(), "relay-server-tls-secret/tls.crt"), before);
}

#[test]
fn half_a_secret_or_a_bad_one_is_reported_and_nothing_is_overwritten() {
    let cases = [
        ("relay-root-tls-secret/tls.key", None, "MR0308", true),
        ("relay-tls-signing-secret/tls.key", None, "MR0308", false),
        ("relay-server-tls-secret/tls.key", None, "MR0308", false),
        ("relay-server-tls-secret/tls.crt", Some("rubbish"), "MR0302", false),
        ("relay-tls-signing-secret/tls.crt", Some("rubbish"), "MR0302", false),
        ("relay-identity-token-secret/token", Some("  \n"), "MR0314", false),
    ];
    for (file, content, code, without_signing) in cases {
        let state = tempfile::tempdir().unwrap();
        open(state.path(), day(0)).unwrap();
        let path = state.path().join(file);
        fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        if without_signing {
            fs::remove_dir_all(state.path().join("relay-tls-signing-secret")).unwrap();
        }
        let others = || ALL.map(|file| fs::read(state.path().join(file)).ok());
        let before = others();
        let error = open(state.path(), day(1)).unwrap_err();
        assert_eq!(error.code(), code, "{file}: {error}");
        assert_eq!(others(), before, "{file}");
    }
}

#[test]
fn a_start_that_was_cut_off_is_completed() {
    let state = tempfile::tempdir().unwrap();
    open(state.path(), day(0)).unwrap();
    let root = read(state.path(), ALL[0]);
    for secret in ["relay-tls-signing-secret", "relay-server-tls-secret", "relay-identity-token-secret"] {
        fs::remove_dir_all(state.path().join(secret)).unwrap();
    }
    open(state.path(), day(1)).unwrap();
    assert_eq!(read(state.path(), ALL[3]), root);
    fs::remove_dir_all(state.path().join("relay-root-tls-secret")).unwrap();
    open(state.path(), day(2)).unwrap();
    assert_eq!(read(state.path(), ALL[0]), root, "an authority of the user's own needs no root key");
}

/// A server and an agent that meet through files only.
struct Relay {
    folders: [tempfile::TempDir; 2],
    server: ServerState,
    agent: AgentState,
    registrar: Registrar,
    cluster: ClusterName,
}

impl Relay {
    fn new() -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let server = open(folders[0].path(), day(0)).unwrap();
        let agent = AgentState::open(folders[1].path()).unwrap();
        let options = RegistrarOptions::default();
        let registrar = Registrar::new(server.authority(), server.shared_token(), server.tokens(), options).unwrap();
        Self { folders, server, agent, registrar, cluster: ClusterName::new("cluster1").unwrap() }
    }

    fn register(
        &self,
        token: &str,
        peer: Option<&PeerIdentity>,
        now: Timestamp,
    ) -> Result<Registration, RegistrationRefusal> {
        let csr = self.agent.signing_request(&self.cluster).unwrap();
        self.registrar.register(&self.cluster, &RegistrationRequest { token, csr: &csr, peer }, now)
    }

    fn store(&self, registration: &Registration) {
        let issued = &registration.certificate;
        self.agent.store(&issued.chain_pem, &issued.ca_pem).unwrap();
    }

    fn peer(&self, now: Timestamp) -> PeerIdentity {
        let chain = self.agent.certificate().unwrap().unwrap().chain_pem;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        peer_identity(&chain, now).unwrap()
    }
}

#[test]
fn an_agent_registers_renews_and_comes_back() {
    let relay = Relay::new();
    let token = relay.server.shared_token().unwrap().clone();
    relay.agent.bootstrap(&relay.server.root_ca_pem(), Some(&token)).unwrap();
    assert!(relay.agent.certificate().unwrap().is_none());
    let token = relay.agent.token().unwrap().unwrap();

    let first = relay.register(token.reveal(), None, day(0)).unwrap();
    assert_eq!(first.credential, Credential::Token(Redeemed::Shared));
    relay.store(&first);

    let renewed = relay.register("", Some(&relay.peer(day(300))), day(300)).unwrap();
    assert_eq!(renewed.credential, Credential::Certificate { expired: false });
    assert_ne!(renewed.certificate.chain_pem, first.certificate.chain_pem);
    relay.store(&renewed);

    let back = relay.register("", Some(&relay.peer(day(690))), day(690)).unwrap();
    assert_eq!(back.credential, Credential::Certificate { expired: true });
    let late = relay.register("", Some(&relay.peer(day(700))), day(700)).unwrap_err();
    assert_eq!((late.code(), late.as_str()), ("MR0337", "expired_certificate"));
    let fresh = relay.register(token.reveal(), Some(&relay.peer(day(700))), day(700)).unwrap();
    assert_eq!(fresh.credential, Credential::Token(Redeemed::Shared));
}

#[test]
fn an_answer_that_got_lost_costs_no_token() {
    let relay = Relay::new();
    let (id, token) = relay.server.tokens().issue(&relay.cluster, day(0), DEFAULT_TOKEN_LIFE).unwrap();
    relay.register(token.reveal(), None, day(0)).unwrap();
    let again = relay.register(token.reveal(), None, day(0)).unwrap();
    assert_eq!(again.credential, Credential::Token(Redeemed::SingleUse { id }));
    relay.store(&again);
    let reused = relay.register(token.reveal(), None, day(0)).unwrap_err();
    assert!(matches!(reused, RegistrationRefusal::Token(TokenRefusal::AlreadyUsed { .. })), "{reused}");
}

#[test]
fn refusals_say_why_and_use_nothing_up() {
    let relay = Relay::new();
    let (_, token) = relay.server.tokens().issue(&relay.cluster, day(0), DEFAULT_TOKEN_LIFE).unwrap();
    let other = ClusterName::new("cluster2").unwrap();
    let csr = relay.agent.signing_request(&relay.cluster).unwrap();
    let request = RegistrationRequest { token: token.reveal(), csr: &csr, peer: None };
    assert_eq!(relay.registrar.register(&other, &request, day(0)).unwrap_err().code(), "MR0325");
    assert_eq!(relay.register("", None, day(0)).unwrap_err().code(), "MR0335");
    assert_eq!(relay.register("not it", None, day(0)).unwrap_err().as_str(), "wrong_token");
    assert_eq!(relay.register(Token::generate().reveal(), None, day(0)).unwrap_err().as_str(), "wrong_token");
    let registration = relay.register(token.reveal(), None, day(0)).unwrap();
    relay.store(&registration);

    let mut stranger = relay.peer(day(1));
    stranger.cluster = other;
    let refused = relay.register("", Some(&stranger), day(1)).unwrap_err();
    assert_eq!((refused.code(), refused.as_str()), ("MR0336", "other_clusters_certificate"));

    let source = [10, 0, 0, 1].into();
    assert!(relay.registrar.admit(source, "Bad_Name", day(1)).is_err_and(|refusal| refusal.code() == "MR0320"));
    let limited = (0..100).find_map(|_| relay.registrar.admit(source, "cluster1", day(1)).err()).unwrap();
    assert_eq!((limited.code(), limited.as_str()), ("MR0334", "rate_limited"));
}

#[test]
fn a_certificate_for_another_key_is_not_stored() {
    let (relay, other) = (Relay::new(), Relay::new());
    let token = |relay: &Relay| relay.server.shared_token().unwrap().reveal().to_owned();
    relay.store(&relay.register(&token(&relay), None, day(0)).unwrap());
    let before = relay.agent.certificate().unwrap();
    relay.agent.signing_request(&relay.cluster).unwrap();
    let foreign = other.register(&token(&other), None, day(0)).unwrap().certificate;
    assert_eq!(relay.agent.store(&foreign.chain_pem, &foreign.ca_pem).unwrap_err().code(), "MR0305");
    assert!(relay.agent.store("rubbish", &foreign.ca_pem).is_err());
    assert_eq!(relay.agent.certificate().unwrap(), before);
}

#[test]
fn every_certificate_gets_a_new_key_whatever_a_crash_left_behind() {
    let relay = Relay::new();
    let token = relay.server.shared_token().unwrap().reveal().to_owned();
    relay.store(&relay.register(&token, None, day(0)).unwrap());
    let workload = relay.folders[1].path();
    let waiting = workload.join("relay-client-tls-secret-next/tls.key");
    let fingerprint = || {
        let csr = relay.agent.signing_request(&relay.cluster).unwrap();
        check_csr(&csr, &relay.cluster).unwrap().key_fingerprint()
    };
    let next = fingerprint();
    assert_eq!(fingerprint(), next, "the waiting key is asked for again");
    fs::write(&waiting, read(workload, "relay-client-tls-secret/tls.key")).unwrap();
    let current = {
        let key = read(workload, "relay-client-tls-secret/tls.key");
        let csr = csr::generate_for_key(&relay.cluster, &key, "test").unwrap();
        check_csr(&csr, &relay.cluster).unwrap().key_fingerprint()
    };
    assert_ne!(fingerprint(), current, "stored, but cut off before the waiting key was removed");
    fs::write(&waiting, "rubbish").unwrap();
    relay.store(&relay.register(&token, None, day(0)).unwrap());
}

#[test]
fn live_configurations_follow_thefolders() {
    let mut relay = Relay::new();
    let server = LiveServer::load(&relay.server.mtls_files(), DEFAULT_EXPIRED_LIMIT, system_time()).unwrap();
    let mut watched = server.watched;
    watched.extend(relay.server.take_watch());
    let mut watch = FileWatch::new(watched);
    let poll_until_settled = |watch: &mut FileWatch| {
        watch.poll();
        watch.poll()
    };
    assert!(!poll_until_settled(&mut watch));

    let before = server.certificate.validity().unwrap();
    assert!(relay.server.renew_server_certificate(day(300)).unwrap());
    assert!(poll_until_settled(&mut watch));
    assert!(server.certificate.validity().unwrap().not_after > before.not_after);

    assert_eq!(LiveClient::load(&relay.agent.mtls_files(), system_time()).unwrap_err().code(), "MR0308");
    relay.agent.bootstrap(&relay.server.root_ca_pem(), None).unwrap();
    let client = LiveClient::load(&relay.agent.mtls_files(), system_time()).unwrap();
    let mut agent_watch = FileWatch::new(client.watched);
    let certificate = client.certificate.unwrap();
    assert!(certificate.validity().is_none());
    let token = relay.server.shared_token().unwrap().reveal().to_owned();
    relay.store(&relay.register(&token, None, day(0)).unwrap());
    assert!(poll_until_settled(&mut agent_watch));
    assert!(certificate.validity().is_some());

    // A new root beside the old one reaches the agents' bundles with the next certificate.
    let other = tempfile::tempdir().unwrap();
    let new_root = open(other.path(), day(0)).unwrap().root_ca_pem();
    let both = format!("{}{new_root}", relay.server.root_ca_pem());
    let bundle = relay.server.mtls_files().client_ca.unwrap();
    fs::write(&bundle, &both).unwrap();
    assert!(poll_until_settled(&mut watch));
    assert_eq!(relay.register(&token, None, day(0)).unwrap().certificate.ca_pem, both);
    fs::write(&bundle, "rubbish").unwrap();
    assert!(poll_until_settled(&mut watch));
    let problems = watch.status().iter().filter(|status| status.problem.is_some()).count();
    assert_eq!(problems, 2, "client authorities and signing authority read this file");
    assert_eq!(relay.register(&token, None, day(0)).unwrap().certificate.ca_pem, both, "the last good one stays");
}
