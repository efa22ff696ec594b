use std::fs;
use std::os::unix::fs::symlink;

use meshrelay_testbed::{Redis, wait_for};

use crate::plane::{CLUSTERS, Plane};
use crate::quotes::redis_unavailable::{AWAY, BACK};
use crate::quotes::server_is_behind::*;

/// A further host of a cluster, which leaves something in all clusters.
fn share_further(plane: &Plane, cluster: &str) {
    let shared = plane.fleet.read("cluster2/shared.yaml");
    let further =
        shared.replace("ratings", "further").replace("app: further", "app: ratings").replace("cluster2", cluster);
    plane.fleet.write(&format!("{cluster}/further.yaml"), &further);
}

/// True if a cluster has what comes of that.
fn has_further(plane: &Plane, cluster: &str) -> bool {
    plane.fleet.applied(cluster).keys().any(|path| path.contains("further"))
}

/// Kills an agent, whose disk goes with it.
fn lose(plane: &mut Plane, cluster: &'static str) {
    plane.kill_agent(cluster);
    fs::remove_dir_all(plane.fleet.state(cluster)).unwrap();
    plane.fleet.bootstrap(cluster);
}

#[test]
fn an_agent_that_lost_its_disk_follows_no_server_that_is_behind() {
    let mut plane = Plane::start(2, &["--safe-start-window", "2"]);
    let [newer, behind] = [plane.relays[0], plane.relays[1]];
    for cluster in CLUSTERS {
        plane.kill_agent(cluster);
        plane.start_agent_at(cluster, &[newer]);
        plane.wait_until_connected(cluster, Some(0));
    }
    plane.redis_until(Redis::kill, AWAY);
    // Gateways between clusters lead to further hosts.
    plane.watch_all_but(&["eastwestgateway"]);
    share_further(&plane, "cluster3");
    plane.fleet.wait_until_converged();
    assert!(has_further(&plane, "cluster1"), "there is something to lose");
    plane.watch_all_but(&[]);

    lose(&mut plane, "cluster1");
    plane.start_agent_at("cluster1", &[behind]);
    plane.wait_until_connected("cluster1", Some(1));
    let agent = &plane.agents["cluster1"];
    KEPT.said_by(&agent.process);
    KEPT_OBJECTS.is(|n| n > 0.0, agent.endpoints);
    STAYS.said_with(200, agent.endpoints);
    // What has nothing to do with it gets through.
    plane.edit(80, 60);
    assert!(has_further(&plane, "cluster1"));

    plane.redis_until(Redis::restart, BACK);
    KEPT_NO_MORE.said_by(&plane.agents["cluster1"].process);
    plane.settles();
}

/// An agent without a disk starts while what is applied cannot be read.
fn nothing_is_applied(breaks: impl FnOnce(&Plane), mends: impl FnOnce(&Plane)) {
    let mut plane = Plane::start(2, &[]);
    plane.watch_all_but(&["eastwestgateway"]);
    lose(&mut plane, "cluster1");
    breaks(&plane);
    share_further(&plane, "cluster1");
    plane.start_agent("cluster1");
    wait_for("what follows in another cluster", || {
        if has_further(&plane, "cluster2") { Ok(()) } else { Err("none".to_owned()) }
    });
    let agent = &plane.agents["cluster1"];
    NOT_YET.said_by(&agent.process);
    NOT_KNOWN.said_with(200, agent.endpoints);
    assert!(!has_further(&plane, "cluster1"));
    mends(&plane);
    // By itself: there is no other output.
    plane.settles();
}

#[test]
fn nothing_is_applied_before_an_agent_can_read_what_is_applied() {
    // A link that leads to itself is a file that not even root can read.
    let place = |plane: &Plane| plane.fleet.output("cluster1").join("bookinfo-backends/loop.yaml");
    nothing_is_applied(
        |plane| symlink(place(plane), place(plane)).unwrap(),
        |plane| fs::remove_file(place(plane)).unwrap(),
    );
}

#[test]
fn nothing_is_applied_before_an_agent_can_read_what_that_was_made_from() {
    let place = |plane: &Plane| plane.fleet.output("cluster1").join(".meshrelay-in-force");
    let aside = |plane: &Plane| plane.fleet.folder().join("aside");
    nothing_is_applied(
        |plane| {
            fs::rename(place(plane), aside(plane)).unwrap();
            fs::create_dir(place(plane)).unwrap();
        },
        |plane| {
            fs::remove_dir(place(plane)).unwrap();
            fs::rename(aside(plane), place(plane)).unwrap();
        },
    );
}
