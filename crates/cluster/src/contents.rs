use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use meshrelay_snapshot::{ClusterFacts, Completeness, Gvk, Name, Object, ObjectKey, Snapshot, SnapshotMeta};

use crate::folder::notation;
use crate::manifest::{Document, parse_manifest};
use crate::{Admission, ClusterView, FileProblem, MAX_FILE_BYTES, Notation, YamlProblem};

/// Reads a file, but no more of it than it takes to see that it is too large.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is in force of one file: the objects of its newest text, or of the last one that had no problem.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// The objects with their lines.
    objects: Vec<(usize, Arc<Object>)>,
    /// What is wrong with the newest text.
    problems: Vec<YamlProblem>,
    /// Kinds that the newest text has, if it could be read so far.
    kinds: BTreeSet<Gvk>,
    /// True once the file had no problem at all.
    was_good: bool,
}

impl FileState {
    /// Takes over the newest text of the file. A text with problems changes nothing if there was a good one before; if
    /// there never was one, its good documents count, beside those known from earlier texts.
    pub(crate) fn accept(&mut self, path: &str, bytes: io::Result<Vec<u8>>, admission: &Admission) {
        let documents = match bytes {
            Ok(bytes) => parse_manifest(&bytes, notation(path).unwrap_or(Notation::Yaml)),
            Err(error) => {
                self.problems = vec![YamlProblem::new("MR0414", (1, 1), "a file that can be read", error)];
                return;
            }
        };
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for Document { first_line, content, .. } in documents {
            match content.map(|value| admission.admit(value)) {
                Ok(Ok(object)) if object.key().gvk.group == "kustomize.config.k8s.io" => {}
                Ok(Ok(object)) => objects.push((first_line, Arc::new(object))),
                Ok(Err(error)) => {
                    problems.push(YamlProblem::new("MR0411", (first_line, 1), "a Kubernetes object", error));
                }
                Err(problem) => problems.push(problem),
            }
        }
        self.kinds = objects.iter().map(|(_, object)| object.key().gvk.clone()).collect();
        if problems.is_empty() {
            self.was_good = true;
            self.objects = objects;
        } else if !self.was_good {
            let new: BTreeSet<_> = objects.iter().map(|(_, object)| object.key().clone()).collect();
            let before = std::mem::take(&mut self.objects);
            objects.extend(before.into_iter().filter(|(_, object)| !new.contains(object.key())));
            self.objects = objects;
        }
        self.problems = problems;
    }

    fn last_good_in_force(&self) -> bool {
        self.was_good && !self.problems.is_empty()
    }
}

/// Everything that turns the files of a folder into the view of a cluster.
#[derive(Debug)]
pub(crate) struct Assembly<'a> {
    /// Folder of the cluster as a person names it.
    pub(crate) folder: &'a str,
    /// Kinds that the view is asked for; all kinds that there are if it is empty.
    pub(crate) kinds: &'a [Gvk],
    pub(crate) admission: &'a Admission,
    pub(crate) facts: &'a ClusterFacts,
    /// Folders and files that could not be listed, with why.
    pub(crate) unreadable: &'a BTreeMap<String, String>,
}

impl Assembly<'_> {
    /// The view, sharing with `previous` what did not change. The first of two equal objects wins, in the order of
    /// files and lines.
    pub(crate) fn view<'f>(
        &self,
        files: impl IntoIterator<Item = (&'f String, &'f FileState)>,
        previous: &Snapshot,
    ) -> ClusterView {
        let mut problems = Vec::new();
        let mut objects: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        let mut places: BTreeMap<ObjectKey, String> = BTreeMap::new();
        let mut doubts = Doubts::default();
        for (path, reason) in self.unreadable {
            let (file, expected) = (self.display(path), "a folder or file that can be read");
            doubts.everything.get_or_insert_with(|| format!("{file}: {reason}"));
            let problem = YamlProblem::new("MR0414", (1, 1), expected, reason);
            problems.push(FileProblem { file, problem, last_good_in_force: !previous.is_empty() });
        }
        for (path, state) in files {
            let file = self.display(path);
            doubts.add(&file, state);
            let mut found: Vec<_> = state.problems.clone();
            let last_good_in_force = state.last_good_in_force();
            for (line, object) in &state.objects {
                match self.place(object, &mut places, &format!("{file}:{line}")) {
                    Ok(true) => {
                        objects.insert(object.key().clone(), Arc::clone(object));
                    }
                    Ok(false) => {}
                    Err((code, expected, other)) => {
                        found.push(YamlProblem::new(code, (*line, 1), expected, other));
                    }
                }
            }
            found.sort_by_key(|problem| (problem.line, problem.column));
            problems.extend(found.into_iter().map(|problem| FileProblem {
                file: file.clone(),
                problem,
                last_good_in_force,
            }));
        }
        self.add_namespaces(&mut objects);
        let mut snapshot = merged(previous, objects);
        snapshot.set_meta(self.meta(&snapshot, &doubts));
        ClusterView { snapshot, problems }
    }

    fn display(&self, path: &str) -> String {
        if path.is_empty() { self.folder.to_owned() } else { format!("{}/{path}", self.folder) }
    }

    /// Whether the object is in the view: not if its kind is not asked for, not if it was there already.
    fn place(
        &self,
        object: &Object,
        places: &mut BTreeMap<ObjectKey, String>,
        here: &str,
    ) -> Result<bool, (&'static str, String, String)> {
        let ObjectKey { gvk, namespace, name } = object.key();
        let mut versions = self.kinds.iter().filter(|kind| kind.group == gvk.group && kind.kind == gvk.kind).peekable();
        if !self.kinds.is_empty() {
            let Some(served) = versions.peek().map(|kind| kind.api_version()) else { return Ok(false) };
            if !versions.any(|kind| kind.version == gvk.version) {
                return Err(("MR0415", format!("apiVersion {served} for a {}", gvk.kind), gvk.api_version()));
            }
        }
        // The version is no part of an object's identity.
        let key = ObjectKey::new(Gvk::new(&gvk.group, "", &gvk.kind), namespace.clone(), name.clone());
        match places.get(&key) {
            None => {
                places.insert(key, here.to_owned());
                Ok(true)
            }
            Some(first) => {
                Err(("MR0413", "each object once".to_owned(), format!("{} again, already at {first}", object.key())))
            }
        }
    }

    fn add_namespaces(&self, objects: &mut BTreeMap<ObjectKey, Arc<Object>>) {
        let kind = Gvk::new("", "v1", "Namespace");
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return;
        }
        let needed: BTreeSet<Name> =
            objects.keys().map(|key| key.namespace.clone()).filter(|namespace| !namespace.is_empty()).collect();
        for name in needed {
            let key = ObjectKey::new(kind.clone(), "", name);
            if !objects.contains_key(&key)
                && let Ok(namespace) = self.admission.namespace(&key.name)
            {
                objects.insert(key, Arc::new(namespace));
            }
        }
    }

    fn meta(&self, snapshot: &Snapshot, doubts: &Doubts) -> SnapshotMeta {
        let kinds: BTreeSet<Gvk> = if self.kinds.is_empty() {
            snapshot.iter().map(|object| object.key().gvk.clone()).collect()
        } else {
            self.kinds.iter().cloned().collect()
        };
        let completeness = kinds.into_iter().map(|kind| {
            let state = match (&doubts.everything, doubts.by_kind.get(&kind)) {
                (Some(reason), _) => Completeness::Incomplete(reason.clone()),
                (None, Some(reason)) => Completeness::Stale(reason.clone()),
                (None, None) => Completeness::Synced,
            };
            (kind, state)
        });
        SnapshotMeta {
            completeness: completeness.collect(),
            doubt: doubts.everything.clone(),
            facts: self.facts.clone(),
            ..SnapshotMeta::default()
        }
    }
}

/// Why the view is not what the newest text of all files says.
#[derive(Debug, Default)]
struct Doubts {
    /// Objects of any kind may exist that are not in the view.
    everything: Option<String>,
    /// Objects of an earlier text are in force.
    by_kind: BTreeMap<Gvk, String>,
}

impl Doubts {
    fn add(&mut self, file: &str, state: &FileState) {
        if state.problems.is_empty() {
            return;
        }
        if !state.was_good {
            self.everything.get_or_insert_with(|| format!("{file} could not be read in full"));
            return;
        }
        let in_force = state.objects.iter().map(|(_, object)| &object.key().gvk);
        for kind in in_force.chain(&state.kinds) {
            let reason = || format!("the last good state of {file} is in force");
            self.by_kind.entry(kind.clone()).or_insert_with(reason);
        }
    }
}

/// A snapshot of these objects that shares all untouched buckets with the previous one.
fn merged(previous: &Snapshot, objects: BTreeMap<ObjectKey, Arc<Object>>) -> Snapshot {
    let mut snapshot = previous.clone();
    let gone: Vec<_> =
        previous.iter().map(|object| object.key()).filter(|key| !objects.contains_key(key)).cloned().collect();
    for key in &gone {
        snapshot.remove(key);
    }
    for (key, object) in objects {
        if previous.get(&key).is_none_or(|before| before.hash() != object.hash()) {
            snapshot.insert(object);
        }
    }
    snapshot
}
