//! Discovery: what an agent concludes from the objects of its cluster. A pure function of the cluster's snapshot.
//!
//! A [`Mesh`](meshrelay_api::internal::MeshSpec) per revision of istiod, a
//! [`DiscoveredGateway`](meshrelay_api::internal::DiscoveredGatewaySpec) per gateway Service.

mod gateway;
mod kube;
mod mesh;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::{Kind, Metadata, Resource};
use meshrelay_snapshot::{Completeness, Gvk, Name, Object, ObjectKey, SanitizedMirror, Snapshot};
use serde::de::DeserializeOwned;

/// What discovery has to be told because no object of the cluster says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the agent, in which discovered objects are placed.
    pub namespace: String,
    /// Trust domain of meshes whose configuration does not state one.
    pub trust_domain: String,
    /// Version of a mesh to assume where there is no istiod at all, as in a folder that leaves it out; `None` for none.
    pub assumed_istio_version: Option<String>,
    /// Region of gateways in a cluster without Nodes.
    pub region: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "gloo-mesh".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            assumed_istio_version: None,
            region: None,
        }
    }
}

/// Makes input snapshots of a cluster: its objects without what nobody translates, and what was discovered in it.
///
/// Remembers the last one, so that a change costs as much as it changes and unchanged objects are shared.
#[derive(Debug)]
pub struct Input {
    cluster: Name,
    settings: Settings,
    mirror: SanitizedMirror,
    discovered: Snapshot,
}

impl Input {
    /// Of a cluster of which nothing is known yet.
    pub fn new(cluster: Name, settings: Settings) -> Self {
        let (mirror, raw) = (SanitizedMirror::default(), Snapshot::new());
        let discovered = discover(&cluster, &raw, &settings);
        Self { cluster, settings, mirror, discovered }
    }

    /// The input snapshot for what the cluster holds now.
    pub fn update(&mut self, raw: &Snapshot) -> Arc<Snapshot> {
        let delta = self.mirror.update(raw);
        let is_source = |key: &ObjectKey| SOURCE_KINDS.contains(&&*key.gvk.kind);
        if delta.meta.is_some()
            || delta.upserts.iter().any(|object| is_source(object.key()))
            || delta.removes.iter().any(is_source)
        {
            self.discovered = discover(&self.cluster, raw, &self.settings);
        }
        let mut input = self.mirror.clean().clone();
        for object in self.discovered.iter() {
            // What the cluster itself holds under that name was written by somebody who knows better.
            if input.get(object.key()).is_none() {
                input.insert(Arc::clone(object));
            }
        }
        input.set_meta(self.discovered.meta().clone());
        Arc::new(input)
    }
}

/// What is discovered in a cluster, with the meta data of the whole input.
fn discover(cluster: &Name, raw: &Snapshot, settings: &Settings) -> Snapshot {
    let meshes = mesh::discover(cluster, raw, settings);
    let gateways = gateway::discover(cluster, raw, settings);
    let objects = meshes.iter().filter_map(to_object).chain(gateways.iter().filter_map(to_object));
    let mut discovered: Snapshot = objects.map(Arc::new).collect();
    let mut meta = raw.meta().clone();
    meta.facts.agent_version = meshrelay_process::VERSION.to_owned();
    meta.facts.trust_domains =
        meshes.iter().map(|mesh| (Name::from(&mesh.metadata.name), Name::from(&mesh.spec.trust_domain))).collect();
    // What discovery could not see makes what it found incomplete.
    for (kind, sources) in [("Mesh", mesh::SOURCES), ("DiscoveredGateway", gateway::SOURCES)] {
        let doubt = sources.iter().find_map(|(group, version, source)| {
            let reason = meta.doubt_about(&Gvk::new(group, version, source))?;
            Some(format!("{source} is not completely known: {reason}"))
        });
        let state = doubt.map_or(Completeness::Synced, Completeness::Incomplete);
        meta.completeness.insert(Gvk::new(DISCOVERED_GROUP, "v2", kind), state);
    }
    discovered.set_meta(meta);
    discovered
}

/// Group of what agents discover.
const DISCOVERED_GROUP: &str = "internal.gloo.solo.io";

/// Kinds from which something is discovered.
const SOURCE_KINDS: [&str; 5] = ["Service", "Deployment", "DaemonSet", "Node", "ConfigMap"];

fn to_object<K: Kind>(resource: &Resource<K>) -> Option<Object> {
    Object::from_value(&serde_json::to_value(resource).ok()?).ok()
}

fn metadata(name: String, settings: &Settings) -> Metadata {
    Metadata { name, namespace: settings.namespace.clone(), ..Metadata::default() }
}

/// The objects of a kind, in the order of their keys. One that does not have the shape of its kind is left out: the API
/// server would not have let it in.
fn of_kind<'a, T: DeserializeOwned>(snapshot: &'a Snapshot, gvk: &Gvk) -> Vec<(&'a Object, T)> {
    let found: BTreeMap<_, _> = snapshot
        .iter()
        .filter(|object| object.key().gvk == *gvk)
        .filter_map(|object| Some((object.key(), (&**object, object.decode().ok()?))))
        .collect();
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> Arc<Object> {
        Arc::new(Object::from_value(&value).unwrap())
    }

    fn gateway_service() -> Arc<Object> {
        object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "eastwest", "namespace": "istio-gateways"},
            "spec": {"type": "LoadBalancer", "selector": {"istio": "eastwestgateway"},
                "ports": [{"name": "tls", "port": 15443, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}},
        }))
    }

    fn istiod() -> Arc<Object> {
        object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "istiod-1-30", "namespace": "istio-system"},
            "spec": {"template": {"metadata": {"labels": {"app": "istiod", "istio.io/rev": "1-30"}},
                "spec": {"serviceAccountName": "istiod-1-30",
                    "containers": [{"name": "discovery", "image": "docker.io/istio/pilot:1.30.3"}]}}},
        }))
    }

    fn node() -> Arc<Object> {
        object(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/region": "us-west1"}},
        }))
    }

    fn mesh_config() -> Arc<Object> {
        object(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-1-30", "namespace": "istio-system"},
            "data": {"mesh": "trustDomain: west.example\nrootNamespace: istio-root\n"},
        }))
    }

    fn find(snapshot: &Snapshot, kind: &str, name: &str) -> Option<Value> {
        let key = ObjectKey::new(Gvk::new(DISCOVERED_GROUP, "v2", kind), "gloo-mesh", name);
        snapshot.get(&key).map(|object| object.value()["spec"].clone())
    }

    #[test]
    fn a_mesh_and_a_gateway_are_discovered() {
        let raw: Snapshot = [gateway_service(), istiod(), node(), mesh_config()].into_iter().collect();
        let input = Input::new("west".into(), Settings::default()).update(&raw);
        let mesh = find(&input, "Mesh", "istiod-1-30-istio-system-west").unwrap();
        assert_eq!(mesh["trustDomain"], "west.example");
        assert_eq!(mesh["rootNamespace"], "istio-root");
        assert_eq!((&mesh["hub"], &mesh["tag"]), (&json!("docker.io/istio"), &json!("1.30.3")));
        let gateway = find(&input, "DiscoveredGateway", "eastwest-istio-gateways-west").unwrap();
        assert_eq!(
            gateway["externalAddresses"],
            json!([{"address": "192.0.2.7", "ports": [{"number": 15443, "name": "tls", "protocol": "TCP"}],
                "locality": {"region": "us-west1"}}])
        );
        assert!(input.iter().all(|object| object.key().gvk.kind != "ConfigMap"), "config maps stay in their cluster");
    }

    #[test]
    fn every_order_of_changes_gives_what_a_new_start_gives() {
        let steps: Vec<Snapshot> = [
            vec![gateway_service()],
            vec![gateway_service(), istiod()],
            vec![gateway_service(), istiod(), mesh_config(), node()],
            vec![istiod(), node()],
            vec![node()],
            vec![],
        ]
        .into_iter()
        .map(|objects| objects.into_iter().collect())
        .collect();
        let mut input = Input::new("west".into(), Settings::default());
        for raw in &steps {
            let scratch = Input::new("west".into(), Settings::default()).update(raw);
            assert_eq!(input.update(raw).digest(), scratch.digest());
        }
    }

    #[test]
    fn a_folder_without_istiod_may_say_which_version_to_assume() {
        let settings = Settings { assumed_istio_version: Some("1.30.3".to_owned()), ..Settings::default() };
        let input = Input::new("west".into(), settings).update(&[node()].into_iter().collect());
        assert_eq!(find(&input, "Mesh", "istiod-istio-system-west").unwrap()["trustDomain"], "cluster.local");
    }
}
