//! Which server approves.

use std::sync::Arc;

use meshrelay_api::admin::ExtAuthServerSpec;
use meshrelay_api::references::ObjectReference;
use meshrelay_snapshot::{Gvk, ObjectKey};

use super::{ExtAuthPolicy, filter};
use crate::ResourceRef;
use crate::input::{Input, Ours};
use crate::model::{Model, Workspace};
use crate::reads::take;
use crate::report::{Code, Finding};
use crate::units::http_filters::caller::{Caller, DefaultService};
use crate::units::route_table::Target;

/// The Service that approves where nobody says otherwise.
const DEFAULT: DefaultService = DefaultService {
    name: "ext-auth-service",
    port: ("grpc", 8083),
    instead_of: "an ExtAuthServer",
    code: Code::NoAuthServer,
};

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
            let target = caller.default_service(&DEFAULT, &policy.source, owner)?;
            return Ok(Self { source: None, settings: None, target });
        };
        // A server may be named from other workspaces; what it stands for is seen by its own.
        let owner = model.owner(&source.cluster, &source.key.namespace).unwrap_or(owner);
        let of_server = |(code, problem): Finding| (code, format!("{source}: {problem}"));
        if let Some(flaw) = filter::flaw(&settings.spec) {
            return Err(of_server(flaw));
        }
        let target = match &settings.spec.destination_server {
            None => caller.default_service(&DEFAULT, &source, owner)?,
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
    let (cluster, key) = policy.source.named(reference);
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

/// The server that a policy asks, whether or not it can be reached.
pub(in crate::units::http_filters) fn asked(model: &Model, policy: &ExtAuthPolicy) -> Option<ResourceRef> {
    let config = policy.input.spec.config.as_ref()?;
    let found = match &config.server {
        Some(reference) => named_server(model, policy, reference).ok(),
        None => of_workspace(model, model.workspaces.get(&policy.workspace)?),
    };
    found.filter(|_| config.disable != Some(true)).map(|(server, _)| server)
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
    let (cluster, server) = own.min_by_key(|(cluster, server)| server.age(cluster))?;
    let source = server.reference(cluster);
    take(&source);
    Some((source, Arc::clone(server)))
}
