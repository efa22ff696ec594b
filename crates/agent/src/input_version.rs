//! Versions of inputs over restarts: servers that know less than others, and their store, tell by them what is newer.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use meshrelay_process::machine::Clock;
use meshrelay_relay::Versions;
use serde::{Deserialize, Serialize};

/// How many versions are noted ahead, so that the file is written about once per process. Versions are near the clock in
/// microseconds, so these are a second of it.
const AHEAD: u64 = 1_000_000;

/// Keeps on disk up to where versions may have been given.
#[derive(Debug)]
pub(crate) struct InputVersionFile {
    path: PathBuf,
    noted: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Noted {
    given_up_to: u64,
}

impl InputVersionFile {
    /// Reads the file. One that is missing or damaged is as good as none: then the clock alone says where to go on.
    pub(crate) fn open(state_directory: &Path) -> Self {
        let path = state_directory.join("input-version.json");
        let noted = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(|noted: Noted| noted.given_up_to).map_err(Into::into),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        let noted = noted.unwrap_or_else(|error: std::io::Error| {
            tracing::error!(path = %path.display(), %error, "versions of inputs go on from the clock: the last is not known");
            0
        });
        Self { path, noted }
    }

    /// Where this process goes on, if the clock says `now`. Whatever a server holds is replaced at the first
    /// connection, if by nothing but a newer version: the file may be older than what was given, as from a backup.
    pub(crate) fn versions(&self, now: u64) -> Versions {
        Versions::after(self.noted.max(now))
    }

    /// Notes that a version was given, before anything of it is sent.
    pub(crate) fn given(&mut self, version: u64) {
        if version <= self.noted {
            return;
        }
        self.noted = version.saturating_add(AHEAD).min(Versions::MAX);
        if let Err(error) = self.store() {
            tracing::error!(path = %self.path.display(), %error, "the version of the input could not be kept for the next start");
        }
    }

    fn store(&self) -> std::io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&Noted { given_up_to: self.noted })?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)
    }
}

/// The clock in microseconds, as versions are counted.
pub(crate) fn microseconds(clock: &Clock) -> u64 {
    u64::try_from(clock.now().as_microsecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_on_over_restarts_whatever_the_clock_says() {
        const HOURS: u64 = 5 * 3_600 * 1_000_000;
        let folder = tempfile::tempdir().unwrap();
        let mut last = 0;
        for now in [10 * HOURS, 3 * HOURS, 4 * HOURS, 12 * HOURS, 1] {
            let mut file = InputVersionFile::open(folder.path());
            let versions = file.versions(now);
            assert!(versions.last() >= last.max(now), "{versions:?}");
            last = versions.last() + 7;
            file.given(last);
        }
        // Not once per version.
        let mut file = InputVersionFile::open(folder.path());
        std::fs::remove_file(&file.path).unwrap();
        file.given(last + 1);
        assert!(!file.path.exists());

        std::fs::write(&file.path, "{").unwrap();
        assert_eq!(InputVersionFile::open(folder.path()).versions(9), Versions::after(9));
    }
}
