use std::collections::BTreeMap;

use crate::selectors::{RouteDestinationSelector, RouteSelector};
use crate::status::Status;

message! {
    /// Adds and takes away headers of requests and answers.
    pub struct HeaderManipulationPolicySpec {
        /// The routes. All of the workspace if no destinations are selected either.
        pub apply_to_routes: Vec<RouteSelector>,
        /// What changes.
        pub config: Option<HeaderManipulationConfig>,
        /// Routes as far as they lead to some destinations.
        pub apply_to_route_destinations: Vec<RouteDestinationSelector>,
    }
}

message! {
    /// What changes. Taking away comes before adding.
    pub struct HeaderManipulationConfig {
        /// Names of headers that answers lose.
        pub remove_response_headers: Vec<String>,
        /// Headers that answers get, beside values that they have already.
        pub append_response_headers: BTreeMap<String, String>,
        /// Names of headers that requests lose.
        pub remove_request_headers: Vec<String>,
        /// Headers that requests get, beside values that they have already.
        pub append_request_headers: BTreeMap<String, String>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct HeaderManipulationPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
    }
}
