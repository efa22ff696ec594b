use std::collections::BTreeMap;

use crate::references::ObjectReference;
use crate::selectors::ClusterSelector;
use crate::status::Status;

message! {
    /// A tenant: namespaces across clusters, each of which belongs to one workspace only.
    pub struct WorkspaceSpec {
        /// The namespaces; empty is a workspace without any.
        pub workload_clusters: Vec<ClusterSelector>,
    }
}

message! {
    /// What the server tells about a workspace.
    pub struct WorkspaceStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// The WorkspaceSettings in force.
        pub workspace_settings: Option<ObjectReference>,
        /// Number of clusters.
        pub num_selected_clusters: u32,
        /// Number of namespaces over all clusters.
        pub num_selected_namespaces: u32,
        /// Number of resources, by type.
        pub num_resources: BTreeMap<String, ResourceCounts>,
        /// Number of policies, by type.
        pub policy_counts: BTreeMap<String, u32>,
        /// Number of destinations, by type.
        pub destination_counts: BTreeMap<String, u32>,
        /// Number of workspaces from which something is imported.
        pub num_imported_workspaces: u32,
    }
}

message! {
    /// Number of resources of one type, by where they come from and go to.
    pub struct ResourceCounts {
        /// Imported from other workspaces.
        pub imported: u32,
        /// Exported to other workspaces.
        pub exported: u32,
        /// Of the workspace's own.
        pub private: u32,
    }
}
