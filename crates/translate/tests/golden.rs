//! Every fleet under `tests/fleets` gives the objects and reports that lie beside it in `expected`.
//!
//! Where `expected/visibility.yaml` exists, who owns and sees what is compared too.
//!
//! `UPDATE_GOLDEN=1 cargo test -p meshrelay-translate --test golden` writes what is given now; review the difference.

#![allow(clippy::unwrap_used, reason = "a test may fail wherever it is")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshrelay_cluster::load_fleet;
use meshrelay_snapshot::{Name, Object, Snapshot, sanitize, to_yaml};
use meshrelay_translate::{Inputs, Options, Translation, Translator};

fn fleets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fleets")
}

/// The fleet as agents would send it.
fn inputs(case: &Path) -> Inputs {
    let loaded = load_fleet(case).unwrap();
    assert!(loaded.problems.is_empty(), "{}: {:?}", case.display(), loaded.problems);
    let sanitized = |snapshot: &Snapshot| -> Snapshot {
        let objects = snapshot.iter().map(|object| {
            let mut value = object.value();
            sanitize(&mut value);
            Arc::new(Object::from_value(&value).unwrap())
        });
        objects.collect()
    };
    let clusters = loaded.fleet.clusters.iter().map(|(name, snapshot)| (name.clone(), Arc::new(sanitized(snapshot))));
    Inputs { management_cluster: loaded.fleet.settings.management_cluster.clone(), clusters: clusters.collect() }
}

/// What a translation gives as files: one per cluster and namespace, and the reports.
fn files(translation: &Translation) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for (cluster, snapshot) in &translation.outputs {
        let mut of_namespace: BTreeMap<&Name, String> = BTreeMap::new();
        for object in snapshot.sorted() {
            let text = of_namespace.entry(&object.key().namespace).or_default();
            let separator = if text.is_empty() { "" } else { "---\n" };
            write!(text, "{separator}{}", to_yaml(&object.value())).unwrap();
        }
        for (namespace, text) in of_namespace {
            files.insert(Path::new(cluster.as_str()).join(format!("{namespace}.yaml")), text);
        }
    }
    let reports = serde_json::to_value(translation.reports.document()).unwrap();
    files.insert("reports.yaml".into(), to_yaml(&reports));
    files
}

fn existing(folder: &Path, below: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            existing(&entry.path(), &path, into);
        } else {
            into.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn fleets_give_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut cases: Vec<PathBuf> = fs::read_dir(fleets()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() >= 12, "{cases:?}");
    let mut differences = String::new();
    for case in cases {
        let inputs = inputs(&case);
        let mut translator = Translator::new(Options::default());
        let mut actual = files(&translator.translate(&inputs));
        let expected_folder = case.join("expected");
        if expected_folder.join("visibility.yaml").exists() {
            let visibility = serde_json::to_value(translator.visibility()).unwrap();
            actual.insert("visibility.yaml".into(), to_yaml(&visibility));
        }
        let mut expected = BTreeMap::new();
        existing(&expected_folder, Path::new(""), &mut expected);
        if update && actual != expected {
            for stale in expected.keys().filter(|path| !actual.contains_key(*path)) {
                fs::remove_file(expected_folder.join(stale)).unwrap();
            }
            for (path, text) in &actual {
                let path = expected_folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            continue;
        }
        let case = case.file_name().unwrap().to_string_lossy();
        for path in expected.keys().filter(|path| !actual.contains_key(*path)) {
            writeln!(differences, "{case}/{}: expected, but not given", path.display()).unwrap();
        }
        for (path, text) in &actual {
            let Some(expected) = expected.get(path) else {
                writeln!(differences, "{case}/{}: given, but not expected", path.display()).unwrap();
                continue;
            };
            let line = expected.lines().zip(text.lines()).position(|(expected, actual)| expected != actual);
            if let Some(line) = line {
                let (expected, actual) = (expected.lines().nth(line).unwrap(), text.lines().nth(line).unwrap());
                let place = format!("{case}/{}:{}", path.display(), line + 1);
                writeln!(differences, "{place}: expected {expected:?}, found {actual:?}").unwrap();
            } else if expected != text {
                writeln!(differences, "{case}/{}: one text ends before the other", path.display()).unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "\n{differences}run again with UPDATE_GOLDEN=1 if the new texts are right");
}
