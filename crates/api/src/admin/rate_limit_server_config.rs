use crate::rate_limits::RawServerConfig;
use crate::references::DestinationReference;
use crate::status::Status;

message! {
    /// What rate limit servers count.
    pub struct RateLimitServerConfigSpec {
        /// As the servers read it.
        pub raw: Option<RawServerConfig>,
        /// The servers, at least one.
        pub destination_servers: Vec<DestinationReference>,
    }

    /// The form that it is written in.
    oneof config_type: RateLimitServerConfigType { raw: Raw(RawServerConfig), }
}

message! {
    /// What the server tells about the configuration.
    pub struct RateLimitServerConfigStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of servers that it reached.
        pub num_selected_destination_servers: u32,
    }
}
