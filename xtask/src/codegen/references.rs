//! References that the programs write about themselves.

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::Files;
use crate::run;

/// Pages of `meshctl reference` and where they are kept.
const PAGES: [(&str, &str); 2] = [("cli", "docs/cli.md"), ("metrics", "docs/metrics.md")];

/// Builds `meshctl` and asks it.
pub(super) fn generate(root: &Path) -> anyhow::Result<Files> {
    let page = |(page, path): (&str, &str)| {
        let arguments = ["run", "--quiet", "--package", "meshrelay", "--bin", "meshctl", "--", "reference", page];
        let output = run::cargo().args(arguments).current_dir(root).output().context("cannot run cargo")?;
        ensure!(output.status.success(), "meshctl reference {page}: {}", String::from_utf8_lossy(&output.stderr));
        Ok((path.into(), String::from_utf8(output.stdout).context("expected text")?))
    };
    PAGES.into_iter().map(page).collect()
}
