//! Policies about who may do what, and how that is proven, group `security.policy.gloo.solo.io`.

mod access_policy;
pub mod auth_config;
mod client_tls_policy;
mod cors_policy;
mod ext_auth_policy;
mod jwt_policy;

pub use access_policy::*;
pub use client_tls_policy::*;
pub use cors_policy::*;
pub use ext_auth_policy::*;
pub use jwt_policy::*;
