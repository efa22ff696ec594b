//! JSON web tokens.
//!
//! Each policy has a filter of its own, so that its providers cannot be taken for those of another one, and nothing of
//! what the others trust changes with it. A policy that cannot be put in force closes its routes.

mod claims;
mod filter;
mod keys;

use std::sync::Arc;

use meshrelay_api::security::JwtPolicySpec;
use meshrelay_api::selectors::{DestinationSelector, RouteSelector};
use serde_json::json;

use super::caller::Caller;
use super::effect::{Effect, Phase, Position};
use super::inbound::ServicePolicy;
use crate::model::Workspace;
use crate::policies::Policy;
use crate::policies::routes::RoutePolicy;
use crate::report::{Code, Finding, Notes, Severity};

impl RoutePolicy for JwtPolicySpec {
    const COUNTERS: &'static [&'static str] = &["numSelectedRoutes", "numSelectedDestinationPorts"];
    const IS_IN_VIRTUAL_SERVICES: bool = false;

    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn holds_by_default(&self) -> bool {
        self.apply_to_destinations.is_empty()
    }
}

impl ServicePolicy for JwtPolicySpec {
    fn services(&self) -> Option<&[DestinationSelector]> {
        Some(&self.apply_to_destinations)
    }
}

type JwtPolicy = Arc<Policy<JwtPolicySpec>>;

/// What access logs say about requests that a policy refuses because it cannot be put in force.
const WHY_CLOSED: &str = "jwt-not-in-force";

/// Types of the filter for rules over claims, and of what routes say to it.
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const RBAC_PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";

/// What a policy does to requests that pass some proxies.
pub(super) fn effects(caller: &Caller<'_>, policy: &JwtPolicy, notes: &mut Notes) -> Vec<Effect> {
    let Some(owner) = caller.model.workspaces.get(&policy.workspace) else { return Vec::new() };
    in_force(caller, policy, owner, notes).unwrap_or_else(|(code, problem)| {
        let text = format!("{problem}: requests are answered with status 403");
        let severity = if code == Code::NotTranslated { Severity::Warning } else { Severity::Invalid };
        notes.say_in(&policy.source, caller.context, severity, code, text);
        vec![Effect::closed(WHY_CLOSED, vec![policy.source.clone()])]
    })
}

fn in_force(
    caller: &Caller<'_>,
    policy: &JwtPolicy,
    owner: &Workspace,
    notes: &mut Notes,
) -> Result<Vec<Effect>, Finding> {
    if policy.input.flaw.is_some() {
        return Err((Code::BadType, "spec.config cannot be read".to_owned()));
    }
    let config = policy.input.spec.config.as_ref();
    let config = config.ok_or_else(|| (Code::Missing, "spec.config: expected providers, found nothing".to_owned()))?;
    let mut sources = vec![policy.source.clone()];
    let mut servers = filter::Servers::new();
    for (name, provider) in &config.providers {
        let Some(destination) = provider.remote.as_ref().and_then(|remote| remote.destination_ref.as_ref()) else {
            continue;
        };
        let target = caller.find(destination, &policy.source, owner).and_then(|target| {
            let is_whole = target.subset.is_empty();
            is_whole.then_some(target).ok_or_else(|| (Code::BadValue, "expected no subset of a Service".to_owned()))
        });
        if let Ok(target) = &target {
            sources.push(target.destination.clone());
            sources.extend(caller.services(target));
        }
        servers.insert(name.clone(), target.map(|target| target.envoy_cluster()));
    }
    let source = &policy.source;
    let (cluster, key) = (&source.cluster, &source.key);
    let filters = filter::filters(config, &format!("{}.{}.{cluster}", key.name, key.namespace), &servers)?;
    for (code, text) in filters.gaps {
        notes.say(source, Severity::Warning, code, text);
    }
    let (phase, priority) = Phase::of(config.phase.as_ref(), Phase::PreAuthz);
    let at = |filter: String| Position { phase, priority, filter };
    let (base, route) = filters.tokens;
    let tokens = at(format!("jwt/{cluster}/{}/{}", key.namespace, key.name));
    let mut effects = vec![Effect::idle(tokens, base, route, sources.clone())];
    if let Some(rules) = filters.claims {
        let route = json!({"@type": RBAC_PER_ROUTE, "rbac": {"rules": rules}});
        // Behind all filters that read tokens, which stand by name.
        effects.push(Effect::idle(at("jwt_claims".to_owned()), json!({"@type": RBAC}), route, sources));
    }
    Ok(effects)
}
