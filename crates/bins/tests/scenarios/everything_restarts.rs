use meshrelay_testbed::{Server, wait_for};
use serde_json::json;

use crate::plane::{CLUSTERS, FOUR_CLUSTERS, Plane};
use crate::quotes::everything_restarts::*;

/// How many agents come back at once.
const BACK: usize = 2;

/// Redis and all replicas are killed and come back, Redis empty; then two agents. Returns the clusters of the others.
fn restart(plane: &mut Plane, with_memory: bool) -> Vec<&'static str> {
    plane.redis.kill();
    for number in 0..plane.servers.len() {
        plane.kill_server(number);
        if !with_memory {
            plane.forget(number);
        }
    }
    for cluster in plane.clusters {
        plane.kill_agent(cluster);
    }
    plane.fleet.shift_traffic(80, 60);
    plane.redis.restart();
    for number in 0..plane.servers.len() {
        plane.start_server(number);
    }
    for cluster in &plane.clusters[..BACK] {
        plane.start_agent(cluster);
        plane.wait_until_connected(cluster, None);
    }
    plane.clusters[BACK..].to_vec()
}

/// Waits until the status of a server names these clusters there.
fn wait_until_told(server: &Server, field: &str, clusters: &[&str]) {
    wait_for(format_args!("{field} with {clusters:?}"), || match &server.endpoints.status()[field] {
        found if *found == json!(clusters) => Ok(()),
        found => Err(found.to_string()),
    });
}

fn safe_mode_halts(clusters: &'static [&'static str]) {
    let mut plane = Plane::of(clusters, 2, &["--safe-mode", "true"]);
    let mut missing = restart(&mut plane, true);
    for server in plane.running() {
        WAITS.said_of(&missing, &server.process);
        WAITED_FOR.is(|n| n == 1.0, server.endpoints);
        for cluster in clusters {
            let (name, waited) =
                (format!("gloo_mesh_safe_mode_active{{cluster=\"{cluster}\"}}"), missing.contains(cluster));
            server.endpoints.wait_for_metric(&name, |n| n == f64::from(u8::from(waited)));
        }
    }
    // One after the other; as long as one is missing nothing changes.
    while let Some(last) = missing.last().copied() {
        for server in plane.running() {
            wait_until_told(server, "waitingFor", &missing);
            HALTED.said_with(200, server.endpoints);
            if missing == ["cluster3"] {
                FROZEN.shown_of(server);
            }
        }
        assert!(plane.fleet.traffic_is_shifted(80), "outputs stay as they were");
        plane.start_agent(last);
        missing.pop();
    }
    plane.fleet.wait_for_shifted_traffic(60);
    for server in plane.running() {
        GOES_ON.said_by(&server.process);
    }
    plane.settles();
}

#[test]
fn safe_mode_halts_until_all_are_back() {
    safe_mode_halts(&CLUSTERS);
}

#[test]
fn safe_mode_halts_until_both_that_are_missing_are_back() {
    safe_mode_halts(&FOUR_CLUSTERS);
}

fn the_window_ends(clusters: &'static [&'static str]) {
    let mut plane = Plane::of(clusters, 2, &["--safe-start-window", "3"]);
    let mut missing = restart(&mut plane, true);
    for server in plane.running() {
        WAITS.said_of(&["\"until\""], &server.process);
        WITHOUT.said_of(&missing, &server.process);
        KEPT.said_of(&missing, &server.process);
        server.endpoints.wait_until_ready();
    }
    plane.fleet.wait_for_shifted_traffic(60);
    let mut percent = 60;
    while let Some(last) = missing.last().copied() {
        for server in plane.running() {
            wait_until_told(server, "runningWithout", &missing);
        }
        plane.edit(percent, percent - 15);
        percent -= 15;
        plane.start_agent(last);
        missing.pop();
    }
    plane.settles();
}

#[test]
fn the_window_ends_and_translation_goes_on_without_taking_anything_away() {
    the_window_ends(&CLUSTERS);
}

#[test]
fn the_window_ends_with_two_missing_and_nothing_is_taken_away() {
    the_window_ends(&FOUR_CLUSTERS);
}

fn nobody_remembers(clusters: &'static [&'static str], options: &[&str]) {
    let mut plane = Plane::of(clusters, 2, options);
    let missing = restart(&mut plane, false);
    plane.fleet.wait_for_shifted_traffic(60);
    for server in plane.running() {
        server.endpoints.wait_until_ready();
    }
    plane.edit(60, 45);
    for (cluster, percent) in missing.into_iter().zip([45, 30]) {
        plane.start_agent(cluster);
        plane.edit(percent, percent - 15);
    }
    plane.settles();
}

#[test]
fn without_a_window_and_without_memory_nothing_is_taken_away_either() {
    nobody_remembers(&CLUSTERS, &["--safe-start-window", "0"]);
}

#[test]
fn without_a_window_and_without_memory_two_that_are_missing_take_nothing_away() {
    nobody_remembers(&FOUR_CLUSTERS, &["--safe-start-window", "0"]);
}

#[test]
fn safe_mode_that_remembers_no_cluster_takes_nothing_away() {
    nobody_remembers(&CLUSTERS, &["--safe-mode", "true"]);
}

#[test]
fn safe_mode_that_remembers_no_cluster_takes_nothing_of_two_away() {
    nobody_remembers(&FOUR_CLUSTERS, &["--safe-mode", "true"]);
}

/// `cluster3` skips warming; of others that are missing it is waited for.
fn one_skips_warming(clusters: &'static [&'static str]) {
    let mut plane = Plane::of(clusters, 2, &["--safe-mode", "true"]);
    let spec = "  name: cluster3\n  namespace: gloo-mesh\nspec:\n";
    plane.fleet.edit("mgmt/clusters.yaml", &[(spec, &format!("{spec}  skipWarming: true\n"))]);
    let missing = restart(&mut plane, true);
    for cluster in &missing[1..] {
        for server in plane.running() {
            wait_until_told(server, "waitingFor", &missing[1..]);
        }
        assert!(plane.fleet.traffic_is_shifted(80), "outputs stay as they were");
        plane.start_agent(cluster);
    }
    for server in plane.running() {
        server.endpoints.wait_until_ready();
    }
    plane.fleet.wait_for_shifted_traffic(60);
    plane.edit(60, 45);
    plane.start_agent("cluster3");
    plane.settles();
}

#[test]
fn a_cluster_that_skips_warming_is_not_waited_for_and_loses_nothing() {
    one_skips_warming(&CLUSTERS);
}

#[test]
fn a_cluster_that_skips_warming_does_not_end_the_wait_for_another() {
    one_skips_warming(&FOUR_CLUSTERS);
}

fn only_dependents_are_held(clusters: &'static [&'static str]) {
    let mut plane = Plane::of(clusters, 2, &["--safe-mode", "true", "--safe-mode-scope", "dependents"]);
    let mut missing = restart(&mut plane, false);
    plane.fleet.wait_for_shifted_traffic(60);
    let mut percent = 60;
    while let Some(last) = missing.last().copied() {
        for agent in clusters[..BACK].iter().map(|cluster| &plane.agents[cluster]) {
            for cluster in &missing {
                KEPT_BY_AGENT.said_of(&[cluster], &agent.process);
            }
            KEPT_OBJECTS.is(|n| n > 0.0, agent.endpoints);
        }
        plane.edit(percent, percent - 15);
        percent -= 15;
        plane.start_agent(last);
        missing.pop();
        for agent in clusters[..BACK].iter().map(|cluster| &plane.agents[cluster]) {
            KEPT_NO_MORE.said_of(&[last], &agent.process);
        }
    }
    plane.settles();
}

#[test]
fn with_the_scope_dependents_only_what_depends_on_the_missing_is_held() {
    only_dependents_are_held(&CLUSTERS);
}

#[test]
fn with_the_scope_dependents_each_of_two_that_are_missing_ends_its_own_hold() {
    only_dependents_are_held(&FOUR_CLUSTERS);
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
