use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::internal::DiscoveredGatewaySpec;
use meshrelay_api::networking::{Listener, VirtualGatewaySpec};
use meshrelay_api::selectors::{WorkloadKind, WorkloadSelector};
use meshrelay_snapshot::Name;

use super::server::{self, Traffic};
use crate::hostname::{self, Allowed};
use crate::input::kube::ServiceSpec;
use crate::input::{ClusterInput, Input, Ours, Theirs};
use crate::model::{Model, Workspace, service_of};
use crate::names;
use crate::report::{Code, Notes, Severity};
use crate::{ContextId, ResourceRef};

/// A gateway Service that a VirtualGateway selects.
#[derive(Debug, Hash)]
pub(crate) struct Site {
    pub(crate) context: ContextId,
    /// The DiscoveredGateway.
    pub(crate) gateway: ResourceRef,
    pub(crate) service: ResourceRef,
    /// Labels of the gateway's pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// Ports of the pods by those of the Service.
    pub(crate) service_ports: BTreeMap<u32, u32>,
    pub(crate) ports: Vec<SitePort>,
}

/// A port of the gateway's pods with what listens there.
#[derive(Debug, Hash)]
pub(crate) struct SitePort {
    /// Name of the Istio Gateway.
    pub(crate) name: String,
    /// The port in a Gateway's words.
    pub(crate) number: u32,
    /// The port itself.
    pub(crate) pod_port: u32,
    /// Positions of the listeners, each with the hosts that it serves.
    pub(crate) listeners: Vec<(usize, Vec<String>)>,
}

/// The gateways that a VirtualGateway selects, all of its own workspace.
pub(super) fn resolve(
    model: &Model,
    owner: &Workspace,
    gateway: &Input<Ours<VirtualGatewaySpec>>,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Vec<Site> {
    let mut sites = Vec::new();
    for (cluster, _) in owner.contexts.iter() {
        let Some(input) = model.clusters.get(cluster) else { continue };
        for discovered in input.gateways().values() {
            let Some((namespace, name)) = service_of(discovered) else { continue };
            let Some(context) = model.context(cluster, &namespace) else { continue };
            if context.workspace != owner.name || !is_selected(&gateway.spec.workloads, discovered, &context, &name) {
                continue;
            }
            let Some(service) = input.services().get(&(namespace, name)) else { continue };
            let mut site = Site {
                context,
                gateway: discovered.reference(cluster),
                service: service.reference(cluster),
                selector: discovered.spec.workload_labels.clone(),
                service_ports: service_ports(input, service),
                ports: Vec::new(),
            };
            if site.selector.is_empty() {
                let labels = service.spec.selector.iter();
                site.selector = labels.map(|(key, value)| (key.to_string(), value.to_string())).collect();
            }
            site.ports = ports(input, &site, gateway, service, parent, notes);
            sites.push(site);
        }
    }
    sites
}

fn service_ports(cluster: &ClusterInput, service: &Input<Theirs<ServiceSpec>>) -> BTreeMap<u32, u32> {
    let ports = service.spec.ports.iter().filter(|port| port.is_tcp());
    ports.filter_map(|port| Some((port.port, cluster.target_port(service, port)?))).collect()
}

fn is_selected(
    selectors: &[WorkloadSelector],
    gateway: &Input<Ours<DiscoveredGatewaySpec>>,
    context: &ContextId,
    service: &Name,
) -> bool {
    let is = |wanted: &str, found: &Name| wanted.is_empty() || found == wanted;
    let labels = &gateway.spec.workload_labels;
    let of_pods = selectors.iter().filter(|one| one.kind == WorkloadKind::Kube);
    selectors.is_empty()
        || of_pods.filter_map(|one| one.selector.as_ref()).any(|selector| {
            is(&selector.name, service)
                && is(&selector.namespace, &context.namespace)
                && is(&selector.cluster, &context.cluster)
                && is(&selector.workspace, &context.workspace)
                && selector.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
}

/// What listens on each port of a gateway's pods. A listener that Istio would refuse is left out, so that the others
/// work.
fn ports(
    cluster: &ClusterInput,
    site: &Site,
    gateway: &Input<Ours<VirtualGatewaySpec>>,
    service: &Input<Theirs<ServiceSpec>>,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Vec<SitePort> {
    let mut ports: BTreeMap<u32, SitePort> = BTreeMap::new();
    let mut taken: BTreeSet<(u32, String)> = BTreeSet::new();
    let mut plain: BTreeMap<u32, bool> = BTreeMap::new();
    for (index, listener) in gateway.spec.listeners.iter().enumerate() {
        if let Some(problem) = server::tls_problem(listener) {
            let text = format!("spec.listeners[{index}].tls: {problem}: the listener is left out");
            notes.say(parent, Severity::Invalid, Code::Missing, text);
            continue;
        }
        let (target_port, number) = match target_port(cluster, listener, service) {
            Ok(found) => found,
            Err(problem) => {
                let text = format!("spec.listeners[{index}].port: {problem}");
                notes.say_in(parent, &site.context, Severity::Warning, Code::NoListenerPort, text);
                continue;
            }
        };
        let (all, problems) = hosts(listener);
        for problem in problems {
            let text = format!("spec.listeners[{index}]: {problem}: it is left out");
            notes.say(parent, Severity::Invalid, Code::BadValue, text);
        }
        let is_plain = listener.tls.is_none();
        let fits = *plain.entry(target_port).or_insert(is_plain) == is_plain;
        let free: Vec<String> =
            all.into_iter().filter(|host| fits && taken.insert((target_port, host.clone()))).collect();
        if free.is_empty() {
            let text = format!(
                "spec.listeners[{index}]: an earlier listener has port {target_port} of the pods for the same hosts, \
                 or with other TLS: the listener is left out"
            );
            notes.say_in(parent, &site.context, Severity::Warning, Code::ListenerTaken, text);
            continue;
        }
        let port = ports.entry(target_port).or_insert_with(|| {
            let name = gateway_name(parent, &site.service, target_port);
            SitePort { name, number, pod_port: target_port, listeners: Vec::new() }
        });
        port.listeners.push((index, free));
    }
    ports.into_values().collect()
}

/// The recipe of the original is not known: readable, and one per VirtualGateway, Service and port.
fn gateway_name(parent: &ResourceRef, service: &ResourceRef, target_port: u32) -> String {
    let readable = format!("VirtualGateway-{}-{}-{}", parent.key.name, parent.key.namespace, parent.cluster);
    let port = target_port.to_string();
    let identity = [
        "VirtualGateway",
        &parent.key.name,
        &parent.key.namespace,
        &parent.cluster,
        &service.key.name,
        &service.key.namespace,
        &service.cluster,
        &port,
    ];
    names::identified(&readable, &identity)
}

/// The pods' port behind the port of the Service that a listener names, and its number in a Gateway's words.
fn target_port(
    cluster: &ClusterInput,
    listener: &Listener,
    service: &Input<Theirs<ServiceSpec>>,
) -> Result<(u32, u32), String> {
    let Some(wanted) = &listener.port else { return Err("expected a number or a name, found none".to_owned()) };
    let mut ports = service.spec.ports.iter().filter(|port| port.is_tcp());
    let found = ports.find(|port| match (&wanted.number, &wanted.name) {
        (Some(number), _) => port.port == *number,
        (None, Some(name)) => port.name == name.as_str(),
        (None, None) => false,
    });
    let Some(found) = found else {
        let wanted = wanted.name.clone().unwrap_or_else(|| wanted.number.unwrap_or_default().to_string());
        return Err(format!("{} has no port {wanted}", service.reference(&cluster.name)));
    };
    let target_port = cluster.target_port(service, found).ok_or_else(|| {
        let reference = service.reference(&cluster.name);
        format!(
            "port {} of {reference} leads to a port of the pods by name, and no known workload has that name",
            found.port
        )
    })?;
    Ok((target_port, cluster.gateway_port(service, found, target_port)))
}

/// The hosts that a listener serves, without the namespaces that may stand before them, and what is wrong with others.
fn hosts(listener: &Listener) -> (Vec<String>, Vec<String>) {
    let tables = listener.allowed_route_tables.iter().map(|filter| &filter.host);
    let services = listener.exposed_external_services.iter().map(|filter| &filter.host);
    let all: BTreeSet<&str> = tables.chain(services).map(|host| split_host(host).1).collect();
    if all.is_empty() || all.contains("*") || all.contains("") {
        return (vec!["*".to_owned()], Vec::new());
    }
    let problems = all.iter().filter_map(|host| hostname::problem(host, Allowed::Gateway)).collect();
    let good = all.into_iter().filter(|host| hostname::problem(host, Allowed::Gateway).is_none());
    (good.map(str::to_owned).collect(), problems)
}

/// Namespace and name of a host that is written as `[namespace/]name`.
pub(super) fn split_host(host: &str) -> (Option<&str>, &str) {
    match host.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, host),
    }
}

impl super::VirtualGateway {
    /// The hosts of a table that the listeners on one port admit, of those that serve routes of its kinds.
    pub(crate) fn admitted<'a>(
        &self,
        port: &SitePort,
        table: &'a crate::units::route_table::Applicant<'_>,
    ) -> BTreeSet<&'a str> {
        let mut admitted = BTreeSet::new();
        for (index, _) in &port.listeners {
            let Some(listener) = self.gateway.spec.listeners.get(*index) else { continue };
            let fits = match server::traffic(listener) {
                Traffic::Http => table.has_http,
                Traffic::Tls => table.has_tls,
                Traffic::Tcp => table.has_tcp,
            };
            if !fits {
                continue;
            }
            let filters = &listener.allowed_route_tables;
            let hosts = table.hosts.iter().filter(|host| {
                filters.is_empty()
                    || filters.iter().any(|filter| {
                        let (namespace, pattern) = split_host(&filter.host);
                        let here = match namespace {
                            None | Some("*") => true,
                            Some(".") => *table.namespace == self.parent.key.namespace,
                            Some(namespace) => table.namespace == namespace,
                        };
                        here && table.is_selected(filter.selector.as_ref()) && overlap(pattern, host)
                    })
            });
            admitted.extend(hosts.map(String::as_str));
        }
        admitted
    }
}

/// Whether some name fits both of two host names that may begin with a wildcard.
fn overlap(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, host: &str| {
        pattern.is_empty() || pattern.strip_prefix('*').map_or(pattern == host, |suffix| host.ends_with(suffix))
    };
    covers(one, other) || covers(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_overlap_when_a_name_fits_both() {
        for (one, other, expected) in [
            ("*", "a.b", true),
            ("a.b", "*", true),
            ("*.b", "a.b", true),
            ("*.b", "*.a.b", true),
            ("*.b", "b", false),
            ("a.b", "c.b", false),
            ("", "a", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
        }
    }
}
