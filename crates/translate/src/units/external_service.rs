//! Services outside the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use meshrelay_api::istio::service_entry::{Resolution, ServicePort};
use meshrelay_api::istio::{ServiceEntry, WorkloadEntry};
use meshrelay_api::networking::{ExternalEndpointSpec, ExternalServicePort, ExternalServiceSpec};
use meshrelay_snapshot::{ContentHash, Name};

use crate::fingerprint::fingerprint;
use crate::hostname::{self, Allowed};
use crate::input::kube::selects;
use crate::input::{ClusterInput, Input, Ours};
use crate::model::{Model, Shareable, Viewer, Workspace};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::{Taken, taking};
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::egress;
use crate::units::protocol::protocol;
use crate::{ContextId, ResourceRef};

/// An ExternalService with the endpoints behind it and the workspaces that see it.
#[derive(Debug, Hash)]
pub(crate) struct ExternalService {
    pub(crate) parent: ResourceRef,
    pub(crate) service: Arc<Input<Ours<ExternalServiceSpec>>>,
    endpoints: Vec<(ResourceRef, Arc<Input<Ours<ExternalEndpointSpec>>>)>,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) sources: Vec<ResourceRef>,
    /// What else told who sees it.
    pub(crate) taken: Taken,
}

/// The ExternalServices of a cluster that count.
pub(crate) fn list(model: &Model, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
    model.counting(&cluster.name, cluster.external_services().values())
}

/// One ExternalService.
pub(crate) fn resolve(model: &Model, parent: &ResourceRef, notes: &mut Notes) -> Option<ExternalService> {
    let cluster = &parent.cluster;
    let service = model.clusters.get(cluster)?.external_services().get(&parent.place())?;
    let owner = model.config_owner(cluster, service.namespace())?;
    let endpoints = endpoints(model, owner, service);
    notes.count(parent, "numSelectedExternalEndpoints", endpoints.len());
    let (viewers, taken) = taking(|| model.viewers(Shareable::ExternalService, cluster, service, owner));
    let sources = model.sources(&owner.name).cloned().collect();
    let (parent, service) = (parent.clone(), Arc::clone(service));
    let service = ExternalService { parent, service, endpoints, viewers, sources, taken };
    service.is_usable(notes).then_some(service)
}

/// The ExternalEndpoints of the same workspace that a service selects.
pub(crate) fn endpoints(
    model: &Model,
    owner: &Workspace,
    service: &Input<Ours<ExternalServiceSpec>>,
) -> Vec<(ResourceRef, Arc<Input<Ours<ExternalEndpointSpec>>>)> {
    let selector = &service.spec.selector;
    if selector.is_empty() {
        return Vec::new();
    }
    let mut selected = Vec::new();
    for (cluster, input) in &model.clusters {
        for endpoint in input.external_endpoints().values() {
            let is_own =
                model.config_owner(cluster, endpoint.namespace()).is_some_and(|other| other.name == owner.name);
            if is_own && selects(selector, endpoint.object.labels()) {
                selected.push((endpoint.reference(cluster), Arc::clone(endpoint)));
            }
        }
    }
    selected
}

/// Where an endpoint is, in Istio's form.
pub(crate) fn locality(endpoint: &ExternalEndpointSpec) -> Option<String> {
    let parts = endpoint.locality.iter().flat_map(|place| [&place.region, &place.zone, &place.sub_zone]);
    let parts: Vec<&str> = parts.map(String::as_str).take_while(|part| !part.is_empty()).collect();
    Some(parts.join("/")).filter(|locality| !locality.is_empty())
}

/// The port of an endpoint that a port of a service leads to: the one of its name, or the only one.
pub(crate) fn endpoint_port(port: &ExternalServicePort, is_only: bool, endpoint: &ExternalEndpointSpec) -> Option<u32> {
    let wanted = port.target_port.as_ref().and_then(|target| target.name.as_deref()).unwrap_or(&port.name);
    let is_only = is_only && endpoint.ports.len() == 1;
    Some(endpoint.ports.iter().find(|found| found.name == wanted || is_only)?.number)
}

/// The name of a port in Istio's form; where the user gives none, or one that Istio would take for another port's, it
/// follows from protocol and number.
fn port_name(port: &ExternalServicePort, all: &[(&ExternalServicePort, &'static str)]) -> String {
    let derived = |port: &ExternalServicePort| names::sanitize(&format!("{}-{}", port.protocol, port.number));
    let own = names::sanitize(&port.name);
    let mut others = all.iter().map(|(other, _)| other).filter(|other| other.number != port.number);
    let is_taken = others.any(|other| names::sanitize(&other.name) == own || derived(other) == own);
    if own.is_empty() || is_taken { derived(port) } else { own }
}

fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

impl ExternalService {
    /// The hosts that routes can lead to.
    pub(crate) fn hosts(service: &ExternalServiceSpec, parent: &ResourceRef) -> Vec<String> {
        if service.hosts.is_empty() && !service.addresses.is_empty() {
            // Istio wants a host even where addresses alone tell the traffic.
            return vec![format!("{}.{}.external", parent.key.name, parent.key.namespace)];
        }
        let good = service.hosts.iter().filter(|host| hostname::problem(host, Allowed::Wildcard).is_none());
        good.cloned().collect()
    }

    /// The ports that Istio takes: with a number, a protocol that it knows, and one entry per number.
    fn ports(&self) -> Vec<(&ExternalServicePort, &'static str)> {
        let mut ports: Vec<(&ExternalServicePort, &'static str)> = Vec::new();
        for port in &self.service.spec.ports {
            let is_free = ports.iter().all(|(other, _)| other.number != port.number);
            if let Ok(protocol) = protocol(&port.protocol)
                && is_free
                && (1..=65535).contains(&port.number)
            {
                ports.push((port, protocol));
            }
        }
        ports
    }

    fn note_ports(&self, notes: &mut Notes) {
        let usable = self.ports();
        for (index, port) in self.service.spec.ports.iter().enumerate() {
            if !usable.iter().any(|(other, _)| std::ptr::eq(*other, port)) {
                let problem = protocol(&port.protocol)
                    .err()
                    .unwrap_or_else(|| format!("expected one entry per number from 1 to 65535, found {}", port.number));
                let text = format!("spec.ports[{index}]: {problem}: it is left out");
                notes.say(&self.parent, Severity::Invalid, Code::BadValue, text);
            }
        }
    }

    fn is_usable(&self, notes: &mut Notes) -> bool {
        let spec = &self.service.spec;
        let parent = &self.parent;
        if spec.hosts.is_empty() == spec.addresses.is_empty() {
            let found = if spec.hosts.is_empty() { "neither" } else { "both" };
            let text = format!("expected either spec.hosts or spec.addresses, found {found}: no effect");
            notes.say(parent, Severity::Invalid, Code::Missing, text);
            return false;
        }
        for problem in spec.hosts.iter().filter_map(|host| hostname::problem(host, Allowed::Wildcard)) {
            let text = format!("spec.hosts: {problem}: it is left out");
            notes.say(parent, Severity::Invalid, Code::BadValue, text);
        }
        if Self::hosts(spec, parent).is_empty() {
            return false;
        }
        self.note_ports(notes);
        if self.ports().is_empty() {
            notes.say(
                parent,
                Severity::Invalid,
                Code::Missing,
                "spec.ports: expected at least one, found none: no effect",
            );
            return false;
        }
        if !spec.selector.is_empty() && self.endpoints.is_empty() {
            let text = "expected ExternalEndpoints with the labels of spec.selector in the same workspace, found none";
            notes.say(parent, Severity::Warning, Code::NoEndpoint, text);
        }
        for (index, port) in spec.ports.iter().enumerate() {
            if let Some(target) = &port.target_port
                && self.endpoints.is_empty()
                && target.name.is_some()
            {
                let text = format!("spec.ports[{index}].targetPort: expected a number, because there are no endpoints");
                notes.say(parent, Severity::Warning, Code::BadValue, text);
            }
        }
        true
    }

    fn service_entry(&self) -> ServiceEntry {
        let spec = &self.service.spec;
        let usable = self.ports();
        let port = |(port, protocol): &(&ExternalServicePort, &'static str)| ServicePort {
            name: port_name(port, &usable),
            number: port.number,
            protocol: Some((*protocol).to_owned()),
            target_port: port
                .target_port
                .as_ref()
                .and_then(|target| target.number)
                .filter(|target| *target != port.number),
        };
        let mut ports: Vec<ServicePort> = usable.iter().map(port).collect();
        // Sidecars catch what leaves through gateways at ports that the service itself need not have.
        for caught in egress::caught_ports(spec) {
            if ports.iter().any(|known| known.number == caught) {
                continue;
            }
            let mut name = format!("egress-{caught}");
            while ports.iter().any(|known| known.name == name) {
                name.push_str("-x");
            }
            let protocol = Some("HTTP".to_owned());
            ports.push(ServicePort { name, number: caught, protocol, target_port: None });
        }
        ServiceEntry {
            addresses: spec.addresses.clone(),
            endpoints: self.endpoints.iter().map(|(_, endpoint)| self.endpoint(endpoint)).collect(),
            export_to: vec![".".to_owned()],
            hosts: Self::hosts(spec, &self.parent),
            ports,
            resolution: Some(self.resolution()),
            subject_alt_names: spec.subject_alt_names.clone(),
            ..ServiceEntry::default()
        }
    }

    fn resolution(&self) -> Resolution {
        let is_address = |address: &str| address.starts_with("unix://") || address.parse::<IpAddr>().is_ok();
        let spec = &self.service.spec;
        if !self.endpoints.is_empty() {
            let all = self.endpoints.iter().all(|(_, endpoint)| is_address(&endpoint.spec.address));
            if all { Resolution::Static } else { Resolution::Dns }
        } else if spec.hosts.is_empty() || Self::hosts(spec, &self.parent).iter().any(|host| is_wildcard(host)) {
            // Nobody can look up a range or a wildcard: traffic goes where the client wanted it to go.
            Resolution::None
        } else {
            Resolution::Dns
        }
    }

    fn endpoint(&self, endpoint: &Input<Ours<ExternalEndpointSpec>>) -> WorkloadEntry {
        let spec = &endpoint.spec;
        let own = self.ports();
        let port = |(port, _): &(&ExternalServicePort, &'static str)| {
            Some((port_name(port, &own), endpoint_port(port, own.len() == 1, spec)?))
        };
        let is_socket = spec.address.starts_with("unix://");
        let labels = endpoint.object.labels().iter();
        WorkloadEntry {
            address: Some(spec.address.clone()),
            labels: labels.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            locality: locality(spec),
            // A socket has no ports.
            ports: if is_socket { BTreeMap::new() } else { own.iter().filter_map(port).collect() },
            ..WorkloadEntry::default()
        }
    }

    /// The ports that are not left out.
    pub(crate) fn usable_ports(&self) -> impl Iterator<Item = &ExternalServicePort> {
        self.ports().into_iter().map(|(port, _)| port)
    }

    /// Numbers of the ports at which it asks for TLS, and their positions.
    pub(crate) fn tls_ports(&self) -> impl Iterator<Item = (u32, usize)> {
        let ports = self.service.spec.ports.iter().enumerate();
        let usable = self.ports();
        ports.filter_map(move |(index, port)| {
            let is_usable = usable.iter().any(|(usable, _)| std::ptr::eq(*usable, port));
            (is_usable && port.clientside_tls.is_some()).then_some((port.number, index))
        })
    }
}

impl ParentInput for ExternalService {
    fn id(&self) -> BatchId {
        (UnitKind::ExternalService, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::ExternalService, &self.parent);
        let parents = self.sources.iter().chain([&self.parent]);
        let shapers: Shapers = parents.chain(self.endpoints.iter().map(|(endpoint, _)| endpoint)).collect();
        let entry = Body::new(&self.service_entry(), shapers).reading([&self.taken]);
        let ResourceRef { cluster, key } = &self.parent;
        let base = format!("externalservice-{}-{}-{cluster}", key.name, key.namespace);
        for viewer in &self.viewers {
            let entry = entry.clone().reading([&viewer.reads]);
            for (cluster, namespaces) in viewer.contexts.iter() {
                for namespace in namespaces {
                    let context = ContextId {
                        cluster: Name::clone(cluster),
                        namespace: namespace.clone(),
                        workspace: viewer.workspace.clone(),
                    };
                    let name = names::sanitize(&format!("{base}-{}", viewer.workspace));
                    emission.emit(&context, &name, &entry, Extra::default());
                }
            }
        }
        emission.finish()
    }
}
