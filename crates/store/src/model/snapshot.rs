use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Name, ObjectKey, Snapshot, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StoreError;

/// Which of a cluster's snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// What its agent pushed.
    Input,
    /// What its agent is to apply.
    Output,
    /// What translation says about its resources, one object for each.
    Reports,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Reports => "reports",
        }
    }
}

/// Names one snapshot of a plane; written `input:cluster1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// Which of the cluster's.
    pub role: Role,
    /// The cluster that it is of.
    pub cluster: Name,
}

impl SnapshotId {
    /// The input snapshot of a cluster.
    pub fn input(cluster: impl Into<Name>) -> Self {
        Self { role: Role::Input, cluster: cluster.into() }
    }

    /// The output snapshot of a cluster.
    pub fn output(cluster: impl Into<Name>) -> Self {
        Self { role: Role::Output, cluster: cluster.into() }
    }

    /// The reports on resources of a cluster.
    pub fn reports(cluster: impl Into<Name>) -> Self {
        Self { role: Role::Reports, cluster: cluster.into() }
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.role.as_str(), self.cluster)
    }
}

/// A text that names no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected input:CLUSTER, output:CLUSTER or reports:CLUSTER, found {0:?}")]
pub struct ParseIdError(String);

impl FromStr for SnapshotId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match text.split_once(':') {
            Some(("input", cluster)) if !cluster.is_empty() => Ok(Self::input(cluster)),
            Some(("output", cluster)) if !cluster.is_empty() => Ok(Self::output(cluster)),
            Some(("reports", cluster)) if !cluster.is_empty() => Ok(Self::reports(cluster)),
            _ => Err(ParseIdError(text.to_owned())),
        }
    }
}

/// One version of a snapshot, with what belongs to it. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Stored {
    version: u64,
    snapshot: Arc<Snapshot>,
    extra: Arc<Value>,
    writer: Arc<str>,
    digest: ContentHash,
    extra_digest: ContentHash,
}

impl Stored {
    /// `version` as the sender counts, over its restarts too; `extra`: small JSON that belongs to this version (what
    /// was withheld); `writer`: the replica that stores it.
    pub fn new(version: u64, snapshot: Arc<Snapshot>, extra: Value, writer: &str) -> Self {
        let (digest, extra_digest) = (snapshot.digest(), ContentHash::of(&canonical_json(&extra)));
        Self { version, snapshot, extra: Arc::new(extra), writer: writer.into(), digest, extra_digest }
    }

    /// The sender's count.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The objects.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What else belongs to this version.
    pub fn extra(&self) -> &Value {
        &self.extra
    }

    /// The replica that stored it.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Digest of the snapshot.
    pub fn digest(&self) -> ContentHash {
        self.digest
    }

    /// Short description, without the objects.
    pub fn head(&self) -> Head {
        Head {
            version: self.version,
            digest: self.digest,
            objects: self.snapshot.len() as u64,
            writer: self.writer.to_string(),
        }
    }

    /// By what versions of one snapshot are ordered, as text that compares as they do: the higher version wins; of
    /// equal versions the greater digest, so that writers who disagree end at the same one.
    pub(crate) fn rank(&self) -> String {
        format!("{:020}{}{}", self.version, self.digest, self.extra_digest)
    }

    /// The same, sharing with a base what is equal.
    pub(crate) fn sharing(&self, base: Option<&Self>) -> Self {
        let Some(base) = base else { return self.clone() };
        let mut snapshot = Snapshot::clone(&base.snapshot);
        snapshot.apply(self.snapshot.diff(&base.snapshot));
        Self { snapshot: Arc::new(snapshot), ..self.clone() }
    }

    /// Refuses a snapshot with something that must not be stored.
    pub(crate) fn refuse_secrets(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let secret = |key: &&ObjectKey| key.gvk.group.is_empty() && key.gvk.kind == "Secret";
        match self.snapshot.iter().map(|object| object.key()).find(secret) {
            Some(key) => Err(StoreError::Secret { id: id.clone(), key: key.clone() }),
            None => Ok(()),
        }
    }
}

/// What is known of a stored snapshot without its objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The sender's count.
    pub version: u64,
    /// Digest of the snapshot.
    pub digest: ContentHash,
    /// Number of objects.
    pub objects: u64,
    /// The replica that stored it.
    pub writer: String,
}

/// What became of a snapshot that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is what readers get now.
    Stored,
    /// That very version was there already.
    Same,
    /// A newer version is there, which stays; or, of the same version, one with a greater digest.
    Newer(Head),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for id in [SnapshotId::input("cluster1"), SnapshotId::output("a:b"), SnapshotId::reports("mgmt")] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "input", "input:", "other:a"] {
            assert_eq!(text.parse::<SnapshotId>(), Err(ParseIdError(text.to_owned())));
        }
    }

    #[test]
    fn ranks_compare_as_versions_do() {
        let rank = |version, extra: &str| Stored::new(version, Arc::default(), json!(extra), "a").rank();
        assert!(rank(9, "") < rank(10, "") && rank(10, "") < rank(u64::MAX, ""));
        assert_ne!(rank(1, "a"), rank(1, "b"));
        assert_eq!(rank(u64::MAX, "").len(), rank(0, "").len());
    }
}
