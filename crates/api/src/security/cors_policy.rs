use crate::Duration;
use crate::matchers::StringMatch;
use crate::selectors::RouteSelector;
use crate::status::Status;

message! {
    /// Which web pages of other origins may call.
    pub struct CorsPolicySpec {
        /// The routes; empty means all of the workspace.
        pub apply_to_routes: Vec<RouteSelector>,
        /// What browsers are told.
        pub config: Option<CorsConfig>,
    }
}

message! {
    /// What browsers are told.
    pub struct CorsConfig {
        /// Origins that may call.
        pub allow_origins: Vec<StringMatch>,
        /// Methods that they may use.
        pub allow_methods: Vec<String>,
        /// Request headers that they may send.
        pub allow_headers: Vec<String>,
        /// Response headers that they may read.
        pub expose_headers: Vec<String>,
        /// How long browsers may remember the answer.
        pub max_age: Option<Duration>,
        /// Whether they may send cookies and the like.
        #[schemars(extend("nullable" = true))]
        pub allow_credentials: Option<bool>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct CorsPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
    }
}
