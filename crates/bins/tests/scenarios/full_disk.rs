use meshrelay_testbed::SURVIVES_FULL_DISK;

use crate::plane::Plane;

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
    plane.server(home).process.line(&["cannot keep the state of translation; the outputs are not published yet"]);
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
    plane.agents["cluster2"].process.line(&["an object was not applied", "MR0421"]);
    plane.agents["cluster2"]
        .process
        .line(&["the output could not be kept for the next start; it is applied all the same"]);
    assert!(plane.agents["cluster2"].endpoints.metric("object_write_fails_total").is_some_and(|n| n > 0.0));
    plane.edit(80, 60);
    plane.agents["cluster2"].process.limit_files(None);
    // It tries again by itself: no output comes that would make it.
    plane.settles();
}
