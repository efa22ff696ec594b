//! What can go wrong with a store.

use meshrelay_snapshot::ObjectKey;

use crate::SnapshotId;

/// A failure that an operator has to look at. Every variant carries a code with a page in the documentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A snapshot holds something that must not be stored.
    #[error("{id}: {key} is a secret, and secrets never enter the store; leave it out of the snapshot (MR0910)")]
    Secret {
        /// The snapshot.
        id: SnapshotId,
        /// The object.
        key: ObjectKey,
    },
}

impl StoreError {
    /// The code with which the documentation explains this failure, such as `MR0900`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "MR0910",
        }
    }
}
