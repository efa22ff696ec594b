//! Which server approves.

use std::sync::Arc;

use meshrelay_api::admin::ExtAuthServerSpec;
use meshrelay_api::references::{DestinationReference, ObjectReference};
use meshrelay_api::selectors::PortSelector;
use meshrelay_snapshot::{Gvk, Name, ObjectKey};

use super::{ExtAuthPolicy, filter};
use crate::ResourceRef;
use crate::input::{Input, Ours};
use crate::model::{Model, Workspace};
use crate::report::{Code, Finding};
use crate::units::http_filters::caller::Caller;
use crate::units::route_table::Target;

/// Name of the Service that approves where nobody says otherwise, the namespace that is preferred, and its port.
const DEFAULT_SERVICE: &str = "ext-auth-service";
const DEFAULT_NAMESPACE: &str = "gloo-mesh";
const DEFAULT_PORT: (&str, u32) = ("grpc", 8083);

/// The server of a policy, as some proxies reach it.
pub(super) struct Server {
    /// The ExtAuthServer, if there is one.
    pub(super) source: Option<ResourceRef>,
    settings: Option<Arc<Input<Ours<ExtAuthServerSpec>>>>,
    pub(super) target: Target,
}

impl Server {
    /// The server that the policy names, else the oldest of its workspace, else the usual Service.
    ///
    /// # Errors
    /// When there is none that the proxies can reach.
    pub(super) fn find(
        caller: &Caller<'_>,
        policy: &ExtAuthPolicy,
        named: Option<&ObjectReference>,
        owner: &Workspace,
    ) -> Result<Self, Finding> {
        let model = caller.model;
        let found = match named {
            Some(reference) => Some(named_server(model, policy, reference)?),
            None => of_workspace(model, owner),
        };
        let Some((source, settings)) = found else {
            let target = default_service(caller, &policy.source, owner)?;
            return Ok(Self { source: None, settings: None, target });
        };
        // A server may be named from other workspaces; what it stands for is seen by its own.
        let owner = model.owner(&source.cluster, &source.key.namespace).unwrap_or(owner);
        let of_server = |(code, problem): Finding| (code, format!("{source}: {problem}"));
        if let Some(flaw) = filter::flaw(&settings.spec) {
            return Err(of_server(flaw));
        }
        let target = match &settings.spec.destination_server {
            None => default_service(caller, &source, owner)?,
            Some(destination) => caller.find(destination, &source, owner).map_err(of_server)?,
        };
        Ok(Self { source: Some(source), settings: Some(settings), target })
    }

    pub(super) fn spec(&self) -> Option<&ExtAuthServerSpec> {
        self.settings.as_deref().map(|settings| &*settings.spec)
    }

    /// Tells its filter from those of other servers.
    pub(super) fn name(&self) -> String {
        let ResourceRef { cluster, key } = self.source.as_ref().unwrap_or(&self.target.destination);
        format!("{cluster}/{}/{}", key.namespace, key.name)
    }
}

type Found = (ResourceRef, Arc<Input<Ours<ExtAuthServerSpec>>>);

/// What is left out of the reference is that of the policy.
fn named_server(model: &Model, policy: &ExtAuthPolicy, reference: &ObjectReference) -> Result<Found, Finding> {
    let or = |text: &str, default: &Name| if text.is_empty() { default.clone() } else { Name::from(text) };
    let cluster = or(&reference.cluster, &policy.source.cluster);
    let namespace = or(&reference.namespace, &policy.source.key.namespace);
    let key = (namespace, Name::from(&reference.name));
    let server = model.clusters.get(&cluster).and_then(|input| input.ext_auth_servers().get(&key));
    let server = server.filter(|_| model.config_owner(&cluster, &key.0).is_some());
    let wanted = || {
        let key = ObjectKey::new(Gvk::new("admin.gloo.solo.io", "v2", "ExtAuthServer"), key.0.clone(), key.1.clone());
        ResourceRef { cluster: cluster.clone(), key }
    };
    server.map(|server| (wanted(), Arc::clone(server))).ok_or_else(|| {
        let text = format!("spec.config.server: {} does not exist or belongs to no workspace", wanted());
        (Code::NotFound, text)
    })
}

/// The oldest server of a workspace.
fn of_workspace(model: &Model, owner: &Workspace) -> Option<Found> {
    let all = model.clusters.iter().flat_map(|(cluster, input)| {
        let servers = input.ext_auth_servers().values();
        servers.map(move |server| (cluster, server))
    });
    let own = all.filter(|(cluster, server)| {
        model.config_owner(cluster, server.namespace()).is_some_and(|of| of.name == owner.name)
    });
    let oldest = own.min_by_key(|(cluster, server)| server.age(cluster));
    oldest.map(|(cluster, server)| (server.reference(cluster), Arc::clone(server)))
}

/// The Service that approves where nobody says otherwise: in the proxies' own cluster if there is one.
fn default_service(caller: &Caller<'_>, named_by: &ResourceRef, owner: &Workspace) -> Result<Target, Finding> {
    let here = &caller.context.cluster;
    let mut clusters: Vec<_> = caller.model.clusters.iter().collect();
    clusters.sort_by_key(|(cluster, _)| *cluster != here);
    let mut problem = None;
    for (cluster, input) in clusters {
        let mut namespaces: Vec<&Name> = input.namespaces().keys().collect();
        namespaces.sort_by_key(|namespace| *namespace != DEFAULT_NAMESPACE);
        for namespace in namespaces {
            let Some(service) = input.services().get(&(namespace.clone(), DEFAULT_SERVICE.into())) else { continue };
            let (name, number) = DEFAULT_PORT;
            let ports = &service.spec.ports;
            let port = if ports.iter().any(|port| port.name == name) {
                Some(PortSelector { number: None, name: Some(name.to_owned()) })
            } else {
                let is_there = ports.iter().any(|port| port.port == number);
                is_there.then_some(PortSelector { number: Some(number), name: None })
            };
            let reference = ObjectReference {
                name: DEFAULT_SERVICE.to_owned(),
                namespace: namespace.to_string(),
                cluster: cluster.to_string(),
            };
            let destination = DestinationReference { r#ref: Some(reference), port, ..DestinationReference::default() };
            match caller.find(&destination, named_by, owner) {
                Ok(target) => return Ok(target),
                Err(found) => problem = problem.or(Some(found)),
            }
        }
    }
    let text = format!(
        "expected an ExtAuthServer in workspace {}, or a Service {DEFAULT_SERVICE} that it sees and the proxies of \
         cluster {here} reach",
        owner.name
    );
    let text = problem.map_or_else(|| text.clone(), |(_, problem)| format!("{text}, but {problem}"));
    Err((Code::NoAuthServer, text))
}
