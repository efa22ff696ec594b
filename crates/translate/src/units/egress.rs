//! Traffic to services outside of the mesh that leaves through gateways.
//!
//! Sidecars send what is meant for such a host at one port to a gateway in their cluster, and the gateway sends it on.
//! Where no gateway can be used, requests are answered with status 500: what should leave through a gateway does not
//! leave past it. How sidecars talk to the gateways is part of the rules for the gateways' Services, see
//! [`destination_rule`](super::destination_rule).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::VirtualService;
use meshrelay_api::istio::virtual_service::{
    Destination, HttpDirectResponse, HttpMatchRequest, HttpRoute, HttpRouteDestination, PortSelector,
};
use meshrelay_api::networking::{ExternalServicePort, ExternalServiceSpec, Listener, TlsMode};
use meshrelay_api::references::ObjectReference;
use meshrelay_snapshot::{ContentHash, Gvk, Name, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::engine::Stage;
use crate::fingerprint::fingerprint;
use crate::hostname::{self, Allowed};
use crate::input::{ClusterInput, Input, Ours};
use crate::model::{Model, Shareable, Viewer};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::Subject;
use crate::reads::{Taken, kinds, take_all, taking, together};
use crate::report::{Code, Finding, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::virtual_gateway::VirtualGateway;
use crate::{ContextId, ResourceRef};

/// Port on which sidecars catch traffic when an ExternalService names none.
const DEFAULT_PORT: u32 = 80;

/// Protocols whose requests a gateway can read and send on.
const PROTOCOLS: [&str; 3] = ["HTTP", "HTTP2", "HTTPS"];

/// An ExternalService whose traffic leaves through gateways.
#[derive(Debug, Hash)]
pub(crate) struct Egress {
    pub(crate) parent: ResourceRef,
    /// By host, then by the port at which sidecars catch its traffic.
    hosts: BTreeMap<String, BTreeMap<u32, Exit>>,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) sources: Vec<ResourceRef>,
    /// What else told who sees the service.
    taken: Taken,
}

/// How traffic leaves.
#[derive(Clone, Debug, Hash)]
struct Exit {
    /// Port of the service.
    port: u32,
    /// The gateways of each cluster.
    doors: BTreeMap<Name, Vec<Door>>,
}

/// A listener of a gateway that traffic leaves by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Door {
    context: ContextId,
    pub(crate) gateway: ResourceRef,
    pub(crate) service: ResourceRef,
    /// Name of the Istio Gateway.
    istio_gateway: String,
    /// The gateway's Service for sidecars, and its port.
    host: String,
    port: u32,
    /// Whether the gateway wants mutual TLS.
    pub(crate) is_mutual: bool,
}

/// The ports that sidecars catch instead of those of the service.
pub(crate) fn caught_ports(spec: &ExternalServiceSpec) -> BTreeSet<u32> {
    spec.ports.iter().filter_map(caught_port).collect()
}

fn caught_port(port: &ExternalServicePort) -> Option<u32> {
    let routes = port.egress_gateway_routes.as_ref()?;
    Some(if routes.port_match == 0 { DEFAULT_PORT } else { routes.port_match }).filter(|port| *port <= 65535)
}

/// The ExternalServices of a cluster whose traffic leaves through gateways.
pub(crate) fn list(model: &Model, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
    let services = cluster.external_services();
    let services = services.values().filter(|service| !caught_ports(&service.spec).is_empty());
    model.counting(&cluster.name, services)
}

/// One of them.
pub(crate) fn resolve(
    model: &Model,
    gateways: &Stage<VirtualGateway>,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Option<Egress> {
    let cluster = &parent.cluster;
    let service = model.clusters.get(cluster)?.external_services().get(&parent.place())?;
    let owner = model.config_owner(cluster, service.namespace())?;
    let (viewers, told) = taking(|| model.viewers(Shareable::ExternalService, cluster, service, owner));
    let spec = &service.spec;
    let mut hosts: BTreeMap<String, BTreeMap<u32, Exit>> = BTreeMap::new();
    let mut used: BTreeSet<ResourceRef> = BTreeSet::new();
    let mut taken: BTreeSet<(ContextId, String, String)> = BTreeSet::new();
    let view = View { model, gateways, parent, service, workspace: &owner.name, viewers: &viewers };
    let known = spec.hosts.iter().filter(|host| hostname::problem(host, Allowed::Wildcard).is_none());
    for host in known {
        for (index, port) in spec.ports.iter().enumerate() {
            let Some(caught) = caught_port(port) else { continue };
            let place = format!("spec.ports[{index}].egressGatewayRoutes");
            let exits = hosts.entry(host.clone()).or_default();
            if exits.contains_key(&caught) {
                let text =
                    format!("{place}.portMatch: expected a port of its own, but an earlier port has {caught} too");
                notes.say(parent, Severity::Invalid, Code::BadValue, text);
                continue;
            }
            let mut doors = match view.doors(host, port) {
                Ok(doors) => doors,
                Err((code, problem)) => {
                    notes.say(parent, Severity::Invalid, code, format!("{place}: {problem}"));
                    Vec::new()
                }
            };
            for problem in view.problems(host, port) {
                notes.say(parent, Severity::Warning, Code::EgressClosed, format!("{place}: {problem}"));
            }
            // What comes to a listener for a host can be sent on to one port only.
            doors.retain(|door| taken.insert((door.context.clone(), door.istio_gateway.clone(), host.clone())));
            let mut exit = Exit { port: port.number, doors: BTreeMap::new() };
            for door in doors {
                used.insert(door.gateway.clone());
                exit.doors.entry(door.context.cluster.clone()).or_default().push(door);
            }
            let seeing: BTreeSet<&Name> = viewers.iter().flat_map(|viewer| viewer.contexts.keys()).collect();
            let closed: Vec<&str> =
                seeing.into_iter().filter(|at| !exit.doors.contains_key(*at)).map(Name::as_str).collect();
            if !closed.is_empty() {
                let text = format!(
                    "{place}: no gateway can be used from {}: requests to {host} at port {caught} are answered with \
                     status 500 there",
                    closed.join(", ")
                );
                notes.say(parent, Severity::Failed, Code::EgressClosed, text);
            }
            exits.insert(caught, exit);
        }
    }
    notes.count(parent, "numSelectedVirtualGateways", used.len());
    for gateway in &used {
        notes.count(gateway, "externalServicesCount", 1);
    }
    let sources = model.sources(&owner.name).cloned().collect();
    (!hosts.is_empty()).then(|| Egress { parent: parent.clone(), hosts, viewers, sources, taken: told })
}

/// From where gateways are looked at.
struct View<'a> {
    model: &'a Model,
    gateways: &'a Stage<VirtualGateway>,
    parent: &'a ResourceRef,
    service: &'a Input<Ours<ExternalServiceSpec>>,
    /// The workspace that owns the service.
    workspace: &'a Name,
    viewers: &'a [Viewer],
}

impl View<'_> {
    fn references<'p>(&self, port: &'p ExternalServicePort) -> impl Iterator<Item = ResourceRef> + use<'_, 'p> {
        let references = port.egress_gateway_routes.iter().flat_map(|routes| &routes.virtual_gateway_refs);
        references.map(|reference| self.complete(reference))
    }

    /// What is left out of a reference is that of the service.
    fn complete(&self, reference: &ObjectReference) -> ResourceRef {
        let or = |text: &str, default: &Name| if text.is_empty() { default.clone() } else { Name::from(text) };
        let namespace = or(&reference.namespace, &self.parent.key.namespace);
        let gvk = Gvk::new("networking.gloo.solo.io", "v2", "VirtualGateway");
        let cluster = or(&reference.cluster, &self.parent.cluster);
        ResourceRef::new(&cluster, &ObjectKey::new(gvk, namespace, reference.name.as_str()))
    }

    /// What is wrong with references.
    fn problems(&self, host: &str, port: &ExternalServicePort) -> Vec<String> {
        let problem = |reference: ResourceRef| match self.gateways.get(&reference) {
            None => Some(format!("{reference} does not exist")),
            Some(gateway) if self.doors_of(gateway, host).is_empty() => Some(format!(
                "{reference} does not serve host {host}: it needs a listener for HTTP or HTTPS, without TLS or with \
                 mode ISTIO_MUTUAL, that exposes the service, and a workspace that sees it"
            )),
            Some(_) => None,
        };
        self.references(port).filter_map(problem).collect()
    }

    /// The listeners by which traffic for a host can leave.
    fn doors(&self, host: &str, port: &ExternalServicePort) -> Result<Vec<Door>, Finding> {
        if host.starts_with('*') {
            return Err((Code::BadValue, format!("expected full host names, found {host}")));
        }
        if !PROTOCOLS.contains(&port.protocol.to_uppercase().as_str()) {
            return Err((Code::BadValue, format!("expected protocol HTTP, HTTP2 or HTTPS, found {}", port.protocol)));
        }
        let mut doors: Vec<Door> = Vec::new();
        for reference in self.references(port) {
            let Some(gateway) = self.gateways.get(&reference) else { continue };
            for door in self.doors_of(gateway, host) {
                if !doors.contains(&door) {
                    doors.push(door);
                }
            }
        }
        Ok(doors)
    }

    /// The listeners of a gateway that let a host out, one of each of its Services.
    fn doors_of(&self, gateway: &VirtualGateway, host: &str) -> Vec<Door> {
        let sees = |context: &ContextId| self.viewers.iter().any(|viewer| viewer.workspace == context.workspace);
        let sites = gateway.sites.iter().filter(|site| sees(&site.context));
        let doors = sites.filter_map(|site| {
            site.ports.iter().find_map(|port| {
                let listeners =
                    port.listeners.iter().filter(|(_, hosts)| hosts.iter().any(|known| covers(known, host)));
                let mut listeners = listeners.filter_map(|(index, _)| gateway.gateway.spec.listeners.get(*index));
                let listener = listeners.find(|listener| is_way_out(listener) && self.is_exposed(listener, host))?;
                let wanted = listener.port.as_ref().and_then(|port| port.number);
                let is_port = |(number, target): &(&u32, &u32)| match wanted {
                    Some(wanted) => **number == wanted,
                    None => **target == port.number || **number == port.number,
                };
                let service_port = site.service_ports.iter().find(is_port).map(|(number, _)| *number)?;
                let key = &site.service.key;
                let domain = self.model.domain(&site.context.cluster);
                Some(Door {
                    context: site.context.clone(),
                    gateway: gateway.parent.clone(),
                    service: site.service.clone(),
                    istio_gateway: port.name.clone(),
                    host: format!("{}.{}.svc.{domain}", key.name, key.namespace),
                    port: service_port,
                    is_mutual: listener.tls.is_some(),
                })
            })
        });
        doors.collect()
    }

    /// Whether a listener exposes the service at a host.
    fn is_exposed(&self, listener: &Listener, host: &str) -> bool {
        let key = &self.parent.key;
        let subject = Subject {
            cluster: &self.parent.cluster,
            namespace: &key.namespace,
            name: &key.name,
            workspace: self.workspace,
            labels: self.service.object.labels(),
        };
        listener.exposed_external_services.is_empty()
            || listener.exposed_external_services.iter().any(|filter| {
                let pattern = filter.host.rsplit_once('/').map_or(filter.host.as_str(), |(_, pattern)| pattern);
                covers(pattern, host) && filter.selector.as_ref().is_none_or(|selector| subject.is_selected(selector))
            })
    }
}

/// Whether a listener reads requests and is one that sidecars can talk to.
fn is_way_out(listener: &Listener) -> bool {
    let is_open = listener.tls.as_ref().is_none_or(|tls| tls.mode == TlsMode::IstioMutual);
    let reads_requests = listener.http.is_some() || PROTOCOLS.contains(&listener.app_protocol.to_uppercase().as_str());
    is_open && reads_requests && listener.https_redirect != Some(true)
}

fn covers(pattern: &str, host: &str) -> bool {
    pattern.is_empty() || pattern.strip_prefix('*').map_or(pattern == host, |suffix| host.ends_with(suffix))
}

impl ParentInput for Egress {
    fn id(&self) -> BatchId {
        (UnitKind::Egress, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::Egress, &self.parent);
        for (host, exits) in &self.hosts {
            for viewer in &self.viewers {
                for (cluster, namespaces) in viewer.contexts.iter() {
                    self.emit_for_clients(host, exits, cluster, (viewer, namespaces), &mut emission);
                }
            }
            let doors = exits.values().flat_map(|exit| exit.doors.values().flatten().map(|door| (exit.port, door)));
            for (port, door) in doors {
                let spec = VirtualService {
                    export_to: vec![".".to_owned()],
                    gateways: vec![door.istio_gateway.clone()],
                    hosts: vec![host.clone()],
                    http: vec![HttpRoute { route: vec![to(host, None, port, None)], ..HttpRoute::default() }],
                    ..VirtualService::default()
                };
                let body = Body::new(&spec, self.shapers().with([&door.gateway, &door.service]));
                let body = body.reading([&self.taken_by(door)]);
                let name = self.object_name("gateway", &[host, &door.istio_gateway]);
                emission.emit(&door.context, &name, &body, Extra::default());
            }
        }
        emission.finish()
    }
}

/// A gateway as the routes of tables name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WayOut {
    pub(crate) host: String,
    pub(crate) port: u32,
    pub(crate) subset: String,
}

impl Egress {
    /// By which gateway of a cluster requests to a port of the service leave.
    pub(crate) fn way_out(&self, host: &str, port: u32, cluster: &Name) -> Option<WayOut> {
        let exit = self.hosts.get(host)?.values().find(|exit| exit.port == port)?;
        let door = exit.doors.get(cluster)?.first()?;
        take_all(&self.taken_by(door));
        Some(WayOut { host: door.host.clone(), port: door.port, subset: door.subset(host) })
    }

    /// The hosts with the listeners that traffic to them leaves by.
    pub(crate) fn doors(&self) -> impl Iterator<Item = (&str, &Door)> {
        self.hosts.iter().flat_map(|(host, exits)| {
            let doors = exits.values().flat_map(|exit| exit.doors.values().flatten());
            doors.map(move |door| (host.as_str(), door))
        })
    }

    fn shapers(&self) -> Shapers {
        self.sources.iter().chain([&self.parent]).collect()
    }

    /// What told that a door can be used.
    pub(crate) fn taken_by(&self, door: &Door) -> Taken {
        let used = kinds(self.sources.iter().chain([&self.parent, &door.gateway, &door.service]));
        let seeing = self.viewers.iter().filter(|viewer| viewer.workspace == door.context.workspace);
        together(seeing.map(|viewer| &viewer.reads).chain([&used, &self.taken]))
    }

    fn object_name(&self, role: &str, identity: &[&str]) -> String {
        let ResourceRef { cluster, key } = &self.parent;
        let mut parts = vec!["Egress", role, &key.name, &key.namespace, cluster];
        parts.extend(identity);
        names::identified(&format!("externalservice-{}-{}-{cluster}-egress", key.name, key.namespace), &parts)
    }

    /// Where sidecars of a cluster send requests.
    fn emit_for_clients(
        &self,
        host: &str,
        exits: &BTreeMap<u32, Exit>,
        cluster: &Name,
        (viewer, namespaces): (&Viewer, &BTreeSet<Name>),
        emission: &mut Emission<'_>,
    ) {
        let mut shapers = self.shapers();
        let mut taken = vec![Arc::clone(&self.taken), Arc::clone(&viewer.reads)];
        let mut spec = VirtualService {
            export_to: vec![".".to_owned()],
            gateways: vec!["mesh".to_owned()],
            hosts: vec![host.to_owned()],
            ..VirtualService::default()
        };
        for (caught, exit) in exits {
            let doors = exit.doors.get(cluster).map(Vec::as_slice).unwrap_or_default();
            let is_caught = HttpMatchRequest { port: Some(*caught), ..HttpMatchRequest::default() };
            let mut route = HttpRoute { r#match: vec![is_caught], ..HttpRoute::default() };
            for (place, door) in doors.iter().enumerate() {
                let weight = (doors.len() > 1).then(|| share(place, doors.len()));
                route.route.push(to(&door.host, Some(door.subset(host)), door.port, weight));
            }
            if doors.is_empty() {
                route.direct_response = Some(HttpDirectResponse { status: 500, body: None });
            }
            shapers = shapers.with(doors.iter().flat_map(|door| [&door.gateway, &door.service]));
            taken.extend(doors.iter().map(|door| self.taken_by(door)));
            spec.http.push(route);
        }
        let routes = Body::new(&spec, shapers).reading(&taken);
        for namespace in namespaces {
            let context = ContextId {
                cluster: cluster.clone(),
                namespace: namespace.clone(),
                workspace: viewer.workspace.clone(),
            };
            emission.emit(&context, &self.object_name("mesh", &[host]), &routes, Extra::default());
        }
    }
}

impl Door {
    /// Name of the subset of the gateway's Service for a host: each host has its own, since TLS differs.
    pub(crate) fn subset(&self, host: &str) -> String {
        let (port, mode) = (self.port.to_string(), if self.is_mutual { "mutual" } else { "plain" });
        names::identified(&format!("egress-{host}-{port}"), &["Egress", "subset", host, &port, mode])
    }
}

/// Percents out of 100 for one of several; the first ones take what does not divide evenly.
fn share(place: usize, all: usize) -> i32 {
    i32::try_from(100 / all + usize::from(place < 100 % all)).unwrap_or_default()
}

fn to(host: &str, subset: Option<String>, port: u32, weight: Option<i32>) -> HttpRouteDestination {
    let port = Some(PortSelector { number: Some(port) });
    HttpRouteDestination { destination: Destination { host: host.to_owned(), port, subset }, weight, headers: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for all in 1..=7 {
            assert_eq!((0..all).map(|place| share(place, all)).sum::<i32>(), 100);
        }
    }

    #[test]
    fn hosts_that_look_alike_have_subsets_of_their_own() {
        let service = ResourceRef::new(&"c".into(), &ObjectKey::new(Gvk::new("", "v1", "Service"), "n", "s"));
        let door = Door {
            context: ContextId { cluster: "c".into(), namespace: "n".into(), workspace: "w".into() },
            gateway: service.clone(),
            service,
            istio_gateway: String::new(),
            host: "s.n.svc.cluster.local".to_owned(),
            port: 80,
            is_mutual: false,
        };
        let mutual = Door { is_mutual: true, ..door.clone() };
        let long = "a".repeat(60);
        let all = ["out.a-b.org", "out-a.b.org", &format!("{long}.org"), &format!("{long}.com")];
        let names: BTreeSet<String> = all.iter().flat_map(|host| [door.subset(host), mutual.subset(host)]).collect();
        assert_eq!(names.len(), 2 * all.len());
        assert!(names.iter().all(|name| name.len() <= names::MAX), "{names:?}");
    }

    #[test]
    fn only_listeners_that_read_requests_let_them_out() {
        for (listener, expected) in [
            (serde_json::json!({"http": {}}), true),
            (serde_json::json!({"http": {}, "tls": {"mode": "ISTIO_MUTUAL"}}), true),
            (serde_json::json!({"appProtocol": "HTTPS", "tls": {"mode": "ISTIO_MUTUAL"}}), true),
            (serde_json::json!({"http": {}, "tls": {"mode": "SIMPLE", "secretName": "x"}}), false),
            (serde_json::json!({"tcp": {}}), false),
            (serde_json::json!({"http": {}, "httpsRedirect": true}), false),
        ] {
            let parsed: Listener = serde_json::from_value(listener.clone()).unwrap();
            assert_eq!(is_way_out(&parsed), expected, "{listener}");
        }
    }
}
