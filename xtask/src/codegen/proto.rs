//! Rust code of the relay's protocol, made from its `.proto` without `protoc`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where the definitions are, below the repository root.
const DEFINITIONS: &str = "proto";
/// The one file that the relay consists of, below [`DEFINITIONS`].
const RELAY: &str = "meshrelay/relay/v1/relay.proto";
/// Where the generated code goes, below the repository root.
pub(crate) const GENERATED: &str = "crates/relay/src/generated";

/// Generates the messages, the server and the client of the relay.
///
/// Gives the content of every generated file by its path below the repository root.
///
/// # Errors
/// When the definitions do not compile or the scratch directory cannot be used.
pub(crate) fn generate(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let definitions = root.join(DEFINITIONS);
    let descriptors = protox::compile([RELAY], [&definitions])
        .with_context(|| format!("cannot compile {}", definitions.join(RELAY).display()))?;
    let scratch = tempfile::tempdir().context("cannot make a scratch directory for generated code")?;
    tonic_prost_build::configure()
        .bytes(".meshrelay.relay.v1.Chunk.payload")
        .emit_rerun_if_changed(false)
        .out_dir(scratch.path())
        .compile_fds(descriptors)
        .context("cannot generate code from the relay's definitions")?;
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(scratch.path())? {
        let path = entry?.path();
        let name = path.file_name().context("a generated file has no name")?;
        files.insert(Path::new(GENERATED).join(name), std::fs::read_to_string(&path)?);
    }
    Ok(files)
}
