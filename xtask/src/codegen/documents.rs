//! YAML documents of a directory tree.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// All documents of one file, or why it cannot be parsed.
pub(crate) type FileDocuments = (PathBuf, Result<Vec<Value>, String>);

/// Reads every `.yaml` and `.yml` file below a directory, in the order of their paths.
///
/// # Errors
/// When a directory or file cannot be read.
pub(crate) fn below(directory: &Path) -> anyhow::Result<Vec<FileDocuments>> {
    let mut found = Vec::new();
    let mut entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.push((path, parse(&text)));
        }
    }
    Ok(found)
}

/// The documents of a text, or why it cannot be parsed.
///
/// # Errors
/// When it is no YAML.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}
