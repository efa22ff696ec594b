use std::collections::BTreeMap;

use crate::locality::Locality;
use crate::references::ClusterObjectRef;
use crate::status::Status;

message! {
    /// A gateway that an agent found: a Service, the workloads behind it and how to reach it from outside.
    pub struct DiscoveredGatewaySpec {
        /// The Service.
        pub service: Option<ClusterObjectRef>,
        /// Labels of the pods behind the Service.
        pub workload_labels: BTreeMap<String, String>,
        /// Where it can be reached from outside the cluster.
        pub external_addresses: Vec<ExternalAddress>,
        /// Type of the Service.
        pub service_type: ServiceType,
        /// Service accounts of the pods.
        pub service_account_refs: Vec<ClusterObjectRef>,
    }
}

message! {
    /// An address of a load balancer, of a node, or an external IP.
    pub struct ExternalAddress {
        /// IP address or host name.
        pub address: String,
        /// Ports that are open there.
        pub ports: Vec<DiscoveredGatewayPort>,
        /// Where it is.
        pub locality: Option<Locality>,
    }
}

message! {
    /// A port that can be reached from outside.
    pub struct DiscoveredGatewayPort {
        /// Number at the external address.
        pub number: u32,
        /// Name of the Service's port.
        pub name: String,
        /// Its protocol.
        pub protocol: String,
    }
}

named_values! {
    /// Type of a Kubernetes Service.
    pub enum ServiceType {
        /// Inside the cluster only.
        ClusterIp = "CLUSTER_IP",
        /// On a port of every node.
        NodePort = "NODE_PORT",
        /// Behind a load balancer.
        LoadBalancer = "LOAD_BALANCER",
        /// Another name for an external host.
        ExternalName = "EXTERNAL_NAME",
    }
}

message! {
    /// What is told about a gateway.
    pub struct DiscoveredGatewayStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of VirtualGateways that use it.
        pub num_virtual_gateways: u32,
    }
}
