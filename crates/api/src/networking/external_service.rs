use std::collections::BTreeMap;

use crate::references::ObjectReference;
use crate::selectors::PortSelector;
use crate::status::Status;

message! {
    /// A service outside the mesh, by host names or by addresses, never both.
    pub struct ExternalServiceSpec {
        /// Host names, the first label of which may be `*`.
        pub hosts: Vec<String>,
        /// IP addresses or ranges.
        pub addresses: Vec<String>,
        /// Ports of the service.
        pub ports: Vec<ExternalServicePort>,
        /// Labels of the ExternalEndpoints behind it; empty means that DNS tells the addresses.
        pub selector: BTreeMap<String, String>,
        /// Names that the service's certificate may have.
        pub subject_alt_names: Vec<String>,
    }
}

message! {
    /// A port of an external service.
    pub struct ExternalServicePort {
        /// Number that clients use.
        pub number: u32,
        /// Port of the endpoints; absent means `number`.
        pub target_port: Option<PortSelector>,
        /// Name of the port.
        pub name: String,
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        pub protocol: String,
        /// TLS that sidecars put around the traffic.
        pub clientside_tls: Option<ClientsideTls>,
        /// Gateways through which the traffic leaves.
        pub egress_gateway_routes: Option<EgressGatewayRoutes>,
    }
}

message! {
    /// TLS towards an external service. Files are paths within the proxy.
    pub struct ClientsideTls {
        /// Server name to ask for; empty means the only host.
        pub sni: String,
        /// How both sides prove who they are.
        pub mode: ClientTlsMode,
        /// File with the client's certificate.
        pub client_certificate: String,
        /// File with the client's key.
        pub private_key: String,
        /// File to check the server's certificate with; empty means no check.
        pub ca_certificates: String,
        /// Secret with all three, instead of files.
        pub credential_name: String,
        /// Whether the server's certificate is not checked.
        #[schemars(extend("nullable" = true))]
        pub insecure_skip_verify: Option<bool>,
    }
}

named_values! {
    /// How a client uses TLS.
    pub enum ClientTlsMode {
        /// The server proves who it is.
        Simple = "SIMPLE",
        /// No TLS.
        Disable = "DISABLE",
        /// Both prove who they are, with given certificates.
        Mutual = "MUTUAL",
        /// Both prove who they are, with the mesh's certificates.
        IstioMutual = "ISTIO_MUTUAL",
    }
}

message! {
    /// Lets traffic leave through gateways; for host names and HTTP only.
    pub struct EgressGatewayRoutes {
        /// Port on which sidecars catch the traffic; 0 means 80.
        pub port_match: u32,
        /// The gateways.
        pub virtual_gateway_refs: Vec<ObjectReference>,
    }
}

message! {
    /// What the server tells about an external service.
    pub struct ExternalServiceStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of policies in force on it, by type.
        pub num_applied_destination_policies: BTreeMap<String, u32>,
        /// Number of ExternalEndpoints behind it.
        pub num_selected_external_endpoints: u32,
        /// Workspace that owns it.
        pub owned_by_workspace: String,
        /// Number of gateways through which its traffic leaves.
        pub num_selected_virtual_gateways: u32,
    }
}
