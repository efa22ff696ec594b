//! Where traffic from other clusters enters a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::admin::{EastWestGatewaySelector, HostInfo};
use meshrelay_api::client_mode::ClientMode;
use meshrelay_api::internal::DiscoveredGatewaySpec;
use meshrelay_api::locality::Locality;
use meshrelay_api::selectors::{ObjectSelector, PortSelector};
use meshrelay_snapshot::{Gvk, Name, ObjectKey};

use super::workspaces::{Owners, Workspace};
use crate::ResourceRef;
use crate::fingerprint::Shared;
use crate::hostname::is_address;
use crate::input::kube::{ServiceSpec, selects};
use crate::input::{ClusterInput, Input, Ours, Theirs};
use crate::report::{Code, Notes, Severity};

/// The label of gateways that let in traffic from other clusters when no settings say which do.
const DEFAULT_LABEL: (&str, &str) = ("istio", "eastwestgateway");

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
    /// Its ports for traffic from other clusters.
    pub(crate) ports: BTreeMap<Entry, EntryPort>,
    /// SPIFFE identities of its pods; empty if none is known.
    pub(crate) identities: BTreeSet<String>,
}

/// What becomes of the TLS that comes in from other clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entry {
    /// It is passed on, unread, by server name.
    PassedOn,
    /// It ends at the gateway.
    Ended,
}

impl Entry {
    /// The way in that a mode of clients asks for.
    pub(crate) fn of(mode: Option<&ClientMode>) -> Self {
        if mode.is_some_and(|mode| mode.tls_termination.is_some()) { Self::Ended } else { Self::PassedOn }
    }

    /// The port that is meant when settings name none.
    fn default_port(self) -> PortSelector {
        let name = match self {
            Self::PassedOn => "tls",
            Self::Ended => "https",
        };
        PortSelector { number: None, name: Some(name.to_owned()) }
    }
}

/// A port of an entry point.
#[derive(Clone, Debug, Hash)]
pub(crate) struct EntryPort {
    pub(crate) name: String,
    /// Port on which the pods listen.
    pub(crate) bind_port: u32,
    /// That port in a Gateway's words.
    pub(crate) gateway_port: u32,
    /// How other clusters reach it; never empty.
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
    if let Some(source) = source {
        for (index, selector) in selectors.iter().enumerate() {
            for problem in selector.host_info_overrides.iter().filter_map(override_problem) {
                let text =
                    format!("spec.options.eastWestGateways[{index}].hostInfoOverrides: {problem}: it is left out");
                notes.say(source, Severity::Invalid, Code::BadValue, text);
            }
        }
    }
    let selectors = if selectors.is_empty() { &by_label } else { selectors };
    let mut all = BTreeMap::new();
    // Without a mesh nothing behind the gateway could answer.
    for cluster in clusters.values().filter(|cluster| !cluster.meshes().is_empty()) {
        let mut points: BTreeMap<ResourceRef, EntryPoint> = BTreeMap::new();
        for gateway in cluster.gateways().values() {
            for selector in selectors.iter().filter(|selector| is_selected(selector, gateway, cluster, owners)) {
                let reference = gateway.reference(&cluster.name);
                match entry_point(selector, gateway, cluster) {
                    Ok(point) if point.ports.is_empty() => {}
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
    let wanted = [(Entry::PassedOn, &selector.port), (Entry::Ended, &selector.tls_termination_port)]
        .map(|(entry, port)| (entry, port.clone().unwrap_or_else(|| entry.default_port())));
    let found: BTreeMap<Entry, FoundPort> = wanted
        .iter()
        .filter_map(|(entry, wanted)| Some((*entry, find_port(wanted, gateway, cluster, service)?)))
        .collect();
    if found.is_empty() {
        let [passed_on, ended] = wanted.map(|(_, port)| {
            port.name.unwrap_or_else(|| port.number.map(|number| number.to_string()).unwrap_or_default())
        });
        return Err(format!(
            "expected port {passed_on} or {ended} at gateway {}/{namespace}/{name}, but its Service has neither: add \
             one or select other ports",
            cluster.name
        ));
    }
    // An override has one port, so it can stand for one way in only.
    let overridden = found.keys().next().copied().filter(|_| !selector.host_info_overrides.is_empty());
    let ports = found.into_iter().filter_map(|(entry, port)| {
        let mut addresses = if overridden == Some(entry) {
            overrides(selector, gateway, cluster)
        } else {
            discovered(&port, gateway, cluster)
        };
        addresses.sort_unstable();
        addresses.dedup();
        let FoundPort { name, bind_port, gateway_port, .. } = port;
        (!addresses.is_empty()).then_some((entry, EntryPort { name, bind_port, gateway_port, addresses }))
    });
    Ok(EntryPoint {
        gateway: gateway.reference(&cluster.name),
        ports: ports.collect(),
        identities: identities(gateway, cluster, service, &namespace),
        namespace,
        service: name,
        selector: gateway.spec.workload_labels.clone(),
    })
}

type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// A port of a gateway's Service.
struct FoundPort {
    name: String,
    number: u32,
    bind_port: u32,
    gateway_port: u32,
}

fn find_port(
    wanted: &PortSelector,
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    cluster: &ClusterInput,
    service: Option<&Service>,
) -> Option<FoundPort> {
    let is_wanted = |number: u32, name: &str| {
        wanted.name.as_deref().is_none_or(|wanted| wanted == name)
            && wanted.number.is_none_or(|wanted| wanted == number)
    };
    let in_service = service.and_then(|service| {
        let port = service.spec.ports.iter().find(|port| is_wanted(port.port, &port.name))?;
        let bind_port = cluster.target_port(service, port).unwrap_or(port.port);
        let gateway_port = cluster.gateway_port(service, port, bind_port);
        Some(FoundPort { name: port.name.to_string(), number: port.port, bind_port, gateway_port })
    });
    // A gateway whose Service is not known still tells its ports.
    in_service.or_else(|| {
        let mut ports = gateway.spec.external_addresses.iter().flat_map(|address| &address.ports);
        let port = ports.find(|port| is_wanted(port.number, &port.name))?;
        let number = port.number;
        Some(FoundPort { name: port.name.clone(), number, bind_port: number, gateway_port: number })
    })
}

/// The addresses that the gateway was found to have.
fn discovered(
    port: &FoundPort,
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    cluster: &ClusterInput,
) -> Vec<EntryAddress> {
    let found = gateway.spec.external_addresses.iter().filter(|address| is_address(&plain(&address.address)));
    let found = found.map(|address| {
        let at_address = address.ports.iter().find(|known| known.name == port.name);
        EntryAddress {
            address: plain(&address.address),
            port: at_address.map_or(port.number, |port| port.number),
            region: region(address.locality.as_ref(), cluster),
        }
    });
    found.collect()
}

/// The addresses that settings put in the place of those.
fn overrides(
    selector: &EastWestGatewaySelector,
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    cluster: &ClusterInput,
) -> Vec<EntryAddress> {
    let locality = gateway.spec.external_addresses.first().and_then(|address| address.locality.as_ref());
    let hosts = selector.host_info_overrides.iter().filter(|host| override_problem(host).is_none());
    let hosts = hosts.map(|host| EntryAddress {
        address: plain(&host.addr),
        port: host.port,
        region: region(locality, cluster),
    });
    hosts.collect()
}

/// Why an override cannot be used: Istio would refuse every entry with it.
fn override_problem(host: &HostInfo) -> Option<String> {
    let is_good = is_address(&plain(&host.addr)) && (1..=65535).contains(&host.port);
    (!is_good)
        .then(|| format!("expected an IP address or a host name and a port, found {:?} and {}", host.addr, host.port))
}

/// Istio wants IPv6 addresses without the brackets that they have in URLs.
fn plain(address: &str) -> String {
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address).to_owned()
}

fn region(locality: Option<&Locality>, cluster: &ClusterInput) -> String {
    let told = locality.map(|locality| locality.region.clone()).filter(|region| !region.is_empty());
    told.unwrap_or_else(|| cluster.region().to_string())
}

/// The identities of a gateway's pods: those that its agent found, else those of the workloads that are known.
fn identities(
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    cluster: &ClusterInput,
    service: Option<&Service>,
    namespace: &Name,
) -> BTreeSet<String> {
    let Some(trust_domain) = cluster.trust_domain(namespace) else { return BTreeSet::new() };
    let accounts = gateway.spec.service_account_refs.iter().filter(|account| !account.name.is_empty());
    let accounts: BTreeSet<String> = accounts
        .map(|account| {
            let namespace = if account.namespace.is_empty() { namespace.as_str() } else { &account.namespace };
            format!("spiffe://{trust_domain}/ns/{namespace}/sa/{}", account.name)
        })
        .collect();
    let of_workloads = || service.map(|service| cluster.identities(service).0).unwrap_or_default();
    if accounts.is_empty() { of_workloads() } else { accounts }
}

impl EntryPoint {
    /// The Service of the gateway.
    pub(crate) fn service_ref(&self) -> ResourceRef {
        let key = ObjectKey::new(Gvk::new("", "v1", "Service"), self.namespace.clone(), self.service.clone());
        ResourceRef::new(&self.gateway.cluster, &key)
    }
}
