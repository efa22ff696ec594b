use crate::selectors::{DestinationSelector, WorkloadSelector};
use crate::status::Status;

message! {
    /// Which destinations the sidecars of some workloads know. Without such a policy and without settings that say
    /// otherwise, sidecars know everything.
    pub struct TrimProxyConfigPolicySpec {
        /// The workloads; empty means all of the workspace.
        pub apply_to_workloads: Vec<WorkloadSelector>,
        /// What holds for them.
        pub config: Option<TrimProxyConfig>,
    }
}

message! {
    /// Which destinations sidecars know.
    pub struct TrimProxyConfig {
        /// The destinations; none leaves the sidecars as they are.
        pub included_destinations: Vec<DestinationSelector>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct TrimProxyConfigPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of workloads that it applies to.
        pub num_selected_workloads: u32,
        /// Number of hosts that their sidecars know.
        pub num_included_hosts: u32,
    }
}
