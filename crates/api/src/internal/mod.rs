//! Kinds that agents and the server write for each other, group `internal.gloo.solo.io`.

mod discovered_cni;
mod discovered_gateway;
mod issued_certificate;
mod mesh;

pub use discovered_cni::*;
pub use discovered_gateway::*;
pub use issued_certificate::*;
pub use mesh::*;
