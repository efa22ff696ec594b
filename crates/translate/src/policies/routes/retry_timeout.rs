//! Retries and timeouts.

use meshrelay_api::istio::virtual_service::{HttpRetry, HttpRoute};
use meshrelay_api::resilience::{RetryPolicy, RetryTimeoutPolicySpec};
use meshrelay_api::selectors::RouteSelector;

use super::{RoutePolicies, RoutePolicy, duration_problem};
use crate::report::{Code, Finding};

/// Attempts where none are written, as Istio and the original have it.
const ATTEMPTS: i32 = 2;

/// What Istio takes in `retryOn` beside status codes.
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl RoutePolicy for RetryTimeoutPolicySpec {
    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn problem(&self) -> Option<Finding> {
        let Some(config) = &self.config else {
            return Some((Code::Missing, "spec.config: expected retries or requestTimeout, found neither".to_owned()));
        };
        if config.retries.is_none() && config.request_timeout.is_none() {
            return Some((Code::Missing, "spec.config: expected retries or requestTimeout, found neither".to_owned()));
        }
        let bad = |problem| (Code::BadValue, format!("spec.config.{problem}"));
        let of_retries = config.retries.as_ref().and_then(retries_problem);
        of_retries.or_else(|| duration_problem("requestTimeout", config.request_timeout)).map(bad)
    }
}

fn retries_problem(retries: &RetryPolicy) -> Option<String> {
    let attempts = retries.attempts.unwrap_or(ATTEMPTS);
    if attempts < 0 {
        return Some(format!("retries.attempts: expected 0 or more, found {attempts}"));
    }
    let is_more_set =
        retries.per_try_timeout.is_some() || !retries.retry_on.is_empty() || retries.retry_remote_localities.is_some();
    if attempts == 0 && is_more_set {
        return Some("retries: expected nothing beside attempts 0".to_owned());
    }
    let unknown = conditions(&retries.retry_on).find(|condition| !is_known(condition));
    unknown
        .map(|condition| format!("retries.retryOn: expected conditions or status codes, found {condition:?}"))
        .or_else(|| duration_problem("retries.perTryTimeout", retries.per_try_timeout))
}

/// Istio takes no spaces, which people like to write after a comma.
fn conditions(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

fn is_known(condition: &str) -> bool {
    CONDITIONS.contains(&condition) || condition.parse().is_ok_and(is_status)
}

/// Status codes that have a name in Go: Istio takes no others.
fn is_status(code: u16) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451)
        || matches!(code, 500..=508 | 510 | 511)
}

pub(super) fn apply(policies: &RoutePolicies, route: &mut HttpRoute) {
    let Some(config) = policies.retry_timeout.as_ref().and_then(|policy| policy.input.spec.config.as_ref()) else {
        return;
    };
    route.timeout = config.request_timeout.map(|timeout| timeout.to_string());
    route.retries = config.retries.as_ref().map(|retries| HttpRetry {
        attempts: Some(retries.attempts.unwrap_or(ATTEMPTS)),
        per_try_timeout: retries.per_try_timeout.map(|timeout| timeout.to_string()),
        retry_on: Some(conditions(&retries.retry_on).collect::<Vec<_>>().join(",")).filter(|text| !text.is_empty()),
        retry_remote_localities: retries.retry_remote_localities,
        ..HttpRetry::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_that_istio_knows() {
        assert_eq!(conditions("5xx, reset ,503").collect::<Vec<_>>(), ["5xx", "reset", "503"]);
        assert_eq!(conditions("").count(), 0);
        assert!(conditions("5xx,425,unavailable").all(is_known));
        assert!(!conditions("6xx,306,599,+,,never").any(is_known));
    }
}
