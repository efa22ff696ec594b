use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Name, Object, ObjectKey, Snapshot, SnapshotMeta, to_yaml};
use serde_json::Value;

use super::basis::BasisFile;
use crate::contents::read_file;
use crate::folder::{Stamp, notation};
use crate::manifest::parse_manifest;
use crate::{
    Applied, ApplyError, ApplyFailure, ApplyMode, ApplyOutcome, Notation, Surplus, YamlProblem, object_path, order,
    ownership,
};

/// Beginning and end of the names of files that are being written; a crash leaves one at most.
const TEMPORARY: (&str, &str) = (".meshrelay-", ".tmp");

/// One of our files as we left it.
#[derive(Clone, Debug)]
struct Written {
    key: ObjectKey,
    /// Hash of the object without our labels.
    content: ContentHash,
    /// Stamp of the file; another one means that somebody else wrote it.
    stamp: Stamp,
}

/// One thing to do. Steps are independent: after any number of them every file is whole.
#[derive(Clone, Debug)]
enum Step {
    Write { path: PathBuf, key: ObjectKey, content: ContentHash, value: Value },
    Delete { path: PathBuf, key: ObjectKey },
}

/// Applies desired objects into a folder, one file per object.
#[derive(Debug)]
pub(super) struct Applier {
    folder: PathBuf,
    cluster: Name,
    /// Our files by path below the folder; not known until the folder was read without an error.
    written: Option<BTreeMap<PathBuf, Written>>,
    basis: BasisFile,
}

impl Applier {
    pub(super) fn new(folder: PathBuf, cluster: Name) -> Self {
        let basis = BasisFile::new(&folder, cluster.clone());
        Self { folder, cluster, written: None, basis }
    }

    /// See [`crate::Cluster::apply`].
    pub(super) fn apply(&mut self, desired: &Snapshot, mode: ApplyMode) -> ApplyOutcome {
        let mut outcome = ApplyOutcome::default();
        if let Err(error) = self.basis.keep(desired) {
            let failed = |object: &Arc<Object>| ApplyFailure { key: object.key().clone(), error: error.clone() };
            outcome.failed.extend(desired.sorted().into_iter().map(failed));
            return outcome;
        }
        for step in self.plan(desired, &mode, &mut outcome) {
            let (key, applied) = match &step {
                Step::Write { key, .. } => (key.clone(), true),
                Step::Delete { key, .. } => (key.clone(), false),
            };
            match self.execute(step) {
                Ok(true) if applied => outcome.applied.push(key),
                Ok(true) => outcome.deleted.push(key),
                Ok(false) => {}
                Err(error) => outcome.failed.push(ApplyFailure { key, error }),
            }
        }
        outcome
    }

    /// See [`crate::Cluster::surplus`].
    pub(super) fn surplus(&mut self, desired: &Snapshot) -> Result<Surplus, ApplyError> {
        let written = self.look()?;
        let wanted: BTreeSet<PathBuf> = desired.iter().map(|object| object_path(object.key())).collect();
        let rest = written.iter().filter(|(path, _)| !wanted.contains(*path));
        Ok(Surplus { present: written.len(), objects: rest.map(|(_, file)| file.key.clone()).collect() })
    }

    /// See [`crate::Cluster::current`].
    pub(super) fn current(&mut self) -> Result<Applied, ApplyError> {
        let (basis, digest) = self.basis.read()?;
        let (written, objects) = self.scan()?;
        self.written = Some(written);
        let mut snapshot: Snapshot = objects.into_iter().map(Into::into).collect();
        snapshot.set_meta(SnapshotMeta { basis, ..SnapshotMeta::default() });
        Ok(Applied { snapshot, desired: digest })
    }

    /// What is to be done, in the order of dependencies: writes first, then deletions the other way round.
    fn plan(&mut self, desired: &Snapshot, mode: &ApplyMode, outcome: &mut ApplyOutcome) -> Vec<Step> {
        if let Err(error) = self.look() {
            // Nothing is deleted of what cannot be seen; writing is tried, and fails object by object if it must.
            tracing::warn!(%error, "what is applied is not known, so nothing will be deleted");
        }
        let nothing = BTreeMap::new();
        let written = self.written.as_ref().unwrap_or(&nothing);
        let mut steps = Vec::new();
        let mut wanted: BTreeMap<PathBuf, &ObjectKey> = BTreeMap::new();
        for object in order::for_creation(desired.iter().map(AsRef::as_ref)) {
            let (path, key) = (object_path(object.key()), object.key().clone());
            if let Some(winner) = wanted.get(&path) {
                let error = ApplyError::TwoVersions { winner: winner.gvk.api_version() };
                outcome.failed.push(ApplyFailure { key, error });
                continue;
            }
            wanted.insert(path.clone(), object.key());
            let as_left = written.get(&path).is_some_and(|file| {
                file.content == object.hash() && self.stamp(&path).is_ok_and(|stamp| stamp == Some(file.stamp))
            });
            if as_left {
                outcome.unchanged += 1;
                continue;
            }
            match ownership::claim(object, &self.cluster) {
                Ok(value) => steps.push(Step::Write { path, key, content: object.hash(), value }),
                Err(error) => {
                    let error = ApplyError::Malformed { reason: error.to_string() };
                    outcome.failed.push(ApplyFailure { key, error });
                }
            }
        }
        let mut rest: Vec<(PathBuf, ObjectKey)> = written
            .iter()
            .filter(|(path, _)| !wanted.contains_key(*path))
            .map(|(path, file)| (path.clone(), file.key.clone()))
            .collect();
        order::for_deletion(&mut rest, |(_, key)| key);
        let (go, stay): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, key)| mode.allows(key));
        steps.extend(go.into_iter().map(|(path, key)| Step::Delete { path, key }));
        outcome.held = stay.into_iter().map(|(_, key)| key).collect();
        steps
    }

    /// Makes sure that it is known what is applied.
    fn look(&mut self) -> Result<&BTreeMap<PathBuf, Written>, ApplyError> {
        let written = match self.written.take() {
            Some(written) => written,
            None => self.scan()?.0,
        };
        Ok(self.written.insert(written))
    }

    /// True if something was done.
    fn execute(&mut self, step: Step) -> Result<bool, ApplyError> {
        match step {
            Step::Write { path, key, content, value } => {
                self.check_place(&path)?;
                let secret = key.gvk.kind == "Secret";
                let stamp =
                    self.replace(&path, &to_yaml(&value), secret).map_err(|error| self.failed(&path, &error))?;
                if let Some(written) = &mut self.written {
                    written.insert(path, Written { key, content, stamp });
                }
                Ok(true)
            }
            Step::Delete { path, .. } => {
                // A file that somebody made their own stays, and is ours no more.
                let ours = match self.check_place(&path) {
                    Ok(()) => true,
                    Err(ApplyError::NotOurs { .. }) => false,
                    Err(error) => return Err(error),
                };
                let full = self.folder.join(&path);
                if ours {
                    match fs::remove_file(&full) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(&path, &error)),
                        _ => {}
                    }
                    // The namespace's folder goes with its last file; it does not if there is anything else in it.
                    let _ = full.parent().map(fs::remove_dir);
                }
                if let Some(written) = &mut self.written {
                    written.remove(&path);
                }
                Ok(ours)
            }
        }
    }

    /// Succeeds if there is nothing at the path, or a file that may be replaced: one of ours, whole or not, or an empty one or one
    /// of zeros, in which nobody can lose anything and which a power cut may have left of one of ours.
    fn check_place(&self, path: &Path) -> Result<(), ApplyError> {
        let full = self.folder.join(path);
        let not_ours = || ApplyError::NotOurs { place: full.display().to_string() };
        match self.stamp(path).map_err(|error| self.failed(path, &error))? {
            None => return Ok(()),
            Some(stamp) => {
                let known = self.written.as_ref().and_then(|written| written.get(path));
                if known.is_some_and(|file| file.stamp == stamp) {
                    return Ok(());
                }
            }
        }
        if !fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_file()) {
            return Err(not_ours());
        }
        let bytes = read_file(&full).map_err(|error| self.failed(path, &error))?;
        let is_ours = !matches!(self.ours(&bytes), Ok(None));
        if is_ours || bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(not_ours()) }
    }

    /// Stamp of whatever is at the path, links not followed; `None` if there is nothing.
    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        match fs::symlink_metadata(self.folder.join(path)) {
            Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a whole new file in place of what is there, in one step that a reader sees entirely or not at all.
    fn replace(&self, path: &Path, text: &str, secret: bool) -> io::Result<Stamp> {
        let full = self.folder.join(path);
        let parent = full.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)?;
        // One writer at a time, so one name is enough.
        let temporary = parent.join(format!("{}{}{}", TEMPORARY.0, std::process::id(), TEMPORARY.1));
        let result = write_new(&temporary, text, secret).and_then(|()| fs::rename(&temporary, &full));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result?;
        Ok(Stamp::of(&fs::symlink_metadata(&full)?))
    }

    /// Reads what is applied: all files of ours below the folder. Files that a crash left half-written are removed.
    fn scan(&self) -> Result<(BTreeMap<PathBuf, Written>, Vec<Object>), ApplyError> {
        let mut written = BTreeMap::new();
        let mut objects = Vec::new();
        for namespace in self.entries(Path::new(""))? {
            let folder = self.folder.join(&namespace);
            match fs::metadata(&folder) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => continue,
                // A link that leads nowhere, or the folder went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(&folder, &error)),
            }
            for path in self.entries(&namespace)? {
                let full = self.folder.join(&path);
                if is_temporary(&path) {
                    let _ = fs::remove_file(&full);
                    continue;
                }
                let is_yaml = path.to_str().is_some_and(|path| notation(path) == Some(Notation::Yaml));
                if !is_yaml {
                    continue;
                }
                let unreadable = |error: io::Error| unreadable(&full, &error);
                let Some(stamp) = self.stamp(&path).map_err(unreadable)? else { continue };
                let bytes = read_file(&full).map_err(unreadable)?;
                let ours = self.ours(&bytes).map_err(|problem| {
                    let place = full.display().to_string();
                    let what_to_do = "it bears our labels: repair it, or delete it to have it written anew";
                    ApplyError::Unreadable { place, reason: format!("{problem}; {what_to_do}") }
                })?;
                if let Some(object) = ours {
                    let (key, content) = (object.key().clone(), object.hash());
                    written.insert(path, Written { key, content, stamp });
                    objects.push(object);
                }
            }
        }
        Ok((written, objects))
    }

    /// Paths in a folder, relative to the output folder; none if it does not exist.
    fn entries(&self, path: &Path) -> Result<Vec<PathBuf>, ApplyError> {
        let full = self.folder.join(path);
        let list =
            || fs::read_dir(&full)?.map(|entry| Ok(path.join(entry?.file_name()))).collect::<io::Result<Vec<_>>>();
        match list() {
            Ok(mut paths) => {
                paths.sort_unstable();
                Ok(paths)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unreadable(&full, &error)),
        }
    }

    /// The object of a file without our labels; `None` if the file is not ours. An error says what is wrong with one of ours.
    fn ours(&self, bytes: &[u8]) -> Result<Option<Object>, YamlProblem> {
        let mut documents = parse_manifest(bytes, Notation::Yaml);
        let Some(only) = documents.pop().filter(|_| documents.is_empty()) else { return Ok(None) };
        match only.content {
            Ok(value) => Ok(ownership::release(value, &self.cluster)),
            Err(problem) if ownership::is_claimed(&String::from_utf8_lossy(bytes), &self.cluster) => Err(problem),
            Err(_) => Ok(None),
        }
    }

    fn failed(&self, path: &Path, error: &io::Error) -> ApplyError {
        ApplyError::Failed { place: self.folder.join(path).display().to_string(), reason: error.to_string() }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ApplyError {
    ApplyError::Unreadable { place: path.display().to_string(), reason: error.to_string() }
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1)
}

fn write_new(path: &Path, text: &str, secret: bool) -> io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests;
