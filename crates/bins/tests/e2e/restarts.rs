use std::fmt::Write as _;

use meshrelay_testbed::{Agent, Fleet, Proxy, Server, WORKLOAD_CLUSTERS, Watcher, install, wait_for};

use crate::PROGRAMS;

#[test]
fn a_server_that_is_killed_comes_back_and_nothing_disappears() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (mut server, _agents) = install(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    for (before, percent) in [(80, 70), (70, 55), (55, 35)] {
        server.process.kill();
        // Made while the server is down, and nobody but the agent knows of it.
        fleet.shift_traffic(before, percent);
        server.restart(&fleet);
        fleet.wait_for_shifted_traffic(percent);
        fleet.wait_until_converged();
        server.endpoints.wait_until_ready();
    }
    watcher.finish();
}

#[test]
fn an_agent_that_is_killed_comes_back_and_nothing_disappears() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [mut one, _two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    one.process.kill();
    server.endpoints.wait_for_metric("relay_push_clients_connected{cluster=\"cluster1\"}", |n| n == 0.0);
    // Seen by nobody until the agent is back.
    fleet.shift_traffic(80, 65);
    assert!(fleet.traffic_is_shifted(80));
    let one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    fleet.wait_for_shifted_traffic(65);
    fleet.wait_until_converged();
    one.endpoints.wait_until_ready();
    watcher.finish();
}

#[test]
fn a_server_that_comes_back_waits_for_the_clusters_that_it_knows() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (mut server, [mut one, mut two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    for process in [&mut server.process, &mut one.process, &mut two.process] {
        process.kill();
    }
    fleet.shift_traffic(80, 45);
    server.restart(&fleet);
    let _one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    // Half of the fleet is there: what depends on the other half must not shrink.
    server.endpoints.wait_for_metric("meshrelay_input_objects{cluster=\"cluster1\"}", |n| n > 0.0);
    server.endpoints.wait_for_metric("gloo_mesh_safe_mode_active{cluster=\"cluster2\"}", |n| n == 1.0);
    let (code, text) = server.endpoints.health("/readyz");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len(), lines[0]), (200, 2, "ready"), "who is not ready is not reached by agents: {text}");
    assert!(lines[1].starts_with("translation is halted since "), "{text}");
    server.process.line(&["translation waits for the inputs of warm clusters", "\"until\""]);
    let status = server.endpoints.status();
    assert_eq!(status["waitingFor"], serde_json::json!(["cluster2"]));
    for way in ["bring the agent of cluster2 back", "delete the KubernetesCluster cluster2", "skipWarming: true in the"]
    {
        assert!(lines[1].contains(way), "{way} in {text}");
        assert!(status["waysOut"].as_str().unwrap().contains(way), "{way} in {status}");
        server.process.line(&["translation waits", way]);
    }
    assert!(fleet.traffic_is_shifted(80));
    let _two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    server.endpoints.wait_for_metric("gloo_mesh_safe_mode_active{cluster=\"cluster2\"}", |n| n == 0.0);
    server.endpoints.wait_until_ready();
    assert_eq!(server.endpoints.health("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(server.endpoints.status()["waysOut"], serde_json::Value::Null);
    fleet.wait_for_shifted_traffic(45);
    fleet.wait_until_converged();
    watcher.finish();
}

#[test]
fn a_server_that_does_not_wait_deletes_nothing_of_a_cluster_that_is_away() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (mut server, [_one, mut two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    server.process.kill();
    two.process.kill();
    server = Server::start_at(&fleet, server.relay, &["--safe-start-window", "0"]);
    server.endpoints.wait_for_metric("meshrelay_input_objects{cluster=\"cluster1\"}", |n| n > 0.0);
    server.process.line(&["what depends on a cluster that is not known completely is kept", "cluster2"]);
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    watcher.finish();

    // Only somebody who says that the cluster is gone makes what came from it go.
    let remote = |cluster: &str| fleet.applied(cluster).keys().any(|path| path.contains("workloadentry-vd-reviews"));
    assert!(remote("cluster1"));
    let away = Watcher::over(&fleet, &["cluster2"]);
    fleet.unregister("cluster2");
    wait_for("the end of what leads to cluster2", || {
        if remote("cluster1") { Err("it is there".to_owned()) } else { Ok(()) }
    });
    away.finish();
}

#[test]
fn an_agent_that_is_killed_while_it_applies_goes_on_where_it_was() {
    const SERVICES: usize = 200;
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [mut one, _two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    let before = fleet.applied("cluster1").len();
    fleet.write("cluster1/many.yaml", &external_services(SERVICES));
    wait_for("the first of many new files", || {
        if fleet.applied("cluster1").len() > before { Ok(()) } else { Err("none".to_owned()) }
    });
    one.process.kill();
    // What is there is whole, although the work was not done.
    for (path, text) in fleet.applied("cluster1") {
        assert!(text.contains("relay.solo.io/cluster: cluster1") && text.ends_with('\n'), "{path}: {text}");
    }
    let _one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    fleet.wait_until_converged();
    assert!(fleet.applied("cluster1").len() >= before + SERVICES);
    watcher.finish();
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_push_gets_the_whole_of_it_afterwards() {
    const SERVICES: usize = 2_000;
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut server = Server::start(&fleet);
    let proxy = Proxy::to(server.relay);
    for cluster in WORKLOAD_CLUSTERS {
        fleet.bootstrap(cluster);
    }
    let one = Agent::start(&fleet, "cluster1", proxy.address, &[]);
    let _two = Agent::start(&fleet, "cluster2", server.relay, &[]);
    fleet.wait_until_converged();
    let objects = server.endpoints.metric("meshrelay_input_objects{cluster=\"cluster1\"}").unwrap();
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    // Some chunks pass, others do not; and the last one, which makes them count, least of all.
    proxy.stop_after(1_000_000);
    fleet.write("cluster1/many.yaml", &services(SERVICES));
    proxy.wait_until_stopped();
    one.endpoints.wait_for_metric("meshrelay_agent_input_objects", |n| n == objects + SERVICES as f64);
    assert_eq!(server.endpoints.metric("meshrelay_input_objects{cluster=\"cluster1\"}"), Some(objects));
    server.restart(&fleet);
    proxy.open();
    let name = "meshrelay_input_objects{cluster=\"cluster1\"}";
    server.endpoints.wait_for_metric(name, |n| n == objects + SERVICES as f64);
    fleet.shift_traffic(80, 40);
    fleet.wait_for_shifted_traffic(40);
    fleet.wait_until_converged();
    watcher.finish();
}

pub(crate) fn external_services(count: usize) -> String {
    let service = |number| {
        format!(
            "---\napiVersion: networking.gloo.solo.io/v2\nkind: ExternalService\nmetadata:\n  name: many-{number}\n  \
             namespace: bookinfo-backends\nspec:\n  hosts:\n  - many-{number}.example.com\n  ports:\n  - name: https\n    \
             number: 443\n    protocol: HTTPS\n"
        )
    };
    (0..count).map(service).collect()
}

/// Services with annotations that do not compress, so that they take some time to travel.
fn services(count: usize) -> String {
    let mut text = String::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: many-{number}\n  namespace: bookinfo-backends\n  \
             annotations:\n    note: \""
        )
        .unwrap();
        for _ in 0..80 {
            // xorshift64, by Marsaglia.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            write!(text, "{random:016x}").unwrap();
        }
        text.push_str("\"\nspec:\n  ports:\n  - name: http\n    port: 80\n");
    }
    text
}
