use crate::Duration;
use crate::selectors::RouteSelector;
use crate::status::Status;

message! {
    /// How long requests may take, and how often they are tried.
    pub struct RetryTimeoutPolicySpec {
        /// The routes; empty means all of the workspace.
        pub apply_to_routes: Vec<RouteSelector>,
        /// What holds for them.
        #[schemars(required)]
        pub config: Option<RetryTimeoutConfig>,
    }
}

message! {
    /// Retries, a timeout, or both.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "has(self.requestTimeout) || has(self.retries)",
        "message": "expected retries or requestTimeout, found neither",
    }]))]
    pub struct RetryTimeoutConfig {
        /// When and how often a failed request is sent again.
        pub retries: Option<RetryPolicy>,
        /// How long a request may take, its retries included.
        pub request_timeout: Option<Duration>,
    }
}

message! {
    /// When and how often a failed request is sent again.
    pub struct RetryPolicy {
        /// How often; 0 switches retries off.
        #[schemars(range(min = 0), extend("nullable" = true))]
        pub attempts: Option<i32>,
        /// How long each attempt may take.
        pub per_try_timeout: Option<Duration>,
        /// Conditions and status codes, separated by commas.
        #[schemars(regex(pattern = "^[^,]+(?:,[^,]+)*$"))]
        pub retry_on: String,
        /// Whether other localities are tried.
        #[schemars(extend("nullable" = true))]
        pub retry_remote_localities: Option<bool>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct RetryTimeoutPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
    }
}
