//! Fleet folders: what is read, what is written, and that one is the other.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use meshrelay_cluster::{Admission, DEFAULT_CLOCK, Notation, load_fleet, parse_manifest, write_fleet};
use meshrelay_snapshot::{
    ClusterFacts, ClusterSettings, Completeness, Fleet, FleetSettings, Gvk, Name, ObjectKey, Snapshot, SnapshotMeta,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n")
}

#[test]
fn a_folder_is_read_as_an_api_server_would_hold_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "managementCluster: main\nclock: 2026-01-02T03:04:05Z\nclusters:\n  one:\n    \
                    kubernetesVersion: '1.33'\n    addresses:\n      gw/ingress: [192.0.2.1]\n";
    write(folder.path(), "fleet.yaml", settings);
    write(folder.path(), "README.md", "not a cluster");
    fs::create_dir(folder.path().join("main")).unwrap();
    write(folder.path(), "one/deep/er/a.yaml", &service("a"));
    write(folder.path(), "one/b.json", r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}"#);
    write(folder.path(), "one/gw.yml", &format!("{}  namespace: gw\n  generation: 3\n", service("ingress")));
    for skipped in [
        "one/expected/c.yaml",
        "one/revisions/c.yaml",
        "one/.hidden/c.yaml",
        "one/.c.yaml",
        "one/kustomization.yaml",
        "one/notes.txt",
        "expected/one/c.yaml",
        ".meshrelay/one/c.yaml",
    ] {
        write(folder.path(), skipped, &service("skipped"));
    }
    let loaded = load_fleet(folder.path()).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.fleet.settings.management_cluster, "main");
    let names: Vec<_> = loaded.fleet.clusters.keys().map(Name::as_str).collect();
    assert_eq!(names, ["main", "one"]);
    let one = &loaded.fleet.clusters["one"];
    let keys: Vec<_> = one.sorted().iter().map(|object| object.key().to_string()).collect();
    assert_eq!(keys, ["Namespace default", "Namespace gw", "Node n", "Service default/a", "Service gw/ingress"]);
    let get = |kind: &str, namespace: &str, name: &str| {
        one.get(&ObjectKey::new(Gvk::new("", "v1", kind), namespace, name)).unwrap().value()
    };
    let metadata = |namespace: &str, name: &str, generation: i64| {
        json!({"name": name, "namespace": namespace,
        "creationTimestamp": "2026-01-02T03:04:05Z", "generation": generation})
    };
    assert_eq!(get("Service", "default", "a")["metadata"], metadata("default", "a", 1));
    assert_eq!(get("Service", "gw", "ingress")["metadata"], metadata("gw", "ingress", 3));
    assert_eq!(get("Service", "gw", "ingress")["status"]["loadBalancer"]["ingress"], json!([{"ip": "192.0.2.1"}]));
    assert_eq!(get("Namespace", "", "gw")["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "gw"}));
    assert_eq!(one.meta().facts.kubernetes_version, "1.33");
    assert!(one.meta().completeness.values().all(|state| *state == Completeness::Synced));
}

#[test]
fn problems_cost_nothing_but_the_document_they_are_in() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("mgmt")).unwrap();
    write(folder.path(), "one/a.yaml", &format!("{}---\nkind Service\n---\n{}", service("a"), service("b")));
    write(folder.path(), "one/b.yaml", &service("b"));
    let loaded = load_fleet(folder.path()).unwrap();
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "one/a.yaml:6:1: expected a Kubernetes object (apiVersion, kind, metadata), found \"kind Service\" \
             (MR0411)",
            "one/b.yaml:1:1: expected each object once, found Service default/b again, already at one/a.yaml:8 \
             (MR0413)",
        ]
    );
    let one = &loaded.fleet.clusters["one"];
    assert_eq!(one.len(), 3, "two Services and their Namespace");
    let reason = Completeness::Incomplete("one/a.yaml could not be read in full".to_owned());
    assert!(one.meta().completeness.values().all(|state| *state == reason));
    // The document that could not be read may be of any kind.
    let unheard_of = Gvk::new("example.com", "v1", "Kind");
    assert_eq!(one.meta().doubt_about(&unheard_of), Some("one/a.yaml could not be read in full"));
}

#[test]
fn what_is_no_fleet_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| load_fleet(path).unwrap_err().to_string().replace(path.to_str().unwrap(), "FLEET");
    assert!(error(&folder.path().join("none")).starts_with("cannot read the fleet folder FLEET: No such file"));
    assert_eq!(error(folder.path()), "expected one sub-folder of YAML per cluster in FLEET, found none (MR0402)");
    fs::create_dir(folder.path().join("one")).unwrap();
    assert_eq!(
        error(folder.path()),
        "expected a sub-folder mgmt for the management cluster in FLEET, found only one: add it, or name another one \
         as managementCluster in fleet.yaml (MR0403)"
    );
    write(folder.path(), "fleet.yaml", "# nothing yet\n");
    assert!(error(folder.path()).contains("MR0403"));
    write(folder.path(), "fleet.yaml", "managementCluster: one\nclock: 2026-01-01T00:00:00Z\nclusterz: {}\n");
    assert_eq!(
        error(folder.path()),
        "FLEET/fleet.yaml:3:1: unknown field `clusterz`, expected one of managementCluster, clock, clusters (MR0401)"
    );
    write(folder.path(), "fleet.yaml", "managementCluster: one\n");
    assert!(load_fleet(folder.path()).is_ok());
}

#[test]
fn a_redacted_fleet_has_no_secrets() {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "aHVudGVyMg=="}});
    let object = Arc::new(Admission::default().admit(secret).unwrap());
    let snapshot: Snapshot = [object].into_iter().collect();
    let fleet = Fleet { clusters: [("mgmt".into(), Arc::new(snapshot))].into(), ..Fleet::default() };
    for (redact, leaks) in [(true, false), (false, true)] {
        let folder = tempfile::tempdir().unwrap();
        write_fleet(folder.path(), &fleet, redact).unwrap();
        let text = fs::read_to_string(folder.path().join("mgmt/default/secret-s.yaml")).unwrap();
        assert_eq!(text.contains("aHVudGVyMg=="), leaks, "{text}");
    }
}

/// The bundled example, and what its walk-through says about a broken file.
#[test]
fn the_bundled_example_has_no_problems_and_breaks_as_its_readme_says() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let loaded = load_fleet(&examples.join("bookinfo")).unwrap();
    assert_eq!(loaded.problems, []);
    let names: Vec<_> = loaded.fleet.clusters.keys().map(Name::as_str).collect();
    assert_eq!(names, ["cluster1", "cluster2", "mgmt"]);

    let file = "cluster1/gateways-config.yaml";
    let good = fs::read_to_string(examples.join("bookinfo").join(file)).unwrap();
    let broken = good.replace("\n  listeners:\n", "\n  listeners\n");
    let documents = parse_manifest(broken.as_bytes(), Notation::Yaml);
    let problem = documents.into_iter().find_map(|document| document.content.err()).unwrap();
    let said = format!("{file}:{problem}; the last good state of this file stays in force\n");
    assert!(fs::read_to_string(examples.join("README.md")).unwrap().contains(&said), "{said}");
}

fn object() -> impl Strategy<Value = Value> {
    let kinds = prop_oneof![
        Just(("v1", "Service")),
        Just(("v1", "Node")),
        Just(("apps/v1", "Deployment")),
        Just(("networking.istio.io/v1beta1", "Gateway")),
        Just(("gateway.networking.k8s.io/v1", "Gateway")),
        Just(("rbac.authorization.k8s.io/v1", "ClusterRole")),
    ];
    let content = prop_oneof![any::<i32>().prop_map(Value::from), ".{0,12}".prop_map(Value::from), Just(json!({}))];
    let labels = proptest::option::of(proptest::collection::btree_map("[a-z]{1,3}", ".{0,6}", 0..3));
    let names = prop_oneof!["[a-z][a-z0-9.:A-Z-]{0,12}", "[a-z]{250}"];
    (kinds, names, proptest::option::of("[a-c]"), labels, content).prop_map(
        |((api_version, kind), name, namespace, labels, content)| {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name},
                "spec": {"content": content}});
            if let Some(namespace) = namespace {
                object["metadata"]["namespace"] = json!(namespace);
            }
            if let Some(labels) = labels {
                object["metadata"]["labels"] = json!(labels);
            }
            object
        },
    )
}

/// The snapshot that an API server would hold after these objects were applied.
fn admitted(values: Vec<Value>, admission: &Admission, facts: ClusterFacts) -> Snapshot {
    let mut snapshot: Snapshot = values.into_iter().map(|value| Arc::new(admission.admit(value).unwrap())).collect();
    let namespaces: Vec<_> = snapshot.iter().map(|object| object.key().namespace.clone()).collect();
    for namespace in namespaces.iter().filter(|namespace| !namespace.is_empty()) {
        snapshot.insert(Arc::new(admission.namespace(namespace).unwrap()));
    }
    let completeness: BTreeMap<_, _> =
        snapshot.iter().map(|object| (object.key().gvk.clone(), Completeness::Synced)).collect();
    snapshot.set_meta(SnapshotMeta { completeness, facts, ..SnapshotMeta::default() });
    snapshot
}

proptest! {
    // Each case writes and reads dozens of files.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_written_is_loaded(
        mgmt in proptest::collection::vec(object(), 0..6),
        one in proptest::collection::vec(object(), 0..12),
        clock in proptest::option::of(Just(DEFAULT_CLOCK)),
        version in proptest::option::of("1[.][0-9]{2}"),
    ) {
        let mut settings = FleetSettings { clock, ..FleetSettings::default() };
        let own = ClusterSettings {
            kubernetes_version: version.clone(),
            addresses: [("a/a".to_owned(), vec!["192.0.2.1".to_owned()])].into(),
            ..ClusterSettings::default()
        };
        let admission = Admission::new(clock, Some(&own));
        let facts = ClusterFacts { kubernetes_version: version.unwrap_or_default(), ..ClusterFacts::default() };
        settings.clusters.insert("one".into(), own);
        let mgmt = admitted(mgmt, &Admission::default(), ClusterFacts::default());
        let one = admitted(one, &admission, facts);
        let clusters = [("mgmt".into(), Arc::new(mgmt)), ("one".into(), Arc::new(one))].into();
        let fleet = Fleet { settings, clusters };

        let folder = tempfile::tempdir().unwrap();
        write_fleet(folder.path(), &fleet, false).unwrap();
        let loaded = load_fleet(folder.path()).unwrap();
        prop_assert_eq!(loaded.problems, vec![]);
        prop_assert_eq!(loaded.fleet, fleet);
    }
}
