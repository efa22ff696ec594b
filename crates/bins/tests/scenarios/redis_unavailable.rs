use meshrelay_testbed::{Redis, wait_for};

use crate::plane::{CLUSTERS, Plane};
use crate::quotes::redis_unavailable::*;

const WINDOW: [&str; 2] = ["--safe-start-window", "2"];

/// Waits until Redis has the inputs of all clusters.
fn wait_until_filled(redis: &Redis) {
    wait_for("the inputs of all clusters in Redis", || {
        let found = redis.run("HKEYS {meshrelay:mgmt}:heads");
        let text = format!("{found:?}");
        if CLUSTERS.iter().all(|cluster| text.contains(&format!("input:{cluster}"))) { Ok(()) } else { Err(text) }
    });
}

/// Both are gone at once; what starts instead knows nothing but what Redis has.
fn replace_both_replicas(plane: &mut Plane) {
    for number in 0..2 {
        plane.kill_server(number);
        plane.forget(number);
    }
    for number in 0..2 {
        plane.start_server(number);
    }
}

#[test]
fn redis_stays_away_and_even_a_replica_that_is_new_meanwhile_takes_nothing_away() {
    // Longer than a first look into the store may take before anybody is told.
    let mut plane = Plane::start(2, &["--safe-start-window", "4"]);
    plane.redis_until(Redis::kill, AWAY);
    plane.edit(80, 60);
    SHOWN.shown_of(plane.server(0));
    assert_eq!(plane.server(0).endpoints.health("/readyz"), (200, "ready\n".to_owned()));
    // A replica that has nothing but what one agent sends it.
    plane.kill_server(1);
    plane.forget(1);
    plane.start_server(1);
    plane.kill_agent("cluster2");
    plane.start_agent_at("cluster2", &[plane.relays[1]]);
    plane.wait_until_connected("cluster2", Some(1));
    WAITS_SHOWN.shown_of(plane.server(1));
    WAITS.said_by(&plane.server(1).process);
    KEPT.said_by(&plane.server(1).process);
    plane.agents["cluster2"].endpoints.wait_for_metric("meshrelay_agent_pull_connected", |n| n == 1.0);
    plane.edit(60, 45);
    plane.redis_until(Redis::restart, BACK);
    wait_until_filled(&plane.redis);
    plane.edit(45, 30);
    plane.settles();
}

#[test]
fn redis_comes_back_empty_and_is_filled() {
    let mut plane = Plane::start(2, &WINDOW);
    // What nobody sends any more is in the memory of replicas only.
    plane.kill_agent("cluster3");
    for (before, percent) in [(80, 60), (60, 45)] {
        plane.redis_until(Redis::kill, AWAY);
        plane.edit(before, percent);
        plane.redis_until(Redis::restart, BACK);
        wait_until_filled(&plane.redis);
    }
    replace_both_replicas(&mut plane);
    plane.edit(45, 30);
    for server in plane.running() {
        server.endpoints.wait_until_ready();
        let input = server.endpoints.metric("meshrelay_input_objects{cluster=\"cluster3\"}");
        assert!(input.is_some_and(|objects| objects > 0.0), "{input:?}");
        assert!(server.endpoints.status()["deletionsHeld"].is_null(), "all is known");
    }
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn redis_comes_back_with_old_data_which_counts_for_nothing() {
    let mut plane = Plane::start_with(2, &WINDOW, Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]));
    wait_until_filled(&plane.redis);
    plane.redis_until(Redis::kill, AWAY);
    plane.edit(80, 60);
    plane.redis.restart();
    assert!(
        format!("{:?}", plane.redis.run("HKEYS {meshrelay:mgmt}:heads")).contains("input:cluster1"),
        "it kept data"
    );
    for server in plane.running() {
        BACK.said_by(&server.process);
    }
    plane.fleet.wait_until_converged();
    // Now what Redis has counts.
    replace_both_replicas(&mut plane);
    plane.edit(60, 45);
    plane.settles();
}

#[test]
fn redis_hangs_with_its_connections_open_and_nobody_waits_for_it() {
    let mut plane = Plane::start(2, &WINDOW);
    plane.redis_until(|redis| redis.signal("STOP"), AWAY);
    plane.edit(80, 60);
    plane.kill_server(1);
    plane.wait_until_connected("cluster2", Some(0));
    plane.edit(60, 45);
    plane.redis_until(|redis| redis.signal("CONT"), BACK);
    plane.start_server(1);
    wait_until_filled(&plane.redis);
    plane.settles();
}

#[test]
fn redis_is_paused_for_writes_and_then_goes_on() {
    let plane = Plane::start(2, &WINDOW);
    plane.redis.run("CLIENT PAUSE 600000 WRITE");
    plane.edit(80, 60);
    for server in plane.running() {
        server.endpoints.wait_for_metric("gloo_mesh_redis_sync_err_total", |n| n > 0.0);
    }
    plane.edit(60, 45);
    plane.redis.run("CLIENT UNPAUSE");
    plane.edit(45, 30);
    plane.settles();
}
