//! Prometheus and promtool, which tests of metrics and alerts ask.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::debian;
use crate::run;
use crate::say;
use crate::setup::TOOLS;

/// What to do when nothing helps.
const BY_HAND: &str = "put prometheus and promtool (2.42 or newer; Debian: prometheus) on the search path";

/// Unpacks both if they are neither there already nor on the search path.
///
/// # Errors
/// When they are missing and cannot be had.
pub(crate) fn set_up(root: &Path) -> anyhow::Result<()> {
    let ours = root.join(TOOLS).join("prometheus");
    for place in [ours.join("usr/bin"), PathBuf::new()] {
        if let Some(version) = version(&place) {
            say(&format!("prometheus: {version} ({})\n", place.join("prometheus").display()));
            return Ok(());
        }
    }
    debian::unpack(&["prometheus"], &ours).with_context(|| format!("prometheus is missing: {BY_HAND}"))?;
    match version(&ours.join("usr/bin")) {
        Some(version) => say(&format!("prometheus: installed {version}\n")),
        None => bail!("prometheus was installed but does not run: {BY_HAND}"),
    }
    Ok(())
}

/// `2.42.0+ds`, if both programs in a folder say the same; in no folder means on the search path.
fn version(folder: &Path) -> Option<String> {
    let version = |program: &str| {
        // A line such as `promtool, version 2.42.0+ds (branch: …)`.
        let answer = run::answer(Command::new(folder.join(program)).arg("--version"))?;
        answer.split("version ").nth(1)?.split(' ').next().map(str::to_owned)
    };
    version("prometheus").filter(|found| version("promtool").as_ref() == Some(found))
}
