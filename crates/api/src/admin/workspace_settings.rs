use std::collections::BTreeMap;

use crate::client_mode::ClientMode;
use crate::references::ObjectReference;
use crate::selectors::{ObjectSelector, PortSelector, WorkspaceSelector};
use crate::status::Status;

message! {
    /// What a workspace shares with others and how it treats its services.
    pub struct WorkspaceSettingsSpec {
        /// What is taken from which workspaces; they must export it as well.
        pub import_from: Vec<WorkspaceObjectSelector>,
        /// What is given to which workspaces; they must import it as well.
        pub export_to: Vec<WorkspaceObjectSelector>,
        /// Everything else.
        pub options: Option<WorkspaceOptions>,
    }
}

message! {
    /// Resources of, or for, some workspaces.
    pub struct WorkspaceObjectSelector {
        /// The other workspaces.
        pub workspaces: Vec<WorkspaceSelector>,
        /// The resources; empty means all of every kind that can be shared.
        pub resources: Vec<TypedObjectSelector>,
    }
}

message! {
    /// Resources of one kind, or of all.
    pub struct TypedObjectSelector {
        /// The kind.
        pub kind: ObjectKind,
        /// Labels that the resource must have.
        pub labels: BTreeMap<String, String>,
        /// Exact name; empty means any.
        pub name: String,
        /// Exact namespace; empty means any.
        pub namespace: String,
        /// Exact cluster; empty means any.
        pub cluster: String,
    }
}

named_values! {
    /// Kinds that can be shared between workspaces.
    pub enum ObjectKind {
        /// All of them.
        All = "ALL",
        /// RouteTables.
        RouteTable = "ROUTE_TABLE",
        /// Kubernetes Services.
        Service = "SERVICE",
        /// VirtualDestinations.
        VirtualDestination = "VIRTUAL_DESTINATION",
        /// ExternalServices.
        ExternalService = "EXTERNAL_SERVICE",
        /// ApiDocs.
        ApiDoc = "API_DOC",
        /// GraphQLResolverMaps.
        GraphqlResolverMap = "GRAPHQL_RESOLVER_MAP",
        /// GraphQLSchemas.
        GraphqlSchema = "GRAPHQL_SCHEMA",
        /// GraphQLStitchedSchemas.
        GraphqlStitchedSchema = "GRAPHQL_STITCHED_SCHEMA",
        /// ExternalWorkloads.
        ExternalWorkload = "EXTERNAL_WORKLOAD",
    }
}

message! {
    /// How a workspace treats its services.
    pub struct WorkspaceOptions {
        /// Who may call the workspace's services.
        pub service_isolation: Option<ServiceIsolation>,
        /// Which services other clusters can call.
        pub federation: Option<Federation>,
        /// Where traffic from other clusters enters; empty means every gateway with the label `istio: eastwestgateway`.
        pub east_west_gateways: Vec<EastWestGatewaySelector>,
        /// How traffic enters other clusters, unless a VirtualDestination says otherwise.
        pub virtual_dest_client_mode: Option<ClientMode>,
        /// Whether sidecars know no destination at all but those that a policy adds.
        pub trim_all_proxy_config: bool,
    }
}

message! {
    /// Closes a workspace's services to everybody who does not import them.
    pub struct ServiceIsolation {
        /// Whether it is on.
        pub enabled: bool,
        /// Whether sidecars are told of own and imported destinations only.
        #[schemars(extend("nullable" = true))]
        pub trim_proxy_config: Option<bool>,
        /// What enforces it; absent means everything available.
        pub enforcement_layers: Option<EnforcementLayers>,
    }
}

message! {
    /// Layers of the network that may enforce a rule.
    pub struct EnforcementLayers {
        /// The container network.
        pub cni: bool,
        /// The service mesh.
        pub mesh: bool,
    }
}

message! {
    /// Gives services a host name that works in every cluster.
    pub struct Federation {
        /// Whether it is on.
        pub enabled: bool,
        /// End of the host names, after `{name}.{namespace}.{cluster}.`.
        pub host_suffix: String,
        /// Which own and imported services; empty means all.
        pub service_selector: Vec<ObjectSelector>,
        /// Which of their ports; empty means all.
        pub ports: Vec<PortSelector>,
    }
}

message! {
    /// Gateways at which traffic from other clusters enters.
    pub struct EastWestGatewaySelector {
        /// Which gateway Services.
        pub selector: Option<ObjectSelector>,
        /// Port that passes TLS on by server name; absent means the one named `tls`.
        pub port: Option<PortSelector>,
        /// Port that ends TLS; absent means the one named `https`.
        pub tls_termination_port: Option<PortSelector>,
        /// Addresses to use instead of those found.
        pub host_info_overrides: Vec<HostInfo>,
    }
}

message! {
    /// An address at which a gateway can be reached.
    pub struct HostInfo {
        /// IP address or host name.
        pub addr: String,
        /// Port.
        pub port: u32,
    }
}

message! {
    /// What the server tells about the settings.
    pub struct WorkspaceSettingsStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// The Workspace that they are for.
        pub workspace: Option<ObjectReference>,
        /// Number of gateways at which traffic from other clusters enters.
        pub num_selected_east_west_gateways: u32,
        /// Number of services that other clusters can call.
        pub num_federated_services: u32,
    }
}
