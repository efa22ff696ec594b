use crate::locality::Locality;
use crate::selectors::DestinationSelector;
use crate::status::Status;

message! {
    /// Where traffic goes when what is near does not answer.
    pub struct FailoverPolicySpec {
        /// The destinations, Services or VirtualDestinations; empty means all that the workspace sees.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What holds for them.
        pub config: Option<FailoverConfig>,
    }
}

message! {
    /// Where traffic goes. Without anything in it, the nearest locality is preferred.
    pub struct FailoverConfig {
        /// Where traffic goes from where. Beside them, `priorityLabels` has no effect.
        pub locality_mappings: Vec<LocalityMapping>,
        /// Labels by which endpoints are preferred.
        pub priority_labels: Option<PriorityLabels>,
    }

    /// How endpoints are ranked other than by place.
    oneof priority_levels: PriorityLevels { priority_labels: PriorityLabels(PriorityLabels), }
}

message! {
    /// Where traffic from one place goes.
    pub struct LocalityMapping {
        /// Where the clients are.
        pub from: Option<Locality>,
        /// Where their traffic goes: with weights always, without weights when the place itself fails.
        pub to: Vec<WeightedLocality>,
    }
}

message! {
    /// A place with its share of the traffic.
    pub struct WeightedLocality {
        /// Region.
        pub region: String,
        /// Zone of the region.
        pub zone: String,
        /// Part of the zone.
        pub sub_zone: String,
        /// Share in percent; those of one mapping make up 100.
        #[schemars(extend("nullable" = true))]
        pub weight: Option<u32>,
    }
}

message! {
    /// Labels that rank endpoints: the more of them an endpoint shares with the client, counted from the first, the
    /// sooner it is used.
    pub struct PriorityLabels {
        /// Keys of labels, or keys with the wanted value as in `key=value`.
        pub labels: Vec<String>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct FailoverPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of destinations that it selects.
        pub num_selected_destination_ports: u32,
    }
}
