//! The fleet: what each cluster holds, in the few variants that edits move between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use meshrelay_cluster::{ClusterView, load_fleet};
use meshrelay_snapshot::{Completeness, Fleet, Gvk, Name, Object, Snapshot, SnapshotMeta};
use serde_json::{Value, json};

pub(crate) const MANAGEMENT: &str = "mgmt";
pub(crate) const CLUSTERS: [&str; 3] = ["east", "north", "west"];

/// Which variant of its objects a cluster holds: a set of bits.
pub(crate) type Code = u8;

/// Of a cluster with an agent: the Service `cart` is not there.
pub(crate) const NO_CART: Code = 1;
/// The Service `web` is not there.
pub(crate) const NO_WEB: Code = 2;
/// Its east-west gateway has another address.
pub(crate) const MOVED: Code = 4;
/// The file with `cart` cannot be read.
pub(crate) const HIDDEN: Code = 8;

/// Of the management cluster, and the two after it: the cluster of that index is not registered.
pub(crate) const UNREGISTERED: Code = 1;
/// There is no VirtualDestination.
pub(crate) const NO_DESTINATION: Code = 8;
/// There is a second route.
pub(crate) const SECOND_ROUTE: Code = 16;
/// The file with the VirtualDestination and the RouteTable cannot be read.
pub(crate) const HIDDEN_CONFIG: Code = 32;
/// The file with the registration of the last cluster cannot be read.
pub(crate) const HIDDEN_REGISTRATION: Code = 128;
/// Nobody waits for any cluster (`spec.skipWarming`): for defects only.
pub(crate) const SKIP_WARMING: Code = 64;

static FLEET: LazyLock<Fleet> = LazyLock::new(|| {
    let loaded = load_fleet(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fleet")).unwrap();
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.fleet
});

/// The objects of every variant, without what cannot be read.
static OBJECTS: LazyLock<BTreeMap<Name, Vec<Snapshot>>> = LazyLock::new(|| {
    let variants = |name: &Name, count: Code| (0..=count).map(|code| objects(name, code)).collect();
    FLEET
        .clusters
        .keys()
        .map(|name| (name.clone(), variants(name, if name == MANAGEMENT { Code::MAX } else { 15 })))
        .collect()
});

/// The variant as it is when everything can be read.
pub(crate) fn complete(cluster: &str, code: Code) -> Code {
    code & !if cluster == MANAGEMENT { HIDDEN_CONFIG | HIDDEN_REGISTRATION } else { HIDDEN }
}

/// What cannot be seen of a variant, of what can change.
pub(crate) fn unseen(cluster: &str, code: Code) -> Code {
    let hides = |hiding: Code, what: Code| if code & hiding == 0 { 0 } else { what };
    if cluster != MANAGEMENT {
        return hides(HIDDEN, NO_CART);
    }
    hides(HIDDEN_CONFIG, NO_DESTINATION | SECOND_ROUTE)
        | hides(HIDDEN_REGISTRATION, UNREGISTERED << (CLUSTERS.len() - 1))
}

pub(crate) fn is_registered(management: Code, cluster: &str) -> bool {
    CLUSTERS.iter().position(|name| *name == cluster).is_some_and(|at| management & (UNREGISTERED << at) == 0)
}

fn objects(cluster: &Name, code: Code) -> Snapshot {
    let all = FLEET.clusters[cluster].iter();
    let kept = all.filter_map(|object| {
        let mut value = object.value();
        let keep = if cluster == MANAGEMENT { admin(&mut value, code) } else { workload(&mut value, code) };
        keep.then(|| Arc::new(Object::from_value(&value).unwrap()))
    });
    kept.collect()
}

fn workload(object: &mut Value, code: Code) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    if object["kind"] == "DiscoveredGateway" && code & MOVED != 0 {
        let address = &mut object["spec"]["externalAddresses"][0]["address"];
        *address = json!(address.as_str().unwrap().replace("198.51.100", "203.0.113"));
    }
    match &*name {
        "cart" => code & (NO_CART | HIDDEN) == 0,
        "web" => code & NO_WEB == 0,
        _ => true,
    }
}

fn admin(object: &mut Value, code: Code) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    match object["kind"].as_str().unwrap() {
        "KubernetesCluster" => {
            if code & SKIP_WARMING != 0 {
                object["spec"]["skipWarming"] = json!(true);
            }
            is_registered(code, &name) && (code & HIDDEN_REGISTRATION == 0 || CLUSTERS.last() != Some(&&*name))
        }
        "VirtualDestination" => code & (NO_DESTINATION | HIDDEN_CONFIG) == 0,
        "RouteTable" => {
            if code & SECOND_ROUTE != 0 {
                let routes = object["spec"]["http"].as_array_mut().unwrap();
                let mut second = routes[0].clone();
                second["name"] = json!("second");
                second["matchers"][0]["uri"]["prefix"] = json!("/second");
                routes.push(second);
            }
            code & HIDDEN_CONFIG == 0
        }
        _ => true,
    }
}

/// What is seen of a cluster in a variant, marked as its state of that number. Unless doubts are not to be stated, one that
/// cannot be read in full says so.
pub(crate) fn view(cluster: &str, code: Code, number: usize, states_doubts: bool) -> Arc<ClusterView> {
    let mut snapshot = OBJECTS[&Name::from(cluster)][usize::from(code)].clone();
    let mut meta = SnapshotMeta::default();
    meta.facts.kubernetes_version = format!("{number}:{code}");
    if cluster == MANAGEMENT {
        meta.completeness.insert(Gvk::new("admin.gloo.solo.io", "v2", "KubernetesCluster"), Completeness::Synced);
    }
    if complete(cluster, code) != code && states_doubts {
        meta.doubt = Some("a file could not be read in full".to_owned());
    }
    snapshot.set_meta(meta);
    Arc::new(ClusterView { snapshot, problems: Vec::new() })
}

/// The number and the variant of the state that an input shows.
pub(crate) fn mark(input: &Snapshot) -> (usize, Code) {
    let (number, code) = input.meta().facts.kubernetes_version.split_once(':').unwrap();
    (number.parse().unwrap(), code.parse().unwrap())
}
