//! What cannot be read is not taken for deleted, over restarts too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshrelay_meshctl::sandbox::{Sandbox, work_folder};

/// Far beyond what any step takes; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match (path.is_dir(), entry.file_name() == ".meshrelay") {
            (_, true) => {}
            (true, _) => copy(&path, &target),
            (false, _) => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

fn outputs(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(outputs(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.insert(path);
        }
    }
    found
}

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "waited too long for {what}");
}

async fn start(fleet: &Path) -> Sandbox {
    Sandbox::start(fleet, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_broken_file_deletes_nothing_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet");
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bookinfo")), &fleet);
    let applied = work_folder(&fleet).join("cluster1");

    let sandbox = start(&fleet).await;
    wait_for("the first round", || sandbox.is_settled()).await;
    sandbox.stop().await;
    let complete = outputs(&applied);
    assert!(complete.iter().any(|path| path.to_string_lossy().contains("gateway-virtualgateway")), "{complete:?}");

    let broken = fleet.join("cluster1/gateways-config.yaml");
    let text = std::fs::read_to_string(&broken).unwrap();
    std::fs::write(&broken, text.replace("  listeners:\n", "  listeners\n")).unwrap();
    let sandbox = start(&fleet).await;
    let agent = sandbox.agents["cluster1"].status();
    wait_for("the agent to hold deletions", || !agent.borrow().frozen.is_empty()).await;
    assert!(sandbox.server.status().borrow().deletions_held.as_ref().unwrap().contains("gateways-config.yaml"));
    assert_eq!(outputs(&applied), complete, "nothing is gone");

    std::fs::write(&broken, text).unwrap();
    let server = sandbox.server.status();
    wait_for("the mended file", || server.borrow().deletions_held.is_none() && sandbox.is_settled()).await;
    assert_eq!(outputs(&applied), complete);

    // Now that everything is known, absence means something: the route goes with its table.
    let routes = fleet.join("cluster1/bookinfo-config.yaml");
    let text = std::fs::read_to_string(&routes).unwrap();
    std::fs::write(&routes, text.replace("expose: \"true\"", "expose: \"false\"")).unwrap();
    wait_for("the VirtualService to go", || outputs(&applied).len() + 1 == complete.len()).await;
    sandbox.stop().await;
}
