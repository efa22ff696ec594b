//! The data model that every part of Meshrelay shares: immutable Kubernetes [`Object`]s, the [`Snapshot`] of a
//! cluster, the [`Delta`] between two snapshots, and the fleet they make up.
//!
//! Nothing here does I/O or knows the time: what a cluster holds is a plain value that can be compared, hashed, sent
//! and replayed.

mod canonical;
mod carry_over;
mod completeness;
mod delta;
mod doubt;
mod fleet;
mod freeze;
mod hash;
mod key;
mod mirror;
mod name;
mod object;
mod pieces;
mod redact;
mod sanitize;
mod snapshot;

pub use canonical::{canonical_json, to_yaml};
pub use carry_over::carry_over;
pub use completeness::{Carried, ClusterFacts, Completeness, SnapshotMeta};
pub use delta::Delta;
pub use doubt::{ClusterDoubt, DEPENDS_ON, depend_on, depends_on};
pub use fleet::{ClusterSettings, Fleet, FleetSettings};
pub use freeze::{Frozen, Kept, freeze, is_doubtful};
pub use hash::{ContentHash, ParseHashError};
pub use key::{Gvk, ObjectKey};
pub use mirror::SanitizedMirror;
pub use name::Name;
pub use object::{Object, ObjectError};
pub use pieces::Pieces;
pub use redact::redacted;
pub use sanitize::sanitize;
pub use snapshot::{BUCKETS, Snapshot};
