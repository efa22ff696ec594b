use std::fs;

use meshrelay_testbed::{Agent, Fleet, Server, Watcher, install, wait_for};

use crate::PROGRAMS;
use crate::plane::CLUSTERS;

/// A file of cluster1 that leads to the other cluster.
const SHARED: &str = "cluster1/bookinfo-backends/serviceentry-vd-reviews-vd-internal-bookinfo.yaml";

#[test]
fn the_watcher_sees_what_is_lost_and_what_shrinks() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (_server, agents) = install(&fleet);
    let path = fleet.folder().join(".meshrelay").join(SHARED);
    let whole = fs::read_to_string(&path).unwrap();
    drop(agents);

    let watcher = Watcher::of_contents(&fleet, &[]);
    assert!(watcher.report().is_ok());

    let watcher = Watcher::of_contents(&fleet, &[]);
    fs::remove_file(&path).unwrap();
    let lost = watcher.report().unwrap_err();
    assert!(lost.contains(SHARED) && lost.contains("No such file"), "{lost}");

    fs::write(&path, &whole).unwrap();
    let watcher = Watcher::of_contents(&fleet, &[]);
    let shrunk: Vec<&str> = whole.lines().filter(|line| !line.contains("spiffe://cluster2")).collect();
    assert!(shrunk.len() < whole.lines().count(), "{whole}");
    fs::write(&path, shrunk.join("\n")).unwrap();
    let changed = watcher.report().unwrap_err();
    assert!(changed.contains(SHARED) && changed.contains("changed to"), "{changed}");
}

#[test]
fn the_watcher_sees_what_a_plane_takes_away() {
    let fleet = Fleet::wide(PROGRAMS, CLUSTERS.len() as u8);
    let server = Server::start(&fleet);
    let agents = CLUSTERS.map(|cluster| {
        fleet.bootstrap(cluster);
        Agent::start(&fleet, cluster, server.relay, &["--delete-brake", "false"])
    });
    fleet.wait_until_converged();
    let whole = Watcher::over(&fleet, &CLUSTERS);
    let same = Watcher::of_contents(&fleet, &[]);
    let before = fleet.applied("cluster1").len();
    // Somebody says that a cluster is gone: the one order that no layer stands against.
    drop(agents);
    let agents =
        CLUSTERS[..2].iter().map(|cluster| Agent::start(&fleet, cluster, server.relay, &["--delete-brake", "false"]));
    let agents: Vec<Agent> = agents.collect();
    fleet.unregister("cluster3");
    wait_for("what led to cluster3 to go", || match fleet.applied("cluster1").len() {
        now if now < before => Ok(()),
        now => Err(format!("{now} objects")),
    });
    let lost = whole.report().unwrap_err();
    assert!(lost.contains("No such file"), "{lost}");
    assert!(same.report().is_err());
    drop(agents);
}
