//! How traffic enters another cluster.

use crate::Empty;

message! {
    /// What the east-west gateway of the other cluster does with traffic.
    pub struct ClientMode {
        /// Chosen by the system: passing it on by server name.
        pub auto: Option<Empty>,
        /// Passing it on by server name, unread: mutual TLS goes from sidecar to sidecar.
        pub sni_routing: Option<Empty>,
        /// Ending TLS at the gateway, for backends without a sidecar; they see the gateway's identity.
        pub tls_termination: Option<Empty>,
    }

    /// The mode.
    oneof client_mode: ClientModeChoice {
        auto: Auto(Empty), sni_routing: SniRouting(Empty), tls_termination: TlsTermination(Empty),
    }
}
