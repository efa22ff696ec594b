//! Deletions that wait for approval, and approvals, as files in the state folder of an agent: who may write there may do
//! what the agent does.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use meshrelay_snapshot::{ContentHash, Name, ObjectKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::AgentError;
use crate::brake::Recent;

const HELD_FILE: &str = "deletions-held.json";
const APPROVAL_FILE: &str = "deletions-approved.json";
const RECENT_FILE: &str = "deletions-recent.json";

/// Deletions that the delete brake holds. They stay on disk until they are done or no longer wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldDeletions {
    /// Since when there is something to hold: what tells this hold from others.
    pub since: Timestamp,
    /// How many objects of ours the cluster had then.
    pub present: usize,
    /// Digest of the output that lacks the objects.
    pub output: ContentHash,
    /// What is not deleted.
    pub objects: BTreeSet<ObjectKey>,
}

/// Somebody's word that deletions are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// [`HeldDeletions::since`] of what is approved.
    pub since: Timestamp,
    /// When it was given.
    pub approved_at: Timestamp,
    /// What may be deleted, if it is not wanted then either.
    pub objects: BTreeSet<ObjectKey>,
}

impl HeldDeletions {
    /// Names these objects of this hold and nothing else: what somebody looked at before approving it.
    pub fn digest(&self) -> ContentHash {
        let since = self.since.to_string();
        let fields = |key: &ObjectKey| {
            [&key.gvk.group, &key.gvk.version, &key.gvk.kind, &key.namespace, &key.name].map(Name::clone)
        };
        let names: Vec<Name> = self.objects.iter().flat_map(fields).collect();
        ContentHash::of_parts(std::iter::once(since.as_bytes()).chain(names.iter().map(|name| name.as_bytes())))
    }
}

impl Approval {
    /// Approves what is held, exactly.
    pub fn of(held: &HeldDeletions, now: Timestamp) -> Self {
        Self { since: held.since, approved_at: now, objects: held.objects.clone() }
    }
}

/// The files of one agent about deletions.
#[derive(Clone, Debug)]
pub struct DeletionFiles {
    folder: PathBuf,
    cluster: Name,
}

/// What a file holds, with the cluster that it is about.
#[derive(Serialize, Deserialize)]
struct Document<T> {
    cluster: Name,
    #[serde(flatten)]
    content: T,
}

impl DeletionFiles {
    /// The files in a state folder of the agent of `cluster`.
    pub fn new(state_directory: &Path, cluster: impl Into<Name>) -> Self {
        Self { folder: state_directory.to_owned(), cluster: cluster.into() }
    }

    /// What is held, if anything is.
    ///
    /// # Errors
    /// A file that cannot be read, or is about another cluster.
    pub fn held(&self) -> Result<Option<HeldDeletions>, AgentError> {
        self.read(HELD_FILE)
    }

    /// The newest approval that was not carried out yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is about another cluster.
    pub fn approval(&self) -> Result<Option<Approval>, AgentError> {
        self.read(APPROVAL_FILE)
    }

    /// Approves what is held; the agent sees it within a second, or when it starts.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn approve(&self, held: &HeldDeletions, now: Timestamp) -> Result<(), AgentError> {
        self.write(APPROVAL_FILE, Some(&Approval::of(held, now)))
    }

    pub(crate) fn keep_held(&self, held: Option<&HeldDeletions>) -> Result<(), AgentError> {
        self.write(HELD_FILE, held)
    }

    /// What was deleted of late, as the delete brake counts it.
    pub(crate) fn recent(&self) -> Result<Recent, AgentError> {
        Ok(self.read(RECENT_FILE)?.unwrap_or_default())
    }

    pub(crate) fn keep_recent(&self, recent: &Recent) -> Result<(), AgentError> {
        self.write(RECENT_FILE, Some(recent).filter(|recent| recent.len() > 0))
    }

    /// Removes an approval that was carried out, unless another one has taken its place.
    pub(crate) fn forget_approval(&self, done: &Approval) -> Result<(), AgentError> {
        if self.approval()?.as_ref() != Some(done) {
            return Ok(());
        }
        self.write(APPROVAL_FILE, None::<&Approval>)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, AgentError> {
        let path = self.folder.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(AgentError::State { path, source }),
        };
        let document: Document<T> = match serde_json::from_slice(&bytes) {
            Ok(document) => document,
            Err(error) => return Err(AgentError::State { path, source: error.into() }),
        };
        if document.cluster != self.cluster {
            let message = format!("it is about cluster {}, not {}", document.cluster, self.cluster);
            return Err(AgentError::State { path, source: std::io::Error::other(message) });
        }
        Ok(Some(document.content))
    }

    fn write(&self, name: &str, content: Option<&impl Serialize>) -> Result<(), AgentError> {
        let path = self.folder.join(name);
        let written = match content {
            Some(content) => write_whole(&path, &Document { cluster: self.cluster.clone(), content }),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        written.map_err(|source| AgentError::State { path, source })
    }
}

/// In one step, and on the disk when it returns.
pub(crate) fn write_whole(path: &Path, document: &impl Serialize) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(document)?)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Gvk;

    use super::*;

    fn held(names: &[&str], second: i64) -> HeldDeletions {
        let key = |name: &&str| ObjectKey::new(Gvk::new("networking.istio.io", "v1", "Gateway"), "n", *name);
        HeldDeletions {
            since: Timestamp::from_second(second).unwrap(),
            present: 12,
            output: ContentHash::of(b"output"),
            objects: names.iter().map(key).collect(),
        }
    }

    #[test]
    fn what_is_held_and_approved_survives_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let files = DeletionFiles::new(folder.path(), "one");
        assert!(files.held().unwrap().is_none() && files.approval().unwrap().is_none());
        let held = held(&["a", "b"], 7);
        files.keep_held(Some(&held)).unwrap();
        assert_eq!(files.held().unwrap().as_ref(), Some(&held));
        let now = Timestamp::from_second(9).unwrap();
        files.approve(&held, now).unwrap();
        assert_eq!(files.approval().unwrap(), Some(Approval::of(&held, now)));
        let other = DeletionFiles::new(folder.path(), "two").held().unwrap_err().to_string();
        assert!(other.contains("cluster one, not two"), "{other}");
        files.keep_held(None).unwrap();
        files.forget_approval(&Approval::of(&held, Timestamp::UNIX_EPOCH)).unwrap();
        assert!(files.approval().unwrap().is_some(), "a newer one stays");
        files.forget_approval(&Approval::of(&held, now)).unwrap();
        files.forget_approval(&Approval::of(&held, now)).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_digest_names_these_objects_of_this_hold() {
        let one = held(&["a", "b"], 7);
        assert_eq!(
            one.digest(),
            HeldDeletions { output: ContentHash::of(b"another"), present: 90, ..one.clone() }.digest()
        );
        assert_ne!(one.digest(), held(&["a"], 7).digest());
        assert_ne!(one.digest(), held(&["a", "b"], 8).digest());
    }
}
