//! What the objects in a folder were made from, and which desired state they are of, beside them in the folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use meshrelay_snapshot::{ContentHash, Name, Snapshot, to_yaml};
use serde::{Deserialize, Serialize};

use crate::ApplyError;

/// Name of the file: hidden and without an ending, so that nobody takes it for a manifest.
const FILE: &str = ".meshrelay-in-force";

/// For whoever opens the file.
const HEADING: &str =
    "# Which versions of the clusters' inputs the objects in this folder were made from. The agent compares it with
# what a server gives it, and deletes nothing for a server that knows less. The digest tells whether the last output
# in the agent's state folder is the one that was applied here last.
";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// What another cluster has says nothing about this one.
    cluster: Name,
    /// Of the desired state that was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<ContentHash>,
    basis: BTreeMap<Name, u64>,
}

/// The record in one folder.
#[derive(Debug)]
pub(super) struct BasisFile {
    folder: PathBuf,
    cluster: Name,
    /// As on disk; `None` before it was read or written.
    kept: Option<Record>,
}

impl BasisFile {
    pub(super) fn new(folder: &Path, cluster: Name) -> Self {
        Self { folder: folder.to_owned(), cluster, kept: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// The versions and the digest; nothing if there is no record, or none of this cluster.
    pub(super) fn read(&mut self) -> Result<(BTreeMap<Name, u64>, Option<ContentHash>), ApplyError> {
        let unreadable = |reason: String| ApplyError::Unreadable { place: self.path().display().to_string(), reason };
        let record: Record = match fs::read_to_string(self.path()) {
            Ok(text) => serde_saphyr::from_str(&text).map_err(|error| {
                unreadable(format!("{error}; if nobody can repair the file, delete it while a server is up to date"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let record = if record.cluster == self.cluster { record } else { Record::default() };
        self.kept = Some(record.clone());
        Ok((record.basis, record.digest))
    }

    /// Has it on disk, before the first object of the desired state.
    pub(super) fn keep(&mut self, desired: &Snapshot) -> Result<(), ApplyError> {
        let (basis, digest) = (desired.meta().basis.clone(), Some(desired.digest()));
        let record = Record { cluster: self.cluster.clone(), digest, basis };
        if self.kept.is_none() {
            // One that cannot be read is replaced.
            let _ = self.read();
        }
        let nothing_is_applied = self.kept.as_ref() == Some(&Record::default());
        let is_nothing = nothing_is_applied && desired.is_empty() && record.basis.is_empty();
        if is_nothing || self.kept.as_ref() == Some(&record) {
            return Ok(());
        }
        self.write(&record).map_err(|error| {
            let place = self.path().display().to_string();
            ApplyError::Failed { place, reason: error.to_string() }
        })?;
        self.kept = Some(record);
        Ok(())
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let text = format!("{HEADING}{}", to_yaml(&serde_json::to_value(record)?));
        fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join(format!("{FILE}.tmp"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        // After a power cut it must not be older than the objects.
        file.sync_all()?;
        fs::rename(&temporary, self.path())
    }
}
