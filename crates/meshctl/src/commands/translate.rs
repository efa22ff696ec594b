use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use meshrelay_cluster::{ApplyMode, Cluster as _, DirectoryCluster, DirectoryOptions, LoadedFleet, load_fleet};
use meshrelay_snapshot::{Name, Snapshot, to_yaml};
use meshrelay_translate::{Options, ReportsDocument, Severity, Translation, Translator};

use crate::cli::TranslateArguments;
use crate::{Failure, sandbox};

/// File beside the clusters' folders with what there is to say about each resource.
const REPORTS_FILE: &str = "reports.yaml";

/// Exit code of `--strict` when something is not accepted.
const NOT_ACCEPTED: u8 = 3;

pub(crate) fn run(arguments: &TranslateArguments) -> Result<ExitCode, Failure> {
    if !arguments.fleet.is_dir() {
        return Err(Failure::NoFleet { path: arguments.fleet.clone() });
    }
    let LoadedFleet { fleet, problems } = load_fleet(&arguments.fleet)?;
    let translation = Translator::new(Options::default()).translate(&sandbox::inputs(&fleet));
    let mut stderr = anstream::stderr();
    for problem in &problems {
        writeln!(stderr, "{problem}")?;
    }
    let mut worst = None;
    for (resource, report) in translation.reports.iter() {
        for message in &report.messages {
            worst = worst.max(Some(message.severity));
            writeln!(stderr, "{resource}: {} {}: {}", label(message.severity), message.code, message.text)?;
        }
    }
    let objects: usize = translation.outputs.values().map(|output| output.len()).sum();
    writeln!(stderr, "{objects} objects for {} clusters", translation.outputs.len())?;
    let different = match &arguments.output {
        None => {
            print(&translation.outputs)?;
            false
        }
        Some(folder) if arguments.diff => {
            let fresh = tempfile::tempdir()?;
            write(&translation, fresh.path())?;
            print_differences(folder, fresh.path())?
        }
        Some(folder) => {
            write(&translation, folder)?;
            false
        }
    };
    if arguments.strict && (worst.is_some() || !problems.is_empty()) {
        return Ok(ExitCode::from(NOT_ACCEPTED));
    }
    Ok(if different { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn label(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "WARNING",
        Severity::Failed => "FAILED",
        Severity::Invalid => "INVALID",
    }
}

fn print(outputs: &BTreeMap<Name, Arc<Snapshot>>) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    for (cluster, output) in outputs {
        for object in output.sorted() {
            writeln!(stdout, "---\n# cluster: {cluster}\n{}", to_yaml(&object.value()).trim_end())?;
        }
    }
    Ok(())
}

/// Writes the outputs as an agent applies them, and the reports beside them.
fn write(translation: &Translation, folder: &Path) -> Result<(), Failure> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::File { path, source }
    };
    std::fs::create_dir_all(folder).map_err(file(folder))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failures: Vec<String> = runtime.block_on(async {
        let nothing = tempfile::tempdir()?;
        let mut failures = Vec::new();
        for (cluster, output) in &translation.outputs {
            let options = DirectoryOptions::new(cluster.clone(), nothing.path(), folder.join(cluster.as_str()));
            let outcome = DirectoryCluster::open(options).await.apply(output, ApplyMode::Complete).await;
            failures.extend(outcome.failed.iter().map(|failure| format!("{}: {}", failure.key, failure.error)));
        }
        std::io::Result::Ok(failures)
    })?;
    if let Some(first) = failures.first() {
        return Err(Failure::Write { count: failures.len(), first: first.clone() });
    }
    let reports = serde_json::to_value(ReportsDocument::from(&*translation.reports))?;
    let path = folder.join(REPORTS_FILE);
    std::fs::write(&path, to_yaml(&reports)).map_err(file(&path))
}

/// Prints a unified diff of two folders; whether they differ.
fn print_differences(old: &Path, new: &Path) -> Result<bool, Failure> {
    let (before, after) = (files_of(old)?, files_of(new)?);
    let mut stdout = anstream::stdout().lock();
    let mut different = false;
    for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let text = |files: &BTreeMap<PathBuf, String>| files.get(path).cloned().unwrap_or_default();
        let (old, new) = (text(&before), text(&after));
        if old == new {
            continue;
        }
        different = true;
        let name = |files: &BTreeMap<PathBuf, String>| match files.contains_key(path) {
            true => path.display().to_string(),
            false => "/dev/null".to_owned(),
        };
        let diff = similar::TextDiff::from_lines(&old, &new);
        write!(stdout, "{}", diff.unified_diff().header(&name(&before), &name(&after)))?;
    }
    Ok(different)
}

/// The YAML files below a folder by their path in it; none if there is no folder.
fn files_of(folder: &Path) -> Result<BTreeMap<PathBuf, String>, Failure> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let file = |source| Failure::File { path: current.clone(), source };
        let entries = match std::fs::read_dir(&current) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(file(error)),
        };
        for entry in entries {
            let path = entry.map_err(file)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path).map_err(file)?;
                files.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned(), text);
            }
        }
    }
    Ok(files)
}
