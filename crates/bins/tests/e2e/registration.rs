use std::fs;

use meshrelay_testbed::{Agent, Fleet, Server, TOKEN_FILE, Watcher, install, wait_for};

use crate::PROGRAMS;

/// A server with the agent of cluster1, which has everything applied that does not need cluster2.
fn install_one(fleet: &Fleet) -> (Server, Agent) {
    let server = Server::start(fleet);
    let one = Agent::install(fleet, "cluster1", &server);
    fleet.wait_for_shifted_traffic(80);
    one.endpoints.wait_until_ready();
    (server, one)
}

/// Waits until both sides say that the cluster of an agent is registered no longer.
fn wait_until_deregistered(server: &Server, agent: &Agent) {
    server.process.line(&["agent disconnected", "MR0213"]);
    assert!(agent.process.line(&["MR0213"]).contains("was removed from the management cluster"));
    server.endpoints.wait_for_metric("meshrelay_refusals_total{reason=\"deregistered\"}", |n| n >= 1.0);
    agent.endpoints.wait_for_metric("meshrelay_agent_refusals_total{reason=\"deregistered\"}", |n| n >= 1.0);
}

#[test]
fn a_wrong_token_is_refused_until_it_is_put_right() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, _one) = install_one(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1"]);
    fleet.bootstrap("cluster2");
    let right = fleet.secret("cluster2", TOKEN_FILE);
    fleet.give("cluster2", TOKEN_FILE, "a-token-that-nobody-issued-to-anybody");
    let two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    server.wait_until_refused(&two, "MR0200", "wrong_token");
    let told = two.process.line(&["MR0200"]);
    assert!(told.contains("put the server's relay-identity-token-secret into the agent's state folder"), "{told}");
    assert!(!told.contains("a-token-that-nobody") && !told.contains(right.trim()), "{told}");
    assert!(fleet.applied("cluster2").is_empty());
    fleet.give("cluster2", TOKEN_FILE, &right);
    fleet.wait_until_converged();
    two.endpoints.wait_until_ready();
    let ours = server.endpoints.metric("meshrelay_refusals_total{reason=\"wrong_token\"}");
    let theirs = two.endpoints.metric("meshrelay_agent_refusals_total{reason=\"wrong_token\"}");
    assert_eq!(ours, theirs, "each refusal counts once on each side");
    watcher.finish();
}

#[test]
fn a_single_use_token_is_used_once() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, _one) = install_one(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1"]);
    let state = fleet.state("server");
    let state = state.to_str().unwrap();
    let issue = |cluster: &str| {
        let answer = PROGRAMS.meshctl(&["token", "create", cluster, "--state-directory", state, "--valid-for", "1h"]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        let name = answer.stderr.split(' ').nth(1).unwrap().to_owned();
        (name, answer.stdout.trim().to_owned())
    };
    let root = fleet.secret("server", "relay-root-tls-secret/ca.crt");
    fleet.give("cluster2", "relay-root-tls-secret/ca.crt", &root);

    let (_, foreign) = issue("cluster1");
    let mut two = Agent::start(&fleet, "cluster2", server.relay, &["--token", &foreign]);
    server.wait_until_refused(&two, "MR0203", "foreign_token");
    two.process.kill();

    let (name, withdrawn) = issue("cluster2");
    assert_eq!(PROGRAMS.meshctl(&["token", "revoke", &name, "--state-directory", state]).code, 0);
    assert_eq!(PROGRAMS.meshctl(&["token", "revoke", &name, "--state-directory", state]).code, 1, "once is enough");
    two = Agent::start(&fleet, "cluster2", server.relay, &["--token", &withdrawn]);
    server.wait_until_refused(&two, "MR0200", "wrong_token");
    two.process.kill();

    let (_, own) = issue("cluster2");
    two = Agent::start(&fleet, "cluster2", server.relay, &["--token", &own]);
    fleet.wait_until_converged();
    two.process.kill();

    // Somebody who found the token, with no certificate and a key of their own.
    let thief = tempfile::tempdir().unwrap();
    let (state, output) = (thief.path().join("state"), thief.path().join("output"));
    fs::create_dir_all(state.join("relay-root-tls-secret")).unwrap();
    fs::write(state.join("relay-root-tls-secret/ca.crt"), root).unwrap();
    let folders = ["--state-directory", state.to_str().unwrap(), "--output-directory", output.to_str().unwrap()];
    let further: Vec<&str> = folders.into_iter().chain(["--token", &own]).collect();
    let thief = Agent::start(&fleet, "cluster2", server.relay, &further);
    server.wait_until_refused(&thief, "MR0201", "used_token");
    assert!(!output.exists(), "nothing was given away");
    watcher.finish();
}

#[test]
fn a_cluster_gets_in_once_it_is_registered_and_is_cut_off_when_it_is_no_longer() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let clusters = fleet.unregister("cluster2");
    let (server, _one) = install_one(&fleet);
    let two = Agent::install(&fleet, "cluster2", &server);
    server.wait_until_refused(&two, "MR0204", "unknown_cluster");
    let told = two.process.line(&["MR0204"]);
    assert!(told.contains("create a KubernetesCluster of that name in the management cluster"), "{told}");
    fleet.register_again(&clusters);
    fleet.wait_until_converged();

    let watcher = Watcher::over(&fleet, &["cluster2"]);
    fleet.unregister("cluster2");
    wait_until_deregistered(&server, &two);
    // The streams' end is not all: the agent tries again, with its valid certificate.
    let mark = two.process.mark();
    two.process.line_since(mark, &["MR0204"]);
    // What is told of each cluster ends with it.
    wait_for("the end of the series of cluster2", || {
        let text = server.endpoints.metrics();
        let left = text.lines().filter(|line| line.contains("cluster=\"cluster2\"")).collect::<Vec<_>>().join("\n");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(server.endpoints.metric("relay_push_clients_connected{cluster=\"cluster1\"}"), Some(1.0));
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    // Nobody waits for it after a restart: whoever registers it again begins anew.
    assert_eq!(fleet.secret("server", "warm-clusters.json").matches("cluster").count(), 1);
    fleet.register_again(&clusters);
    fleet.wait_until_converged();
    watcher.finish();
}

#[test]
fn a_second_agent_of_a_cluster_is_refused_while_the_first_is_alive() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [mut one, _two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    let copy = tempfile::tempdir().unwrap();
    let (state, output) = (copy.path().join("state"), copy.path().join("output"));
    meshrelay_testbed::copy(&fleet.state("cluster1"), &state);
    // Otherwise it would rightly begin with what its cluster had last.
    fs::remove_file(state.join("last-output.jsonl.zst")).unwrap();
    let folders = ["--state-directory", state.to_str().unwrap(), "--output-directory", output.to_str().unwrap()];
    let second = Agent::start(&fleet, "cluster1", server.relay, &folders);
    server.wait_until_refused(&second, "MR0210", "second_agent");
    assert!(!output.exists(), "the second agent applies nothing");
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    // When the first one dies the second takes over.
    one.process.kill();
    second.endpoints.wait_until_ready();
    second.endpoints.wait_for_metric("meshrelay_agent_pull_connected", |n| n == 1.0);
    watcher.finish();
}
