//! The versions of inputs that what is applied was made from, beside it in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use meshrelay_snapshot::{Name, to_yaml};
use serde::{Deserialize, Serialize};

use crate::ApplyError;

/// Name of the file: hidden and without an ending, so that nobody takes it for a manifest.
const FILE: &str = ".meshrelay-in-force";

/// For whoever opens the file.
const HEADING: &str =
    "# Which versions of the clusters' inputs the objects in this folder were made from. The agent compares it with
# what a server gives it, and deletes nothing for a server that knows less.
";

#[derive(Default, Serialize, Deserialize)]
struct Record {
    /// Another cluster's versions say nothing about this one.
    cluster: Name,
    basis: BTreeMap<Name, u64>,
}

/// The record in one folder.
#[derive(Debug)]
pub(super) struct BasisFile {
    folder: PathBuf,
    cluster: Name,
    /// As on disk; `None` before it was read or written.
    kept: Option<BTreeMap<Name, u64>>,
}

impl BasisFile {
    pub(super) fn new(folder: &Path, cluster: Name) -> Self {
        Self { folder: folder.to_owned(), cluster, kept: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Reads it; nothing if there is none, or none of this cluster.
    pub(super) fn read(&mut self) -> Result<BTreeMap<Name, u64>, ApplyError> {
        let unreadable = |reason: String| ApplyError::Unreadable { place: self.path().display().to_string(), reason };
        let record: Record = match fs::read_to_string(self.path()) {
            Ok(text) => serde_saphyr::from_str(&text).map_err(|error| {
                unreadable(format!("{error}; if nobody can repair the file, delete it while a server is up to date"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let basis = if record.cluster == self.cluster { record.basis } else { BTreeMap::new() };
        self.kept = Some(basis.clone());
        Ok(basis)
    }

    /// Has it on disk, before the first object that is made from these versions.
    pub(super) fn keep(&mut self, basis: &BTreeMap<Name, u64>) -> Result<(), ApplyError> {
        let is_kept = self.kept.as_ref().map_or(basis.is_empty(), |kept| kept == basis);
        if is_kept {
            return Ok(());
        }
        self.write(basis).map_err(|error| {
            let place = self.path().display().to_string();
            ApplyError::Failed { place, reason: error.to_string() }
        })?;
        self.kept = Some(basis.clone());
        Ok(())
    }

    fn write(&self, basis: &BTreeMap<Name, u64>) -> io::Result<()> {
        let record = Record { cluster: self.cluster.clone(), basis: basis.clone() };
        let text = format!("{HEADING}{}", to_yaml(&serde_json::to_value(&record)?));
        fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join(format!("{FILE}.tmp"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        // After a power cut it must not be older than the objects.
        file.sync_all()?;
        fs::rename(&temporary, self.path())
    }
}
