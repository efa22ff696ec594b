//! What the server tells about a resource.

use std::collections::BTreeMap;

named_values! {
    /// What became of a resource.
    pub enum Approval {
        /// Not processed yet.
        Pending = "PENDING",
        /// Valid and in force.
        Accepted = "ACCEPTED",
        /// The configuration is wrong, names something that does not exist, or lost a conflict with an older resource.
        Invalid = "INVALID",
        /// In force, but part of it is wrong.
        Warning = "WARNING",
        /// The configuration is valid, but the system could not be brought to that state.
        Failed = "FAILED",
        /// Needs a licence that is not there; this implementation never says so.
        Unlicensed = "UNLICENSED",
    }
}

message! {
    /// The outcome of processing one generation of a resource.
    pub struct State {
        /// The `metadata.generation` that was processed.
        pub observed_generation: i64,
        /// The outcome.
        pub approval: Approval,
        /// The reason for the outcome, for people.
        pub message: String,
    }
}

message! {
    /// The part of the status that nearly every kind has.
    pub struct Status {
        /// The outcome of the newest generation that was processed.
        #[serde(rename = "State")]
        pub state: Option<State>,
        /// How many workspaces ended in each outcome, by the name of the outcome.
        pub workspace_conditions: BTreeMap<String, u32>,
    }
}

message! {
    /// One aspect of a resource's state, in the form that Kubernetes uses.
    pub struct Condition {
        /// The aspect, such as `ClusterWarm`.
        #[serde(rename = "type")]
        pub kind: String,
        /// `True`, `False` or `Unknown`.
        pub status: String,
        /// The `metadata.generation` that the condition was set for.
        pub observed_generation: i64,
        /// When `status` last changed.
        #[schemars(with = "String", extend("format" = "date-time"))]
        pub last_transition_time: Option<jiff::Timestamp>,
        /// Why, in one word for programs.
        pub reason: String,
        /// Why, for people.
        pub message: String,
    }
}
