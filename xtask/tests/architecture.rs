//! The dependency rules of ARCHITECTURE.md, held over the graph that cargo resolves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Crates that compute and nothing else: no runtime, network, Kubernetes client, store, clock or file.
const PURE: [&str; 3] = ["api", "snapshot", "translate"];

/// All that the pure crates may take from others, directly, with what for.
const PURE_MAY_USE: [(&str, &str); 15] = [
    ("base64", "bytes fields of the protobuf JSON form"),
    ("blake3", "content hashes, digests, fingerprints"),
    ("internment", "names, which repeat thousands of times"),
    ("jiff", "timestamps as values; the crate's clock is not asked"),
    ("md-5", "names that users know from the original"),
    ("parking_lot", "the table of texts that objects share, as names are shared"),
    ("rayon", "parents, which do not depend on each other, on all processors"),
    ("regex", "matchers that users write"),
    ("schemars", "schemas of custom resource definitions"),
    ("serde", "data"),
    ("serde-saphyr", "YAML as text, in and out"),
    ("serde_json", "data"),
    ("serde_path_to_error", "the place of an error within a document"),
    ("strsim", "the nearest known field"),
    ("thiserror", "error types"),
];

/// What a pure crate may not even reach through another one: a second net below the list above.
const IMPURE: [&str; 26] = [
    "async-std",
    "aws-lc-rs",
    "axum",
    "fred",
    "futures-util",
    "h2",
    "hyper",
    "inotify",
    "k8s-openapi",
    "mio",
    "notify",
    "openssl",
    "polling",
    "quinn",
    "rcgen",
    "redis",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tokio-util",
    "tonic",
    "tower",
    "ureq",
    "walkdir",
];

/// What each of our crates may use of our crates. Whoever is not listed may use nothing of ours.
const DIRECTIONS: [(&str, &[&str]); 13] = [
    ("api", &[]),
    // Tests start programs by their paths, so that the crates under test and the bed that they lie in do not know each other.
    ("testbed", &[]),
    ("translate", &["api", "snapshot"]),
    ("relay", &["snapshot"]),
    ("cluster", &["api", "snapshot"]),
    ("store", &["snapshot"]),
    ("server", &["api", "cluster", "pki", "process", "relay", "snapshot", "store", "translate"]),
    ("agent", &["api", "cluster", "pki", "process", "relay", "snapshot"]),
    ("meshctl", &["agent", "api", "cluster", "pki", "process", "relay", "server", "snapshot", "store", "translate"]),
    // All that it uses it uses in tests.
    ("simulation", &[]),
    // Measurements reach into everything that they measure.
    (
        "bench",
        &["agent", "api", "cluster", "meshctl", "pki", "process", "relay", "server", "snapshot", "store", "translate"],
    ),
    // The package of the programs.
    ("meshrelay", &["agent", "meshctl", "server"]),
    ("xtask", &["agent", "api", "cluster", "meshctl", "server", "snapshot", "translate"]),
];

/// The resolved graph: packages by name, and what each uses.
struct Graph {
    ours: BTreeSet<String>,
    normal: BTreeMap<String, BTreeSet<String>>,
    any: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn load() -> Self {
        let output = Command::new(env!("CARGO"))
            // What other systems would need is not in our binaries.
            .args(["metadata", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        // Crates of ours go by the name of their directory.
        let short = |name: String| name.strip_prefix("meshrelay-").map(str::to_owned).unwrap_or(name);
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), short(text(&p["name"])))).collect();
        let ours = list(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
        let mut graph = Self { ours, normal: BTreeMap::new(), any: BTreeMap::new() };
        let packages: BTreeMap<String, Value> =
            list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
        for node in list(&metadata["resolve"]["nodes"]) {
            let user = &names[&text(&node["id"])];
            let package = &packages[&text(&node["id"])];
            for used in list(&node["deps"]) {
                let name = names[&text(&used["pkg"])].clone();
                if !active(package, &node["features"], &text(&packages[&text(&used["pkg"])]["name"])) {
                    continue;
                }
                if list(&used["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                    graph.normal.entry(user.clone()).or_default().insert(name.clone());
                }
                graph.any.entry(user.clone()).or_default().insert(name);
            }
        }
        graph
    }

    fn uses(&self, user: &str) -> impl Iterator<Item = &String> {
        self.normal.get(user).into_iter().flatten()
    }

    /// Ways from a crate to everything that it reaches through normal dependencies.
    fn reached(&self, from: &str) -> BTreeMap<String, String> {
        let mut ways = BTreeMap::from([(from.to_owned(), from.to_owned())]);
        let mut next = vec![from.to_owned()];
        while let Some(user) = next.pop() {
            for used in self.uses(&user) {
                if !ways.contains_key(used) {
                    ways.insert(used.clone(), format!("{} -> {used}", ways[&user]));
                    next.push(used.clone());
                }
            }
        }
        ways
    }
}

/// Whether a package really uses another one. The graph of `cargo metadata` also has what a feature only tunes in case
/// that it is there (`ring?/alloc`).
fn active(package: &Value, features: &Value, used: &str) -> bool {
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let declared = entries(&package["dependencies"]);
    let mut declared = declared.iter().filter(|dependency| dependency["name"] == used).peekable();
    declared.peek().is_none()
        || declared.any(|dependency| {
            let name = dependency["rename"].as_str().unwrap_or(used);
            let switches = |entry: &str| {
                entry == name || entry.strip_prefix("dep:") == Some(name) || entry.starts_with(&format!("{name}/"))
            };
            dependency["optional"] != true
                || entries(features).iter().filter_map(Value::as_str).any(|feature| {
                    entries(&package["features"][feature]).iter().filter_map(Value::as_str).any(switches)
                })
        })
}

fn impure(name: &str) -> bool {
    IMPURE.contains(&name) || name == "kube" || name.starts_with("kube-")
}

#[test]
fn the_pure_core_reaches_no_input_or_output() {
    let graph = Graph::load();
    for pure in PURE {
        let ways = graph.reached(pure);
        assert!(ways.len() > 5, "{pure} is not in the graph");
        let forbidden: Vec<_> = ways.iter().filter(|(name, _)| impure(name)).map(|(_, way)| way).collect();
        assert!(forbidden.is_empty(), "the pure core may not reach these: {forbidden:#?}");
        for used in graph.uses(pure) {
            let allowed = PURE.contains(&used.as_str()) || PURE_MAY_USE.iter().any(|(name, _)| name == used);
            assert!(allowed, "{pure} uses {used}: leave it out, or list it in PURE_MAY_USE with what it is for");
        }
    }
    for (name, _) in PURE_MAY_USE {
        let used = PURE.iter().any(|pure| graph.uses(pure).any(|used| used == name));
        assert!(used, "{name} is in PURE_MAY_USE, but no pure crate uses it any more");
    }
    // The rule must be able to fail: somebody does reach a runtime.
    assert!(graph.reached("relay").keys().any(|name| impure(name)));
}

#[test]
fn dependencies_of_ours_point_downwards() {
    let graph = Graph::load();
    for user in &graph.ours {
        let allowed = DIRECTIONS.iter().find(|(name, _)| name == user).map_or(&[][..], |(_, allowed)| allowed);
        for used in graph.uses(user).filter(|used| graph.ours.contains(*used)) {
            assert!(allowed.contains(&used.as_str()), "{user} may not use {used}: see DIRECTIONS");
        }
    }
}

/// Even in tests: these are to stay buildable and understandable without the other.
#[test]
fn separate_halves_stay_separate() {
    let graph = Graph::load();
    let reaches = |from: &str, to: &str| graph.any.get(from).is_some_and(|used| used.contains(to));
    for (one, other) in [("server", "agent"), ("relay", "pki")] {
        assert!(!reaches(one, other) && !reaches(other, one), "{one} and {other} depend on each other");
        assert!(!graph.reached(one).contains_key(other) && !graph.reached(other).contains_key(one));
    }
    let tops = [("meshctl", &["bench", "meshrelay", "xtask"][..]), ("bench", &[]), ("meshrelay", &[]), ("xtask", &[])];
    for (top, users) in tops {
        for user in graph.ours.iter().filter(|user| !users.contains(&user.as_str())) {
            assert!(!reaches(user, top), "{user} depends on {top}, which is on top");
        }
    }
}

#[test]
fn there_is_one_crypto_provider() {
    let graph = Graph::load();
    let users: Vec<_> = graph.any.iter().filter(|(_, used)| used.contains("ring")).map(|(user, _)| user).collect();
    assert!(users.is_empty(), "ring is used by {users:?}: choose their features for aws-lc-rs");
    assert!(graph.reached("pki").contains_key("aws-lc-rs"));
}
