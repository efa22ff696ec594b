use crate::Duration;
use crate::duration::whole_milliseconds;
use crate::selectors::RouteSelector;
use crate::status::Status;

message! {
    /// How long requests may take, and how often they are tried.
    #[schemars(extend("required" = ["config"]))]
    pub struct RetryTimeoutPolicySpec {
        /// The routes; empty means all of the workspace.
        pub apply_to_routes: Vec<RouteSelector>,
        /// What holds for them.
        pub config: Option<RetryTimeoutConfig>,
    }
}

message! {
    /// Retries, a timeout, or both.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "has(self.retries) || has(self.requestTimeout)",
        "message": "expected retries or requestTimeout, found neither",
    }]))]
    pub struct RetryTimeoutConfig {
        /// When and how often a failed request is sent again.
        pub retries: Option<RetryPolicy>,
        /// How long a request may take, its retries included.
        #[schemars(extend("x-kubernetes-validations" = whole_milliseconds()))]
        pub request_timeout: Option<Duration>,
    }
}

message! {
    /// When and how often a failed request is sent again.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!has(self.attempts) || self.attempts != 0 || (!has(self.perTryTimeout) && !has(self.retryOn) && \
                 !has(self.retryRemoteLocalities))",
        "message": "expected no perTryTimeout, retryOn and retryRemoteLocalities beside attempts 0",
    }]))]
    pub struct RetryPolicy {
        /// How often, 2 times by default; 0 switches retries off.
        #[schemars(range(min = 0), extend("nullable" = true))]
        pub attempts: Option<i32>,
        /// How long each attempt may take.
        #[schemars(extend("x-kubernetes-validations" = whole_milliseconds()))]
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
