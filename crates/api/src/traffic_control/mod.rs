//! Policies about how much traffic goes where and in which form, group `trafficcontrol.policy.gloo.solo.io`.

mod header_manipulation_policy;
mod load_balancer_policy;
mod mirror_policy;
mod rate_limit_client_config;
mod rate_limit_policy;

pub use header_manipulation_policy::*;
pub use load_balancer_policy::*;
pub use mirror_policy::*;
pub use rate_limit_client_config::*;
pub use rate_limit_policy::*;
