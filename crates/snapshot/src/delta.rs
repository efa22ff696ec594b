use std::sync::Arc;

use crate::{Object, ObjectKey, SnapshotMeta};

/// What turns one snapshot into another. Upserts and removes are ordered by key and name no object twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Objects that are new or have another content.
    pub upserts: Vec<Arc<Object>>,
    /// Objects that are gone.
    pub removes: Vec<ObjectKey>,
    /// The new meta data, if it changed.
    pub meta: Option<SnapshotMeta>,
}

impl Delta {
    /// True if applying it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removes.is_empty() && self.meta.is_none()
    }
}
