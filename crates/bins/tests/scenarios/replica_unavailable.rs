use meshrelay_testbed::{Proxy, with_clock};

use crate::plane::{CLUSTERS, Plane};
use crate::quotes::replica_unavailable::*;

#[test]
fn a_replica_is_killed_and_its_agents_go_over() {
    let mut plane = Plane::start(3, &[]);
    for (number, (before, percent)) in [(80, 60), (60, 45), (45, 30)].into_iter().enumerate() {
        plane.kill_server(number);
        plane.edit(before, percent);
        for cluster in CLUSTERS {
            plane.wait_until_connected(cluster, None);
        }
        let agent = &plane.agents[CLUSTERS[number]];
        ENDED.said_by(&agent.process);
        CHANGES.is(|n| n >= 1.0, agent.endpoints);
        plane.start_server(number);
        plane.server(number).endpoints.wait_until_ready();
    }
    plane.settles();
}

#[test]
fn two_of_three_replicas_are_killed_at_once() {
    let mut plane = Plane::start(3, &[]);
    plane.kill_server(0);
    plane.kill_server(1);
    for cluster in CLUSTERS {
        plane.wait_until_connected(cluster, Some(2));
    }
    plane.edit(80, 60);
    for number in 0..2 {
        plane.forget(number);
        plane.start_server(number);
    }
    plane.settles();
}

#[test]
fn a_replica_is_killed_in_the_middle_of_a_push() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster1");
    let home = plane.home("cluster1");
    let proxy = Proxy::to(plane.relays[home]);
    let other = plane.relays[1 - home];
    plane.start_agent_at("cluster1", &[proxy.address, other]);
    plane.wait_until_connected("cluster1", Some(home));
    plane.agents["cluster1"].endpoints.wait_until_ready();
    proxy.stop_after(10);
    plane.fleet.shift_traffic(80, 60);
    proxy.wait_until_stopped();
    plane.kill_server(home);
    plane.fleet.wait_for_shifted_traffic(60);
    plane.wait_until_connected("cluster1", Some(1 - home));
    plane.start_server(home);
    proxy.open();
    plane.edit(60, 45);
    plane.settles();
}

#[test]
fn a_replica_that_hangs_is_left_and_does_no_harm_when_it_wakes_up() {
    let plane = Plane::start(2, &[]);
    let home = plane.home("cluster1");
    plane.server(home).process.signal("STOP");
    // Found out by heartbeats.
    plane.wait_until_connected("cluster1", Some(1 - home));
    plane.edit(80, 60);
    plane.server(home).process.signal("CONT");
    plane.server(home).endpoints.wait_until_ready();
    plane.edit(60, 45);
    plane.settles();
}

#[test]
fn the_clocks_of_replicas_are_hours_apart() {
    let mut plane = Plane::start(2, &[]);
    for (number, skew, (before, percent)) in [(0, "+3h", (80, 60)), (1, "-3h", (60, 45)), (0, "-1h", (45, 30))] {
        plane.kill_server(number);
        plane.start_server_under(&with_clock(skew).each_ref().map(String::as_str), number);
        plane.server(number).endpoints.wait_until_ready();
        // The other way round: now the one with the other clock serves all.
        plane.kill_server(1 - number);
        for cluster in CLUSTERS {
            plane.wait_until_connected(cluster, Some(number));
        }
        plane.edit(before, percent);
        for agent in plane.agents.values() {
            ISSUED.said_by(&agent.process);
        }
        plane.start_server(1 - number);
        plane.server(1 - number).endpoints.wait_until_ready();
    }
    plane.settles();
}
