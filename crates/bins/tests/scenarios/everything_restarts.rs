use meshrelay_testbed::wait_for;
use serde_json::json;

use crate::plane::{CLUSTERS, Plane};

/// Redis and all replicas are killed and come back, Redis empty; then all agents but that of cluster3.
fn restart(plane: &mut Plane, with_memory: bool) {
    plane.redis.kill();
    for number in 0..plane.servers.len() {
        plane.kill_server(number);
        if !with_memory {
            plane.forget(number);
        }
    }
    for cluster in CLUSTERS {
        plane.kill_agent(cluster);
    }
    plane.fleet.shift_traffic(80, 60);
    plane.redis.restart();
    for number in 0..plane.servers.len() {
        plane.start_server(number);
    }
    for cluster in &CLUSTERS[..2] {
        plane.start_agent(cluster);
        plane.wait_until_connected(cluster, None);
    }
}

#[test]
fn safe_mode_halts_until_all_are_back() {
    let mut plane = Plane::start(2, &["--safe-mode", "true"]);
    restart(&mut plane, true);
    for server in plane.running() {
        server.process.line(&["translation waits for the inputs of warm clusters", "cluster3"]);
        server.endpoints.wait_for_metric("gloo_mesh_safe_mode_active{cluster=\"cluster3\"}", |n| n == 1.0);
        for cluster in &CLUSTERS[..2] {
            server
                .endpoints
                .wait_for_metric(&format!("gloo_mesh_safe_mode_active{{cluster=\"{cluster}\"}}"), |n| n == 0.0);
        }
        let (code, text) = server.endpoints.health("/readyz");
        assert!(code == 503 && text.contains("translation is halted since") && text.contains("cluster3"), "{text}");
        assert_eq!(server.endpoints.status()["waitingFor"], json!(["cluster3"]));
    }
    plane.wait_until_shown(0, "translation is frozen until the inputs of cluster3 are there");
    assert!(plane.fleet.traffic_is_shifted(80), "outputs stay as they were");
    plane.start_agent("cluster3");
    plane.fleet.wait_for_shifted_traffic(60);
    for server in plane.running() {
        server.process.line(&["no input is waited for any longer: translating"]);
    }
    plane.settles();
}

#[test]
fn the_window_ends_and_translation_goes_on_without_taking_anything_away() {
    let mut plane = Plane::start(2, &["--safe-start-window", "3"]);
    restart(&mut plane, true);
    for server in plane.running() {
        server.process.line(&["translation waits for the inputs of warm clusters", "cluster3", "\"until\""]);
        server
            .process
            .line(&["the safe start window is over: translating without the inputs that are missing", "cluster3"]);
        server.process.line(&["what depends on a cluster that is not known completely is kept", "cluster3"]);
        server.endpoints.wait_until_ready();
        wait_for("translation without cluster3", || match &server.endpoints.status()["runningWithout"] {
            clusters if *clusters == json!(["cluster3"]) => Ok(()),
            clusters => Err(clusters.to_string()),
        });
    }
    plane.fleet.wait_for_shifted_traffic(60);
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn without_a_window_and_without_memory_nothing_is_taken_away_either() {
    let mut plane = Plane::start(2, &["--safe-start-window", "0"]);
    restart(&mut plane, false);
    plane.fleet.wait_for_shifted_traffic(60);
    for server in plane.running() {
        server.endpoints.wait_until_ready();
    }
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn safe_mode_that_remembers_no_cluster_takes_nothing_away() {
    let mut plane = Plane::start(2, &["--safe-mode", "true"]);
    restart(&mut plane, false);
    plane.fleet.wait_for_shifted_traffic(60);
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn a_cluster_that_skips_warming_is_not_waited_for_and_loses_nothing() {
    let mut plane = Plane::start(2, &["--safe-mode", "true"]);
    let spec = "  name: cluster3\n  namespace: gloo-mesh\nspec:\n";
    plane.fleet.edit("mgmt/clusters.yaml", &[(spec, &format!("{spec}  skipWarming: true\n"))]);
    restart(&mut plane, true);
    for server in plane.running() {
        server.endpoints.wait_until_ready();
    }
    plane.fleet.wait_for_shifted_traffic(60);
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn with_the_scope_dependents_only_what_depends_on_the_missing_is_held() {
    let mut plane = Plane::start(2, &["--safe-mode", "true", "--safe-mode-scope", "dependents"]);
    restart(&mut plane, false);
    plane.fleet.wait_for_shifted_traffic(60);
    let frozen = "meshrelay_agent_frozen_objects{cluster=\"cluster3\"}";
    for cluster in &CLUSTERS[..2] {
        plane.agents[cluster].endpoints.wait_for_metric(frozen, |n| n > 0.0);
        plane.agents[cluster].process.line(&["what depends on a cluster is kept as it was", "cluster3"]);
    }
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    for cluster in &CLUSTERS[..2] {
        plane.agents[cluster].process.line(&["nothing is kept on account of the cluster any more", "cluster3"]);
    }
    plane.settles();
}

#[test]
fn all_agents_are_back_but_the_plane_is_restarted_again_and_again() {
    let mut plane = Plane::start(2, &["--safe-start-window", "1"]);
    for (before, percent) in [(80, 70), (70, 60), (60, 50)] {
        plane.redis.kill();
        for number in 0..2 {
            plane.kill_server(number);
            plane.forget(number);
        }
        plane.fleet.shift_traffic(before, percent);
        plane.redis.restart();
        for number in 0..2 {
            plane.start_server(number);
        }
        plane.fleet.wait_for_shifted_traffic(percent);
    }
    plane.settles();
}
