use std::fs;

use meshrelay_testbed::{Agent, Endpoints, Files, Fleet, Server, Watcher, wait_for};
use serde_json::Value;

use crate::PROGRAMS;

const SCOPE: [&str; 2] = ["--safe-mode-scope", "dependents"];

/// What the server knows of the fleet beside its keys.
const MEMORY: [&str; 3] = ["warm-clusters.json", "allocations.json", "last-accepted.json"];

const METRIC: &str = "meshrelay_agent_frozen_objects{cluster=\"cluster3\"}";

fn frozen(endpoints: Endpoints) -> Option<Value> {
    let (code, text) = endpoints.health("/status");
    assert_eq!(code, 200);
    let status: Value = serde_json::from_str(&text).unwrap();
    status["frozen"].get("cluster3").cloned()
}

/// What is applied in the first two clusters and says that it depends on the third.
fn dependents(fleet: &Fleet) -> Files {
    let all = ["cluster1", "cluster2"].map(|cluster| (cluster, fleet.applied(cluster)));
    let depends = |text: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("meshrelay.io/depends-on: "));
        line.is_some_and(|clusters| clusters.split(',').any(|cluster| cluster == "cluster3"))
    };
    let files = all
        .into_iter()
        .flat_map(|(cluster, files)| files.into_iter().map(move |(path, text)| (format!("{cluster}/{path}"), text)));
    files.filter(|(_, text)| depends(text)).collect()
}

fn external(fleet: &Fleet) -> usize {
    let count = |cluster| fleet.applied(cluster).keys().filter(|path| path.contains("httpbin")).count();
    count("cluster1") + count("cluster2")
}

#[test]
fn a_cluster_that_stays_away_holds_what_depends_on_it_and_nothing_else_without_any_memory() {
    let fleet = Fleet::wide(PROGRAMS, 3);
    let server = Server::start_at(&fleet, fleet.any_port(), &SCOPE);
    let relay = server.relay;
    let mut agents = ["cluster1", "cluster2", "cluster3"].map(|cluster| Agent::install(&fleet, cluster, &server));
    fleet.wait_until_converged();
    let kept = dependents(&fleet);
    assert!(
        kept.keys().any(|path| path.starts_with("cluster1/")) && kept.keys().any(|path| path.starts_with("cluster2/"))
    );
    assert!(kept.values().any(|text| text.contains("203.0.113.31")), "routes to the gateway of the third cluster");
    assert!(external(&fleet) > 0);

    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2", "cluster3"]);
    drop(server);
    agents.iter_mut().for_each(|agent| agent.process.kill());
    for file in MEMORY {
        let _ = fs::remove_file(fleet.state("server").join(file));
    }
    let server = Server::start_at(&fleet, relay, &SCOPE);
    let mut one = Agent::start(&fleet, "cluster1", relay, &[]);
    let _two = Agent::start(&fleet, "cluster2", relay, &[]);
    server.endpoints.wait_until_ready();
    one.endpoints.wait_for_metric(METRIC, |n| n > 0.0);
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    watcher.finish();
    assert_eq!(dependents(&fleet), kept);

    // What does not depend on it goes, what does stays, whatever is done to it.
    let config = fleet.read("cluster1/bookinfo-config.yaml");
    let without: Vec<&str> = config.split("---\n").filter(|text| !text.contains("kind: VirtualDestination")).collect();
    fleet.write("cluster1/bookinfo-config.yaml", &without.join("---\n"));
    let services = fleet.read("cluster1/external.yaml");
    fs::remove_file(fleet.folder().join("cluster1/external.yaml")).unwrap();
    wait_for("the end of the external service", || match external(&fleet) {
        0 => Ok(()),
        count => Err(format!("{count} objects are there")),
    });
    let waiting = wait_for("kept objects of a host that is gone", || {
        frozen(one.endpoints).filter(|frozen| frozen["deletions"] != 0).ok_or_else(|| "none".to_owned())
    });
    assert!(waiting["reason"].as_str().unwrap().contains("cluster3"), "{waiting}");
    assert_eq!(dependents(&fleet), kept);
    one.process.line(&["what depends on a cluster is kept as it was", "cluster3", "KubernetesCluster"]);

    // New processes go on from there.
    drop(server);
    one.process.kill();
    let server = Server::start_at(&fleet, relay, &SCOPE);
    let one = Agent::start(&fleet, "cluster1", relay, &[]);
    server.endpoints.wait_until_ready();
    fleet.shift_traffic(70, 55);
    fleet.wait_for_shifted_traffic(55);
    assert_eq!(dependents(&fleet), kept);

    fleet.write("cluster1/external.yaml", &services);
    let _three = Agent::start(&fleet, "cluster3", relay, &[]);
    fleet.wait_until_converged();
    assert!(dependents(&fleet).len() < kept.len());
    wait_for("the end of the freeze", || frozen(one.endpoints).map_or(Ok(()), |frozen| Err(frozen.to_string())));
}
