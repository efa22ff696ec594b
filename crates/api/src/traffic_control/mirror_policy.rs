use crate::references::DestinationReference;
use crate::selectors::RouteSelector;
use crate::status::Status;

message! {
    /// Sends a copy of requests elsewhere, whose answers nobody waits for.
    pub struct MirrorPolicySpec {
        /// The routes; empty means all of the workspace.
        pub apply_to_routes: Vec<RouteSelector>,
        /// Where copies go.
        pub config: Option<MirrorConfig>,
    }
}

message! {
    /// Where copies go, and of how many requests.
    pub struct MirrorConfig {
        /// Where copies go.
        pub destination: Option<DestinationReference>,
        /// Share of the requests in percent; absent means all.
        #[schemars(extend("nullable" = true))]
        pub percentage: Option<f64>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct MirrorPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
    }
}
