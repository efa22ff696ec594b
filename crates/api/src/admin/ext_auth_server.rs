use std::collections::BTreeMap;

use crate::Duration;
use crate::references::DestinationReference;
use crate::status::Status;

message! {
    /// A server that approves requests.
    pub struct ExtAuthServerSpec {
        /// A Service or VirtualDestination; absent means the Service `ext-auth-service`.
        pub destination_server: Option<DestinationReference>,
        /// The server speaks HTTP; absent means gRPC.
        pub http_service: Option<ExtAuthHttpService>,
        /// How long it may take; absent means two seconds.
        pub request_timeout: Option<Duration>,
        /// Whether requests pass while it cannot be reached.
        pub failure_mode_allow: bool,
        /// Whether it gets the bodies of requests; absent means no.
        pub request_body: Option<ExtAuthBufferSettings>,
        /// Whether the route is chosen anew after its answer.
        pub clear_route_cache: bool,
        /// Status that clients get while it cannot be reached; 0 means 403.
        pub status_on_error: u32,
        /// Version of Envoy's interface; there is only one left.
        pub transport_api_version: ExtAuthApiVersion,
        /// Beginning of the names of metrics.
        pub stat_prefix: String,
    }
}

message! {
    /// A server that speaks HTTP.
    pub struct ExtAuthHttpService {
        /// What goes before the path of the request.
        pub path_prefix: String,
        /// What it is sent.
        pub request: Option<ExtAuthHttpRequest>,
        /// What is taken from its answer.
        pub response: Option<ExtAuthHttpResponse>,
    }
}

message! {
    /// What a server that speaks HTTP is sent, beside method, path, host, length and `Authorization`.
    pub struct ExtAuthHttpRequest {
        /// Headers of the client's request.
        pub allowed_headers: Vec<String>,
        /// Other headers.
        pub headers_to_add: BTreeMap<String, String>,
    }
}

message! {
    /// What is taken from the answer of a server that speaks HTTP.
    pub struct ExtAuthHttpResponse {
        /// Headers that replace those of the request.
        pub allowed_upstream_headers: Vec<String>,
        /// Headers that clients get when they are refused; empty means all.
        pub allowed_client_headers: Vec<String>,
    }
}

message! {
    /// Which part of bodies a server gets.
    pub struct ExtAuthBufferSettings {
        /// So many bytes; 0 means 4096.
        pub max_request_bytes: u32,
        /// Whether it gets the beginning of longer ones, which are refused otherwise.
        pub allow_partial_message: bool,
        /// Whether bodies are sent as bytes, and not as text.
        pub pack_as_bytes: bool,
    }
}

named_values! {
    /// Version of Envoy's interface.
    pub enum ExtAuthApiVersion {
        /// The newest.
        GlooMeshAuto = "GLOO_MESH_AUTO",
        /// What Envoy takes by default.
        EnvoyAuto = "ENVOY_AUTO",
        /// Version 3.
        V3 = "V3",
    }
}

message! {
    /// What the server tells about the external auth server.
    pub struct ExtAuthServerStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of policies that use it.
        pub num_applied_policies: u32,
        /// Number of Services behind it.
        pub num_selected_backing_services: u32,
    }
}
