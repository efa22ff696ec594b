//! Headers that requests and answers get and lose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::virtual_service::{HeaderOperations, Headers, HttpRoute};
use meshrelay_api::selectors::RouteSelector;
use meshrelay_api::traffic_control::{HeaderManipulationConfig, HeaderManipulationPolicySpec};

use super::{Candidate, OnDestinations, RoutePolicies, RoutePolicy, Selected, variables};
use crate::ResourceRef;
use crate::policies::{Book, Policy, oldest};
use crate::report::{Code, Finding, Notes};
use crate::units::route_table::Target;

impl RoutePolicy for HeaderManipulationPolicySpec {
    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn holds_by_default(&self) -> bool {
        self.apply_to_route_destinations.is_empty()
    }

    fn problem(&self) -> Option<Finding> {
        self.config.as_ref().and_then(problem).map(|problem| (Code::BadValue, format!("spec.config.{problem}")))
    }
}

fn problem(config: &HeaderManipulationConfig) -> Option<String> {
    for (field, names) in [
        ("removeRequestHeaders", &config.remove_request_headers),
        ("removeResponseHeaders", &config.remove_response_headers),
    ] {
        if let Some(name) = names.iter().find(|name| !is_name(name) || is_authority(name)) {
            return Some(format!("{field}: expected the name of a header other than Host, found {name:?}"));
        }
    }
    for (field, headers) in [
        ("appendRequestHeaders", &config.append_request_headers),
        ("appendResponseHeaders", &config.append_response_headers),
    ] {
        for (name, value) in headers {
            if let Some(problem) = added_problem(name, value) {
                let hint = if is_authority(name) { ": hosts are rewritten by forwardTo.hostRewrite" } else { "" };
                return Some(format!("{field}: {problem}{hint}"));
            }
        }
    }
    None
}

/// Why a header cannot be added to requests or answers.
pub(crate) fn added_problem(name: &str, value: &str) -> Option<String> {
    if !is_name(name) || is_authority(name) {
        return Some(format!("expected the name of a header other than Host, found {name:?}"));
    }
    variables::problem(value).map(|problem| format!("{name}: {problem}"))
}

/// Whether a text can be the name of a header; proxies refuse what is not a token.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}

/// The policies that hold for a route as far as it leads to single destinations.
pub(super) fn pick(
    book: &Book<HeaderManipulationPolicySpec>,
    route: &Candidate<'_>,
    refused: &BTreeSet<ResourceRef>,
    selected: &mut Selected,
    notes: &mut Notes,
) -> OnDestinations {
    let policies = book.of(route.seen.workspace);
    let mut all = OnDestinations::default();
    for destination in route.seen.destinations {
        let selects = |policy: &&Arc<Policy<HeaderManipulationPolicySpec>>| {
            policy.input.spec.apply_to_route_destinations.iter().any(|selector| {
                let wanted = &selector.on_destinations;
                selector.route.as_ref().is_none_or(|wanted| route.seen.has(wanted))
                    && (wanted.is_empty() || wanted.iter().any(|wanted| destination.is_selected(wanted)))
            })
        };
        let selecting: Vec<_> = policies.iter().filter(selects).collect();
        let reference = destination.reference();
        selected.add_all(&selecting, route, refused);
        let target = format!("{}, where it leads to {reference}", route.target);
        if let Some(policy) = oldest(selecting, &target, notes).filter(|policy| !refused.contains(&policy.source)) {
            let port = destination.ports.first().map_or(0, |(number, _)| *number);
            all.push(((reference, port), Arc::clone(policy)));
        }
    }
    all
}

pub(super) fn apply(policies: &RoutePolicies, route: &mut HttpRoute, targets: &[&Target]) {
    if let Some(config) = policies.headers.as_ref().and_then(|policy| policy.input.spec.config.as_ref()) {
        add(config, &mut route.headers);
    }
    for (target, destination) in targets.iter().zip(&mut route.route) {
        let is_here = |on: &&((ResourceRef, u32), _)| (&on.0.0, on.0.1) == (&target.destination, target.port);
        let policy = policies.headers_on.iter().find(is_here).map(|(_, policy)| policy);
        if let Some(config) = policy.and_then(|policy| policy.input.spec.config.as_ref()) {
            add(config, &mut destination.headers);
        }
    }
}

fn add(config: &HeaderManipulationConfig, headers: &mut Option<Headers>) {
    let mut operations =
        |add: &BTreeMap<String, String>, remove: &[String], pick: fn(&mut Headers) -> &mut Option<HeaderOperations>| {
            if add.is_empty() && remove.is_empty() {
                return;
            }
            let operations = pick(headers.get_or_insert_default()).get_or_insert_default();
            operations.add.clone_from(add);
            operations.remove = remove.to_vec();
        };
    operations(&config.append_request_headers, &config.remove_request_headers, |headers| &mut headers.request);
    operations(&config.append_response_headers, &config.remove_response_headers, |headers| &mut headers.response);
}
