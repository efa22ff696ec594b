//! Programs of Debian's packages, unpacked below our own tools, so that nothing of the system changes and nothing starts.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use crate::run;
use crate::say;

/// Downloads packages and unpacks their files into a folder. Needs no root, but for the first lists of packages of a new
/// machine.
///
/// # Errors
/// When a package cannot be downloaded or unpacked.
pub(crate) fn unpack(packages: &[&str], into: &Path) -> anyhow::Result<()> {
    let downloads = tempfile::tempdir()?;
    let download = || run::shown(downloads.path(), Command::new("apt-get").args(["download", "-q"]).args(packages));
    if let Err(error) = download() {
        say(&format!("{error:#}; getting the lists of packages\n"));
        run::shown(downloads.path(), Command::new("apt-get").args(["update", "-q"]))?;
        download()?;
    }
    std::fs::create_dir_all(into)?;
    let mut unpacked = 0;
    for entry in std::fs::read_dir(downloads.path())? {
        run::shown(downloads.path(), Command::new("dpkg").arg("-x").arg(entry?.path()).arg(into))?;
        unpacked += 1;
    }
    ensure!(unpacked == packages.len(), "expected {} packages, got {unpacked}", packages.len());
    Ok(())
}
