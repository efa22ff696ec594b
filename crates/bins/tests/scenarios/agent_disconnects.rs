use std::fs;

use meshrelay_testbed::Proxy;

use crate::plane::Plane;
use crate::quotes::agent_disconnects::*;

/// Bytes of a push that pass before the line stops: less than the push has.
const HALF: i64 = 300_000;

/// Services that make such a push.
const MANY: usize = 1_000;

/// Objects that take room on the line.
fn many() -> String {
    // xorshift64, by Marsaglia: what does not compress.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut words = || {
        let mut text = String::new();
        for _ in 0..100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            text += &format!("{random:016x}");
        }
        text
    };
    let service = |number| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: many-{number}\n  namespace: bookinfo-backends\n  annotations:\n    \
             note: \"{}\"\nspec:\n  ports:\n  - name: http\n    port: 80\n",
            words()
        )
    };
    (0..MANY).map(service).collect()
}

#[test]
fn an_agent_is_killed_and_what_it_sent_last_goes_on_counting() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster3");
    let server = plane.server(plane.home("cluster3"));
    DISCONNECTED.said_by(&server.process);
    CONNECTED.is(|n| n == 0.0, server.endpoints);
    assert_eq!(server.endpoints.health("/readyz").0, 200, "nobody waits for it");
    plane.edit(80, 60);
    // Replicas that come and go meanwhile have it from Redis.
    for number in 0..2 {
        plane.kill_server(number);
        plane.forget(number);
        plane.start_server(number);
        plane.server(number).endpoints.wait_until_ready();
    }
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn an_agent_that_lost_its_disk_begins_anew() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster2");
    fs::remove_dir_all(plane.fleet.state("cluster2")).unwrap();
    plane.fleet.bootstrap("cluster2");
    plane.start_agent("cluster2");
    plane.wait_until_connected("cluster2", None);
    plane.edit(80, 60);
    plane.settles();
}

#[test]
fn an_agent_is_killed_in_the_middle_of_a_push() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster2");
    let home = plane.home("cluster2");
    let proxy = Proxy::to(plane.relays[home]);
    plane.start_agent_at("cluster2", &[proxy.address]);
    plane.wait_until_connected("cluster2", Some(home));
    let name = "meshrelay_input_objects{cluster=\"cluster2\"}";
    let objects = plane.server(home).endpoints.metric(name).unwrap();
    proxy.stop_after(HALF);
    plane.fleet.write("cluster2/many.yaml", &many());
    proxy.wait_until_stopped();
    plane.kill_agent("cluster2");
    assert_eq!(plane.server(home).endpoints.metric(name), Some(objects), "half a push is no input");
    plane.edit(80, 60);
    plane.start_agent("cluster2");
    plane.server(home).endpoints.wait_for_metric(name, |n| n == objects + MANY as f64);
    plane.edit(60, 45);
    plane.settles();
}

#[test]
fn a_connection_that_is_half_open_is_found_out_on_both_sides() {
    let mut plane = Plane::start(2, &[]);
    plane.kill_agent("cluster3");
    let home = plane.home("cluster3");
    let proxy = Proxy::to(plane.relays[home]);
    plane.start_agent_at("cluster3", &[proxy.address]);
    plane.wait_until_connected("cluster3", Some(home));
    plane.agents["cluster3"].endpoints.wait_until_ready();
    proxy.silence();
    plane.edit(80, 60);
    let server = plane.server(home);
    CONNECTED.is(|n| n == 0.0, server.endpoints);
    ENDED.said_by(&plane.agents["cluster3"].process);
    plane.edit(60, 45);
    proxy.open();
    CONNECTED.is(|n| n == 1.0, server.endpoints);
    plane.settles();
}
