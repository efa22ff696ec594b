use crate::rate_limits::RawRateLimits;
use crate::status::Status;

message! {
    /// How requests are described to a rate limit server, for any number of policies.
    pub struct RateLimitClientConfigSpec {
        /// As Envoy reads it.
        pub raw: Option<RawRateLimits>,
    }

    /// The form that it is written in.
    oneof config_type: RateLimitClientConfigType { raw: Raw(RawRateLimits), }
}

message! {
    /// What the server tells about the configuration.
    pub struct RateLimitClientConfigStatus {
        /// The outcome.
        pub common: Option<Status>,
    }
}
