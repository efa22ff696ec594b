use meshrelay_testbed::SURVIVES_FULL_DISK;

use crate::plane::Plane;
use crate::quotes::full_disk::*;

/// A host outside of all clusters, which changes nothing that is there.
fn external_service() -> String {
    "apiVersion: networking.gloo.solo.io/v2\nkind: ExternalService\nmetadata:\n  name: further\n  namespace: bookinfo-backends\nspec:\n  \
     hosts:\n  - further.example.com\n  ports:\n  - name: tcp\n    number: 5432\n    protocol: TCP\n"
        .to_owned()
}

#[test]
fn the_disk_of_a_server_is_full() {
    let mut plane = Plane::start(2, &["--safe-start-window", "2"]);
    let home = plane.home("cluster1");
    plane.kill_server(home);
    plane.start_server_under(&SURVIVES_FULL_DISK, home);
    plane.wait_until_connected("cluster1", None);
    plane.server(home).process.limit_files(Some(0));
    plane.edit(80, 60);
    // A further host has a virtual address, which has to be on disk before anybody learns of it.
    plane.watch_all_but(&["eastwestgateway"]);
    let config = plane.fleet.read("cluster2/shared.yaml");
    let further = config.replace("ratings", "further").replace("app: further", "app: ratings");
    plane.fleet.write("cluster2/further.yaml", &further);
    NOT_PUBLISHED.said_by(&plane.server(home).process);
    plane.server(home).process.limit_files(None);
    plane.settles();
}

#[test]
fn the_disk_of_an_agent_is_full() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster2");
    let relays = plane.preferred("cluster2");
    plane.start_agent_under(&SURVIVES_FULL_DISK, "cluster2", &relays);
    plane.agents["cluster2"].process.limit_files(Some(0));
    plane.wait_until_connected("cluster2", None);
    // What it cannot write it does not apply, and does not lose either.
    plane.fleet.write("cluster2/further.yaml", &external_service());
    NOT_APPLIED.said_by(&plane.agents["cluster2"].process);
    NOT_KEPT.said_by(&plane.agents["cluster2"].process);
    FAILURES.is(|n| n > 0.0, plane.agents["cluster2"].endpoints);
    plane.edit(80, 60);
    plane.agents["cluster2"].process.limit_files(None);
    // It tries again by itself: no output comes that would make it.
    plane.settles();
}
