use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Epoch, SnapshotId};

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// The document of that name.
    Document(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(id) => id.fmt(f),
            Self::Document(name) => write!(f, "document:{name}"),
        }
    }
}

/// A place in the feed of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) epoch: Option<Epoch>,
    pub(crate) number: u64,
}

/// What happened after a place in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// What changed, each subject once with its newest version or revision, `None` when it was removed. Empty when
    /// nothing changed.
    News {
        /// Subjects that changed.
        changed: BTreeMap<Subject, Option<u64>>,
        /// Where to go on.
        cursor: Cursor,
    },
    /// The feed does not reach back there, or the store is another one: look at all heads and documents, then go on
    /// from here. What changes during the look is told again.
    CatchUp {
        /// Where to go on.
        cursor: Cursor,
    },
}
