//! How resources pick others by name, place and labels. All conditions of one selector must hold; a list of selectors
//! picks what any of them picks.

use std::collections::BTreeMap;

use crate::lambda::CloudProviderFilterOptions;
use crate::references::DestinationKind;

message! {
    /// A port by number or by name.
    pub struct PortSelector {
        /// Number of the port.
        #[schemars(range(min = 1, max = 65535))]
        pub number: Option<u32>,
        /// Name of the port.
        pub name: Option<String>,
    }

    /// How the port is given.
    oneof specifier: PortSpecifier { number: Number(u32), name: Name(String), }
}

message! {
    /// Objects that the workspace of the selecting resource owns or imports; empty selects all of them.
    pub struct ObjectSelector {
        /// Labels that the object must have.
        pub labels: BTreeMap<String, String>,
        /// Exact name; empty means any.
        pub name: String,
        /// Exact namespace; empty means any.
        pub namespace: String,
        /// Exact cluster; empty means any.
        pub cluster: String,
        /// Exact workspace that owns the object; empty means any.
        pub workspace: String,
    }
}

message! {
    /// Destinations of one kind.
    pub struct DestinationSelector {
        /// Which of them; absent selects all.
        pub selector: Option<ObjectSelector>,
        /// The kind; Services by default.
        pub kind: DestinationKind,
        /// Only this port; absent means every port.
        pub port: Option<PortSelector>,
    }
}

named_values! {
    /// What a workload runs on.
    pub enum WorkloadKind {
        /// A Kubernetes workload.
        Kube = "KUBE",
        /// A virtual machine.
        Vm = "VM",
    }
}

message! {
    /// Workloads with a sidecar, and gateways.
    pub struct WorkloadSelector {
        /// Which of them.
        pub selector: Option<ObjectSelector>,
        /// What they run on; Kubernetes by default.
        pub kind: WorkloadKind,
        /// Only this port; heeded where a policy says so.
        pub port: Option<PortSelector>,
    }
}

message! {
    /// Clusters, and the namespaces in them.
    pub struct ClusterSelector {
        /// Name of the cluster, where `*` stands for any characters.
        pub name: String,
        /// Labels that the KubernetesCluster must have.
        pub selector: BTreeMap<String, String>,
        /// Which namespaces; at least one entry is needed.
        pub namespaces: Vec<NamespaceSelector>,
        /// Whether configuration is read from these clusters. When no entry of the list says so, it is read from all.
        pub config_enabled: bool,
    }
}

message! {
    /// Namespaces of a cluster.
    pub struct NamespaceSelector {
        /// Name of the namespace, where `*` stands for any characters.
        pub name: String,
        /// Whether configuration is read from these namespaces. When no entry of the list says so, it is read from all.
        pub config_enabled: bool,
        /// Labels that the Namespace must have.
        pub labels: BTreeMap<String, String>,
    }
}

message! {
    /// Workspaces.
    pub struct WorkspaceSelector {
        /// Name of the workspace, where `*` stands for any characters.
        pub name: String,
        /// Labels that the Workspace must have.
        pub selector: BTreeMap<String, String>,
    }
}

message! {
    /// Service meshes.
    pub struct MeshSelector {
        /// Istio meshes.
        pub istio: Option<IstioMeshSelector>,
    }

    /// The type of mesh.
    oneof mesh_type: MeshType { istio: Istio(IstioMeshSelector), }
}

message! {
    /// Istio control planes; what is left out matches any.
    pub struct IstioMeshSelector {
        /// Regular expression over the revision.
        pub revision: String,
        /// Namespace of the control plane.
        pub namespace: String,
        /// Labels that the KubernetesCluster must have.
        pub cluster_selector: BTreeMap<String, String>,
        /// Labels that the Deployment of istiod must have.
        pub selector: BTreeMap<String, String>,
    }
}

message! {
    /// Which routes a table may bring along.
    pub struct RouteFilter {
        /// Limits for routes to cloud functions.
        pub cloud_provider: Option<CloudProviderFilterOptions>,
    }
}

message! {
    /// Routes by their labels and the table that they are written in; what is left out matches any.
    pub struct RouteLabelSelector {
        /// Labels that the route must have, those of its table and of what delegates to it included.
        pub labels: BTreeMap<String, String>,
        /// Exact namespace of the table.
        pub namespace: String,
        /// Exact cluster of the table.
        pub cluster: String,
        /// Exact workspace that owns the table.
        pub workspace: String,
    }
}

message! {
    /// Routes by what they are or where they lead.
    pub struct RouteSelector {
        /// By labels and table.
        pub route: Option<RouteLabelSelector>,
        /// By a destination of `forwardTo`.
        pub with_destinations: Option<DestinationSelector>,
    }

    /// The way of selecting.
    oneof selector_type: RouteSelectorType {
        route: Route(RouteLabelSelector), with_destinations: WithDestinations(DestinationSelector),
    }
}

message! {
    /// Routes, as far as they lead to some destinations.
    pub struct RouteDestinationSelector {
        /// The routes.
        pub route: Option<RouteLabelSelector>,
        /// The destinations; empty means all of the route's.
        pub on_destinations: Vec<DestinationSelector>,
    }
}
