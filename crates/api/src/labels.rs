//! Keys of labels and annotations that carry meaning.

/// Whether requests to a route are refused unless a policy that authenticates them is in force (`true`).
pub const REQUIRE_AUTH: &str = "gateway.gloo.solo.io/require_auth";
/// AWS role that routes to Lambda functions assume; annotation of a RouteTable.
pub const DEFAULT_INVOKE_ROLE: &str = "gloo.solo.io/defaultInvokeRole";
/// Cluster of an object inside a snapshot; users may not set it.
pub const CLUSTER: &str = "cluster.solo.io/cluster";
/// Which reconciler wrote a generated object: `translator` or `cert-agent`.
pub const RECONCILER: &str = "reconciler.mesh.gloo.solo.io/name";
/// Marks objects that an agent wrote (`gloo-mesh`).
pub const AGENT: &str = "agent.gloo.solo.io";
/// Owner of a generated object (`gloo-mesh`).
pub const OWNER: &str = "owner.gloo.solo.io/name";
/// Cluster that a generated object is meant for.
pub const RELAY_CLUSTER: &str = "relay.solo.io/cluster";
/// Empty on generated objects.
pub const MULTICLUSTER: &str = "cluster.multicluster.solo.io";
/// Cluster of the context that a generated object belongs to.
pub const CONTEXT_CLUSTER: &str = "context.mesh.gloo.solo.io/cluster";
/// Namespace of the context that a generated object belongs to.
pub const CONTEXT_NAMESPACE: &str = "context.mesh.gloo.solo.io/namespace";
/// Workspace of the context that a generated object belongs to.
pub const CONTEXT_WORKSPACE: &str = "context.mesh.gloo.solo.io/workspace";
/// Cluster of the resource that a generated object comes from.
pub const PARENT_CLUSTER: &str = "gloo.solo.io/parent_cluster";
/// API group of the resource that a generated object comes from.
pub const PARENT_GROUP: &str = "gloo.solo.io/parent_group";
/// API version of the resource that a generated object comes from.
pub const PARENT_VERSION: &str = "gloo.solo.io/parent_version";
/// Kind of the resource that a generated object comes from.
pub const PARENT_KIND: &str = "gloo.solo.io/parent_kind";
/// Namespace of the resource that a generated object comes from.
pub const PARENT_NAMESPACE: &str = "gloo.solo.io/parent_namespace";
/// Name of the resource that a generated object comes from.
pub const PARENT_NAME: &str = "gloo.solo.io/parent_name";
