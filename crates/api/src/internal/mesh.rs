use std::collections::BTreeMap;

use crate::references::ObjectRef;

message! {
    /// A service mesh that an agent found: one revision of istiod in one cluster.
    pub struct MeshSpec {
        /// The control plane.
        pub installation: Option<MeshInstallation>,
        /// Trust domain of the workloads' identities.
        pub trust_domain: String,
        /// Service account of istiod.
        pub istiod_service_account: String,
        /// Namespaces that the control plane looks at; empty means all.
        pub discovery_namespaces: Vec<String>,
        /// Whether sidecars answer DNS queries.
        pub smart_dns_proxying_enabled: bool,
        /// Namespace whose Istio resources apply to all namespaces.
        pub root_namespace: String,
        /// The agent that found the mesh.
        pub agent_info: Option<AgentInfo>,
        /// Registry of the control plane's image.
        pub hub: String,
        /// Tag of the control plane's image.
        pub tag: String,
        /// Which versions of IP the mesh speaks.
        pub ip_family: IpFamily,
        /// Whether the control plane supports ambient mode.
        pub ambient_capable: bool,
    }
}

message! {
    /// Where a control plane runs.
    pub struct MeshInstallation {
        /// Its namespace.
        pub namespace: String,
        /// Its cluster.
        pub cluster: String,
        /// Labels of its pods.
        pub pod_labels: BTreeMap<String, String>,
        /// Its version.
        pub version: String,
        /// Its revision.
        pub revision: String,
    }
}

message! {
    /// An agent.
    pub struct AgentInfo {
        /// Its namespace.
        pub namespace: String,
        /// Its version.
        pub version: String,
        /// Secret with the root certificate that it checks the server with.
        pub relay_root_tls_secret: Option<ObjectRef>,
    }
}

named_values! {
    /// Versions of IP.
    pub enum IpFamily {
        /// Version 4 only.
        Ipv4 = "IPV4",
        /// Version 6 only.
        Ipv6 = "IPV6",
        /// Both.
        Dual = "DUAL",
    }
}

message! {
    /// What is told about a mesh.
    pub struct MeshStatus {
        /// The `metadata.generation` that was processed.
        pub observed_generation: i64,
    }
}
