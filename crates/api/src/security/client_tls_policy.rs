use crate::selectors::DestinationSelector;
use crate::status::Status;

message! {
    /// How clients encrypt the traffic to destinations. It counts more than what a destination says itself.
    pub struct ClientTlsPolicySpec {
        /// The destinations; empty means all that the workspace sees.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// Not at all.
        pub disable: Option<TlsDisabled>,
        /// By TLS, in which only the destination shows a certificate.
        pub simple: Option<SimpleTls>,
        /// By TLS, in which both ends show a certificate.
        pub mutual: Option<MutualTls>,
        /// By TLS with the certificates of the mesh.
        pub istio_mutual: Option<IstioMutualTls>,
    }

    /// The way of encrypting.
    oneof mode: ClientTlsPolicyMode {
        disable: Disable(TlsDisabled), simple: Simple(SimpleTls), mutual: Mutual(MutualTls),
        istio_mutual: IstioMutual(IstioMutualTls),
    }
}

message! {
    /// No encryption.
    pub struct TlsDisabled {}
}

message! {
    /// Certificates of the mesh.
    pub struct IstioMutualTls {}
}

message! {
    /// Only the destination shows a certificate.
    pub struct SimpleTls {
        /// Name and certificates.
        pub config: Option<ClientTlsConfig>,
    }
}

message! {
    /// Both ends show a certificate.
    pub struct MutualTls {
        /// Name and certificates.
        pub config: Option<ClientTlsConfig>,
    }
}

message! {
    /// Which name is asked for, and where certificates are.
    pub struct ClientTlsConfig {
        /// The name that is asked for; by default that of the host.
        #[schemars(extend("nullable" = true))]
        pub sni: Option<String>,
        /// Name of a Secret in the namespace of the proxy.
        pub credential_name: String,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct ClientTlsPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of destinations that it selects.
        pub num_selected_destination_ports: u32,
    }
}
