//! What came of one fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meshrelay_api::{KINDS, decode_any};
use meshrelay_cluster::{LoadedFleet, object_path};
use meshrelay_meshctl::sandbox;
use meshrelay_snapshot::{Fleet, Name, ObjectKey, to_yaml};
use meshrelay_translate::{Options, ResourceRef, Translation, Translator};

use crate::schemas::Schemas;

/// Kinds that bring about no object of their own: what they say shows in others.
const SETTINGS: [&str; 3] = ["KubernetesCluster", "Workspace", "WorkspaceSettings"];

/// How a resource of ours decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decoding {
    Clean,
    Warned,
    Failed,
}

/// What came of one resource of ours.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) decoding: Decoding,
    /// Whether it had a part in an object.
    pub(crate) has_output: bool,
    /// Whether something was said about it.
    pub(crate) is_reported: bool,
}

impl Fate {
    /// Whether it should have shown and did not.
    pub(crate) fn is_silent(&self, resource: &ResourceRef) -> bool {
        !self.has_output && !self.is_reported && !SETTINGS.contains(&resource.key.gvk.kind.as_str())
    }
}

/// What came of one fleet.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) fates: BTreeMap<ResourceRef, Fate>,
    pub(crate) translation: Translation,
    /// How long discovery and translation took, from nothing.
    pub(crate) time: Duration,
    /// What must not be: manifests that cannot be read, a panic, objects that Istio would not let in.
    pub(crate) problems: Vec<String>,
}

impl Outcome {
    /// Translates a fleet as the agents and the server would, and looks at what came of it.
    pub(crate) fn of(loaded: LoadedFleet, schemas: Option<&Schemas>) -> Self {
        let LoadedFleet { fleet, problems } = loaded;
        let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let start = Instant::now();
        let translated = catch_unwind(AssertUnwindSafe(|| translate(&fleet)));
        let time = start.elapsed();
        let translation = translated.unwrap_or_else(|_| {
            problems.push("translation panicked".to_owned());
            Translation::default()
        });
        let fates = fates(&fleet, &translation, &mut problems);
        for (cluster, snapshot) in schemas.map(|_| &translation.outputs).into_iter().flatten() {
            for object in snapshot.sorted() {
                let found = schemas.map(|schemas| schemas.problems(&object.value())).unwrap_or_default();
                let resource = ResourceRef { cluster: cluster.clone(), key: object.key().clone() };
                problems.extend(found.into_iter().map(|problem| format!("invalid {resource}: {problem}")));
            }
        }
        Self { fates, translation, time, problems }
    }

    /// Writes outputs and reports as files.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |path: &Path, text: &str| {
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent)?;
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        for (cluster, snapshot) in &self.translation.outputs {
            for object in snapshot.sorted() {
                let path = folder.join("output").join(cluster.as_str()).join(object_path(object.key()));
                write(&path, &to_yaml(&object.value()))?;
            }
        }
        let reports = serde_json::to_value(self.translation.reports.document())?;
        write(&folder.join("reports.yaml"), &to_yaml(&reports))
    }

    /// Generated objects by kind.
    pub(crate) fn objects(&self) -> BTreeMap<Name, usize> {
        let mut objects = BTreeMap::new();
        for object in self.translation.outputs.values().flat_map(|snapshot| snapshot.iter()) {
            *objects.entry(object.key().gvk.kind.clone()).or_insert(0) += 1;
        }
        objects
    }

    /// Findings by code.
    pub(crate) fn codes(&self) -> BTreeMap<&'static str, usize> {
        let mut codes = BTreeMap::new();
        for message in self.translation.reports.iter().flat_map(|(_, report)| &report.messages) {
            *codes.entry(message.code.as_str()).or_insert(0) += 1;
        }
        codes
    }
}

fn translate(fleet: &Fleet) -> Translation {
    Translator::new(Options::default()).translate(&sandbox::inputs(fleet))
}

fn fates(fleet: &Fleet, translation: &Translation, problems: &mut Vec<String>) -> BTreeMap<ResourceRef, Fate> {
    let kinds: BTreeSet<&str> = KINDS.iter().map(|info| info.kind).collect();
    let mut fates = BTreeMap::new();
    for (cluster, snapshot) in &fleet.clusters {
        for object in snapshot.iter() {
            let group = &object.key().gvk.group;
            let resource = ResourceRef { cluster: cluster.clone(), key: object.key().clone() };
            let decoding = match decode_any(&object.value()) {
                Some(Ok(decoded)) if decoded.warnings.is_empty() => Decoding::Clean,
                Some(Ok(_)) => Decoding::Warned,
                Some(Err(error)) => {
                    problems.push(format!("undecodable {resource}: {error}"));
                    Decoding::Failed
                }
                None if group.ends_with("gloo.solo.io") && !kinds.contains(&*object.key().gvk.kind) => Decoding::Clean,
                None => continue,
            };
            let report = translation.reports.get(&resource);
            let has_output = report.is_some_and(|report| !report.shaped.is_empty());
            let is_reported = report.is_some_and(|report| !report.messages.is_empty());
            fates.insert(resource, Fate { decoding, has_output, is_reported });
        }
    }
    fates
}

/// The key as people write it.
pub(crate) fn short(key: &ObjectKey) -> String {
    format!("{} {}/{}", key.gvk.kind, key.namespace, key.name)
}
