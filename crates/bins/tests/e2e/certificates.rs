use std::fs;

use jiff::{SignedDuration, Timestamp};
use meshrelay_pki::authority::DEFAULT_ROOT_VALIDITY;
use meshrelay_pki::{AgentState, Authority, ClusterName, check_csr};
use meshrelay_testbed::{Agent, Fleet, TOKEN_FILE, Watcher, install, wait_for};

use crate::PROGRAMS;

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn the_certificate_of_another_cluster_is_refused() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [_one, mut two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    two.process.kill();
    fs::remove_dir_all(fleet.state("cluster2")).unwrap();
    meshrelay_testbed::copy(&fleet.state("cluster1"), &fleet.state("cluster2"));
    two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    server.wait_until_refused(&two, "MR0206", "foreign_certificate");
    let told = two.process.line(&["MR0206"]);
    assert!(told.contains("expected the certificate of cluster cluster2, found the one of cluster cluster1"), "{told}");
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    watcher.finish();
}

#[test]
fn an_agent_that_was_away_past_the_end_of_its_certificate_comes_back() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [_one, mut two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    two.process.kill();
    let client_certificate = "relay-client-tls-secret/tls.crt";

    // Not for long: the old key is enough, without a token.
    fs::remove_dir_all(fleet.state("cluster2").join("relay-identity-token-secret")).unwrap();
    certify(&fleet, "cluster2", DAY);
    let expired = fleet.secret("cluster2", client_certificate);
    two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    server.endpoints.wait_for_metric("relay_push_clients_connected{cluster=\"cluster2\"}", |n| n == 1.0);
    two.endpoints.wait_until_ready();
    assert_ne!(fleet.secret("cluster2", client_certificate), expired);
    two.process.kill();

    // For too long: refused, and told on both sides.
    certify(&fleet, "cluster2", 40 * DAY);
    two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    server.wait_for_failed_handshake(&two, ("MR0341", "expired"), ("MR0347", "own_expired"));
    assert!(two.process.line(&["MR0347"]).contains("register again with a fresh token"));

    // A token is the way back.
    fleet.give("cluster2", TOKEN_FILE, &fleet.secret("server", TOKEN_FILE));
    two.endpoints.wait_until_ready();
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    fleet.wait_until_converged();
    watcher.finish();
}

#[test]
fn an_agent_that_does_not_know_the_authority_of_the_server_does_not_connect() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [_one, mut two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    two.process.kill();
    fs::remove_dir_all(fleet.state("cluster2")).unwrap();
    fleet.bootstrap("cluster2");
    let other = Authority::create(Timestamp::now(), DEFAULT_ROOT_VALIDITY).unwrap();
    fleet.give("cluster2", "relay-root-tls-secret/ca.crt", other.bundle_pem());
    two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    let (ours, theirs) = (("MR0346", "own_authority_unknown"), ("MR0340", "unknown_authority"));
    server.wait_for_failed_handshake(&two, ours, theirs);
    assert!(two.process.line(&["MR0340"]).contains("compare ca.crt on both sides"));
    let (status, waits) = two.endpoints.health("/readyz");
    assert_eq!((status, waits.as_str()), (503, "waiting for the server to hold the first input snapshot\n"));
    // The right one is picked up from the file, without a restart.
    fleet.bootstrap("cluster2");
    two.endpoints.wait_until_ready();
    watcher.finish();
}

#[test]
fn agents_get_into_a_server_that_was_installed_anew() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (mut server, agents) = install(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    let before = fleet.secret("server", TOKEN_FILE);
    server.process.kill();
    fs::remove_dir_all(fleet.state("server")).unwrap();
    server.restart(&fleet);
    assert_ne!(fleet.secret("server", TOKEN_FILE), before);
    for agent in &agents {
        server.wait_for_failed_handshake(agent, ("MR0346", "own_authority_unknown"), ("MR0340", "unknown_authority"));
    }
    watcher.finish();
    // What an installation gives is enough: their certificates are still valid, but of no use any more.
    for cluster in ["cluster1", "cluster2"] {
        fleet.bootstrap(cluster);
    }
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    fleet.wait_until_converged();
}

#[test]
fn a_certificate_that_is_due_is_renewed_without_a_break() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [_one, mut two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    two.process.kill();
    // Half an hour of its hour is left, and the agent is told to renew in the last nine tenths.
    certify(&fleet, "cluster2", SignedDuration::from_mins(-30));
    let path = "relay-client-tls-secret/tls.crt";
    let due = fleet.secret("cluster2", path);
    let ratio = ["--relay-client-cert-rotation-grace-period-ratio", "0.9"];
    two = Agent::start(&fleet, "cluster2", server.relay, &ratio);
    wait_for("a new certificate", || {
        if fleet.secret("cluster2", path) == due { Err("the old one".to_owned()) } else { Ok(()) }
    });
    two.endpoints.wait_until_ready();
    assert!(!two.process.has_line(&["\"ERROR\""]));
    watcher.finish();
}

/// Gives an agent a certificate of one hour that ended so long ago (or will end in so long, for a negative time), with a
/// key that only the agent has.
fn certify(fleet: &Fleet, cluster: &str, ended_ago: SignedDuration) {
    let secret = |file: &str| fleet.secret("server", &format!("relay-tls-signing-secret/{file}")).into_bytes();
    let authority = Authority::load(&secret("tls.crt"), &secret("tls.key"), &secret("ca.crt"), "the test").unwrap();
    let state = AgentState::open(&fleet.state(cluster)).unwrap();
    let name = ClusterName::new(cluster).unwrap();
    let request = check_csr(&state.signing_request(&name).unwrap(), &name).unwrap();
    let life = SignedDuration::from_hours(1);
    // The authority begins certificates five minutes early.
    let made = Timestamp::now() - ended_ago - life + SignedDuration::from_mins(5);
    let issued = authority.sign_client(&request, made, life).unwrap();
    state.store(&issued.chain_pem, &issued.ca_pem).unwrap();
}
