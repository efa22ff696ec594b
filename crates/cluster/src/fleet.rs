use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshrelay_snapshot::{ClusterFacts, Fleet, FleetSettings, Name, Snapshot, redacted, to_yaml};

use crate::contents::{Assembly, FileState, read_file};
use crate::folder::{Listing, Walker, is_other_folder};
use crate::{Admission, ClusterView, FileProblem, object_path};

/// Folder inside a fleet folder into which a sandbox applies what is made for the fleet.
pub const OUTPUT_FOLDER: &str = ".meshrelay";

/// Name of the file with a fleet's settings.
const SETTINGS_FILE: &str = "fleet.yaml";

/// A fleet folder as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFleet {
    /// The fleet: every object that could be read.
    pub fleet: Fleet,
    /// What could not be read, in the order of clusters, files and lines.
    pub problems: Vec<FileProblem>,
}

/// Why a folder is not a fleet, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The folder itself cannot be read.
    #[error("cannot read the fleet folder {}: {source} (MR0400)", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `fleet.yaml` is not what it should be.
    #[error("{}:{line}:{column}: {message} (MR0401)", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What was expected and found.
        message: String,
    },
    /// There is no cluster.
    #[error("expected one sub-folder of YAML per cluster in {}, found none (MR0402)", path.display())]
    NoClusters {
        /// The fleet folder.
        path: PathBuf,
    },
    /// The management cluster has no folder.
    #[error(
        "expected a sub-folder {name} for the management cluster in {}, found only {}: add it, or name another one as \
         managementCluster in fleet.yaml (MR0403)",
        path.display(),
        found.join(", ")
    )]
    NoManagementCluster {
        /// The fleet folder.
        path: PathBuf,
        /// Name of the management cluster.
        name: Name,
        /// The sub-folders that there are.
        found: Vec<String>,
    },
    /// The fleet cannot be written.
    #[error("cannot write {}: {source} (MR0404)", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Folder into which a sandbox applies what is made for a cluster of the fleet.
pub fn output_folder(fleet: &Path, cluster: &str) -> PathBuf {
    fleet.join(OUTPUT_FOLDER).join(cluster)
}

/// Reads a fleet folder: `fleet.yaml` if there is one, and each sub-folder as a cluster of its name. Left out are
/// hidden folders, folders named `expected` or `revisions`, and kustomizations. Problems in manifests do not fail the
/// fleet: they are listed, and make the kinds of their cluster incomplete.
///
/// # Errors
/// [`FleetError`] when the folder or its settings cannot be read, or the management cluster has no folder.
pub fn load_fleet(path: &Path) -> Result<LoadedFleet, FleetError> {
    let settings = load_settings(path)?;
    let names = cluster_names(path)?;
    if names.is_empty() {
        return Err(FleetError::NoClusters { path: path.to_owned() });
    }
    if !names.iter().any(|name| settings.management_cluster == name.as_str()) {
        let name = settings.management_cluster.clone();
        return Err(FleetError::NoManagementCluster { path: path.to_owned(), name, found: names });
    }
    let mut problems = Vec::new();
    let mut clusters = BTreeMap::new();
    for name in names {
        let view = load_cluster(&path.join(&name), &name, &settings);
        problems.extend(view.problems);
        clusters.insert(Name::from(name), Arc::new(view.snapshot));
    }
    Ok(LoadedFleet { fleet: Fleet { settings, clusters }, problems })
}

fn load_settings(fleet: &Path) -> Result<FleetSettings, FleetError> {
    let path = fleet.join(SETTINGS_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FleetSettings::default()),
        Err(source) => return Err(FleetError::Unreadable { path, source }),
    };
    // A file of comments alone says as much as no file.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(FleetSettings::default());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_owned();
        FleetError::Settings { path, line, column, message }
    })
}

fn cluster_names(fleet: &Path) -> Result<Vec<String>, FleetError> {
    let unreadable = |source| FleetError::Unreadable { path: fleet.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(fleet).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && !is_other_folder(name)
            && entry.path().is_dir()
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn load_cluster(folder: &Path, name: &str, settings: &FleetSettings) -> ClusterView {
    let own = settings.clusters.get(name);
    let admission = Admission::new(settings.clock, own);
    let facts = ClusterFacts {
        kubernetes_version: own.and_then(|own| own.kubernetes_version.clone()).unwrap_or_default(),
        ..ClusterFacts::default()
    };
    let mut walker = Walker::new(folder.to_owned());
    let Listing { files, unreadable } = walker.list();
    let files: BTreeMap<_, _> = files
        .into_keys()
        .map(|path| {
            let mut state = FileState::default();
            state.accept(&path, read_file(&walker.full(&path)), &admission);
            (path, state)
        })
        .collect();
    Assembly { folder: name, kinds: &[], admission: &admission, facts: &facts, unreadable: &unreadable }
        .view(&files, &Snapshot::new())
}

/// Writes a fleet as a fleet folder, one object per file (see [`object_path`]); secrets leave out their values if
/// `redact` is set. What [`load_fleet`] reads from it is the same fleet. The folder should be new or empty: files
/// that are there and not written stay.
///
/// # Errors
/// [`FleetError::Unwritable`].
pub fn write_fleet(path: &Path, fleet: &Fleet, redact: bool) -> Result<(), FleetError> {
    let settings = serde_json::to_value(&fleet.settings).unwrap_or_default();
    write(&path.join(SETTINGS_FILE), &to_yaml(&settings))?;
    for (cluster, snapshot) in &fleet.clusters {
        let folder = path.join(cluster.as_str());
        std::fs::create_dir_all(&folder).map_err(|source| FleetError::Unwritable { path: folder.clone(), source })?;
        for object in snapshot.iter() {
            let value = match redact.then(|| redacted(object)) {
                Some(Ok(redacted)) => redacted.value(),
                // Redaction keeps what makes an object one, so it does not fail; if it did, nothing may leak.
                Some(Err(_)) => continue,
                None => object.value(),
            };
            write(&folder.join(object_path(object.key())), &to_yaml(&value))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), FleetError> {
    let unwritable = |source| FleetError::Unwritable { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(unwritable)?;
    }
    std::fs::write(path, text).map_err(unwritable)
}
