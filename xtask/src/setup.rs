//! What a fresh machine lacks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::run;
use crate::say;

/// The version that `deny.toml` was written for: others may know other keys or judge differently.
const CARGO_DENY: &str = "0.20.2";
/// Where our own tools go, below the root of the repository: ignored by git, and gone with the rest of the build.
const TOOLS: &str = "target/tools";
/// Where the package of Prometheus is unpacked below [`TOOLS`]; the tests of the programs look there.
const PROMETHEUS: &str = "prometheus";

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
    prometheus(root)?;
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

/// Prometheus and promtool, which the tests of metrics and alerts ask. From the Debian package, unpacked without being
/// installed, which needs no root.
fn prometheus(root: &Path) -> anyhow::Result<()> {
    let folder = root.join(TOOLS).join(PROMETHEUS);
    let programs = |folder: &Path| {
        // What it says of itself begins with its name and version.
        ["prometheus", "promtool"].map(|program| {
            let answer = run::answer(Command::new(folder.join(program)).arg("--version"))?;
            Some(answer.lines().next()?.split(" (").next()?.to_owned())
        })
    };
    for (place, shown) in [(folder.join("usr/bin"), TOOLS), (PathBuf::new(), "the search path")] {
        if let [Some(version), Some(_)] = programs(&place) {
            say(&format!("prometheus: {version} ({shown})\n"));
            return Ok(());
        }
    }
    say(&format!("prometheus: unpacking Debian's package into {TOOLS}/{PROMETHEUS}, which takes 120 MB, once\n"));
    let package = tempfile::tempdir()?;
    let advice = "put prometheus and promtool (2.42 or newer) on the search path";
    run::shown(package.path(), Command::new("apt-get").args(["-qq", "download", "prometheus"]))
        .with_context(|| format!("cannot get the package prometheus of Debian; {advice}"))?;
    let archive = std::fs::read_dir(package.path())?.next().context("apt-get download left no package")??.path();
    std::fs::create_dir_all(&folder)?;
    run::shown(root, Command::new("dpkg").arg("-x").args([&archive, &folder]))
        .with_context(|| format!("cannot unpack the package prometheus; {advice}"))?;
    match programs(&folder.join("usr/bin")) {
        [Some(version), Some(_)] => say(&format!("prometheus: unpacked {version}\n")),
        _ => bail!("prometheus was unpacked but does not run; {advice}"),
    }
    Ok(())
}
