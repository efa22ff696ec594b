use serde_json::json;

use crate::plane::{CLUSTERS, Plane};
use crate::quotes::unreadable_files::*;

/// A file of a cluster in which no Service can be read.
const FILE: &str = "cluster3/bookinfo.yaml";

#[test]
fn an_agent_that_starts_over_a_broken_file_takes_nothing_from_others_and_holds_up_nobody() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster3");
    let good = plane.fleet.read(FILE);
    plane.fleet.write(FILE, &good.replace("kind: Service\n", "kind Service\n"));
    plane.start_agent_at("cluster3", &[plane.relays[0]]);
    AS_IT_WAS.said_by(&plane.server(0).process);
    plane.edit(80, 60);
    // New ones go on from what is in Redis.
    for number in 0..plane.servers.len() {
        plane.kill_server(number);
        plane.forget(number);
    }
    for number in 0..plane.servers.len() {
        plane.start_server(number);
    }
    plane.edit(60, 45);
    for cluster in CLUSTERS {
        assert_eq!(plane.agents[cluster].endpoints.status()["frozen"], json!({}), "{cluster}");
    }
    plane.fleet.write(FILE, &good);
    plane.settles();
}

#[test]
fn servers_that_start_over_a_broken_registration_take_nothing_away() {
    let mut plane = Plane::start(2, &[]);
    for number in 0..plane.servers.len() {
        plane.kill_server(number);
    }
    let good = plane.fleet.read("mgmt/clusters.yaml");
    plane.fleet.write("mgmt/clusters.yaml", &good.replace("name: cluster3\n", "name cluster3\n"));
    for number in 0..plane.servers.len() {
        plane.start_server(number);
    }
    let agent = &plane.agents["cluster1"];
    KEPT.said_by(&agent.process);
    KEPT_OBJECTS.is(|n| n > 0.0, agent.endpoints);
    plane.fleet.write("mgmt/clusters.yaml", &good);
    KEPT_NO_MORE.said_by(&plane.agents["cluster1"].process);
    plane.edit(80, 60);
    plane.settles();
}
