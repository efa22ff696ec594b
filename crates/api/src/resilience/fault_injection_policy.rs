use serde_json::{Value, json};

use crate::Duration;
use crate::duration::whole_milliseconds;
use crate::selectors::RouteSelector;
use crate::status::Status;

message! {
    /// Makes requests late or fail on purpose.
    pub struct FaultInjectionPolicySpec {
        /// The routes; empty means all of the workspace.
        pub apply_to_routes: Vec<RouteSelector>,
        /// What happens to their requests.
        pub config: Option<FaultInjectionConfig>,
    }
}

message! {
    /// A delay, an abort, or first the one and then the other.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "has(self.delay) || has(self.abort)",
        "message": "expected delay or abort, found neither",
    }]))]
    pub struct FaultInjectionConfig {
        /// Requests wait.
        pub delay: Option<FaultDelay>,
        /// Requests are answered with an error instead of being sent on.
        pub abort: Option<FaultAbort>,
    }
}

message! {
    /// Some requests wait.
    #[schemars(extend("required" = ["fixedDelay"]))]
    pub struct FaultDelay {
        /// How long.
        #[schemars(extend("x-kubernetes-validations" = whole_milliseconds()))]
        pub fixed_delay: Option<Duration>,
        /// How many of the requests in percent; absent means all.
        #[schemars(range(max = 100), extend("nullable" = true, "x-kubernetes-validations" = percentage()))]
        pub percentage: Option<f64>,
    }
}

message! {
    /// Some requests are answered with an error.
    #[schemars(extend("required" = ["httpStatus"]))]
    pub struct FaultAbort {
        /// Status of the answer.
        #[schemars(range(min = 200, max = 599))]
        pub http_status: i32,
        /// How many of the requests in percent; absent means all.
        #[schemars(range(max = 100), extend("nullable" = true, "x-kubernetes-validations" = percentage()))]
        pub percentage: Option<f64>,
    }
}

/// Proxies count in millionths.
fn percentage() -> Value {
    json!([{"rule": "self == 0.0 || self >= 0.0001", "message": "expected 0 or 0.0001 to 100"}])
}

message! {
    /// What the server tells about the policy.
    pub struct FaultInjectionPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
    }
}
