//! The library that gives a process another clock, for tests of servers whose clocks differ.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::debian;
use crate::say;
use crate::setup::TOOLS;

/// Unpacks it if it is not there yet.
///
/// # Errors
/// When it is missing and cannot be installed.
pub(crate) fn set_up(root: &Path) -> anyhow::Result<()> {
    let ours = root.join(TOOLS).join("faketime");
    if library(&ours).is_none() {
        debian::unpack(&["libfaketime"], &ours).context("libfaketime is missing (Debian: libfaketime)")?;
    }
    let library = library(&ours).context("libfaketime was unpacked, but its library is not where it should be")?;
    say(&format!("libfaketime: {}\n", library.display()));
    Ok(())
}

/// The library for programs with threads, below the folder of the processor.
fn library(ours: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(ours.join("usr/lib")).ok()?;
    let libraries = folders.flatten().map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.is_file())
}
