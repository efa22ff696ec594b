//! Small files in the state folder, replaced in one step.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ServerError;

#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name) }
    }

    /// Reads the file; the default if there is none.
    pub(crate) fn load<T: DeserializeOwned + Default>(&self) -> Result<T, ServerError> {
        let state = |source| ServerError::State { path: self.path.clone(), source };
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| state(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(state(error)),
        }
    }

    /// Replaces the file; that it is replaced survives a loss of power.
    pub(crate) fn store(&self, value: &impl Serialize) -> std::io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let file = std::fs::File::create(&temporary)?;
        serde_json::to_writer_pretty(&file, value)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    }
}
