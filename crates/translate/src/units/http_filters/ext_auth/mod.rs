//! External authorization: a server approves requests.
//!
//! Each server has its own filter, so that routes of one gateway can have different ones. A policy that cannot be put
//! in force closes its routes.

mod auth_config;
mod filter;
mod server;

use std::sync::Arc;

use meshrelay_api::security::{ExtAuthPolicySpec, ExtAuthType};
use meshrelay_api::selectors::{DestinationSelector, RouteSelector};
use serde_json::{Value, json};

pub(crate) use auth_config::AuthConfigs;
pub(super) use auth_config::gather;
use server::Server;
pub(super) use server::asked;

use super::caller::Caller;
use super::effect::{Effect, Phase, Position};
use super::inbound::ServicePolicy;
use crate::model::Workspace;
use crate::names;
use crate::policies::Policy;
use crate::policies::routes::RoutePolicy;
use crate::report::{Code, Finding, Notes, Severity};
use crate::{ContextId, ResourceRef};

impl RoutePolicy for ExtAuthPolicySpec {
    const COUNTERS: &'static [&'static str] = &["numSelectedRoutes", "numSelectedDestinationPorts"];
    const IS_IN_VIRTUAL_SERVICES: bool = false;

    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn holds_by_default(&self) -> bool {
        false
    }
}

impl ServicePolicy for ExtAuthPolicySpec {
    fn services(&self) -> Option<&[DestinationSelector]> {
        let all = self.apply_to_destinations.is_empty() && self.apply_to_routes.is_empty();
        (!all).then_some(&self.apply_to_destinations)
    }
}

type ExtAuthPolicy = Arc<Policy<ExtAuthPolicySpec>>;

/// What access logs say about requests that a policy refuses because it cannot be put in force.
const WHY_CLOSED: &str = "ext-auth-not-in-force";

/// What a policy asks of a server.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Approval {
    policy: ExtAuthPolicy,
    /// The ExtAuthServer, if there is one.
    server: Option<ResourceRef>,
    /// Services that need the policy's AuthConfig, each with the context that it goes to.
    configured: Vec<(ResourceRef, ContextId)>,
    /// All Services behind the server.
    services: Vec<ResourceRef>,
}

impl Approval {
    /// Whether a Service is behind the server.
    pub(super) fn asks(&self, service: &ResourceRef) -> bool {
        self.services.contains(service)
    }
}

/// What a policy does to requests that pass some proxies.
pub(super) fn effects(caller: &Caller<'_>, policy: &ExtAuthPolicy, notes: &mut Notes) -> Vec<Effect> {
    let Some(owner) = caller.model.workspaces.get(&policy.workspace) else { return Vec::new() };
    match effect(caller, policy, owner, notes) {
        Ok(effect) => effect.into_iter().collect(),
        Err((code, problem)) => {
            let text = format!("{problem}: requests are answered with status 403");
            let severity = match code {
                Code::NoAuthServer | Code::NotFederated | Code::Unreachable => Severity::Failed,
                _ => Severity::Invalid,
            };
            notes.say_in(&policy.source, caller.context, severity, code, text);
            vec![Effect::closed(WHY_CLOSED, vec![policy.source.clone()])]
        }
    }
}

fn effect(
    caller: &Caller<'_>,
    policy: &ExtAuthPolicy,
    owner: &Workspace,
    notes: &mut Notes,
) -> Result<Option<Effect>, Finding> {
    let missing = |text: &str| (Code::Missing, text.to_owned());
    if policy.input.flaw.is_some() {
        return Err((Code::BadType, "spec.config cannot be read".to_owned()));
    }
    let config = policy.input.spec.config.as_ref();
    let config = config.ok_or_else(|| missing("spec.config: expected glooAuth or customAuth, found nothing"))?;
    let kind = config.auth_type().map_err(|conflict| Code::split(&conflict))?;
    if matches!(kind, Some(ExtAuthType::Disable(true))) {
        let text = "spec.config.disable is no longer supported: the routes need no approval";
        notes.say(&policy.source, Severity::Warning, Code::NotTranslated, text);
        return Ok(None);
    }
    let server = Server::find(caller, policy, config.server.as_ref(), owner)?;
    let services = caller.services(&server.target);
    let mut configured = Vec::new();
    let extensions: Value = match kind {
        Some(ExtAuthType::CustomAuth(custom)) => json!(custom.context_extensions),
        Some(ExtAuthType::GlooAuth(auth)) => {
            if auth.configs.is_empty() {
                return Err(missing("spec.config.glooAuth.configs: expected at least one step, found none"));
            }
            let homes = services.iter().filter_map(|service| {
                Some((service.clone(), caller.model.context(&service.cluster, &service.key.namespace)?))
            });
            configured.extend(homes);
            let ids: Vec<String> = services.iter().map(|service| config_id(policy, service)).collect();
            if let Some(other) = ids.iter().position(|id| *id != ids[0]) {
                let text = format!(
                    "{} and {} are behind one server: as they differ in name or namespace, only the first knows what \
                     is asked, and the other refuses",
                    services[0], services[other]
                );
                notes.say_in(&policy.source, caller.context, Severity::Warning, Code::AuthServersDiffer, text);
            }
            let id = ids.into_iter().next().unwrap_or_default();
            json!({"config_id": id, "source_name": "route", "source_type": "route"})
        }
        Some(ExtAuthType::Disable(_)) | None => {
            return Err(missing("spec.config: expected glooAuth or customAuth, found neither"));
        }
    };
    let mut sources = vec![policy.source.clone(), server.target.destination.clone()];
    sources.extend(server.source.clone());
    sources.extend(services.iter().cloned());
    let position = Position { phase: Phase::Authz, priority: 0, filter: format!("ext_authz/{}", server.name()) };
    let per_route = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute";
    let route = json!({"@type": per_route, "checkSettings": {"contextExtensions": extensions}});
    let pass = Some(json!({"@type": per_route, "disabled": true}));
    let approval = Approval { policy: Arc::clone(policy), server: server.source.clone(), configured, services };
    let config = filter::config(server.spec(), &server.target);
    Ok(Some(Effect { pass, approval: Some(approval), ..Effect::idle(position, config, route, sources) }))
}

/// By what a server knows the AuthConfig of a policy.
fn config_id(policy: &ExtAuthPolicy, service: &ResourceRef) -> String {
    format!("{}.{}", service.key.namespace, auth_config_name(policy, service))
}

fn auth_config_name(policy: &ExtAuthPolicy, service: &ResourceRef) -> String {
    let ResourceRef { cluster, key } = &policy.source;
    names::sanitize(&format!("{}-{}-{cluster}-{}", key.name, key.namespace, service.key.name))
}
