use std::collections::BTreeSet;
use std::net::SocketAddr;

use meshrelay_testbed::{
    Agent, Endpoints, Fleet, Proxy, Redis, Server, WORKLOAD_CLUSTERS, Watcher, copy, difference, wait_for,
};
use serde_json::Value;

use crate::PROGRAMS;

/// A replica that moves agents as soon as it is known who is where.
fn replica(fleet: &Fleet, name: &str, redis: &Redis, relay: SocketAddr, further: &[&str]) -> Server {
    let settings = fleet.folder().join("replica-settings.yaml");
    let text = "clock: 2026-01-01T00:00:00Z\nrebalance: {settle: 2s, interval: 1s}\n";
    std::fs::write(&settings, text).unwrap();
    let (settings, state, redis) = (settings.to_str().unwrap(), fleet.state(name), redis.address());
    let options = ["--settings", settings, "--state-directory", state.to_str().unwrap(), "--redis-address", &redis];
    Server::start_at(fleet, relay, &[&options[..], &["--replica-name", name], further].concat())
}

/// The clusters whose agents have both streams with a replica.
fn serves(endpoints: Endpoints) -> BTreeSet<String> {
    let status = endpoints.status();
    let clusters = status["clusters"].as_object().unwrap();
    let connected = |cluster: &Value| cluster["pushing"] == true && cluster["pulling"] == true;
    clusters.iter().filter(|(_, cluster)| connected(cluster)).map(|(name, _)| name.clone()).collect()
}

fn wait_until_spread(replicas: [Endpoints; 2]) {
    wait_for("one agent with each replica", || {
        let found = replicas.map(serves);
        if found.iter().all(|clusters| clusters.len() == 1) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn agents_behind_a_balancer_spread_over_replicas_that_come_and_go_and_nothing_disappears() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut redis = Redis::start(&[]);
    let a = replica(&fleet, "server", &redis, fleet.any_port(), &[]);
    copy(&fleet.state("server"), &fleet.state("server2"));
    // The other one will be killed: nobody leads for a while if it does.
    a.endpoints.wait_for_metric("meshrelay_leader", |leads| leads == 1.0);
    let mut b = replica(&fleet, "server2", &redis, fleet.any_port(), &[]);
    let balancer = Proxy::to_any(&[a.relay, b.relay]);
    let _agents = WORKLOAD_CLUSTERS.map(|cluster| {
        fleet.bootstrap(cluster);
        Agent::start(&fleet, cluster, balancer.address, &[])
    });
    fleet.wait_until_converged();
    wait_until_spread([a.endpoints, b.endpoints]);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);

    b.process.kill();
    wait_for("both agents with the replica that is left", || match serves(a.endpoints) {
        found if found.len() == 2 => Ok(()),
        found => Err(format!("{found:?}")),
    });
    fleet.shift_traffic(80, 60);
    fleet.wait_until_converged();

    let sent_before = a.endpoints.metric("meshrelay_agents_sent_away_total").unwrap();
    b = replica(&fleet, "server2", &redis, b.relay, &[]);
    wait_until_spread([a.endpoints, b.endpoints]);
    let sent = a.endpoints.metric("meshrelay_agents_sent_away_total").unwrap() - sent_before;
    assert_eq!(sent, 1.0, "one of two agents");
    fleet.shift_traffic(60, 70);
    fleet.wait_until_converged();
    watcher.finish();

    // Either shows both, and who serves whom.
    let status = wait_for("both replicas in the status", || {
        let status = b.endpoints.status();
        let told = |replica: &Value| replica["clusters"].as_object().is_some_and(|clusters| clusters.len() == 1);
        let replicas = status["replicas"].as_object().unwrap();
        let all_told = replicas.len() == 2 && replicas.values().all(told);
        if all_told && status["ledBy"].is_string() { Ok(status) } else { Err(status.to_string()) }
    });
    assert_eq!(status["store"]["connected"], true);
    let leaders = [&a, &b].map(|server| server.endpoints.metric("meshrelay_leader").unwrap());
    assert_eq!(leaders, [1.0, 0.0], "it has led since before there was another one");
    assert!(status["ledBy"].as_str().is_some_and(|name| name.starts_with("server-")), "{}", status["ledBy"]);
    let table = fleet.programs().meshctl(&["get", "clusters", "--server", &b.endpoints.url()]).stdout;
    let row = |cluster: &str| {
        table.lines().find(|line| line.trim_start().starts_with(cluster)).unwrap_or_default().to_owned()
    };
    let here = serves(b.endpoints);
    for cluster in WORKLOAD_CLUSTERS {
        let name = if here.contains(cluster) { "server2-" } else { "server-" };
        let row = row(cluster);
        assert!(row.contains(name) && row.split_whitespace().nth(3) == Some("yes"), "{table}");
    }

    // Without Redis, what is known of the other one is old, and says so.
    redis.kill();
    let status = wait_for("the store to be away", || {
        let status = b.endpoints.status();
        if status["store"]["connected"] == false { Ok(status) } else { Err(status["store"].to_string()) }
    });
    assert!(status["store"]["error"].as_str().is_some_and(|error| error.contains("MR09")), "{}", status["store"]);
    let replicas = status["replicas"].as_object().unwrap().values();
    assert!(replicas.into_iter().all(|replica| replica["this"] == replica["staleSince"].is_null()), "{status}");
    let table = fleet.programs().meshctl(&["get", "clusters", "--server", &b.endpoints.url()]).stdout;
    assert!(table.contains(" *\n") && table.contains("the snapshot store is away"), "{table}");
    // The leader gives up by its own clock.
    a.endpoints.wait_for_metric("meshrelay_leader", |n| n == 0.0);
}

#[test]
fn a_halted_server_gives_the_last_output_to_an_agent_that_lost_everything_and_to_no_other() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let redis = Redis::start(&[]);
    let start = |relay| replica(&fleet, "server", &redis, relay, &["--safe-mode", "true"]);
    let mut server = start(fleet.any_port());
    let [one, two] = WORKLOAD_CLUSTERS.map(|cluster| Agent::install(&fleet, cluster, &server));
    fleet.wait_until_converged();
    let expected = fleet.expected();
    wait_for("outputs and reports in the store", || {
        let heads = format!("{:?}", redis.run("HKEYS {meshrelay:mgmt}:heads"));
        let all = ["output:cluster1", "output:cluster2", "reports:cluster1"];
        if all.iter().all(|id| heads.contains(id)) { Ok(()) } else { Err(heads) }
    });

    // A further cluster that was connected before, and is not now.
    drop((one, two));
    server.process.kill();
    let further = "apiVersion: admin.gloo.solo.io/v2\nkind: KubernetesCluster\nmetadata:\n  name: cluster3\n  \
                   namespace: gloo-mesh\nstatus:\n  conditions:\n  - type: ClusterWarm\n    status: \"True\"\n    \
                   lastTransitionTime: \"2026-01-01T00:00:00Z\"\n";
    fleet.write("mgmt/cluster3.yaml", further);
    server = start(server.relay);
    // One agent comes with what it had; the other one lost its disk, and its cluster what was applied.
    for file in ["last-output.jsonl.zst", "in-force.jsonl.zst"] {
        let _ = std::fs::remove_file(fleet.state("cluster2").join(file));
    }
    std::fs::remove_dir_all(fleet.output("cluster2")).unwrap();
    assert!(fleet.applied("cluster2").is_empty());
    let _agents = WORKLOAD_CLUSTERS.map(|cluster| Agent::start(&fleet, cluster, server.relay, &[]));
    wait_for("what was applied before", || difference(&expected["cluster2"], &fleet.applied("cluster2")));
    server.process.line(&["gets the last output from the store", "cluster2"]);
    server.endpoints.wait_for_metric("relay_pull_clients_connected{cluster=\"cluster1\"}", |n| n == 1.0);
    let status = server.endpoints.status();
    assert_eq!(status["waitingFor"], serde_json::json!(["cluster3"]));
    assert!(status["earlierReports"]["resources"].as_u64().is_some_and(|count| count > 0), "{status}");
    assert_eq!(status["translations"], 0);

    // Nobody waits any longer: it is as if nothing had been.
    std::fs::remove_file(fleet.folder().join("mgmt/cluster3.yaml")).unwrap();
    fleet.shift_traffic(80, 60);
    fleet.wait_until_converged();
    assert!(!server.process.has_line(&["gets the last output from the store", "cluster1"]));
    assert_eq!(server.endpoints.status()["earlierReports"], Value::Null);
}
