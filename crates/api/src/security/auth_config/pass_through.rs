use std::collections::BTreeMap;

use super::FreeForm;
use crate::Duration;

message! {
    /// Another server that decides.
    pub struct PassThroughAuth {
        /// It speaks gRPC.
        pub grpc: Option<PassThroughGrpc>,
        /// It speaks HTTP.
        pub http: Option<PassThroughHttp>,
        /// Settings that it is sent.
        pub config: Option<FreeForm>,
        /// Whether requests pass while it cannot be reached.
        pub failure_mode_allow: bool,
    }

    /// What it speaks.
    oneof protocol: PassThroughProtocol { grpc: Grpc(PassThroughGrpc), http: Http(PassThroughHttp), }
}

message! {
    /// A server that speaks gRPC.
    #[schemars(extend("required" = ["address"]))]
    pub struct PassThroughGrpc {
        /// Host and port.
        #[schemars(length(min = 1))]
        pub address: String,
        /// How long connecting may take.
        pub connection_timeout: Option<Duration>,
        /// TLS is spoken.
        pub tls_config: Option<PassThroughTlsConfig>,
        /// How often it is asked again.
        pub retry_policy: Option<PassThroughRetryPolicy>,
    }
}

message! {
    /// TLS to a server; there are no settings.
    pub struct PassThroughTlsConfig {}
}

message! {
    /// How often a server is asked again.
    pub struct PassThroughRetryPolicy {
        /// So many times.
        #[schemars(extend("nullable" = true))]
        pub num_retries: Option<u32>,
        /// Pauses that grow.
        pub retry_back_off: Option<BackoffStrategy>,
    }

    /// What lies between two attempts.
    oneof strategy: RetryStrategy { retry_back_off: BackOff(BackoffStrategy), }
}

message! {
    /// Pauses that grow.
    pub struct BackoffStrategy {
        /// The first.
        pub base_interval: Option<Duration>,
        /// The longest.
        pub max_interval: Option<Duration>,
    }
}

message! {
    /// A server that speaks HTTP.
    #[schemars(extend("required" = ["url"]))]
    pub struct PassThroughHttp {
        /// Its address.
        #[schemars(length(min = 1))]
        pub url: String,
        /// What it is sent.
        pub request: Option<PassThroughRequest>,
        /// What is taken from its answer.
        pub response: Option<PassThroughResponse>,
        /// How long connecting may take.
        pub connection_timeout: Option<Duration>,
    }
}

message! {
    /// What a server is sent.
    pub struct PassThroughRequest {
        /// Headers of the client's request.
        pub allowed_headers: Vec<String>,
        /// Other headers.
        pub headers_to_add: BTreeMap<String, String>,
        /// Whether it gets what earlier steps found.
        pub pass_through_state: bool,
        /// Whether it gets the metadata of the proxy's filters.
        pub pass_through_filter_metadata: bool,
        /// Whether it gets the body.
        pub pass_through_body: bool,
    }
}

message! {
    /// What is taken from a server's answer.
    pub struct PassThroughResponse {
        /// Headers that are added to those of the request.
        pub allowed_upstream_headers: Vec<String>,
        /// Headers that clients get when they are refused.
        pub allowed_client_headers_on_denied: Vec<String>,
        /// Whether later steps get what it found.
        pub read_state_from_response: bool,
        /// Headers that replace those of the request.
        pub allowed_upstream_headers_to_overwrite: Vec<String>,
    }
}
