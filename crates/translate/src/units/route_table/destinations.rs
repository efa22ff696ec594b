//! Where routes lead: the host name that a destination has in a cluster, as a workspace sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::references::{DestinationKind, DestinationReference, ObjectReference};
use meshrelay_api::selectors::PortSelector;
use meshrelay_snapshot::{Gvk, Name, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::ResourceRef;
use crate::engine::Stage;
use crate::input::{Input, Ours};
use crate::model::{Model, Shareable, Workspace};
use crate::report::{Code, Finding};
use crate::units::egress::{Egress, WayOut};
use crate::units::external_service::ExternalService;
use crate::units::mesh_host::MeshHosts;

/// A destination as a VirtualService names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    pub(crate) destination: ResourceRef,
    pub(crate) host: String,
    pub(crate) port: u32,
    pub(crate) subset: BTreeMap<String, String>,
    pub(crate) weight: u32,
    /// Whether the host works in every cluster, and not only in this one.
    pub(crate) is_mesh_host: bool,
    /// The gateway by which requests leave the mesh, if they may not leave past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) way_out: Option<WayOut>,
}

impl Target {
    /// # Errors
    /// If requests must go through a gateway, which needs to see a host that a copy of a request does not have.
    pub(crate) fn without_gateway(self) -> Result<Self, Finding> {
        if self.way_out.is_some() {
            let text = format!("copies of requests cannot leave through the gateways of {}", self.destination);
            return Err((Code::EgressClosed, text));
        }
        Ok(self)
    }
}

/// From where destinations are looked at.
pub(crate) struct Place<'a> {
    pub(crate) model: &'a Model,
    pub(crate) hosts: &'a MeshHosts,
    /// The ways out of the mesh, for proxies that take them.
    pub(crate) egress: Option<&'a Stage<Egress>>,
    /// Cluster of the table, which references fall back to.
    pub(crate) table: &'a ResourceRef,
    /// Workspace of the table.
    pub(crate) owner: &'a Workspace,
    /// Cluster and workspace of the proxies.
    pub(crate) cluster: &'a Name,
    pub(crate) workspace: &'a Workspace,
    /// Whether the proxies are sidecars.
    pub(crate) is_mesh: bool,
}

impl Place<'_> {
    pub(crate) fn resolve(&self, destination: &DestinationReference) -> Result<Target, Finding> {
        if destination.aws_lambda.is_some() {
            return Err((Code::NotTranslated, "destinations of type awsLambda are not translated yet".to_owned()));
        }
        let Some(reference) = &destination.r#ref else {
            return Err((Code::Missing, "expected ref in a destination, found none".to_owned()));
        };
        let (name, namespace, cluster) = self.complete(reference);
        match &destination.kind {
            DestinationKind::Service => self.service(destination, name, namespace, cluster),
            DestinationKind::VirtualDestination => self.virtual_destination(destination, name, namespace, cluster),
            DestinationKind::ExternalService => self.external_service(destination, name, namespace, cluster),
            DestinationKind::Unknown(kind) => {
                Err((Code::UnknownValue, format!("kind {kind} of a destination is not known")))
            }
        }
    }

    /// What is left out of a reference is that of the table.
    fn complete(&self, reference: &ObjectReference) -> (Name, Name, Name) {
        let or = |text: &str, default: &Name| if text.is_empty() { default.clone() } else { Name::from(text) };
        let key = &self.table.key;
        (
            Name::from(&reference.name),
            or(&reference.namespace, &key.namespace),
            or(&reference.cluster, &self.table.cluster),
        )
    }

    /// Both the table's workspace and that of the proxies must see a destination.
    fn check_seen<T>(&self, kind: Shareable, cluster: &Name, object: &Input<T>) -> Result<(), Finding> {
        let owner = self.model.owner(cluster, object.namespace());
        for workspace in [self.owner, self.workspace] {
            let seen = owner.is_some_and(|owner| self.model.sees(workspace, kind, cluster, object, owner));
            if !seen {
                let whose = owner.map_or_else(
                    || "which no workspace owns".to_owned(),
                    |owner| format!("which workspace {} does not share with it", owner.name),
                );
                let text = format!("workspace {} does not see {}, {whose}", workspace.name, object.reference(cluster));
                return Err((Code::NotFound, text));
            }
        }
        Ok(())
    }

    fn service(
        &self,
        destination: &DestinationReference,
        name: Name,
        namespace: Name,
        cluster: Name,
    ) -> Result<Target, Finding> {
        let key = (namespace, name);
        let is_open = destination.r#ref.as_ref().is_some_and(|reference| reference.cluster.is_empty());
        let find = |cluster: &Name| self.model.clusters.get(cluster).and_then(|input| input.services().get(&key));
        // Namespaces of one name are the same everywhere in a mesh: sidecars stay in their own cluster unless they are
        // told.
        let here = (self.is_mesh && is_open).then(|| find(self.cluster)).flatten();
        let cluster = if here.is_some() { self.cluster.clone() } else { cluster };
        let gvk = Gvk::new("", "v1", "Service");
        let Some(service) = here.or_else(|| find(&cluster)) else {
            return Err(not_found(&cluster, gvk, &key, is_open));
        };
        self.check_seen(Shareable::Service, &cluster, service)?;
        let parent = service.reference(&cluster);
        let ports = service.spec.ports.iter().filter(|port| port.is_tcp());
        let ports: Vec<(u32, &str)> = ports.map(|port| (port.port, port.name.as_str())).collect();
        let port = port(destination.port.as_ref(), &ports, &parent)?;
        let subset = destination.subset.clone();
        let weight = destination.weight;
        if cluster == *self.cluster {
            let host = format!("{}.{}.svc.{}", key.1, key.0, self.model.domain(&cluster));
            return Ok(Target { destination: parent, host, port, subset, weight, is_mesh_host: false, way_out: None });
        }
        let Some(host) = self.hosts.get(self.model, &parent) else {
            let text = format!(
                "{parent} is in another cluster than {}: switch on federation for it in the settings of its workspace",
                self.cluster
            );
            return Err((Code::NotFederated, text));
        };
        if !host.is_reachable_in(self.cluster) {
            return Err((Code::Unreachable, format!("{parent} cannot be reached from cluster {}", self.cluster)));
        }
        if !host.ports.iter().any(|known| known.number == port) {
            return Err((Code::NotFederated, format!("port {port} of {parent} is not federated")));
        }
        if !subset.is_empty() {
            let text = format!("expected no subset for {parent}, which is in another cluster than {}", self.cluster);
            return Err((Code::BadValue, text));
        }
        Ok(Target {
            destination: parent,
            host: host.main_host.to_string(),
            port,
            subset,
            weight,
            is_mesh_host: true,
            way_out: None,
        })
    }

    fn virtual_destination(
        &self,
        destination: &DestinationReference,
        name: Name,
        namespace: Name,
        cluster: Name,
    ) -> Result<Target, Finding> {
        let key = (namespace, name);
        let found = self.model.clusters.get(&cluster).and_then(|input| input.virtual_destinations().get(&key));
        let Some(found) = found else {
            let gvk = Gvk::new("networking.gloo.solo.io", "v2", "VirtualDestination");
            return Err(not_found(&cluster, gvk, &key, false));
        };
        self.check_seen(Shareable::VirtualDestination, &cluster, found)?;
        let parent = found.reference(&cluster);
        let Some(host) = self.hosts.get(self.model, &parent).filter(|host| host.has_backing()) else {
            return Err((Code::NoBacking, format!("{parent} has no host or no service behind it")));
        };
        if !host.is_reachable_in(self.cluster) {
            return Err((Code::Unreachable, format!("{parent} cannot be reached from cluster {}", self.cluster)));
        }
        let ports: Vec<(u32, &str)> = host.ports.iter().map(|port| (port.number, "")).collect();
        let port = port(destination.port.as_ref(), &ports, &parent)?;
        let host = host.main_host.to_string();
        let (subset, weight) = (destination.subset.clone(), destination.weight);
        Ok(Target { destination: parent, host, port, subset, weight, is_mesh_host: true, way_out: None })
    }

    fn external_service(
        &self,
        destination: &DestinationReference,
        name: Name,
        namespace: Name,
        cluster: Name,
    ) -> Result<Target, Finding> {
        let key = (namespace, name);
        let found = self.model.clusters.get(&cluster).and_then(|input| input.external_services().get(&key));
        let Some(found) = found else {
            let gvk = Gvk::new("networking.gloo.solo.io", "v2", "ExternalService");
            return Err(not_found(&cluster, gvk, &key, false));
        };
        self.check_seen(Shareable::ExternalService, &cluster, found)?;
        let parent = found.reference(&cluster);
        let mut target = external_target(destination, found, parent)?;
        let port = found.spec.ports.iter().find(|port| port.number == target.port);
        if let (Some(egress), true) = (self.egress, port.is_some_and(|port| port.egress_gateway_routes.is_some())) {
            let ways = egress.get(&target.destination);
            target.way_out = ways.and_then(|ways| ways.way_out(&target.host, target.port, self.cluster));
            if target.way_out.is_none() {
                let text = format!(
                    "no gateway for what leaves through gateways to {} can be used from {}",
                    target.destination, self.cluster
                );
                return Err((Code::EgressClosed, text));
            }
        }
        Ok(target)
    }
}

fn external_target(
    destination: &DestinationReference,
    service: &Arc<Input<Ours<meshrelay_api::networking::ExternalServiceSpec>>>,
    parent: ResourceRef,
) -> Result<Target, Finding> {
    let hosts = ExternalService::hosts(&service.spec, &parent);
    let [host] = hosts.as_slice() else {
        let text = format!("expected one host in {parent} to lead to, found {}", hosts.len());
        return Err((Code::BadValue, text));
    };
    if host.starts_with('*') {
        return Err((Code::BadValue, format!("expected a full host name in {parent} to lead to, found {host}")));
    }
    if !destination.subset.is_empty() {
        return Err((Code::BadValue, format!("expected no subset for {parent}: it has no pods")));
    }
    let ports: Vec<(u32, &str)> = service.spec.ports.iter().map(|port| (port.number, port.name.as_str())).collect();
    let port = port(destination.port.as_ref(), &ports, &parent)?;
    let (host, weight) = (host.clone(), destination.weight);
    Ok(Target { destination: parent, host, port, subset: BTreeMap::new(), weight, is_mesh_host: false, way_out: None })
}

fn not_found(cluster: &Name, gvk: Gvk, (namespace, name): &(Name, Name), is_open: bool) -> Finding {
    let reference = ResourceRef::new(cluster, &ObjectKey::new(gvk, namespace.clone(), name.clone()));
    let hint = if is_open { ": set ref.cluster if it is in another cluster" } else { "" };
    (Code::NotFound, format!("{reference} does not exist{hint}"))
}

/// The number of the port that is asked for; it may be left out where there is only one.
fn port(wanted: Option<&PortSelector>, ports: &[(u32, &str)], parent: &ResourceRef) -> Result<u32, Finding> {
    let is = |(number, name): &&(u32, &str)| match wanted {
        Some(PortSelector { number: Some(wanted), .. }) => number == wanted,
        Some(PortSelector { name: Some(wanted), .. }) => name == wanted,
        _ => true,
    };
    let fitting: Vec<_> = ports.iter().filter(is).collect();
    let known = || ports.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ");
    match fitting.as_slice() {
        [(number, _)] => Ok(*number),
        [] => {
            let asked = wanted.map(|wanted| {
                wanted
                    .name
                    .clone()
                    .unwrap_or_else(|| wanted.number.map(|number| number.to_string()).unwrap_or_default())
            });
            let text = format!("{parent} has no port {}: its ports are {}", asked.unwrap_or_default(), known());
            Err((Code::NotFound, text))
        }
        _ => Err((Code::Missing, format!("expected a port for {parent}, which has several: {}", known()))),
    }
}
