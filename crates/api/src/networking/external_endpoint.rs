use crate::locality::Locality;
use crate::status::Status;

message! {
    /// An address behind an ExternalService, which selects it by labels.
    pub struct ExternalEndpointSpec {
        /// IP address, host name, or path of a socket as `unix:///…`.
        pub address: String,
        /// Ports that are open there.
        pub ports: Vec<ExternalEndpointPort>,
        /// Where it is.
        pub locality: Option<Locality>,
    }
}

message! {
    /// A port of an external address.
    pub struct ExternalEndpointPort {
        /// Name by which an ExternalService finds the port; needed when there are several.
        pub name: String,
        /// Number of the port.
        pub number: u32,
    }
}

message! {
    /// What the server tells about an external address.
    pub struct ExternalEndpointStatus {
        /// The outcome.
        pub common: Option<Status>,
    }
}
