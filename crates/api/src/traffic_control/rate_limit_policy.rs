use crate::phases::PrioritizedPhase;
use crate::rate_limits::RawRateLimits;
use crate::references::{DestinationReference, ObjectReference};
use crate::selectors::{DestinationSelector, RouteSelector};
use crate::status::Status;

message! {
    /// How many requests may come.
    pub struct RateLimitPolicySpec {
        /// The routes; empty means none.
        pub apply_to_routes: Vec<RouteSelector>,
        /// The destinations, Services only; empty means all if no routes are given, and none otherwise.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What is limited.
        pub config: Option<RateLimitConfig>,
    }
}

message! {
    /// What is limited, and by whom.
    pub struct RateLimitConfig {
        /// Before or after external authorization; after it by default.
        pub phase: Option<PrioritizedPhase>,
        /// The RateLimitServerConfig that says what is counted; without one, nothing is limited.
        pub ratelimit_server_config: Option<ObjectReference>,
        /// The RateLimitServerSettings; absent means the default server.
        pub server_settings: Option<ObjectReference>,
        /// How requests are described, written here.
        pub raw: Option<RawRateLimits>,
        /// How requests are described, in a RateLimitClientConfig.
        pub ratelimit_client_config: Option<ObjectReference>,
    }

    /// Where it is written how requests are described.
    oneof config_type: RateLimitConfigType {
        raw: Raw(RawRateLimits), ratelimit_client_config: RatelimitClientConfig(ObjectReference),
    }
}

message! {
    /// What the server tells about the policy.
    pub struct RateLimitPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of destinations that it applies to.
        pub num_selected_destination_ports: u32,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
        /// The server that counts.
        pub destination_server: Option<DestinationReference>,
    }
}
