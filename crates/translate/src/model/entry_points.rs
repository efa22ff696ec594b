//! Where traffic from other clusters enters a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::admin::EastWestGatewaySelector;
use meshrelay_api::internal::DiscoveredGatewaySpec;
use meshrelay_api::selectors::{ObjectSelector, PortSelector};
use meshrelay_snapshot::{Gvk, Name, ObjectKey};

use super::workspaces::{Owners, Workspace};
use crate::ResourceRef;
use crate::fingerprint::Shared;
use crate::input::kube::selects;
use crate::input::{ClusterInput, Input, Ours};
use crate::report::{Code, Notes, Severity};

/// The label of gateways that let in traffic from other clusters when no settings say which do.
const DEFAULT_LABEL: (&str, &str) = ("istio", "eastwestgateway");

/// Name of the port that passes TLS on by server name when no settings say which does.
const DEFAULT_PORT: &str = "tls";

/// A gateway through which traffic from other clusters enters.
#[derive(Clone, Debug, Hash)]
pub(crate) struct EntryPoint {
    /// The DiscoveredGateway.
    pub(crate) gateway: ResourceRef,
    /// Namespace and name of its Service.
    pub(crate) namespace: Name,
    pub(crate) service: Name,
    /// Labels of its pods.
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) port_name: String,
    /// Port on which the pods listen.
    pub(crate) bind_port: u32,
    /// That port in a Gateway's words.
    pub(crate) gateway_port: u32,
    /// How other clusters reach it.
    pub(crate) addresses: Vec<EntryAddress>,
}

/// An address of an entry point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryAddress {
    pub(crate) address: String,
    pub(crate) port: u32,
    pub(crate) region: String,
}

/// Entry points by cluster; clusters without any are absent.
pub(crate) type EntryPoints = Arc<BTreeMap<Name, Shared<Vec<EntryPoint>>>>;

/// The entry points that each workspace's settings select. Workspaces with the same settings share the result.
pub(super) fn resolve(
    clusters: &BTreeMap<Name, Arc<ClusterInput>>,
    owners: &Owners,
    workspaces: &BTreeMap<Name, Workspace>,
    notes: &mut Notes,
) -> BTreeMap<Name, EntryPoints> {
    let mut known: Vec<(&[EastWestGatewaySelector], EntryPoints)> = Vec::new();
    let mut counted: BTreeSet<&ResourceRef> = BTreeSet::new();
    let mut of_workspaces = BTreeMap::new();
    for workspace in workspaces.values() {
        let selectors = &workspace.settings.east_west_gateways;
        let found = known.iter().find(|(known, _)| known == selectors).map(|(_, points)| points.clone());
        let points = found.unwrap_or_else(|| {
            let source = workspace.settings.east_west_source.as_ref();
            let points = Arc::new(select_all(clusters, owners, selectors, source, notes));
            known.push((selectors, points.clone()));
            points
        });
        if let Some(source) = &workspace.settings.east_west_source
            && counted.insert(source)
        {
            notes.count(source, "numSelectedEastWestGateways", points.values().map(|points| points.len()).sum());
        }
        of_workspaces.insert(workspace.name.clone(), points);
    }
    of_workspaces
}

fn select_all(
    clusters: &BTreeMap<Name, Arc<ClusterInput>>,
    owners: &Owners,
    selectors: &[EastWestGatewaySelector],
    source: Option<&ResourceRef>,
    notes: &mut Notes,
) -> BTreeMap<Name, Shared<Vec<EntryPoint>>> {
    let by_label = [EastWestGatewaySelector {
        selector: Some(ObjectSelector {
            labels: [DEFAULT_LABEL].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..ObjectSelector::default()
        }),
        ..EastWestGatewaySelector::default()
    }];
    let selectors = if selectors.is_empty() { &by_label } else { selectors };
    let mut all = BTreeMap::new();
    // Without a mesh nothing behind the gateway could answer.
    for cluster in clusters.values().filter(|cluster| !cluster.meshes().is_empty()) {
        let mut points: BTreeMap<ResourceRef, EntryPoint> = BTreeMap::new();
        for gateway in cluster.gateways().values() {
            for selector in selectors.iter().filter(|selector| is_selected(selector, gateway, cluster, owners)) {
                let reference = gateway.reference(&cluster.name);
                match entry_point(selector, gateway, cluster) {
                    Ok(point) if point.addresses.is_empty() => {}
                    Ok(point) => {
                        points.entry(reference).or_insert(point);
                    }
                    Err(problem) => {
                        if let Some(source) = source {
                            notes.say(source, Severity::Warning, Code::GatewayPortMissing, problem);
                        }
                    }
                }
            }
        }
        if !points.is_empty() {
            all.insert(cluster.name.clone(), Shared::new(points.into_values().collect()));
        }
    }
    all
}

fn is_selected(
    selector: &EastWestGatewaySelector,
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    cluster: &ClusterInput,
    owners: &Owners,
) -> bool {
    let Some((namespace, name)) = service_of(gateway) else { return false };
    let Some(selector) = &selector.selector else { return true };
    let is = |wanted: &str, found: &str| wanted.is_empty() || found == wanted;
    let owner = owners.get(&cluster.name).and_then(|of_cluster| of_cluster.get(&namespace));
    let has_labels = || {
        let service = cluster.services().get(&(namespace.clone(), name.clone()));
        service.is_some_and(|service| selects(&selector.labels, service.object.labels()))
            || selector.labels.iter().all(|label| gateway.spec.workload_labels.get(label.0) == Some(label.1))
    };
    is(&selector.name, &name)
        && is(&selector.namespace, &namespace)
        && is(&selector.cluster, &cluster.name)
        && is(&selector.workspace, owner.map_or("", |owner| &owner.workspace))
        && has_labels()
}

/// Namespace and name of the Service of a gateway.
pub(crate) fn service_of(gateway: &Input<Ours<DiscoveredGatewaySpec>>) -> Option<(Name, Name)> {
    let service = gateway.spec.service.as_ref()?;
    Some((Name::from(&service.namespace), Name::from(&service.name)))
}

fn entry_point(
    selector: &EastWestGatewaySelector,
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    cluster: &ClusterInput,
) -> Result<EntryPoint, String> {
    let (namespace, name) = service_of(gateway).unwrap_or_default();
    let service = cluster.services().get(&(namespace.clone(), name.clone()));
    let wanted =
        selector.port.clone().unwrap_or_else(|| PortSelector { number: None, name: Some(DEFAULT_PORT.to_owned()) });
    let is_wanted = |number: u32, name: &str| {
        wanted.name.as_deref().is_none_or(|wanted| wanted == name)
            && wanted.number.is_none_or(|wanted| wanted == number)
    };
    let in_service = service.and_then(|service| {
        let port = service.spec.ports.iter().find(|port| is_wanted(port.port, &port.name))?;
        let bind_port = cluster.target_port(service, port).unwrap_or(port.port);
        Some((port.name.to_string(), port.port, bind_port, cluster.gateway_port(service, port, bind_port)))
    });
    // A gateway whose Service is not known still tells its ports.
    let outside = || {
        let ports = gateway.spec.external_addresses.iter().flat_map(|address| &address.ports);
        let mut ports = ports.filter(|port| is_wanted(port.number, &port.name));
        ports.next().map(|port| (port.name.clone(), port.number, port.number, port.number))
    };
    let Some((port_name, number, bind_port, gateway_port)) = in_service.or_else(outside) else {
        let wanted = wanted.name.unwrap_or_else(|| wanted.number.unwrap_or_default().to_string());
        return Err(format!(
            "expected port {wanted} at gateway {}/{namespace}/{name}, but its Service has none: add it or select \
             another port",
            cluster.name
        ));
    };
    let default_region = || cluster.region().to_string();
    let region_of = |locality: Option<&meshrelay_api::locality::Locality>| {
        locality
            .map(|locality| locality.region.clone())
            .filter(|region| !region.is_empty())
            .unwrap_or_else(default_region)
    };
    let mut addresses: Vec<EntryAddress> = if selector.host_info_overrides.is_empty() {
        let found = gateway.spec.external_addresses.iter().filter(|address| !address.address.is_empty());
        found
            .map(|address| {
                let port = address.ports.iter().find(|port| port.name == port_name);
                let port = port.map_or(number, |port| port.number);
                EntryAddress { address: address.address.clone(), port, region: region_of(address.locality.as_ref()) }
            })
            .collect()
    } else {
        let locality = gateway.spec.external_addresses.first().and_then(|address| address.locality.as_ref());
        let overrides = selector.host_info_overrides.iter();
        overrides
            .map(|host| EntryAddress { address: host.addr.clone(), port: host.port, region: region_of(locality) })
            .collect()
    };
    addresses.sort_unstable();
    addresses.dedup();
    let gateway_ref = gateway.reference(&cluster.name);
    let selector = gateway.spec.workload_labels.clone();
    Ok(EntryPoint {
        gateway: gateway_ref,
        namespace,
        service: name,
        selector,
        port_name,
        bind_port,
        gateway_port,
        addresses,
    })
}

impl EntryPoint {
    /// The Service of the gateway.
    pub(crate) fn service_ref(&self) -> ResourceRef {
        let key = ObjectKey::new(Gvk::new("", "v1", "Service"), self.namespace.clone(), self.service.clone());
        ResourceRef::new(&self.gateway.cluster, &key)
    }
}
