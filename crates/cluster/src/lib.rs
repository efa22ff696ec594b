//! The port through which Meshrelay sees a cluster, and its adapter for a directory of manifests. Nothing above
//! [`Cluster`] knows whether it has a Kubernetes API or a folder.
//!
//! A **fleet folder** has an optional `fleet.yaml` and one sub-folder per cluster with plain Kubernetes YAML:
//! [`load_fleet`] reads one as it stands, [`write_fleet`] writes one, [`DirectoryCluster`] follows one cluster's folder
//! live and applies outputs into another.
//!
//! A folder has no API server, so the loader does what one would have done ([`Admission`]): namespaced objects without
//! namespace go to `default`, `metadata.creationTimestamp` is the fleet's clock and `metadata.generation` is 1 where
//! absent, each namespace that objects live in exists as an object with the label `kubernetes.io/metadata.name`, and
//! gateway Services get the addresses that `fleet.yaml` gives them.

mod admission;
mod contents;
mod directory;
mod fleet;
mod folder;
mod manifest;
mod object_path;
mod order;
mod ownership;
mod port;
mod problem;

pub use admission::{Admission, DEFAULT_CLOCK};
pub use directory::{DirectoryCluster, DirectoryOptions};
pub use fleet::{FleetError, LoadedFleet, OUTPUT_FOLDER, load_fleet, output_folder, write_fleet};
pub use manifest::{Document, MAX_FILE_BYTES, Notation, YamlProblem, parse_manifest};
pub use object_path::object_path;
pub use ownership::labels;
pub use port::{Applied, ApplyError, ApplyFailure, ApplyMode, ApplyOutcome, Cluster, ClusterView, Surplus};
pub use problem::FileProblem;
