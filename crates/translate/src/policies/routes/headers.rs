//! Headers that requests and answers get and lose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::virtual_service::{HeaderOperations, Headers, HttpRoute};
use meshrelay_api::selectors::{RouteDestinationSelector, RouteSelector};
use meshrelay_api::traffic_control::{HeaderManipulationConfig, HeaderManipulationPolicySpec};
use meshrelay_snapshot::{Gvk, Name, ObjectKey};

use super::{RoutePolicies, RoutePolicy, Selected, in_force};
use crate::ResourceRef;
use crate::policies::{Book, Destination, Policy, Route, oldest};
use crate::report::{Code, Finding, Notes, Severity};
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
            if !is_name(name) || is_authority(name) {
                let hint = if is_authority(name) { ": hosts are rewritten by forwardTo.hostRewrite" } else { "" };
                return Some(format!("{field}: expected the name of a header other than Host, found {name:?}{hint}"));
            }
            if let Some(problem) = value_problem(value) {
                return Some(format!("{field}: {name}: {problem}"));
            }
        }
    }
    None
}

/// Whether a text can be the name of a header; proxies refuse what is not a token.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}
