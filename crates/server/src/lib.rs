//! The management server: takes the input snapshots of all clusters from their agents, translates them, and serves each
//! cluster its output.

pub mod cli;
mod cluster_metrics;
mod core;
mod doubts;
mod error;
mod hub;
mod inputs;
mod listener;
mod management;
mod metrics;
mod rebalance;
mod registrar;
mod replicas;
mod reports_file;
mod run;
mod settings;
mod sharing;
mod state_file;
mod status;
mod translation;
mod warm;

pub use self::core::{Core, Surroundings};
pub use doubts::SafeModeScope;
pub use error::ServerError;
pub use metrics::Metrics;
pub use rebalance::RebalanceSettings;
pub use replicas::{EarlierReports, ReplicaState, ReplicaStatus, ReplicaStreams, StoreStatus};
pub use run::Server;
pub use settings::Settings;
pub use status::{ClusterStatus, HeldDeletions, ServerStatus};
pub use translation::Translate;
