use crate::status::{Condition, Status};

message! {
    /// Registers a workload cluster; the name of the resource is the name of the cluster everywhere.
    pub struct KubernetesClusterSpec {
        /// DNS suffix of the cluster's Services; empty means `cluster.local`.
        pub cluster_domain: String,
        /// Whether safe mode never waits for this cluster.
        pub skip_warming: bool,
    }
}

message! {
    /// What the server tells about a cluster.
    pub struct KubernetesClusterStatus {
        /// State of the agent's connection.
        pub common: Option<Status>,
        /// Conditions such as `ClusterWarm`.
        pub conditions: Vec<Condition>,
    }
}
