//! How proxies find the servers that filters ask.

use meshrelay_api::references::DestinationReference;

use crate::model::{Model, Workspace};
use crate::report::Finding;
use crate::units::mesh_host::MeshHosts;
use crate::units::route_table::{Place, Target};
use crate::{ContextId, ResourceRef};

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
        Place { model, hosts, table: named_by, owner, cluster, workspace, is_mesh: true }.resolve(destination)
    }

    /// Namespaces and clusters of the Services behind a destination, those of the proxies' own cluster first.
    pub(crate) fn services(&self, target: &Target) -> Vec<ResourceRef> {
        let mut services: Vec<ResourceRef> = match self.hosts.get(&target.destination) {
            Some(host) if target.is_mesh_host => {
                host.backings.values().map(|backing| backing.service.clone()).collect()
            }
            _ => vec![target.destination.clone()],
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
