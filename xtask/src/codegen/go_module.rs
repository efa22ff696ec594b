//! Files of Go modules, which the Go toolchain downloads and verifies.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::run;

/// A module is some megabytes; a proxy that cannot be reached must not hold the tests up.
const DEADLINE: Duration = Duration::from_secs(120);

/// A version of a Go module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoModule {
    /// Path of the module.
    pub(crate) path: &'static str,
    /// Its version, with a leading `v`.
    pub(crate) version: &'static str,
}

/// The module cannot be had on this machine, now; what was generated from it before stays right.
#[derive(Debug, thiserror::Error)]
#[error("cannot get the Go module {module}: {reason}")]
pub(crate) struct Unreachable {
    module: String,
    reason: String,
}

impl GoModule {
    /// Downloads the module, unless it is there already, and gives its directory.
    ///
    /// # Errors
    /// [`Unreachable`] when Go is missing or the module cannot be downloaded.
    pub(crate) fn download(self) -> anyhow::Result<PathBuf> {
        let module = format!("{}@{}", self.path, self.version);
        let unreachable = |reason: String| Unreachable { module: module.clone(), reason };
        let mut download = Command::new("go");
        // Only the named module is wanted, whatever module or workspace the repository may lie in.
        download.args(["mod", "download", "-json", &module]).env("GO111MODULE", "on").env("GOWORK", "off");
        let output = run::within(DEADLINE, &std::env::temp_dir(), &mut download)
            .map_err(|error| unreachable(format!("{error:#}; install Go 1.21 or later (https://go.dev/dl)")))?
            .ok_or_else(|| unreachable(format!("no answer from the module proxy within {DEADLINE:?}")))?;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match answer["Dir"].as_str() {
            Some(directory) if output.status.success() => Ok(PathBuf::from(directory)),
            _ => {
                let said = answer["Error"].as_str().map(str::to_owned);
                let said = said.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned());
                Err(unreachable(said).into())
            }
        }
    }
}
