use std::net::SocketAddr;
use std::path::Path;

use meshrelay_testbed::{Agent, Fleet, Server, copy, wait_for};
use serde_json::{Value, json};

use crate::PROGRAMS;
use crate::prometheus::Prometheus;

/// Which clusters hold translation up.
const HOLDING: &str = "count by(cluster) (sum by(cluster) (gloo_mesh_safe_mode_active !=0)) > 0";

/// Which clusters are connected to a replica that is in safe mode.
const HELD: &str = "count by(cluster) ((relay_pull_clients_connected != 0) * on(pod) group_left() \
                    (max(gloo_mesh_safe_mode_active) by (pod) >= 1)) > 0";

/// How many agents are connected to replicas that Prometheus sees.
const CONNECTED: &str = "sum(relay_pull_clients_connected)";

/// How many pairs of replica and registered cluster Prometheus sees.
const KNOWN: &str = "count(gloo_mesh_safe_mode_active)";

/// Whether the alert is on its way, by cluster.
const ALERTED: &str = "count by(cluster) (ALERTS{alertname=\"MeshrelaySafeModeIsActive\"})";

/// What Prometheus says while two replicas serve an agent each: the management cluster is registered too.
const ALL_IS_WELL: [(&str, &[(&str, f64)]); 5] =
    [(CONNECTED, &[("", 2.0)]), (KNOWN, &[("", 6.0)]), (HOLDING, &[]), (HELD, &[]), (ALERTED, &[])];

/// Starts one of two servers with the same management folder, in safe mode.
fn replica(fleet: &Fleet, state: &Path, relay: SocketAddr, stats: SocketAddr) -> Server {
    let (state, stats) = (state.to_str().unwrap(), stats.to_string());
    Server::start_at(fleet, relay, &["--safe-mode", "true", "--state-directory", state, "--stats-address", &stats])
}

/// Kills a server and starts it again where it was, as one to which a further cluster was connected before.
fn restart_awaiting(fleet: &Fleet, server: &mut Server, state: &Path, further: &str) {
    server.process.kill();
    let file = state.join("warm-clusters.json");
    let mut warm: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(warm.as_object().unwrap().len(), 1, "{warm}");
    warm[further] = json!("2026-01-01T00:00:00Z");
    std::fs::write(&file, warm.to_string()).unwrap();
    *server = replica(fleet, state, server.relay, server.endpoints.stats);
    let name = format!("gloo_mesh_safe_mode_active{{cluster=\"{further}\"}}");
    server.endpoints.wait_for_metric(&name, |n| n == 1.0);
}

#[test]
fn the_documented_queries_tell_who_is_in_safe_mode_with_two_replicas() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (state_a, state_b) = (fleet.state("server"), fleet.state("another-server"));
    let mut a = replica(&fleet, &state_a, fleet.any_port(), fleet.any_port());
    // Replicas share their certificates.
    copy(&state_a, &state_b);
    let mut b = replica(&fleet, &state_b, fleet.any_port(), fleet.any_port());
    let mut one = Agent::install(&fleet, "cluster1", &a);
    let mut two = Agent::install(&fleet, "cluster2", &b);
    let prometheus = Prometheus::over(&fleet, &[("a", a.endpoints.stats), ("b", b.endpoints.stats)]);

    // Each has seen one cluster; the other one counts as never connected.
    prometheus.wait_for(&ALL_IS_WELL);

    restart_awaiting(&fleet, &mut b, &state_b, "cluster1");
    let only_b: [(_, &[_]); 3] =
        [(CONNECTED, &[("", 2.0)]), (HOLDING, &[("cluster1", 1.0)]), (HELD, &[("cluster2", 1.0)])];
    prometheus.wait_for(&only_b);
    prometheus.wait_for(&[(ALERTED, &[("cluster1", 1.0)])]);
    assert_eq!(a.endpoints.health("/readyz").0, 200, "the other replica goes on");

    restart_awaiting(&fleet, &mut a, &state_a, "cluster2");
    let both = [("cluster1", 1.0), ("cluster2", 1.0)];
    prometheus.wait_for(&[(CONNECTED, &[("", 2.0)]), (HOLDING, &both), (HELD, &both), (ALERTED, &both)]);

    // The agents come to those that wait for them.
    one.process.kill();
    one = Agent::start(&fleet, "cluster1", b.relay, &[]);
    b.endpoints.wait_until_ready();
    two.process.kill();
    two = Agent::start(&fleet, "cluster2", a.relay, &[]);
    a.endpoints.wait_until_ready();
    prometheus.wait_for(&ALL_IS_WELL);
    fleet.wait_until_converged();
    drop((one, two));

    // What the conditions say outlasts all of it.
    let status = a.endpoints.status();
    assert_eq!(status["clusters"]["cluster2"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
}

#[test]
fn a_cluster_is_warm_for_ever_from_its_first_snapshot_on() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut server = Server::start(&fleet);
    let condition = |server: &Server, cluster: &str| {
        wait_for("the condition", || {
            let status = server.endpoints.status();
            let conditions = status["clusters"][cluster]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.len() == 1 { Ok(conditions[0].clone()) } else { Err(status.to_string()) }
        })
    };
    let cold = condition(&server, "cluster1");
    assert_eq!(
        (&cold["type"], &cold["status"], &cold["reason"]),
        (&json!("ClusterWarm"), &json!("False"), &json!("ClusterRegistered"))
    );
    let mut one = Agent::install(&fleet, "cluster1", &server);
    one.endpoints.wait_until_ready();
    let warm = condition(&server, "cluster1");
    assert_eq!(
        (&warm["type"], &warm["status"], &warm["reason"]),
        (&json!("ClusterWarm"), &json!("True"), &json!("FirstSnapshotReceived"))
    );
    assert!(warm["lastTransitionTime"].as_str() > cold["lastTransitionTime"].as_str(), "{cold} {warm}");
    // Neither an agent that goes nor a server that restarts changes it.
    one.process.kill();
    server.endpoints.wait_for_metric("relay_push_clients_warmed{cluster=\"cluster1\"}", |n| n == 0.0);
    assert_eq!(condition(&server, "cluster1"), warm);
    server.restart(&fleet);
    assert_eq!(condition(&server, "cluster1"), warm);
    server.endpoints.wait_for_metric("gloo_mesh_safe_mode_active{cluster=\"cluster1\"}", |n| n == 1.0);
    assert_eq!(condition(&server, "cluster2")["status"], "False");

    // A backup of a KubernetesCluster that was warm is warm.
    let further = "apiVersion: admin.gloo.solo.io/v2\nkind: KubernetesCluster\nmetadata:\n  name: cluster3\n  namespace: gloo-mesh\n\
                   status:\n  conditions:\n  - type: ClusterWarm\n    status: \"True\"\n    reason: FirstSnapshotReceived\n    \
                   lastTransitionTime: \"2025-04-30T15:47:06.011421879Z\"\n";
    fleet.write("mgmt/cluster3.yaml", further);
    server.endpoints.wait_for_metric("gloo_mesh_safe_mode_active{cluster=\"cluster3\"}", |n| n == 1.0);
    let restored = condition(&server, "cluster3");
    assert_eq!(
        (&restored["status"], &restored["lastTransitionTime"]),
        (&json!("True"), &json!("2025-04-30T15:47:06.011421879Z"))
    );
    // It is final: without the status it is warm all the same.
    fleet.write("mgmt/cluster3.yaml", further.split("status:\n").next().unwrap());
    server.restart(&fleet);
    assert_eq!(condition(&server, "cluster3"), restored);
    // Until the KubernetesCluster is removed, which is a way out as well.
    std::fs::remove_file(fleet.folder().join("mgmt/cluster3.yaml")).unwrap();
    wait_for("the end of cluster3", || {
        let told = server.endpoints.metrics() + &server.endpoints.status().to_string();
        if told.contains("cluster3") { Err(told) } else { Ok(()) }
    });
    assert_eq!(server.endpoints.status()["waitingFor"], json!(["cluster1"]));
    assert!(!fleet.secret("server", "warm-clusters.json").contains("cluster3"));
}
