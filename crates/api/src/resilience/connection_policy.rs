use crate::Duration;
use crate::keepalive::TcpKeepalive;
use crate::selectors::DestinationSelector;
use crate::status::Status;

message! {
    /// How many connections and requests clients have open at one time.
    pub struct ConnectionPolicySpec {
        /// The destinations; empty means all that the workspace sees.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What holds for them.
        pub config: Option<ConnectionConfig>,
    }
}

message! {
    /// Limits of each client.
    pub struct ConnectionConfig {
        /// Limits of connections.
        pub tcp: Option<TcpConnections>,
        /// Limits of requests.
        pub http: Option<HttpConnections>,
    }
}

message! {
    /// Limits of connections.
    pub struct TcpConnections {
        /// Probes on idle connections.
        pub tcp_keepalive: Option<TcpKeepalive>,
        /// Most connections to the destination; 0 means as many as the mesh allows.
        pub max_connections: i32,
        /// How long setting up a connection may take.
        pub connect_timeout: Option<Duration>,
    }
}

message! {
    /// Limits of requests.
    pub struct HttpConnections {
        /// Most requests over one connection; 0 means any number.
        pub max_requests_per_connection: i32,
        /// Most retries that are under way at one time; 0 means any number.
        pub max_retries: i32,
        /// Most requests that are under way at one time; 0 means 1024.
        pub max_requests: i32,
        /// Most requests that wait for a connection; 0 means 1024.
        pub max_pending_requests: i32,
        /// How long a connection without requests stays open; an hour by default.
        pub idle_timeout: Option<Duration>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct ConnectionPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of destinations that it selects.
        pub num_selected_destination_ports: u32,
    }
}
