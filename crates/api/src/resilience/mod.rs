//! Policies that keep services answering, group `resilience.policy.gloo.solo.io`.

mod connection_policy;
mod failover_policy;
mod fault_injection_policy;
mod outlier_detection_policy;
mod retry_timeout_policy;
mod trim_proxy_config_policy;

pub use connection_policy::*;
pub use failover_policy::*;
pub use fault_injection_policy::*;
pub use outlier_detection_policy::*;
pub use retry_timeout_policy::*;
pub use trim_proxy_config_policy::*;
