//! Copies of requests.

use meshrelay_api::istio::virtual_service::{HttpRoute, Percent};
use meshrelay_api::selectors::RouteSelector;
use meshrelay_api::traffic_control::MirrorPolicySpec;

use super::{RoutePolicies, RoutePolicy};
use crate::ContextId;
use crate::report::{Code, Finding, Notes, Severity};
use crate::units::route_table::destination;

impl RoutePolicy for MirrorPolicySpec {
    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn problem(&self) -> Option<Finding> {
        let Some(config) = self.config.as_ref().filter(|config| config.destination.is_some()) else {
            return Some((Code::Missing, "spec.config.destination: expected a destination, found none".to_owned()));
        };
        let bad = config.percentage.filter(|share| !(0.0..=100.0).contains(share))?;
        Some((Code::BadValue, format!("spec.config.percentage: expected 0 to 100, found {bad}")))
    }
}

/// A mirror that leads nowhere is left out: the requests themselves go on.
pub(super) fn apply(policies: &RoutePolicies, route: &mut HttpRoute, context: &ContextId, notes: &mut Notes) {
    let Some(policy) = &policies.mirror else { return };
    match &policies.mirrored {
        Some(Ok(target)) => {
            let share = policy.input.spec.config.as_ref().and_then(|config| config.percentage);
            route.mirror = Some(destination(target));
            route.mirror_percentage = share.map(|share| Percent { value: Some(share) });
        }
        Some(Err((code, problem))) => {
            let severity = if *code == Code::NotTranslated { Severity::Warning } else { Severity::Failed };
            let text = format!("spec.config.destination: {problem}: requests are not copied");
            notes.say_in(&policy.source, context, severity, *code, text);
        }
        None => {}
    }
}
