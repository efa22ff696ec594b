//! Rate limits: a server counts requests by what proxies tell about them.
//!
//! Each server, with its settings, has its own filter, so that routes of one gateway can have different ones. What a
//! route tells is its own, so the filters do nothing on other routes.

mod actions;
mod config;
mod server;

use std::sync::Arc;

use meshrelay_api::rate_limits::RateLimitActions;
use meshrelay_api::references::ObjectReference;
use meshrelay_api::selectors::{DestinationSelector, RouteSelector};
use meshrelay_api::traffic_control::{RateLimitConfig, RateLimitConfigType, RateLimitPolicySpec};
use serde_json::json;

pub(crate) use config::RateLimitConfigs;
pub(super) use config::gather;
use server::Server;

use super::caller::Caller;
use super::effect::{Effect, Phase, Position};
use super::inbound::ServicePolicy;
use crate::ResourceRef;
use crate::input::{ClusterInput, Input, Table};
use crate::model::{Model, Workspace};
use crate::names;
use crate::policies::Policy;
use crate::policies::routes::RoutePolicy;
use crate::report::{Code, Finding, Notes, Severity};

impl RoutePolicy for RateLimitPolicySpec {
    const COUNTERS: &'static [&'static str] = &["numSelectedRoutes", "numSelectedDestinationPorts"];
    const IS_IN_VIRTUAL_SERVICES: bool = false;

    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn holds_by_default(&self) -> bool {
        false
    }
}

impl ServicePolicy for RateLimitPolicySpec {
    fn services(&self) -> Option<&[DestinationSelector]> {
        let all = self.apply_to_destinations.is_empty() && self.apply_to_routes.is_empty();
        (!all).then_some(&self.apply_to_destinations)
    }
}

type RateLimitPolicy = Arc<Policy<RateLimitPolicySpec>>;

/// What access logs say about requests that a policy refuses because there is nobody to count them.
const WHY_CLOSED: &str = "rate-limit-not-in-force";

/// What the filter is told by routes, which are limits of their own.
const PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";

/// What a policy does to requests that pass some proxies.
pub(super) fn effects(caller: &Caller<'_>, policy: &RateLimitPolicy, notes: &mut Notes) -> Vec<Effect> {
    let Some(owner) = caller.model.workspaces.get(&policy.workspace) else { return Vec::new() };
    in_force(caller, policy, owner, notes).unwrap_or_else(|(code, problem)| {
        let severity = severity(code);
        notes.say_in(&policy.source, caller.context, severity, code, format!("{problem}: nothing is limited"));
        Vec::new()
    })
}

/// How bad a finding is: a server that some proxies do not reach may be right for others.
fn severity(code: Code) -> Severity {
    match code {
        Code::NothingLimited
        | Code::NotTranslated
        | Code::NoRateLimitServer
        | Code::NotFederated
        | Code::Unreachable => Severity::Warning,
        _ => Severity::Invalid,
    }
}

fn in_force(
    caller: &Caller<'_>,
    policy: &RateLimitPolicy,
    owner: &Workspace,
    notes: &mut Notes,
) -> Result<Vec<Effect>, Finding> {
    let (model, source) = (caller.model, &policy.source);
    let config = policy.input.spec.config.as_ref();
    let config = config.ok_or_else(|| (Code::Missing, "spec.config: expected something, found nothing".to_owned()))?;
    let Some(counted) = &config.ratelimit_server_config else {
        let text = "spec.config.ratelimitServerConfig: no configuration is named, so that nothing is counted";
        return Err((Code::NothingLimited, text.to_owned()));
    };
    let (counted, server_config) =
        named(model, source, counted, "RateLimitServerConfig", ClusterInput::rate_limit_server_configs)
            .map_err(|text| (Code::NotFound, format!("spec.config.ratelimitServerConfig: {text}")))?;
    let (describer, limits, place) = described(model, source, config)?;
    let server = Server::find(caller, policy, config.server_settings.as_ref(), owner)?;
    let mut sources = vec![source.clone(), counted.clone()];
    sources.extend([&describer, &server.source].into_iter().flatten().cloned());
    if let (Some(settings), Err((code, problem))) = (&server.source, &server.target) {
        notes.say_in(settings, caller.context, severity(*code), *code, problem.clone());
    }
    let target = match &server.target {
        Ok(target) => target,
        Err((code, problem)) if server.denies() => {
            let text =
                format!("{}{problem}: requests are answered with status 403, as denyOnFail is set", server.place());
            notes.say_in(source, caller.context, severity(*code), *code, text);
            return Ok(vec![Effect::closed(WHY_CLOSED, sources)]);
        }
        Err((code, problem)) => return Err((*code, format!("{}{problem}", server.place()))),
    };
    notes.refer(source, "destinationServer", target.destination.clone());
    let services = caller.services(target);
    let mut told = Notes::default();
    let configured = config::services(model, caller.hosts, &counted, &server_config.spec, &mut told);
    let Some(service) = services.iter().find(|service| configured.contains(*service)) else {
        let text = format!("{} is none of the servers that {counted} is for, so that it counts nothing", target.host);
        return Err((Code::NothingLimited, text));
    };
    let id = config_id(&counted, service);
    if let Some(other) = services.iter().find(|other| config_id(&counted, other) != id) {
        let text = format!(
            "{service} and {other} are behind one server: as they differ in name or namespace, only the first counts"
        );
        notes.say_in(source, caller.context, Severity::Warning, Code::RateLimitServersDiffer, text);
    }
    let mut problems = Vec::new();
    let rate_limits = actions::descriptions(&limits, &id, place, &mut problems);
    let said_on = describer.as_ref().unwrap_or(source);
    for (code, text) in problems {
        notes.say(said_on, severity(code), code, text);
    }
    if rate_limits.is_empty() {
        let text = "no request is described to the server, so that it counts nothing".to_owned();
        return Err((Code::NothingLimited, text));
    }
    sources.push(target.destination.clone());
    sources.extend(services.iter().cloned());
    let (phase, priority) = Phase::of(config.phase.as_ref(), Phase::PostAuthz);
    let position = Position { phase, priority, filter: format!("rate_limit/{}", server.name(target)) };
    let route = json!({"@type": PER_ROUTE, "rateLimits": rate_limits});
    Ok(vec![Effect { asked: services, ..Effect::idle(position, server.filter(target), route, sources) }])
}

/// How requests are described: the RateLimitClientConfig, if they are described in one, the descriptions, and the field
/// that they are in.
type Described = (Option<ResourceRef>, Vec<RateLimitActions>, &'static str);

fn described(model: &Model, source: &ResourceRef, config: &RateLimitConfig) -> Result<Described, Finding> {
    match config.config_type().map_err(|conflict| Code::split(&conflict))? {
        Some(RateLimitConfigType::Raw(raw)) => Ok((None, raw.rate_limits.clone(), "spec.config.raw.rateLimits")),
        Some(RateLimitConfigType::RatelimitClientConfig(reference)) => {
            let (source, found) =
                named(model, source, reference, "RateLimitClientConfig", ClusterInput::rate_limit_client_configs)
                    .map_err(|text| (Code::NotFound, format!("spec.config.ratelimitClientConfig: {text}")))?;
            let limits = found.spec.raw.as_ref().map(|raw| raw.rate_limits.clone()).unwrap_or_default();
            Ok((Some(source), limits, "spec.raw.rateLimits"))
        }
        None => {
            let text = "spec.config: expected raw or ratelimitClientConfig, found neither";
            Err((Code::Missing, text.to_owned()))
        }
    }
}

/// An object that a resource names; what is left out of the reference is that of the resource.
///
/// # Errors
/// When there is no such object, or it belongs to no workspace.
fn named<'a, T>(
    model: &'a Model,
    from: &ResourceRef,
    reference: &ObjectReference,
    kind: &str,
    table: impl Fn(&'a ClusterInput) -> Table<'a, T>,
) -> Result<(ResourceRef, &'a Arc<Input<T>>), String> {
    let (cluster, key) = from.named(reference);
    let found = model.clusters.get(&cluster).and_then(|input| table(input).get(&key));
    let found = found.filter(|_| model.config_owner(&cluster, &key.0).is_some());
    found.map(|found| (found.reference(&cluster), found)).ok_or_else(|| {
        let (namespace, name) = &key;
        format!("{kind} {cluster}/{namespace}/{name} does not exist or belongs to no workspace")
    })
}

/// Name of the RateLimitConfig that a server's Service gets.
fn config_name(config: &ResourceRef, service: &ResourceRef) -> String {
    let ResourceRef { cluster, key } = config;
    names::sanitize(&format!("{}-{}-{cluster}-{}", key.name, key.namespace, service.key.name))
}

/// By what a server knows a RateLimitConfig.
fn config_id(config: &ResourceRef, service: &ResourceRef) -> String {
    format!("{}.{}", service.key.namespace, config_name(config, service))
}
