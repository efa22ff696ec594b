use crate::Duration;
use crate::references::DestinationReference;
use crate::status::Approval;

message! {
    /// How proxies ask a rate limit server.
    pub struct RateLimitServerSettingsSpec {
        /// The server; by default the Service `rate-limiter`.
        pub destination_server: Option<DestinationReference>,
        /// How long an answer may take; 100 milliseconds by default.
        pub request_timeout: Option<Duration>,
        /// Whether requests are refused when the server does not answer.
        pub deny_on_fail: bool,
    }
}

message! {
    /// What the server tells about the settings.
    pub struct RateLimitServerSettingsStatus {
        /// The `metadata.generation` that was processed.
        pub observed_generation: i64,
        /// The outcome.
        pub state: Approval,
    }
}
