//! Kinds that route traffic, group `networking.gloo.solo.io`.

mod external_endpoint;
mod external_service;
mod route_actions;
mod route_table;
mod virtual_destination;
mod virtual_gateway;

pub use external_endpoint::*;
pub use external_service::*;
pub use route_actions::*;
pub use route_table::*;
pub use virtual_destination::*;
pub use virtual_gateway::*;
