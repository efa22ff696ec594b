use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Name, ObjectKey, Snapshot};
use tokio::sync::watch;

use crate::FileProblem;

/// What a cluster holds right now, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The objects as the cluster has them, not sanitised, with the completeness of each watched kind.
    pub snapshot: Snapshot,
    /// What could not be read, in the order of files and lines.
    pub problems: Vec<FileProblem>,
}

/// Whether absence from the desired state is an order to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyMode {
    /// The desired state is all there is to be: what we own beside it goes.
    Complete,
    /// The desired state may lack objects: what we own beside it stays, and is reported as held.
    AddOnly,
    /// Of what we own beside the desired state these may go; the rest stays, and is reported as held.
    Only(Arc<BTreeSet<ObjectKey>>),
}

impl ApplyMode {
    /// True if an object that is not desired may be deleted.
    pub fn allows(&self, key: &ObjectKey) -> bool {
        match self {
            Self::Complete => true,
            Self::AddOnly => false,
            Self::Only(keys) => keys.contains(key),
        }
    }
}

/// What a cluster has of us, held against a desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surplus {
    /// Number of all objects of ours that the cluster has.
    pub present: usize,
    /// Those that are not desired: what [`ApplyMode::Complete`] would delete.
    pub objects: BTreeSet<ObjectKey>,
}

/// What is applied in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The objects, as [`Cluster::apply`] was given them, with the versions of inputs that are on record. Of the meta data there
    /// is nothing else.
    pub snapshot: Snapshot,
    /// Digest of the desired state that was given last, as on record; `None` if there is no such record.
    pub desired: Option<ContentHash>,
}

/// One object that could not be applied or deleted; the others were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyFailure {
    /// The object.
    pub key: ObjectKey,
    /// Why.
    pub error: ApplyError,
}

/// Why an object was not applied or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Something of the user's has the place.
    #[error("expected no object or one of ours at {place}, found one without our labels: remove or rename it (MR0420)")]
    NotOurs {
        /// The file or object that is in the way.
        place: String,
    },
    /// The write or the delete failed.
    #[error("cannot write {place}: {reason} (MR0421)")]
    Failed {
        /// The file or object.
        place: String,
        /// What the file system or the API server said.
        reason: String,
    },
    /// Two desired objects differ in nothing but their API version, so they are one object.
    #[error("the same object is wanted under two API versions, {winner} is in force (MR0422)")]
    TwoVersions {
        /// `apiVersion` of the one that was applied.
        winner: String,
    },
    /// The desired object cannot carry our labels.
    #[error("not a kubernetes object: {reason} (MR0423)")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// What is applied cannot be read back.
    #[error("cannot read {place}: {reason} (MR0424)")]
    Unreadable {
        /// The folder or kind.
        place: String,
        /// What the file system or the API server said.
        reason: String,
    },
}

/// What one [`Cluster::apply`] did, object by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyOutcome {
    /// Created or changed, in the order in which it was done.
    pub applied: Vec<ObjectKey>,
    /// Deleted, in the order in which it was done.
    pub deleted: Vec<ObjectKey>,
    /// Number of objects that already were as desired.
    pub unchanged: usize,
    /// Ours and not desired, but kept, because the mode does not allow it to go.
    pub held: Vec<ObjectKey>,
    /// What could not be done.
    pub failed: Vec<ApplyFailure>,
}

/// A cluster: a Kubernetes API or a directory of manifests.
pub trait Cluster: Send + Sync + 'static {
    /// Name of the cluster.
    fn name(&self) -> &Name;

    /// What the cluster holds, now and whenever it changes. The first value is a complete listing.
    fn watch(&self) -> watch::Receiver<Arc<ClusterView>>;

    /// Makes the cluster hold the desired objects, with our ownership labels on each. Only objects that bear these
    /// labels are ever overwritten or deleted. Can be stopped and repeated at any time: every object is either as
    /// it was or as desired. The versions of inputs that the desired objects were made from, and the digest of the desired
    /// state, are on record in the cluster before any of them is written; when they cannot be recorded, nothing is done.
    fn apply(&self, desired: &Snapshot, mode: ApplyMode) -> impl Future<Output = ApplyOutcome> + Send;

    /// What [`Cluster::apply`] would find of ours, and beside what is desired.
    ///
    /// # Errors
    /// When some of it cannot be read: then nothing would be deleted.
    fn surplus(&self, desired: &Snapshot) -> impl Future<Output = Result<Surplus, ApplyError>> + Send;

    /// What is applied, for an agent that starts again.
    ///
    /// # Errors
    /// When some of it cannot be read: then nothing is known about what is absent.
    fn current(&self) -> impl Future<Output = Result<Applied, ApplyError>> + Send;
}
