use std::fs;

use meshrelay_testbed::{Fleet, Watcher, install};

use crate::PROGRAMS;

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
