//! Delays and errors on purpose.

use meshrelay_api::istio::virtual_service::{FaultAbort, FaultDelay, HttpFaultInjection, HttpRoute, Percent};
use meshrelay_api::resilience::FaultInjectionPolicySpec;
use meshrelay_api::selectors::RouteSelector;

use super::{RoutePolicies, RoutePolicy, duration_problem};
use crate::report::{Code, Finding};

/// Smallest share beside 0: proxies count in millionths.
const SMALLEST: f64 = 0.0001;

impl RoutePolicy for FaultInjectionPolicySpec {
    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn problem(&self) -> Option<Finding> {
        let (delay, abort) = self.config.as_ref().map(|config| (&config.delay, &config.abort)).unzip();
        let (delay, abort) = (delay.and_then(Option::as_ref), abort.and_then(Option::as_ref));
        if delay.is_none() && abort.is_none() {
            return Some((Code::Missing, "spec.config: expected delay or abort, found neither".to_owned()));
        }
        let problem = delay
            .and_then(|delay| match delay.fixed_delay {
                None => Some("delay.fixedDelay: expected a duration, found none".to_owned()),
                some => duration_problem("delay.fixedDelay", some)
                    .or_else(|| percentage_problem("delay.percentage", delay.percentage)),
            })
            .or_else(|| {
                let abort = abort?;
                let status = abort.http_status;
                let is_bad = !(200..=599).contains(&status);
                let of_status = is_bad.then(|| format!("abort.httpStatus: expected 200 to 599, found {status}"));
                of_status.or_else(|| percentage_problem("abort.percentage", abort.percentage))
            });
        problem.map(|problem| (Code::BadValue, format!("spec.config.{problem}")))
    }
}

fn percentage_problem(field: &str, percentage: Option<f64>) -> Option<String> {
    let bad = percentage.filter(|share| *share != 0.0 && !(SMALLEST..=100.0).contains(share))?;
    Some(format!("{field}: expected 0 or {SMALLEST} to 100, found {bad}"))
}

pub(super) fn apply(policies: &RoutePolicies, route: &mut HttpRoute) {
    let Some(config) = policies.fault_injection.as_ref().and_then(|policy| policy.input.spec.config.as_ref()) else {
        return;
    };
    // Without a share, Istio does not delay at all.
    let percentage = |share: Option<f64>| Some(Percent { value: Some(share.unwrap_or(100.0)) });
    let delay = config.delay.as_ref().map(|delay| FaultDelay {
        fixed_delay: delay.fixed_delay.map(|delay| delay.to_string()),
        percentage: percentage(delay.percentage),
        ..FaultDelay::default()
    });
    let abort = config.abort.as_ref().map(|abort| FaultAbort {
        http_status: Some(abort.http_status),
        percentage: percentage(abort.percentage),
        ..FaultAbort::default()
    });
    route.fault = Some(HttpFaultInjection { abort, delay });
}
