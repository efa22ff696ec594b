use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::DiscoveredGateway;
use meshrelay_api::internal::{DiscoveredGatewayPort, DiscoveredGatewaySpec, ExternalAddress, ServiceType};
use meshrelay_api::locality::Locality;
use meshrelay_api::references::ClusterObjectRef;
use meshrelay_snapshot::{Gvk, Name, Object, Snapshot};

use super::kube::{Node, Service, ServicePort, Workload};
use super::{Settings, metadata, of_kind};

/// Kinds that tell about gateways.
pub(super) const SOURCES: &[(&str, &str, &str)] =
    &[("", "v1", "Service"), ("", "v1", "Node"), ("apps", "v1", "Deployment"), ("apps", "v1", "DaemonSet")];

/// Label by which Istio's own charts mark gateway pods and select them (`istio: ingressgateway`).
const ISTIO_LABEL: &str = "istio";

/// Finds one gateway per Service that selects gateway pods: those whose label `istio` names a gateway.
pub(super) fn discover(cluster: &Name, raw: &Snapshot, settings: &Settings) -> Vec<DiscoveredGateway> {
    let workloads: Vec<_> = ["Deployment", "DaemonSet"]
        .into_iter()
        .flat_map(|kind| of_kind::<Workload>(raw, &Gvk::new("apps", "v1", kind)))
        .collect();
    let nodes = of_kind::<Node>(raw, &Gvk::new("", "v1", "Node"));
    let locality = locality(&nodes, settings);
    let mut gateways = Vec::new();
    for (object, service) in of_kind::<Service>(raw, &Gvk::new("", "v1", "Service")) {
        let selector = &service.spec.selector;
        if !selector.get(ISTIO_LABEL).is_some_and(|value| value.contains("gateway")) {
            continue;
        }
        let namespace = &object.key().namespace;
        let accounts: BTreeSet<&str> = workloads
            .iter()
            .filter(|(workload, _)| workload.key().namespace == *namespace)
            .map(|(_, workload)| &workload.spec.template)
            .filter(|template| selects(selector, &template.metadata.labels))
            .map(|template| template.spec.service_account())
            .collect();
        let reference = |name: &str| ClusterObjectRef {
            name: name.to_owned(),
            namespace: namespace.to_string(),
            cluster_name: cluster.to_string(),
        };
        gateways.push(DiscoveredGateway {
            metadata: metadata(format!("{}-{namespace}-{cluster}", object.key().name), settings),
            spec: DiscoveredGatewaySpec {
                service: Some(reference(&object.key().name)),
                workload_labels: selector.clone(),
                external_addresses: addresses(&service, &nodes, locality.as_ref()),
                service_type: service_type(&service),
                service_account_refs: accounts.into_iter().map(reference).collect(),
            },
            status: None,
        });
    }
    gateways
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn service_type(service: &Service) -> ServiceType {
    match service.spec.service_type.as_str() {
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName,
        _ => ServiceType::ClusterIp,
    }
}

/// Where a Service can be reached from outside: its load balancer, its external IPs, or for a node port the nodes.
fn addresses(service: &Service, nodes: &[(&Object, Node)], locality: Option<&Locality>) -> Vec<ExternalAddress> {
    let ports = |number: fn(&ServicePort) -> u32| -> Vec<DiscoveredGatewayPort> {
        let ports = service.spec.ports.iter().filter(|port| number(port) != 0);
        let describe = |port: &ServicePort| DiscoveredGatewayPort {
            number: number(port),
            name: port.name.clone(),
            protocol: if port.protocol.is_empty() { "TCP".to_owned() } else { port.protocol.clone() },
        };
        ports.map(describe).collect()
    };
    let balancers = service.status.load_balancer.ingress.iter().map(|ingress| {
        // A load balancer with both is reached by its IP without a lookup.
        if ingress.ip.is_empty() { &ingress.hostname } else { &ingress.ip }
    });
    let hosts: BTreeSet<&String> =
        balancers.chain(&service.spec.external_ips).filter(|address| !address.is_empty()).collect();
    let at = |address: &String, ports| ExternalAddress { address: address.clone(), ports, locality: locality.cloned() };
    if !hosts.is_empty() {
        return hosts.into_iter().map(|address| at(address, ports(|port| port.port))).collect();
    }
    if service_type(service) != ServiceType::NodePort {
        return Vec::new();
    }
    let reachable = |node: &Node| {
        let of_type = |wanted: &str| {
            node.status
                .addresses
                .iter()
                .find(|address| address.address_type == wanted)
                .map(|found| found.address.clone())
        };
        of_type("ExternalIP").or_else(|| of_type("InternalIP"))
    };
    let addresses: BTreeSet<String> = nodes.iter().filter_map(|(_, node)| reachable(node)).collect();
    addresses.iter().map(|address| at(address, ports(|port| port.node_port))).collect()
}

/// The locality of a cluster's gateways: the region of its nodes, and their zone if it is the same for all.
fn locality(nodes: &[(&Object, Node)], settings: &Settings) -> Option<Locality> {
    let values = |labels: [&str; 2]| -> BTreeSet<String> {
        let value =
            |node: &Object| labels.iter().find_map(|label| node.labels().get(*label).map(|name| name.to_string()));
        nodes.iter().filter_map(|(node, _)| value(node)).collect()
    };
    let regions = values(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]);
    let zones = values(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]);
    let region = regions.into_iter().next().or_else(|| settings.region.clone())?;
    let zone = if zones.len() == 1 { zones.into_iter().next().unwrap_or_default() } else { String::new() };
    Some(Locality { region, zone, ..Locality::default() })
}
