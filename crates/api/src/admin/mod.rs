//! Kinds that set up the fleet and its tenants, group `admin.gloo.solo.io`.

mod ext_auth_server;
mod kubernetes_cluster;
mod rate_limit_server_config;
mod rate_limit_server_settings;
mod root_trust_policy;
mod workspace;
mod workspace_settings;

pub use ext_auth_server::*;
pub use kubernetes_cluster::*;
pub use rate_limit_server_config::*;
pub use rate_limit_server_settings::*;
pub use root_trust_policy::*;
pub use workspace::*;
pub use workspace_settings::*;
