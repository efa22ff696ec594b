//! What a fresh machine lacks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::faketime;
use crate::prometheus;
use crate::redis;
use crate::run;
use crate::say;

/// The version that `deny.toml` was written for: others may know other keys or judge differently.
const CARGO_DENY: &str = "0.20.2";
/// Where our own tools go, below the root of the repository: ignored by git, and gone with the rest of the build.
pub(crate) const TOOLS: &str = "target/tools";

/// What the other tasks need and could not be taken for granted.
pub(crate) struct Tools {
    /// The program `cargo-deny`.
    pub(crate) cargo_deny: PathBuf,
}

/// Installs what is missing, says what it did, and gives the tools. Does nothing the second time.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn set_up(root: &Path) -> anyhow::Result<Tools> {
    components(root)?;
    let cargo_deny = cargo_deny(root)?;
    redis::set_up(root)?;
    redis::set_up_valkey(root);
    prometheus::set_up(root)?;
    faketime::set_up(root)?;
    let go = run::answer(Command::new("go").arg("version"));
    say(&match go {
        Some(version) => format!("go: {version}\n"),
        None => "go: not found; needed only to generate the Istio types anew, see docs/decisions/0004\n".to_owned(),
    });
    Ok(Tools { cargo_deny })
}

/// rustfmt and clippy of the toolchain that `rust-toolchain.toml` names.
fn components(root: &Path) -> anyhow::Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let version = || run::answer(run::cargo().args([subcommand, "--version"]).current_dir(root));
        if let Some(version) = version() {
            say(&format!("{component}: {version}\n"));
            continue;
        }
        run::shown(root, Command::new("rustup").args(["component", "add", component])).with_context(|| {
            format!("{component} is missing: install it as rust-toolchain.toml says, or install rustup")
        })?;
        let installed = version().with_context(|| format!("{component} was installed but does not run"))?;
        say(&format!("{component}: installed {installed}\n"));
    }
    Ok(())
}

fn cargo_deny(root: &Path) -> anyhow::Result<PathBuf> {
    let ours = root.join(TOOLS).join("bin/cargo-deny");
    let version = |program: &Path| run::answer(Command::new(program).arg("--version"));
    let wanted = format!("cargo-deny {CARGO_DENY}");
    for program in [ours.clone(), PathBuf::from("cargo-deny")] {
        if version(&program).as_deref() == Some(&wanted) {
            say(&format!("cargo-deny: {CARGO_DENY} ({})\n", program.display()));
            return Ok(program);
        }
    }
    say(&format!("cargo-deny: installing {CARGO_DENY} into {TOOLS}, which takes some minutes, once\n"));
    let version_flag = format!("--version={CARGO_DENY}");
    // Without default features it needs neither OpenSSL nor a system library.
    let flags = ["install", "--locked", "--no-default-features", "--quiet", &version_flag, "--root"];
    run::shown(root, run::cargo().args(flags).arg(root.join(TOOLS)).arg("cargo-deny"))?;
    match version(&ours) {
        Some(found) => ensure!(found == wanted, "expected {wanted} in {TOOLS}, found {found}"),
        None => bail!("cargo-deny was installed but does not run"),
    }
    say(&format!("cargo-deny: installed {CARGO_DENY}\n"));
    Ok(ours)
}
