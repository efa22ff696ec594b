//! Scenarios: what people of a workshop had in their clusters at the end of each lab.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};
use meshrelay_cluster::{LoadedFleet, load_fleet};
use meshrelay_snapshot::{ClusterSettings, FleetSettings, to_yaml};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::codegen::documents;

/// File of a cluster with what its Helm charts would have brought.
const ADDED: &str = "added.yaml";

/// Folder of a scenario's management cluster.
const MANAGEMENT: &str = "mgmt";

/// Where the workshops install gateways.
const GATEWAYS: &str = "istio-gateways";

const EGRESS: &str = "egressgateway";

/// The gateways that charts install in each workload cluster: name and value of the label `istio`.
const ROLES: [(&str, &str); 3] = [
    ("istio-ingressgateway", "ingressgateway"),
    ("istio-eastwestgateway", "eastwestgateway"),
    ("istio-egressgateway", EGRESS),
];

/// Where the workshops install what gateways ask about requests, and the Services of it.
const ADDONS: (&str, [&str; 2]) = ("gloo-mesh-addons", ["ext-auth-service", "rate-limiter"]);

/// Ports of those gateways: name, port, port of the pod. 15443 is where traffic from other clusters comes in.
const PORTS: [(&str, u16, u16); 4] =
    [("http2", 80, 8080), ("https", 443, 8443), ("tls", 15443, 15443), ("https2", 16443, 16443)];

/// One scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Name of its folder.
    pub(crate) name: String,
    folder: PathBuf,
    /// Names of clusters inside the specs by folder.
    clusters: BTreeMap<String, String>,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// What is live at the end of a lab.
#[derive(Debug, Deserialize)]
pub(crate) struct Checkpoint {
    /// The heading of the lab.
    pub(crate) lab: String,
    /// Whether it is the end of the lab, or a moment before the lab takes things away again.
    pub(crate) when: String,
    /// Paths of the manifests below the scenario.
    files: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Description {
    cluster_names: BTreeMap<String, String>,
}

impl Checkpoint {
    /// A name for people.
    pub(crate) fn title(&self) -> String {
        if self.when == "end" { self.lab.clone() } else { format!("{} ({})", self.lab, self.when) }
    }
}

impl Scenario {
    /// All scenarios below a directory, by name; the directory may itself be one.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub(crate) fn below(directory: &Path) -> anyhow::Result<Vec<Self>> {
        let mut folders: Vec<PathBuf> = vec![directory.to_owned()];
        let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        folders.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        folders.retain(|folder| folder.join("scenario.json").is_file());
        folders.sort();
        ensure!(!folders.is_empty(), "no folder with a scenario.json in {}", directory.display());
        folders.into_iter().map(Self::read).collect()
    }

    fn read(folder: PathBuf) -> anyhow::Result<Self> {
        fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))
        }
        let Description { cluster_names } = json(&folder.join("scenario.json"))?;
        let checkpoints = json(&folder.join("checkpoints.json"))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, folder, clusters: cluster_names, checkpoints })
    }

    /// Writes the fleet of a checkpoint into a new folder, and loads it.
    ///
    /// # Errors
    /// When a manifest of the checkpoint is missing, or the folder cannot be written.
    pub(crate) fn fleet(&self, checkpoint: &Checkpoint, into: &Path) -> anyhow::Result<LoadedFleet> {
        let mut settings = FleetSettings::default();
        let mut documents: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for cluster in self.clusters.values() {
            fs::create_dir_all(into.join(cluster))?;
            documents.insert(cluster, Vec::new());
        }
        for file in &checkpoint.files {
            let mut parts = file.components().filter(|part| part.as_os_str() != "revisions");
            let folder = parts.next().map(Component::as_os_str).unwrap_or_default().to_string_lossy();
            let (Some(cluster), Some(name)) = (self.clusters.get(&*folder), parts.next()) else {
                anyhow::bail!("{}: not in the folder of a cluster", file.display());
            };
            let from = self.folder.join(file);
            let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
            // What cannot be parsed is told by the loader of the fleet.
            let found = documents::parse(&text).unwrap_or_default();
            if !found.iter().any(is_template) {
                fs::write(into.join(cluster).join(name), &text)?;
                documents.entry(cluster).or_default().extend(found);
            }
        }
        let management = self.clusters.get(MANAGEMENT).context("no management cluster")?;
        settings.management_cluster = management.into();
        let mentioned = mentioned_namespaces(&documents);
        // Few people had an egress gateway, and those wrote something for it.
        let egress = documents.values().flatten().any(|document| document.to_string().contains(EGRESS));
        for (index, (cluster, documents)) in documents.iter().enumerate() {
            let mut own = ClusterSettings::default();
            let mut added = namespaces(documents, mentioned.get(*cluster));
            if *cluster != management {
                own.istio_version = Some("1.30.3".to_owned());
                own.region = Some(format!("region-{}", index + 1).into());
                added.extend(addons(documents, mentioned.get(*cluster)));
                let roles = ROLES.into_iter().filter(|(_, role)| egress || *role != EGRESS);
                for (number, (name, role)) in roles.enumerate() {
                    let key = gateway(documents, role).unwrap_or_else(|| {
                        let labels = json!({"app": name, "istio": role});
                        added.push(service(GATEWAYS, name, "LoadBalancer", &labels, &PORTS));
                        format!("{GATEWAYS}/{name}")
                    });
                    // Addresses for documentation (RFC 5737), one per gateway.
                    own.addresses.insert(key, vec![format!("203.0.113.{}", 10 * (index + 1) + number)]);
                }
            }
            let texts: Vec<String> = added.iter().map(to_yaml).collect();
            if !texts.is_empty() {
                fs::write(into.join(cluster).join(ADDED), texts.join("---\n"))?;
            }
            settings.clusters.insert((*cluster).into(), own);
        }
        fs::write(into.join("fleet.yaml"), to_yaml(&serde_json::to_value(&settings)?))?;
        Ok(load_fleet(into)?)
    }
}

/// A heredoc of the workshop whose variables nobody filled in: no cluster ever had it.
fn is_template(document: &Value) -> bool {
    ["name", "namespace"]
        .iter()
        .any(|field| document["metadata"][field].as_str().is_some_and(|text| text.contains("${")))
}

/// Namespaces that Workspaces name in each cluster: people had them, though no manifest of theirs made them.
fn mentioned_namespaces<'a>(documents: &BTreeMap<&'a str, Vec<Value>>) -> BTreeMap<&'a str, BTreeSet<String>> {
    let mut mentioned: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for workspace in documents.values().flatten().filter(|document| document["kind"] == "Workspace") {
        for entry in list(&workspace["spec"]["workloadClusters"]) {
            let names = list(&entry["namespaces"]).into_iter().filter_map(|namespace| {
                let name = namespace["name"].as_str()?.to_owned();
                (!name.is_empty() && !name.contains('*')).then_some(name)
            });
            let names: Vec<String> = names.collect();
            for cluster in documents.keys().filter(|cluster| entry["name"] == "*" || entry["name"] == **cluster) {
                mentioned.entry(cluster).or_default().extend(names.iter().cloned());
            }
        }
    }
    mentioned
}

/// The namespaces that nothing else makes.
fn namespaces(documents: &[Value], mentioned: Option<&BTreeSet<String>>) -> Vec<Value> {
    let made: BTreeSet<&str> = documents
        .iter()
        .filter(|document| document["kind"] == "Namespace")
        .filter_map(|document| document["metadata"]["name"].as_str())
        .collect();
    let missing = mentioned.into_iter().flatten().filter(|name| !made.contains(name.as_str()));
    missing.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).collect()
}

/// The Service of the gateway with that role, if the people made one.
fn gateway(documents: &[Value], role: &str) -> Option<String> {
    let service = documents
        .iter()
        .find(|document| document["kind"] == "Service" && document["spec"]["selector"]["istio"] == role)?;
    let metadata = |field: &str| service["metadata"][field].as_str().unwrap_or("default");
    Some(format!("{}/{}", metadata("namespace"), metadata("name")))
}

/// The Services of the charts in a cluster that has their namespace, but for those that people made themselves.
fn addons(documents: &[Value], mentioned: Option<&BTreeSet<String>>) -> Vec<Value> {
    let (namespace, names) = ADDONS;
    let is_there = |kind: &str, name: &str| {
        documents.iter().any(|document| document["kind"] == kind && document["metadata"]["name"] == name)
    };
    if !is_there("Namespace", namespace) && !mentioned.is_some_and(|names| names.contains(namespace)) {
        return Vec::new();
    }
    let missing = names.into_iter().filter(|name| !is_there("Service", name));
    missing.map(|name| service(namespace, name, "ClusterIP", &json!({"app": name}), &[("grpc", 8083, 8083)])).collect()
}

fn service(namespace: &str, name: &str, kind: &str, labels: &Value, ports: &[(&str, u16, u16)]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"type": kind, "selector": labels, "ports": ports},
    })
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Name;

    use super::*;

    #[test]
    fn a_checkpoint_becomes_a_fleet_with_what_charts_would_have_brought() {
        let scenario = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = scenario.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("scenario.json", r#"{"cluster_names": {"mgmt": "mgmt", "cluster1": "one"}, "other": 1}"#);
        let files = ["mgmt/1.yaml", "revisions/cluster1/2.r1.yaml", "cluster1/3.yaml", "cluster1/4.yaml"];
        let checkpoints = json!([{"lab": "Lab 1", "when": "before cleanup", "files": files}]);
        write("checkpoints.json", &checkpoints.to_string());
        let namespaces = json!([{"name": "shop"}, {"name": "gloo-mesh-addons"}, {"name": "team-*"}]);
        let workspace = json!({"apiVersion": "admin.gloo.solo.io/v2", "kind": "Workspace",
            "metadata": {"name": "w", "namespace": "gloo-mesh"},
            "spec": {"workloadClusters": [{"name": "one", "namespaces": namespaces}]}});
        write("mgmt/1.yaml", &workspace.to_string());
        write("revisions/cluster1/2.r1.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: x}}");
        write("cluster1/2.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: later, namespace: x}}");
        let own = service("edge", "in", "ClusterIP", &json!({"istio": "ingressgateway"}), &[("http", 80, 80)]);
        write("cluster1/3.yaml", &own.to_string());
        write("cluster1/4.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: '${NAMESPACE}'}}");

        let scenarios = Scenario::below(scenario.path()).unwrap();
        let checkpoint = &scenarios[0].checkpoints[0];
        assert_eq!(checkpoint.title(), "Lab 1 (before cleanup)");
        let into = tempfile::tempdir().unwrap();
        let LoadedFleet { fleet, problems } = scenarios[0].fleet(checkpoint, into.path()).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let objects = |cluster: &str| -> Vec<String> {
            let snapshot = &fleet.clusters[&Name::from(cluster)];
            snapshot
                .sorted()
                .into_iter()
                .map(|object| format!("{} {}", object.key().gvk.kind, object.key().name))
                .collect()
        };
        assert_eq!(objects("mgmt"), ["Namespace gloo-mesh", "Workspace w"]);
        let expected = ["ConfigMap c", "Namespace edge", "Namespace gloo-mesh-addons", "Namespace istio-gateways"];
        assert_eq!(objects("one")[..4], expected);
        let expected =
            ["in", "ext-auth-service", "rate-limiter", "istio-eastwestgateway"].map(|name| format!("Service {name}"));
        assert_eq!(objects("one")[6..], expected);
        let addresses = &fleet.settings.clusters[&Name::from("one")].addresses;
        let expected = ["edge/in", "istio-gateways/istio-eastwestgateway"];
        assert_eq!(addresses.keys().collect::<Vec<_>>(), expected);
        assert_eq!(fleet.settings.clusters[&Name::from("mgmt")], ClusterSettings::default());
    }
}
