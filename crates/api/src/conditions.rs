//! Types and reasons of conditions.

/// Whether a cluster has ever sent a snapshot; once true, for ever true.
pub const CLUSTER_WARM: &str = "ClusterWarm";
/// Reason of `ClusterWarm` `False`: the cluster is registered and has sent nothing yet.
pub const CLUSTER_REGISTERED: &str = "ClusterRegistered";
/// Reason of `ClusterWarm` `True`: the first snapshot has been received and stored.
pub const FIRST_SNAPSHOT_RECEIVED: &str = "FirstSnapshotReceived";
/// The condition holds.
pub const TRUE: &str = "True";
/// The condition does not hold.
pub const FALSE: &str = "False";
/// Not known whether the condition holds.
pub const UNKNOWN: &str = "Unknown";
