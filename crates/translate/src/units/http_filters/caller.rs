//! How proxies find the servers that filters ask.

use meshrelay_api::references::{DestinationReference, ObjectReference};
use meshrelay_api::selectors::PortSelector;
use meshrelay_snapshot::Name;

use crate::model::{Model, Workspace};
use crate::report::{Code, Finding};
use crate::units::mesh_host::MeshHosts;
use crate::units::route_table::{Place, Target};
use crate::{ContextId, ResourceRef};

/// The namespace in which the usual servers are.
const USUAL_NAMESPACE: &str = "gloo-mesh";

/// A server that is asked where nobody says otherwise.
pub(super) struct DefaultService {
    pub(super) name: &'static str,
    /// Name of the port, and its number where it has another name.
    pub(super) port: (&'static str, u32),
    /// What would name another server.
    pub(super) instead_of: &'static str,
    /// What it is called when there is none.
    pub(super) code: Code,
}

/// The proxies of a context, which ask servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) model: &'a Model,
    pub(crate) hosts: &'a MeshHosts,
    pub(crate) context: &'a ContextId,
}

impl Caller<'_> {
    /// Where a destination is for these proxies: in their own cluster if the reference names none and it is there too.
    /// Both the workspace of the resource that names it and that of the proxies must see it.
    ///
    /// # Errors
    /// When they do not, or cannot reach it.
    pub(crate) fn find(
        &self,
        destination: &DestinationReference,
        named_by: &ResourceRef,
        owner: &Workspace,
    ) -> Result<Target, Finding> {
        let workspace = self.model.workspaces.get(&self.context.workspace).unwrap_or(owner);
        let (model, hosts, cluster) = (self.model, self.hosts, &self.context.cluster);
        Place { model, hosts, egress: None, table: named_by, owner, cluster, workspace, is_mesh: true }
            .resolve(destination)
    }

    /// Where a usual server is for these proxies: in their own cluster if there is one.
    ///
    /// # Errors
    /// When there is none that they can reach.
    pub(super) fn default_service(
        &self,
        wanted: &DefaultService,
        named_by: &ResourceRef,
        owner: &Workspace,
    ) -> Result<Target, Finding> {
        let here = &self.context.cluster;
        let mut clusters: Vec<_> = self.model.clusters.iter().collect();
        clusters.sort_by_key(|(cluster, _)| *cluster != here);
        let mut problem = None;
        for (cluster, input) in clusters {
            let mut namespaces: Vec<&Name> = input.namespaces().keys().collect();
            namespaces.sort_by_key(|namespace| *namespace != USUAL_NAMESPACE);
            for namespace in namespaces {
                let Some(service) = input.services().get(&(namespace.clone(), wanted.name.into())) else { continue };
                let (name, number) = wanted.port;
                let ports = &service.spec.ports;
                let port = if ports.iter().any(|port| port.name == name) {
                    Some(PortSelector { number: None, name: Some(name.to_owned()) })
                } else {
                    let is_there = ports.iter().any(|port| port.port == number);
                    is_there.then_some(PortSelector { number: Some(number), name: None })
                };
                let reference = ObjectReference {
                    name: wanted.name.to_owned(),
                    namespace: namespace.to_string(),
                    cluster: cluster.to_string(),
                };
                let destination =
                    DestinationReference { r#ref: Some(reference), port, ..DestinationReference::default() };
                match self.find(&destination, named_by, owner) {
                    Ok(target) => return Ok(target),
                    Err(found) => problem = problem.or(Some(found)),
                }
            }
        }
        let text = format!(
            "expected {} in workspace {}, or a Service {} that it sees and the proxies of cluster {here} reach",
            wanted.instead_of, owner.name, wanted.name
        );
        let text = problem.map_or_else(|| text.clone(), |(_, problem)| format!("{text}, but {problem}"));
        Err((wanted.code, text))
    }

    /// Namespaces and clusters of the Services behind a destination, those of the proxies' own cluster first.
    pub(crate) fn services(&self, target: &Target) -> Vec<ResourceRef> {
        let host = target.is_mesh_host.then(|| self.hosts.get(self.model, &target.destination)).flatten();
        let mut services: Vec<ResourceRef> = match host {
            Some(host) => host.backings.values().map(|backing| backing.service.clone()).collect(),
            None => vec![target.destination.clone()],
        };
        services.sort_by_key(|service| (service.cluster != self.context.cluster, service.clone()));
        services
    }
}

impl Target {
    /// Envoy's name of it, as Istio makes it.
    pub(crate) fn envoy_cluster(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host)
    }

    /// What gRPC requests to it call it.
    pub(crate) fn authority(&self) -> String {
        format!("outbound_.{}_._.{}", self.port, self.host)
    }
}
