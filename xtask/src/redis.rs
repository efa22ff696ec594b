//! The Redis that tests of the store run against.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::debian;
use crate::run;
use crate::say;
use crate::setup::TOOLS;

/// Debian packages of the server.
const PACKAGES: [&str; 2] = ["redis-server", "redis-tools"];

/// Of the server that behaves as Redis does and is newer, which Debian has in backports first.
const VALKEY: [&str; 2] = ["valkey-server", "valkey-tools"];

/// Of libraries that a small system lacks.
const LIBRARIES: [&str; 3] = ["liblzf1", "libjemalloc2", "libatomic1"];

/// Runs a program of the unpacked packages with their libraries. Redis looks at its own name, so that stays.
const WRAPPER: &str = r#"#!/bin/sh
usr="$(dirname "$(readlink -f "$0")")/../root/usr"
LD_LIBRARY_PATH="$(echo "$usr"/lib/*-linux-gnu*)" exec "$usr/bin/$(basename "$0")" "$@"
"#;

/// What to do when nothing helps.
const BY_HAND: &str = "install redis-server (Debian: redis-server), or set REDIS_SERVER to its path";

/// Installs `redis-server` if there is none: from Debian's packages, unpacked below our own tools, so that nothing of the
/// system changes and no service starts.
///
/// # Errors
/// When it is missing and cannot be installed.
pub(crate) fn set_up(root: &Path) -> anyhow::Result<()> {
    let ours = root.join(TOOLS).join("redis/bin/redis-server");
    let given = std::env::var_os("REDIS_SERVER").map(PathBuf::from);
    let places = given.into_iter().chain([PathBuf::from("redis-server"), ours.clone()]);
    for program in places {
        if let Some(version) = version(&program) {
            say(&format!("redis-server: {version} ({})\n", program.display()));
            return Ok(());
        }
    }
    install(&root.join(TOOLS).join("redis")).with_context(|| format!("redis-server is missing: {BY_HAND}"))?;
    let version = version(&ours).with_context(|| format!("redis-server was installed but does not run: {BY_HAND}"))?;
    say(&format!("redis-server: installed {version}\n"));
    Ok(())
}

/// `7.0.15`, from a line of `NAME=value` words.
fn version(program: &Path) -> Option<String> {
    let line = run::answer(Command::new(program).arg("--version"))?;
    line.split(' ').find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}

/// Installs `valkey-server` in the same way, which one test needs; says so where that is not possible.
pub(crate) fn set_up_valkey(root: &Path) {
    let directory = root.join(TOOLS).join("valkey");
    let ours = directory.join("bin/valkey-server");
    let installed = || version(&ours).map(|version| say(&format!("valkey-server: {version} ({})\n", ours.display())));
    if installed().is_some() {
        return;
    }
    match install_valkey(&directory) {
        Ok(()) if installed().is_some() => {}
        Ok(()) => say("valkey-server was installed but does not run: the test that needs it is skipped\n"),
        Err(error) => say(&format!("no valkey-server: {error:#}; the test that needs it is skipped\n")),
    }
}

fn install(directory: &Path) -> anyhow::Result<()> {
    let root = directory.join("root");
    debian::unpack(&[&PACKAGES[..], &LIBRARIES].concat(), &root)?;
    wrap(directory, &["redis-server", "redis-cli", "redis-benchmark"])
}

fn install_valkey(directory: &Path) -> anyhow::Result<()> {
    let root = directory.join("root");
    debian::unpack(&LIBRARIES, &root)?;
    debian::unpack_backports(&VALKEY, &root).or_else(|_| debian::unpack(&VALKEY, &root))?;
    wrap(directory, &["valkey-server"])
}

fn wrap(directory: &Path, programs: &[&str]) -> anyhow::Result<()> {
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin)?;
    for program in programs {
        let wrapper = bin.join(program);
        std::fs::write(&wrapper, WRAPPER)?;
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
