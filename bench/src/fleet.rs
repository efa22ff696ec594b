//! Generated fleets: the same for the same size and seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use meshrelay_cluster::write_fleet;
use meshrelay_snapshot::{Fleet, FleetSettings, Name, Object, Snapshot};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

const NETWORKING: &str = "networking.gloo.solo.io/v2";
const ADMIN: &str = "admin.gloo.solo.io/v2";

/// Label of Services that are federated.
const FEDERATED: &str = "federated";

/// Namespaces of applications per cluster; services are spread over them.
const NAMESPACES: usize = 5;

/// Each has an address of its own in 203.0.0.0/8, by the second and third number.
const MOST_CLUSTERS: usize = 65_536;

/// How large a fleet is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Size {
    /// Workload clusters, beside the management cluster
    #[arg(long, default_value_t = 10, value_parser = cluster_count)]
    pub(crate) clusters: usize,
    /// Services per workload cluster, each with a Deployment and a ServiceAccount
    #[arg(long, default_value_t = 100)]
    pub(crate) services: usize,
    /// RouteTables per workload cluster
    #[arg(long, default_value_t = 20)]
    pub(crate) routes: usize,
    /// VirtualDestinations of the fleet, each seen in every workload cluster, with a Service of two clusters behind it
    #[arg(long, default_value_t = 10)]
    pub(crate) destinations: usize,
    /// How many Services of each workload cluster all other clusters can call by a host name of their own
    #[arg(long, default_value_t = 0)]
    pub(crate) federated: usize,
    /// Close Services to everybody who does not import them
    #[arg(long)]
    pub(crate) isolation: bool,
    /// Seed of what is random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What addresses of gateways have room for, and at least something to measure.
fn cluster_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MOST_CLUSTERS).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {MOST_CLUSTERS}"))
}

/// Name of a workload cluster.
pub(crate) fn cluster(number: usize) -> String {
    format!("c{number:03}")
}

/// Names of all clusters of a fleet of that size.
pub(crate) fn clusters(size: &Size) -> impl Iterator<Item = String> {
    std::iter::once("mgmt".to_owned()).chain((0..size.clusters).map(cluster))
}

/// Namespace in which the RouteTable or Service of that number is.
pub(crate) fn namespace(number: usize) -> String {
    format!("app-{}", number % NAMESPACES)
}

/// The fleet of that size.
pub(crate) fn generate(size: &Size) -> anyhow::Result<Fleet> {
    let mut clusters = BTreeMap::from([(Name::from("mgmt"), snapshot(management(size))?)]);
    for number in 0..size.clusters {
        // One generator per cluster, so that a cluster does not depend on how many there are.
        let mut random = StdRng::seed_from_u64(size.seed ^ (number as u64) << 32);
        clusters.insert(Name::from(cluster(number)), snapshot(workload(size, number, &mut random))?);
    }
    let settings = FleetSettings { clock: Some("2026-01-01T00:00:00Z".parse()?), ..FleetSettings::default() };
    Ok(Fleet { settings, clusters })
}

/// Writes the fleet of that size as a fleet folder.
pub(crate) fn write(folder: &Path, size: &Size) -> anyhow::Result<()> {
    write_fleet(folder, &generate(size)?, false).context("the fleet folder")
}

fn snapshot(objects: Vec<Value>) -> anyhow::Result<Arc<Snapshot>> {
    let objects = objects.iter().map(|value| Object::from_value(value).map(Arc::new));
    Ok(Arc::new(objects.collect::<Result<Snapshot, _>>()?))
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, labels: Value, rest: Value) -> Value {
    let mut value = rest;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value["metadata"] = json!({"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"});
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
    }
    value
}

fn management(size: &Size) -> Vec<Value> {
    let names: Vec<String> = (0..size.clusters).map(cluster).collect();
    let mut objects: Vec<Value> = clusters(size)
        .map(|name| {
            let spec = json!({"spec": {"clusterDomain": "cluster.local"}});
            object(ADMIN, "KubernetesCluster", "gloo-mesh", &name, json!({}), spec)
        })
        .collect();
    let workspace = |name: &str, namespaces: &[String]| {
        let namespaces: Vec<_> = namespaces.iter().map(|name| json!({"name": name})).collect();
        let clusters: Vec<_> = names.iter().map(|name| json!({"name": name, "namespaces": namespaces})).collect();
        object(ADMIN, "Workspace", "gloo-mesh", name, json!({}), json!({"spec": {"workloadClusters": clusters}}))
    };
    objects.push(workspace("gateways", &["istio-gateways".to_owned()]));
    objects.push(workspace("apps", &(0..NAMESPACES).map(namespace).collect::<Vec<_>>()));
    let gateways =
        json!({"spec": {"options": {"eastWestGateways": [{"selector": {"labels": {"istio": "eastwestgateway"}}}]}}});
    objects.push(object(ADMIN, "WorkspaceSettings", "gloo-mesh", "global", json!({}), gateways));
    objects
}

fn workload(size: &Size, number: usize, random: &mut StdRng) -> Vec<Value> {
    let name = cluster(number);
    let namespaces = ["istio-system", "istio-gateways"].map(str::to_owned).into_iter();
    let mut objects: Vec<Value> = namespaces
        .chain((0..NAMESPACES).map(namespace))
        .map(|namespace| object("v1", "Namespace", "", &namespace, json!({"istio-injection": "enabled"}), json!({})))
        .collect();
    let node = json!({"topology.kubernetes.io/region": format!("region-{}", number % 4),
        "topology.kubernetes.io/zone": format!("region-{}-a", number % 4)});
    objects.push(object("v1", "Node", "", &format!("{name}-node"), node, json!({})));
    let istiod = json!({"app": "istiod", "istio.io/rev": "default"});
    let image = "docker.io/istio/pilot:1.30.3";
    objects.extend(deployment("istio-system", "istiod", &istiod, "discovery", image));
    let mesh = json!({"data": {"mesh": format!("trustDomain: {name}\n")}});
    objects.push(object("v1", "ConfigMap", "istio-system", "istio", json!({}), mesh));
    let gateways =
        [("istio-ingressgateway", "ingressgateway", 80), ("istio-eastwestgateway", "eastwestgateway", 15443)];
    for (at, (gateway, istio, port)) in gateways.into_iter().enumerate() {
        let labels = json!({"app": gateway, "istio": istio});
        objects.extend(deployment("istio-gateways", gateway, &labels, "istio-proxy", "auto"));
        let address = format!("203.{}.{}.{at}", number / 256, number % 256);
        let rest = json!({
            "spec": {"type": "LoadBalancer", "selector": labels, "ports": [{"name": "tls", "port": port, "targetPort": port}]},
            "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
        });
        objects.push(object("v1", "Service", "istio-gateways", gateway, labels, rest));
    }
    for service in 0..size.services {
        let (namespace, name) = (namespace(service), format!("svc-{service}"));
        let labels = json!({"app": name, "version": format!("v{}", random.random_range(1..3)), "tier": tier(random)});
        let image = format!("registry.example/{name}:1.{}", random.random_range(0..100));
        objects.extend(deployment(&namespace, &name, &labels, "main", &image));
        objects.push(self::service(service, size, 0));
    }
    if number == 0 {
        let selector = json!([{"labels": {FEDERATED: "true"}}]);
        let federation = json!({"enabled": size.federated > 0, "hostSuffix": "global", "serviceSelector": selector});
        let isolation = json!({"enabled": size.isolation});
        let spec = json!({"spec": {"options": {"federation": federation, "serviceIsolation": isolation}}});
        objects.push(object(ADMIN, "WorkspaceSettings", &self::namespace(0), "apps", json!({}), spec));
    }
    objects.extend((0..size.routes).map(|route| route_table(number, route, size.services.max(1), 0)));
    // Each is written in one cluster, and selects a Service of its number in two clusters.
    let own = (0..size.destinations).filter(|destination| destination % size.clusters.max(1) == number);
    objects.extend(own.map(|destination| virtual_destination(destination, size, 0)));
    objects
}

/// A Service; `edit` comes back as the number of its second port.
pub(crate) fn service(number: usize, size: &Size, edit: usize) -> Value {
    let name = format!("svc-{number}");
    let mut labels = json!({"app": name});
    if number < size.federated {
        labels[FEDERATED] = "true".into();
    }
    let ports = json!([{"name": "http", "port": 8080, "targetPort": 8080},
        {"name": "http-edit", "port": edit_port(edit), "targetPort": 8080}]);
    let spec = json!({"spec": {"selector": {"app": name}, "ports": ports}});
    object("v1", "Service", &namespace(number), &name, labels, spec)
}

fn tier(random: &mut StdRng) -> &'static str {
    ["front", "back", "data"][random.random_range(0..3)]
}

fn deployment(namespace: &str, name: &str, labels: &Value, container: &str, image: &str) -> [Value; 2] {
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {"serviceAccountName": name, "containers": [{"name": container, "image": image,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
    [
        object("apps/v1", "Deployment", namespace, name, labels.clone(), json!({"spec": spec})),
        object("v1", "ServiceAccount", namespace, name, json!({}), json!({})),
    ]
}

/// A RouteTable for the sidecars of its namespace; `edit` comes back in its output.
pub(crate) fn route_table(cluster_number: usize, number: usize, services: usize, edit: usize) -> Value {
    let name = format!("svc-{}", number % services);
    let namespace = namespace(number % services);
    let spec = json!({
        "hosts": [format!("{name}.{namespace}.svc.cluster.local")],
        "workloadSelectors": [{"selector": {"namespace": namespace, "cluster": cluster(cluster_number)}}],
        "http": [
            {"name": "edit", "matchers": [{"uri": {"exact": "/edit"}}],
                "directResponse": {"status": 200, "body": edit_mark(edit)}},
            {"name": "all", "matchers": [{"uri": {"prefix": "/"}}], "forwardTo": {"destinations": [
                {"ref": {"name": name, "namespace": namespace, "cluster": cluster(cluster_number)}, "port": {"number": 8080}}]}},
        ],
    });
    object(NETWORKING, "RouteTable", &namespace, &format!("route-{number}"), json!({}), json!({"spec": spec}))
}

/// What an edit of that number leaves in outputs.
pub(crate) fn edit_mark(edit: usize) -> String {
    format!("edit-{edit}-")
}

/// Port of a VirtualDestination after an edit of that number.
pub(crate) fn edit_port(edit: usize) -> usize {
    20_000 + edit
}

/// A VirtualDestination over a Service of two clusters; `edit` chooses its port.
pub(crate) fn virtual_destination(number: usize, size: &Size, edit: usize) -> Value {
    let service = number % size.services.max(1);
    let selector = |at: usize| {
        json!({"namespace": namespace(service), "cluster": cluster(at % size.clusters.max(1)),
            "labels": {"app": format!("svc-{service}")}})
    };
    let spec = json!({
        "hosts": [format!("shared-{number}.mesh.internal")],
        "services": [selector(number), selector(number + 1)],
        "ports": [{"number": edit_port(edit), "protocol": "HTTP", "targetPort": {"number": 8080}}],
    });
    object(
        NETWORKING,
        "VirtualDestination",
        &namespace(service),
        &format!("shared-{number}"),
        json!({}),
        json!({"spec": spec}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_as_many_clusters_as_there_are_addresses() {
        assert_eq!((cluster_count("1"), cluster_count("65536")), (Ok(1), Ok(65_536)));
        for wrong in ["0", "65537", "-1", "many", ""] {
            assert!(cluster_count(wrong).unwrap_err().contains("from 1 to 65536"), "{wrong}");
        }
    }

    #[test]
    fn the_same_size_and_seed_give_the_same_fleet_without_problems() {
        let size =
            Size { clusters: 3, services: 7, routes: 4, destinations: 2, federated: 3, isolation: true, seed: 5 };
        let fleet = generate(&size).unwrap();
        assert_eq!(fleet, generate(&size).unwrap());
        let larger = generate(&Size { clusters: 4, destinations: 0, ..size.clone() }).unwrap();
        let without = generate(&Size { destinations: 0, ..size.clone() }).unwrap();
        assert_eq!(without.clusters["c001"], larger.clusters["c001"]);
        assert_ne!(fleet.clusters["c001"], generate(&Size { seed: 6, ..size.clone() }).unwrap().clusters["c001"]);

        let translation = crate::translate::Work::new(&fleet).translate();
        let reports: Vec<_> = translation
            .reports
            .iter()
            .flat_map(|(resource, report)| {
                report.messages.iter().map(move |message| format!("{resource}: {message:?}"))
            })
            .collect();
        assert!(reports.is_empty(), "{reports:#?}");
        let text = |cluster: &str| -> String {
            let bodies =
                translation.outputs[cluster].iter().map(|object| String::from_utf8_lossy(&object.body()).into_owned());
            bodies.collect()
        };
        assert!(text("c001").contains(&edit_mark(0)));
        for cluster in ["c000", "c001", "c002"] {
            assert!(text(cluster).contains("shared-1.mesh.internal") && text(cluster).contains("20000"), "{cluster}");
        }
    }
}
