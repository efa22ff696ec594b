use crate::Duration;
use crate::selectors::DestinationSelector;
use crate::status::Status;

message! {
    /// When an endpoint that fails gets no traffic for a while.
    pub struct OutlierDetectionPolicySpec {
        /// The destinations, VirtualDestinations or ExternalServices; empty means all that the workspace sees.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What holds for them.
        pub config: Option<OutlierDetectionConfig>,
    }
}

message! {
    /// When an endpoint is taken out, and for how long.
    pub struct OutlierDetectionConfig {
        /// Number of errors in a row after which an endpoint is taken out; 5 by default.
        #[schemars(extend("nullable" = true))]
        pub consecutive_errors: Option<u32>,
        /// How often endpoints are looked at; 10 seconds by default.
        pub interval: Option<Duration>,
        /// How long an endpoint stays out the first time, and how much longer each further time; 30 seconds by default.
        pub base_ejection_time: Option<Duration>,
        /// Share of the endpoints in percent that may be out at one time; 0 means 100.
        pub max_ejection_percent: u32,
        /// Number of gateway errors (502, 503, 504) in a row after which an endpoint is taken out; absent means they
        /// count as any other.
        #[schemars(extend("nullable" = true))]
        pub consecutive_gateway_errors: Option<u32>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct OutlierDetectionPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of destinations that it selects.
        pub num_selected_destination_ports: u32,
    }
}
