use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::StoreError;

/// Which store this is: another one after it came back empty, or as another instance, which may lack the last writes.
/// Whoever holds something that others need writes it back when the epoch changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the store can be reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// It answers.
    Connected,
    /// It does not.
    Away {
        /// Since when.
        since: Timestamp,
        /// Why, as of the last attempt.
        error: StoreError,
    },
}

/// State of a store, as one replica sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether it can be reached.
    pub reach: Reach,
    /// The store that answered last, `None` before the first answer.
    pub epoch: Option<Epoch>,
}

impl Health {
    /// True if the store answers.
    pub fn is_connected(&self) -> bool {
        self.reach == Reach::Connected
    }
}
