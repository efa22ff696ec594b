use std::collections::BTreeMap;

use crate::client_mode::ClientMode;
use crate::selectors::{ObjectSelector, PortSelector};
use crate::status::Status;

message! {
    /// A host name for services in several clusters.
    #[schemars(extend("required" = ["ports"], "x-kubernetes-validations" = [
        {
            "rule": "has(self.services) || has(self.externalServices) || has(self.externalWorkloads) || \
                !self.ports.exists(p, has(p.targetPort))",
            "message": "targetPort needs services, externalServices or externalWorkloads"
        },
        {
            "rule": "has(self.services) || has(self.externalServices) || has(self.externalWorkloads) || \
                (has(self.hosts) && size(self.hosts) >= 1)",
            "message": "expected hosts, services, externalServices or externalWorkloads"
        }
    ]))]
    pub struct VirtualDestinationSpec {
        /// Host names without wildcards.
        pub hosts: Vec<String>,
        /// Kubernetes Services behind it, one per cluster; of several the oldest is taken.
        pub services: Vec<ObjectSelector>,
        /// ExternalServices behind it.
        pub external_services: Vec<ObjectSelector>,
        /// ExternalWorkloads behind it, one per cluster; of several the oldest is taken.
        pub external_workloads: Vec<ObjectSelector>,
        /// Ports that clients use.
        #[schemars(length(min = 1))]
        pub ports: Vec<PortMapping>,
        /// How traffic enters other clusters; absent means as the WorkspaceSettings say.
        pub client_mode: Option<ClientMode>,
    }
}

message! {
    /// A port of a virtual destination.
    #[schemars(extend("required" = ["number", "protocol"]))]
    pub struct PortMapping {
        /// Number that clients use.
        #[schemars(range(min = 1, max = 65535))]
        pub number: u32,
        /// Protocol spoken there.
        #[schemars(extend("enum" = [
            "HTTP", "http", "HTTPS", "https", "GRPC", "grpc", "gRPC", "HTTP2", "http2", "MONGO", "mongo", "TCP", "tcp",
            "TLS", "tls"
        ]))]
        pub protocol: String,
        /// Port of the services behind it; absent means `number`.
        pub target_port: Option<PortSelector>,
    }
}

message! {
    /// What the server tells about a virtual destination.
    pub struct VirtualDestinationStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of policies in force on it, by type.
        pub num_applied_destination_policies: BTreeMap<String, u32>,
        /// Number of services behind it.
        pub num_selected_backing_services: u32,
        /// Workspace that owns it.
        pub owned_by_workspace: String,
    }
}
