use crate::plane::{CLUSTERS, Plane};
use crate::quotes::upgrade::*;

/// Replaces each replica by a new process, one after the other, as a rollout does.
fn replace_servers(plane: &mut Plane, with_memory: bool) {
    for number in 0..plane.servers.len() {
        let mut old = plane.servers[number].take().unwrap();
        old.process.signal("TERM");
        assert!(old.process.ended().success());
        STOPPED.said_by(&old.process);
        if !with_memory {
            plane.forget(number);
        }
        plane.start_server(number);
        plane.server(number).endpoints.wait_until_ready();
    }
}

#[test]
fn servers_and_agents_are_replaced_one_after_the_other() {
    let mut plane = Plane::start(3, &[]);
    replace_servers(&mut plane, true);
    STOPPING.said_by(&plane.agents["cluster1"].process);
    plane.edit(80, 60);
    for cluster in CLUSTERS {
        let mut old = plane.agents.remove(cluster).unwrap();
        old.process.signal("TERM");
        assert!(old.process.ended().success());
        plane.start_agent(cluster);
        plane.wait_until_connected(cluster, None);
    }
    plane.edit(60, 45);
    replace_servers(&mut plane, false);
    plane.edit(45, 30);
    plane.settles();
}

#[test]
fn an_upgrade_that_restarts_redis_too_takes_nothing_away() {
    let mut plane = Plane::start(2, &["--safe-start-window", "2"]);
    plane.redis.kill();
    replace_servers(&mut plane, false);
    plane.redis.restart();
    replace_servers(&mut plane, false);
    plane.edit(80, 60);
    plane.settles();
}

#[test]
fn settings_change_from_replica_to_replica_during_a_rollout() {
    let mut plane = Plane::start(2, &["--safe-mode", "true"]);
    for options in [["--safe-mode-scope", "dependents"], ["--safe-start-window", "1"], ["--safe-mode", "true"]] {
        plane.set_options(&options);
        replace_servers(&mut plane, true);
    }
    plane.edit(80, 60);
    plane.settles();
}
