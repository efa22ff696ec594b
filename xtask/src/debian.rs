//! Programs of Debian's packages, unpacked below our own tools, so that nothing of the system changes and nothing starts.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

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
    unpack_all(downloads.path(), packages, into)
}

/// As [`unpack`], from the backports of the system's release, whose lists the system itself need not have.
///
/// # Errors
/// As [`unpack`]; or the system is no Debian.
pub(crate) fn unpack_backports(packages: &[&str], into: &Path) -> anyhow::Result<()> {
    let system = std::fs::read_to_string("/etc/os-release").context("no Debian")?;
    let release = system.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context("no Debian")?;
    let (lists, downloads) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let folder = lists.path().display();
    std::fs::create_dir_all(lists.path().join("lists/partial"))?;
    std::fs::create_dir_all(lists.path().join("cache/archives/partial"))?;
    std::fs::write(
        lists.path().join("sources.list"),
        format!("deb http://deb.debian.org/debian {release}-backports main\n"),
    )?;
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for setting in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
        ] {
            command.arg("-o").arg(setting);
        }
        command.args(words);
        run::shown(downloads.path(), &mut command)
    };
    apt(&["update", "-q"])?;
    apt(&[&["download", "-q"], packages].concat())?;
    unpack_all(downloads.path(), packages, into)
}

fn unpack_all(downloads: &Path, packages: &[&str], into: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(into)?;
    let mut unpacked = 0;
    for entry in std::fs::read_dir(downloads)? {
        run::shown(downloads, Command::new("dpkg").arg("-x").arg(entry?.path()).arg(into))?;
        unpacked += 1;
    }
    ensure!(unpacked == packages.len(), "expected {} packages, got {unpacked}", packages.len());
    Ok(())
}
