use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use meshrelay_api::networking::{PortMapping, VirtualDestinationSpec};
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::Name;

use super::hosts::Claims;
use super::{Backing, BackingPort, HostPort, MeshHost, external};
use crate::ResourceRef;
use crate::fingerprint::Derived;
use crate::hostname::{self, Allowed};
use crate::input::kube::{ServiceSpec, selects};
use crate::input::{ClusterInput, Input, Ours, Theirs};
use crate::model::{Entry, Model, Shareable, Workspace};
use crate::reads::{Taken, taking};
use crate::report::{Code, Notes, Severity};
use crate::units::protocol::protocol;

type VirtualDestination = Arc<Input<Ours<VirtualDestinationSpec>>>;
type Service = Input<Theirs<ServiceSpec>>;

/// All VirtualDestinations that count, with their owners.
fn all(model: &Model) -> impl Iterator<Item = (&Name, &VirtualDestination, &Workspace)> {
    model.clusters.iter().flat_map(move |(cluster, input)| {
        input.virtual_destinations().values().filter_map(move |destination| {
            Some((cluster, destination, model.config_owner(cluster, destination.namespace())?))
        })
    })
}

pub(super) fn claim(model: &Model, claims: &mut Claims) {
    for (cluster, destination, _) in all(model) {
        for host in destination.spec.hosts.iter().filter(|host| hostname::problem(host, Allowed::Full).is_none()) {
            claims.add(host, cluster, destination);
        }
    }
}

/// The hosts that a VirtualDestination wants.
pub(super) fn wanted(cluster: &ClusterInput, parent: &ResourceRef) -> Vec<Name> {
    let destination = cluster.virtual_destinations().get(&parent.place());
    destination.into_iter().flat_map(|destination| &destination.spec.hosts).map(Name::from).collect()
}

pub(super) fn resolve(
    model: &Model,
    parent: &ResourceRef,
    address: &dyn Fn(&Name, &ResourceRef) -> Option<Ipv4Addr>,
    notes: &mut Notes,
) -> Option<MeshHost> {
    let cluster = &parent.cluster;
    let destination = model.clusters.get(cluster)?.virtual_destinations().get(&parent.place())?;
    let owner = model.config_owner(cluster, destination.namespace())?;
    let spec = &destination.spec;
    let own = spec.hosts.iter().map(Name::from).filter_map(|host| Some((host.clone(), address(&host, parent)?)));
    let hosts: Vec<(Name, Ipv4Addr)> = own.collect();
    note_untranslated(spec, parent, notes);
    if spec.hosts.is_empty() {
        let text = "spec.hosts: expected at least one host, found none: no host name leads to the services";
        notes.say(parent, Severity::Invalid, Code::Missing, text);
    }
    for problem in spec.hosts.iter().filter_map(|host| hostname::problem(host, Allowed::Full)) {
        let text = format!("spec.hosts: {problem}: it is left out");
        notes.say(parent, Severity::Invalid, Code::BadValue, text);
    }
    let ports = usable_ports(&spec.ports, parent, notes);
    let host_ports: Vec<HostPort> = ports
        .iter()
        .map(|(port, protocol)| HostPort { number: port.number, protocol: (*protocol).to_owned() })
        .collect();
    let mut backings = BTreeMap::new();
    let entry = Entry::of(spec.client_mode.as_ref().or(owner.settings.client_mode.as_ref()));
    for input in model.clusters.values() {
        let (found, taken) = taking(|| {
            let services = select(model, owner, input, &spec.services);
            backing(model, owner, input, &services, &ports, entry, parent, notes)
        });
        if let Some((name, backing)) = found {
            backings.insert(name, Backing { taken, ..backing });
        }
    }
    let externals = external::select(model, owner, spec, &ports, parent, notes);
    notes.count(parent, "numSelectedBackingServices", backings.len() + externals.len());
    let is_bare = [&spec.services, &spec.external_services, &spec.external_workloads].iter().all(|all| all.is_empty());
    if backings.is_empty() && externals.is_empty() && !is_bare {
        let text = "expected services that the workspace owns or imports, but the selectors select none";
        notes.say(parent, Severity::Warning, Code::NoBacking, text);
    }
    let viewers = model.viewers(Shareable::VirtualDestination, cluster, destination, owner);
    let main_host = hosts.first().map(|(host, _)| host.clone()).filter(|_| !ports.is_empty())?;
    let host = MeshHost {
        parent: parent.clone(),
        hosts: hosts.into_iter().collect(),
        main_host,
        ports: host_ports,
        backings,
        externals,
        is_bare,
        viewers,
        sources: model.sources(&owner.name).cloned().collect(),
        taken: Taken::default(),
        reads: Derived::default(),
    };
    super::note_reachability(&host, notes);
    Some(host)
}

fn note_untranslated(spec: &VirtualDestinationSpec, parent: &ResourceRef, notes: &mut Notes) {
    if !spec.external_workloads.is_empty() {
        let text = "spec.externalWorkloads is not translated yet: no traffic goes there";
        notes.say(parent, Severity::Warning, Code::NotTranslated, text);
    }
}

/// The ports that Istio takes, with their protocols.
fn usable_ports<'a>(
    ports: &'a [PortMapping],
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Vec<(&'a PortMapping, &'static str)> {
    let mut usable: Vec<(&PortMapping, &'static str)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let problem = match protocol(&port.protocol) {
            Err(problem) => problem,
            Ok(_) if !(1..=65535).contains(&port.number) => {
                format!("expected a number from 1 to 65535, found {}", port.number)
            }
            Ok(_) if usable.iter().any(|(other, _)| other.number == port.number) => {
                format!("expected one entry for port {}, found several", port.number)
            }
            Ok(protocol) => {
                usable.push((port, protocol));
                continue;
            }
        };
        let text = format!("spec.ports[{index}]: {problem}: it is left out");
        notes.say(parent, Severity::Invalid, Code::BadValue, text);
    }
    usable
}

/// The Services of a cluster that are selected and that the workspace sees, the oldest first.
fn select<'a>(
    model: &'a Model,
    workspace: &Workspace,
    cluster: &'a ClusterInput,
    selectors: &[ObjectSelector],
) -> Vec<&'a Arc<Service>> {
    let is = |wanted: &str, found: &Name| wanted.is_empty() || found == wanted;
    let mut services: Vec<&Arc<Service>> = Vec::new();
    for selector in selectors.iter().filter(|selector| is(&selector.cluster, &cluster.name)) {
        let candidates = cluster.service_candidates(selector).into_iter().filter(|service| {
            is(&selector.name, service.name())
                && is(&selector.namespace, service.namespace())
                && selects(&selector.labels, service.object.labels())
        });
        services.extend(candidates.filter(|service| {
            model.owner(&cluster.name, service.namespace()).is_some_and(|owner| {
                is(&selector.workspace, &owner.name)
                    && model.sees(workspace, Shareable::Service, &cluster.name, service, owner)
            })
        }));
    }
    services.sort_by_key(|service| service.age(&cluster.name));
    services.dedup_by_key(|service| service.object.key());
    services
}

/// The Service that stands behind a host in a cluster: the oldest of those selected.
#[expect(clippy::too_many_arguments, reason = "what one value is made of")]
fn backing(
    model: &Model,
    owner: &Workspace,
    cluster: &ClusterInput,
    services: &[&Arc<Service>],
    ports: &[(&PortMapping, &'static str)],
    entry: Entry,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Option<(Name, Backing)> {
    let service = services.first()?;
    let reference = service.reference(&cluster.name);
    if services.len() > 1 {
        let others: Vec<_> =
            services.iter().skip(1).map(|service| service.reference(&cluster.name).to_string()).collect();
        let text = format!(
            "expected one Service per cluster; the oldest, {reference}, is taken and not {}",
            others.join(", ")
        );
        notes.say(parent, Severity::Warning, Code::BackingTaken, text);
    }
    let Some(home) = model.context(&cluster.name, service.namespace()) else {
        let text = format!("{reference} is left out: cluster {} has no mesh", cluster.name);
        notes.say(parent, Severity::Warning, Code::Unreachable, text);
        return None;
    };
    if service.spec.selector.is_empty() {
        let text = format!("{reference} is left out: it selects no pods");
        notes.say(parent, Severity::Warning, Code::NoBacking, text);
        return None;
    }
    let mut found = Vec::new();
    for (port, _) in ports {
        match backing_port(cluster, service, port) {
            Ok(port) => found.push(port),
            Err(problem) => {
                let text = format!("{reference} is left out: {problem}");
                notes.say(parent, Severity::Warning, Code::BackingPort, text);
                return None;
            }
        }
    }
    let backing = super::new_backing(model, owner, cluster, service, home, found, entry, parent, notes);
    Some((cluster.name.clone(), backing))
}

/// The port of a Service that a port of the host leads to: by name or number, else the one with the same number. A
/// number that only the pods know is accepted too.
fn backing_port(cluster: &ClusterInput, service: &Service, port: &PortMapping) -> Result<BackingPort, String> {
    let ports = || service.spec.ports.iter().filter(|port| port.is_tcp());
    let (number, name) = match &port.target_port {
        Some(target) => (target.number, target.name.as_deref()),
        None => (Some(port.number), None),
    };
    let found = ports()
        .find(|port| name.is_some_and(|name| port.name == name) || number == Some(port.port))
        .or_else(|| ports().find(|port| number.is_some() && number == cluster.target_port(service, port)));
    let Some(found) = found else {
        let wanted = name.map_or_else(|| number.unwrap_or_default().to_string(), str::to_owned);
        return Err(format!("it has no port {wanted} for port {} of the host", port.number));
    };
    let target_port = cluster.target_port(service, found).ok_or_else(|| {
        format!("its port {} leads to a port of the pods by name, and no known workload has that name", found.port)
    })?;
    Ok(BackingPort { service_port: found.port, target_port })
}
