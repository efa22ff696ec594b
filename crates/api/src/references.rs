//! How resources name each other.

use std::collections::BTreeMap;

use crate::lambda::AwsLambdaReference;
use crate::selectors::PortSelector;

message! {
    /// Exactly one object in one cluster.
    pub struct ObjectReference {
        /// Name of the object.
        pub name: String,
        /// Namespace of the object; empty means that of the resource that holds the reference.
        pub namespace: String,
        /// Cluster of the object; empty means that of the resource that holds the reference.
        pub cluster: String,
    }
}

message! {
    /// An object in the same cluster as the resource that holds the reference.
    pub struct ObjectRef {
        /// Name of the object.
        pub name: String,
        /// Namespace of the object.
        pub namespace: String,
    }
}

message! {
    /// An object in a named cluster. Mind the key `clusterName`, which [`ObjectReference`] calls `cluster`.
    pub struct ClusterObjectRef {
        /// Name of the object.
        pub name: String,
        /// Namespace of the object.
        pub namespace: String,
        /// Cluster of the object.
        pub cluster_name: String,
    }
}

named_values! {
    /// What kind of resource a destination is.
    pub enum DestinationKind {
        /// A Kubernetes Service.
        Service = "SERVICE",
        /// A VirtualDestination.
        VirtualDestination = "VIRTUAL_DESTINATION",
        /// An ExternalService.
        ExternalService = "EXTERNAL_SERVICE",
    }
}

message! {
    /// Where a route sends traffic: one port of one Service, VirtualDestination, ExternalService or Lambda function.
    pub struct DestinationReference {
        /// The destination, of the kind in `kind`.
        pub r#ref: Option<ObjectReference>,
        /// A Lambda function; `kind` is then ignored.
        pub aws_lambda: Option<AwsLambdaReference>,
        /// The kind of `ref`; a Service by default.
        pub kind: DestinationKind,
        /// The port; needed when the destination has more than one.
        pub port: Option<PortSelector>,
        /// Labels that a pod must have to get the traffic; only for Kubernetes Services.
        pub subset: BTreeMap<String, String>,
        /// Share of the traffic in percent; 0 means an equal share of what the others leave.
        pub weight: u32,
    }

    /// The thing that is referred to.
    oneof ref_kind: RefKind { r#ref: Ref(ObjectReference), aws_lambda: AwsLambda(AwsLambdaReference), }
}
