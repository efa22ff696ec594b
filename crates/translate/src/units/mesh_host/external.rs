//! Services outside of the mesh behind a VirtualDestination.

use std::collections::BTreeMap;

use meshrelay_api::istio::WorkloadEntry;
use meshrelay_api::networking::{
    ClientTlsMode, ExternalServicePort, ExternalServiceSpec, PortMapping, VirtualDestinationSpec,
};
use meshrelay_snapshot::Name;

use super::HostPort;
use crate::ResourceRef;
use crate::hostname;
use crate::input::{Input, Ours};
use crate::model::{Model, Shareable, Workspace};
use crate::policies::Subject;
use crate::report::{Code, Finding, Notes, Severity};
use crate::units::external_service::{endpoint_port, endpoints, locality};

/// A service outside of the mesh behind a host.
#[derive(Clone, Debug, Hash)]
pub(crate) struct External {
    service: ResourceRef,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Hash)]
struct Endpoint {
    /// The ExternalEndpoint, or the service itself if its host name is the address.
    source: ResourceRef,
    address: String,
    /// For each port of the host that of the address.
    ports: Vec<u32>,
    labels: BTreeMap<String, String>,
    locality: Option<String>,
}

impl External {
    pub(super) fn sources(&self) -> impl Iterator<Item = &ResourceRef> {
        [&self.service].into_iter().chain(self.endpoints.iter().map(|endpoint| &endpoint.source))
    }

    /// The endpoints, with what each comes from and the labels that `joined` demands.
    pub(super) fn endpoints(
        &self,
        ports: &[HostPort],
        joined: &BTreeMap<Name, Name>,
    ) -> impl Iterator<Item = (String, WorkloadEntry)> {
        self.endpoints.iter().map(|endpoint| {
            let mut labels = endpoint.labels.clone();
            labels.extend(joined.iter().map(|(key, value)| (key.to_string(), value.to_string())));
            let entry = WorkloadEntry {
                address: Some(endpoint.address.clone()),
                labels,
                locality: endpoint.locality.clone(),
                ports: ports.iter().map(HostPort::name).zip(endpoint.ports.iter().copied()).collect(),
                ..WorkloadEntry::default()
            };
            (endpoint.source.to_string(), entry)
        })
    }
}

/// The ExternalServices that a VirtualDestination selects among those that its workspace sees.
pub(super) fn select(
    model: &Model,
    workspace: &Workspace,
    spec: &VirtualDestinationSpec,
    ports: &[(&PortMapping, &'static str)],
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Vec<External> {
    let mut selected = Vec::new();
    if spec.external_services.is_empty() {
        return selected;
    }
    for (cluster, input) in &model.clusters {
        for service in input.external_services().values() {
            let Some(owner) = model.config_owner(cluster, service.namespace()) else { continue };
            let subject = Subject {
                cluster,
                namespace: service.namespace(),
                name: service.name(),
                workspace: &owner.name,
                labels: service.object.labels(),
            };
            let is_selected = spec.external_services.iter().any(|selector| subject.is_selected(selector));
            if !is_selected || !model.sees(workspace, Shareable::ExternalService, cluster, service, owner) {
                continue;
            }
            match external(model, owner, cluster, service, ports) {
                Ok(external) => selected.push(external),
                Err((code, problem)) => {
                    let text = format!("{} is left out: {problem}", service.reference(cluster));
                    notes.say(parent, Severity::Warning, code, text);
                }
            }
        }
    }
    selected
}

fn external(
    model: &Model,
    owner: &Workspace,
    cluster: &Name,
    service: &Input<Ours<ExternalServiceSpec>>,
    ports: &[(&PortMapping, &'static str)],
) -> Result<External, Finding> {
    let spec = &service.spec;
    let reference = service.reference(cluster);
    let found: Vec<&ExternalServicePort> =
        ports.iter().map(|(port, _)| port_of(spec, port)).collect::<Result<_, Finding>>()?;
    let number =
        |port: &ExternalServicePort| port.target_port.as_ref().and_then(|target| target.number).unwrap_or(port.number);
    let mut all = Vec::new();
    if spec.selector.is_empty() {
        for host in spec.hosts.iter().filter(|host| hostname::is_address(host)) {
            all.push(Endpoint {
                source: reference.clone(),
                address: host.clone(),
                ports: found.iter().map(|port| number(port)).collect(),
                labels: BTreeMap::new(),
                locality: None,
            });
        }
    }
    for (source, endpoint) in endpoints(model, owner, service) {
        if !hostname::is_address(&endpoint.spec.address) {
            continue;
        }
        let is_only = spec.ports.len() == 1;
        let port =
            |port: &&ExternalServicePort| endpoint_port(port, is_only, &endpoint.spec).unwrap_or_else(|| number(port));
        all.push(Endpoint {
            source,
            address: endpoint.spec.address.clone(),
            ports: found.iter().map(port).collect(),
            labels: endpoint.object.labels().iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            locality: locality(&endpoint.spec),
        });
    }
    if all.is_empty() {
        return Err((Code::NoEndpoint, "it has neither a full host name nor an endpoint with an address".to_owned()));
    }
    Ok(External { service: reference, endpoints: all })
}

/// The port of an ExternalService that a port of the host leads to: by name or number, else the one with the same
/// number.
fn port_of<'a>(spec: &'a ExternalServiceSpec, port: &PortMapping) -> Result<&'a ExternalServicePort, Finding> {
    let (number, name) = match &port.target_port {
        Some(target) => (target.number, target.name.as_deref()),
        None => (Some(port.number), None),
    };
    let is = |found: &&ExternalServicePort| name.is_some_and(|name| found.name == name) || number == Some(found.number);
    let Some(found) = spec.ports.iter().find(is) else {
        let wanted = name.map_or_else(|| number.unwrap_or_default().to_string(), str::to_owned);
        return Err((Code::BackingPort, format!("it has no port {wanted} for port {} of the host", port.number)));
    };
    if found.clientside_tls.as_ref().is_some_and(|tls| tls.mode != ClientTlsMode::Disable) {
        let text =
            format!("clientsideTls of its port {} is not translated behind a VirtualDestination yet", found.number);
        return Err((Code::NotTranslated, text));
    }
    Ok(found)
}
