use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use meshrelay_api::admin::Federation;
use meshrelay_api::selectors::PortSelector;
use meshrelay_snapshot::Name;

use super::hosts::Claims;
use super::{BackingPort, HostPort, MeshHost};
use crate::ResourceRef;
use crate::fingerprint::Derived;
use crate::input::kube::{ServicePort, ServiceSpec, selects};
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{Entry, Model, Shareable, Workspace};
use crate::reads::Taken;
use crate::report::{Code, Notes, Severity};

type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// A Service that other clusters can call, with the workspace whose settings say so.
struct Federated<'a> {
    service: &'a Service,
    federation: &'a Federation,
}

/// The Services of a cluster that their workspace federates. Only own Services count: those of other workspaces are
/// federated by them.
fn federated<'a>(model: &'a Model, cluster: &'a ClusterInput) -> impl Iterator<Item = Federated<'a>> {
    model.workspaces.values().flat_map(move |owner| {
        let federation = owner.settings.federation.as_ref().filter(|federation| federation.enabled);
        federation.into_iter().flat_map(move |federation| {
            let namespaces = owner.contexts.get(&cluster.name).into_iter().flatten();
            let services = namespaces.flat_map(|namespace| cluster.services_in(namespace));
            let selected = services.filter(move |service| is_selected(federation, cluster, service, owner));
            selected.map(move |service| Federated { service, federation })
        })
    })
}

pub(super) fn claim(model: &Model, claims: &mut Claims, notes: &mut Notes) {
    note_unused(model, notes);
    for cluster in model.clusters.values() {
        for Federated { service, federation, .. } in federated(model, cluster) {
            claims.add(&host_name(federation, cluster, service), &cluster.name, service);
        }
    }
}

/// Says which selectors select nothing, because they name what belongs to others for example.
fn note_unused(model: &Model, notes: &mut Notes) {
    for owner in model.workspaces.values() {
        let settings = &owner.settings;
        let Some(federation) = settings.federation.as_ref().filter(|federation| federation.enabled) else { continue };
        let Some(source) = &settings.federation_source else { continue };
        for (index, selector) in federation.service_selector.iter().enumerate() {
            let one = Federation { service_selector: vec![selector.clone()], ..federation.clone() };
            let selects_any = owner.contexts.iter().any(|(cluster, namespaces)| {
                let cluster = model.clusters.get(cluster);
                cluster.is_some_and(|cluster| {
                    let mut services = namespaces.iter().flat_map(|namespace| cluster.services_in(namespace));
                    services.any(|service| is_selected(&one, cluster, service, owner))
                })
            });
            if !selects_any {
                let text = format!(
                    "spec.options.federation.serviceSelector[{index}]: expected Services of workspace {} with pods and \
                     a port that is federated, but it selects none; those of other workspaces are federated by them",
                    owner.name
                );
                notes.say(source, Severity::Warning, Code::NothingFederated, text);
            }
        }
    }
}

/// The Services of a cluster that are federated.
pub(super) fn list(model: &Model, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
    federated(model, cluster).map(|federated| federated.service.reference(&cluster.name)).collect()
}

fn host_name(federation: &Federation, cluster: &ClusterInput, service: &Service) -> String {
    let mut host = format!("{}.{}.svc.{}", service.name(), service.namespace(), cluster.name);
    if !federation.host_suffix.is_empty() {
        host.push('.');
        host.push_str(&federation.host_suffix);
    }
    host
}

fn is_selected(federation: &Federation, cluster: &ClusterInput, service: &Service, owner: &Workspace) -> bool {
    let is = |wanted: &str, found: &Name| wanted.is_empty() || found == wanted;
    let selected = federation.service_selector.is_empty()
        || federation.service_selector.iter().any(|selector| {
            is(&selector.name, service.name())
                && is(&selector.namespace, service.namespace())
                && is(&selector.cluster, &cluster.name)
                && is(&selector.workspace, &owner.name)
                && selects(&selector.labels, service.object.labels())
        });
    selected && !service.spec.selector.is_empty() && ports(federation, service).next().is_some()
}

fn ports<'a>(federation: &'a Federation, service: &'a Service) -> impl Iterator<Item = &'a ServicePort> {
    let is = |selector: &PortSelector, port: &ServicePort| {
        selector.number.is_none_or(|number| number == port.port)
            && selector.name.as_deref().is_none_or(|name| port.name == name)
    };
    let tcp = service.spec.ports.iter().filter(|port| port.is_tcp());
    tcp.filter(move |port| federation.ports.is_empty() || federation.ports.iter().any(|selector| is(selector, port)))
}

/// The protocol that a port's name or `appProtocol` tells, as Istio reads them.
fn protocol(port: &ServicePort) -> &'static str {
    let told = port.app_protocol.as_deref().unwrap_or_else(|| port.name.split('-').next().unwrap_or_default());
    match told.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => "HTTP",
        "http2" | "kubernetes.io/h2c" => "HTTP2",
        "https" => "HTTPS",
        "grpc" => "GRPC",
        "tls" => "TLS",
        "mongo" => "MONGO",
        _ => "TCP",
    }
}

/// The host that a Service wants if it is federated.
pub(super) fn wanted(model: &Model, cluster: &ClusterInput, parent: &ResourceRef) -> Option<Name> {
    let service = cluster.services().get(&parent.place())?;
    let federation = model.owner(&cluster.name, service.namespace())?.settings.federation.as_ref()?;
    federation.enabled.then(|| Name::from(host_name(federation, cluster, service)))
}

pub(super) fn resolve(
    model: &Model,
    parent: &ResourceRef,
    address: &dyn Fn(&Name, &ResourceRef) -> Option<Ipv4Addr>,
    notes: &mut Notes,
) -> Option<MeshHost> {
    let cluster = model.clusters.get(&parent.cluster)?;
    let service = cluster.services().get(&parent.place())?;
    let owner = model.owner(&cluster.name, service.namespace())?;
    let federation = owner.settings.federation.as_ref()?;
    let host = Name::from(host_name(federation, cluster, service));
    let address = address(&host, parent)?;
    let home = model.context(&cluster.name, service.namespace())?;
    let mut host_ports = Vec::new();
    let mut backing_ports = Vec::new();
    for port in ports(federation, service) {
        host_ports.push(HostPort { number: port.port, protocol: protocol(port).to_owned() });
        let target_port = cluster.target_port(service, port).unwrap_or(port.port);
        backing_ports.push(BackingPort { service_port: port.port, target_port });
    }
    let entry = Entry::of(owner.settings.client_mode.as_ref());
    let backing = super::new_backing(model, owner, cluster, service, home, backing_ports, entry, parent, notes);
    for source in &owner.settings.sources {
        notes.count(source, "numFederatedServices", 1);
    }
    Some(MeshHost {
        parent: parent.clone(),
        hosts: BTreeMap::from([(host.clone(), address)]),
        main_host: host,
        ports: host_ports,
        backings: BTreeMap::from([(cluster.name.clone(), backing)]),
        externals: Vec::new(),
        is_bare: false,
        viewers: model.viewers(Shareable::Service, &cluster.name, service, owner),
        sources: model.sources(&owner.name).cloned().collect(),
        taken: Taken::default(),
        reads: Derived::default(),
    })
}
