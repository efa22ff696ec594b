//! Everything that is generated and committed.

pub(crate) mod compare_crds;
mod crds;
pub(crate) mod decode_corpus;
pub(crate) mod documents;
mod error_index;
pub(crate) mod go_module;
pub(crate) mod istio;
mod istio_names;
mod proto;
mod references;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::say;
use go_module::Unreachable;

/// Content of generated files by their path below the root of the repository.
type Files = BTreeMap<PathBuf, String>;

/// Adding something generated is one line here.
const GENERATORS: &[Generator] = &[
    Generator { name: "proto", generate: proto::generate, whole: Some(proto::GENERATED) },
    Generator { name: "crds", generate: |_| Ok(crds::generate()), whole: Some(crds::GENERATED) },
    Generator { name: "istio", generate: |_| istio::generate(), whole: None },
    Generator { name: "error index", generate: error_index::generate, whole: None },
    Generator { name: "references", generate: references::generate, whole: None },
];

struct Generator {
    name: &'static str,
    /// Makes the files, given the root of the repository.
    generate: fn(&Path) -> anyhow::Result<Files>,
    /// A directory in which every file is this generator's, so that what it no longer makes is removed.
    whole: Option<&'static str>,
}

/// How the committed files of a generator compare with what it makes.
enum State {
    Fresh,
    /// Files to write, and files to remove.
    Stale(Files, Vec<PathBuf>),
    /// What it is made from cannot be had here and now.
    Unknown(String),
}

impl Generator {
    fn state(&self, root: &Path) -> anyhow::Result<State> {
        let mut files = match (self.generate)(root) {
            Ok(files) => files,
            Err(error) if error.is::<Unreachable>() => return Ok(State::Unknown(format!("{error:#}"))),
            Err(error) => return Err(error.context(format!("cannot generate {}", self.name))),
        };
        let mut gone = Vec::new();
        for entry in self.whole.into_iter().flat_map(|whole| std::fs::read_dir(root.join(whole))).flatten() {
            let path = entry?.path();
            if path.strip_prefix(root).is_ok_and(|below| !files.contains_key(below)) {
                gone.push(path);
            }
        }
        files.retain(|path, content| std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(content));
        Ok(if files.is_empty() && gone.is_empty() { State::Fresh } else { State::Stale(files, gone) })
    }
}

/// Writes what is stale, or only tells it; false when something is stale and stays so.
///
/// # Errors
/// When a generator fails or a file cannot be written.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<bool> {
    let mut fresh = true;
    for generator in GENERATORS {
        let name = generator.name;
        match generator.state(root)? {
            State::Fresh => say(&format!("{name}: fresh\n")),
            State::Unknown(reason) => say(&format!("{name}: SKIPPED, {reason}\n")),
            State::Stale(files, gone) => {
                fresh = false;
                for (path, content) in files {
                    say(&format!("{name}: {} {}\n", if check { "stale" } else { "wrote" }, path.display()));
                    if !check {
                        write(&root.join(path), &content)?;
                    }
                }
                for path in gone {
                    say(&format!("{name}: {} {}\n", if check { "no longer made:" } else { "removed" }, path.display()));
                    if !check {
                        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                    }
                }
            }
        }
    }
    if check && !fresh {
        say("run `cargo xtask codegen` and commit what it writes\n");
    }
    Ok(fresh || !check)
}

fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_files_are_fresh() {
        let root = crate::repository();
        for generator in GENERATORS {
            match generator.state(&root).unwrap() {
                State::Fresh => {}
                // Not by a macro, whose output is shown only for tests that fail.
                State::Unknown(reason) => say(&format!("SKIPPED freshness of {}: {reason}\n", generator.name)),
                State::Stale(files, gone) => {
                    panic!("{}: run `cargo xtask codegen`: {:?} {gone:?}", generator.name, files.keys())
                }
            }
        }
    }

    #[test]
    fn a_changed_a_missing_and_a_superfluous_file_are_stale() {
        let generator = Generator {
            name: "sample",
            generate: |_| Ok([("g/a", "1"), ("g/b", "2")].map(|(path, text)| (path.into(), text.to_owned())).into()),
            whole: Some("g"),
        };
        let root = tempfile::tempdir().unwrap();
        let stale = |root: &Path| match generator.state(root).unwrap() {
            State::Stale(files, gone) => (files.len(), gone.len()),
            State::Fresh => (0, 0),
            State::Unknown(reason) => panic!("{reason}"),
        };
        assert_eq!(stale(root.path()), (2, 0));
        write(&root.path().join("g/a"), "1").unwrap();
        assert_eq!(stale(root.path()), (1, 0));
        write(&root.path().join("g/b"), "2").unwrap();
        assert_eq!(stale(root.path()), (0, 0));
        write(&root.path().join("g/c"), "3").unwrap();
        assert_eq!(stale(root.path()), (0, 1));
    }
}
