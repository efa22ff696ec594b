//! The relay agent of a workload cluster.
//!
//! It watches its cluster, discovers meshes and gateways in it, pushes what it holds to the management server, pulls
//! what the server made of it, and applies that. Without a server it keeps applying the last output it was given.

mod brake;
mod certificate;
pub mod cli;
mod connector;
mod core;
pub mod deletions;
pub mod discovery;
mod error;
mod held_output;
mod in_force;
mod input_version;
mod link;
mod metrics;
mod output;
mod retry;
mod run;
mod server_addresses;
mod servers;
mod settings;
mod status;
mod takeover;

pub use self::core::{Core, Dial, Surroundings};
pub use brake::DeleteBrake;
pub use error::AgentError;
pub use in_force::FollowRule;
pub use metrics::Metrics;
pub use run::Agent;
pub use server_addresses::{AddressError, ServerAddresses};
pub use settings::Settings;
pub use status::{AgentStatus, FrozenStatus, HeldStatus, WaitingStatus};
