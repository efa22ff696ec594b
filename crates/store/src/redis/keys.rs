//! Names of keys. All of a plane's share one hash tag, so that they are on one node of a Redis Cluster.

use crate::{SnapshotId, StoreError};

/// Longest name of a plane.
const LONGEST: usize = 63;

#[derive(Debug)]
pub(super) struct Keys {
    tag: String,
}

impl Keys {
    pub(super) fn new(plane: &str) -> Result<Self, StoreError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        if plane.is_empty() || plane.len() > LONGEST || !plane.chars().all(is_name) {
            let problem = format!("expected up to {LONGEST} letters, digits, `-`, `.` and `_`, found {plane:?}");
            return Err(StoreError::Settings { setting: "plane", problem });
        }
        Ok(Self { tag: format!("{{meshrelay:{plane}}}") })
    }

    /// Identity and counters.
    pub(super) fn store(&self) -> String {
        format!("{}:store", self.tag)
    }

    /// The stream of changes.
    pub(super) fn feed(&self) -> String {
        format!("{}:changes", self.tag)
    }

    /// Heads of all snapshots.
    pub(super) fn heads(&self) -> String {
        format!("{}:heads", self.tag)
    }

    pub(super) fn snapshot(&self, id: &SnapshotId) -> String {
        format!("{}:{id}", self.tag)
    }

    /// Revisions of all documents.
    pub(super) fn documents(&self) -> String {
        format!("{}:documents", self.tag)
    }

    pub(super) fn document(&self, name: &str) -> String {
        format!("{}:document:{name}", self.tag)
    }

    /// Live state of replicas.
    pub(super) fn live(&self) -> String {
        format!("{}:live", self.tag)
    }

    pub(super) fn lease(&self, name: &str) -> String {
        format!("{}:lease:{name}", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_what_redis_hashes() {
        let keys = Keys::new("gloo-mesh").unwrap();
        assert_eq!(keys.snapshot(&SnapshotId::input("c{}1")), "{meshrelay:gloo-mesh}:input:c{}1");
        assert_eq!(keys.document("reports/c1"), "{meshrelay:gloo-mesh}:document:reports/c1");
        for plane in ["", "a}b", "a b", "ü"] {
            assert_eq!(Keys::new(plane).unwrap_err().code(), "MR0912", "{plane}");
        }
    }
}
