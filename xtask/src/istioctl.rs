//! What Istio's own programs, and the API server's own code, say about generated objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use meshrelay_cluster::{LoadedFleet, load_fleet};
use meshrelay_snapshot::to_yaml;
use serde_json::Value;

use crate::codegen::go_module::{GoModule, Unreachable};
use crate::codegen::{documents, istio};
use crate::run;
use crate::say;

/// The module of `istioctl`. A development version of the release after the one whose types are generated: the module
/// proxy does not give out every commit of Istio, and the checks of the two are the same but for additions.
const MODULE: GoModule = GoModule { path: "istio.io/istio", version: "v0.0.0-20260827124520-eed52ebb66ad" };

/// Where the programs go, below the root of the repository.
const TOOLS: &str = "target/tools";

/// One cluster is analysed in a second; a minute means that something hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Kinds of a cluster that the analysers look at. Pods are not in manifests.
const INPUTS: [&str; 6] = ["ConfigMap", "Deployment", "Namespace", "Secret", "Service", "ServiceAccount"];

/// Warnings that hold for every object of their kind, and what people wrote in manifests of their own.
const KNOWN: [(&str, &str, &str); 5] = [
    ("IST0102", "", "the namespace is labelled by the chart that installs the mesh"),
    ("IST0103", "", "there are no pods in manifests"),
    ("IST0118", "", "names of ports are the users'"),
    ("IST0133", "EnvoyFilter exposes internal implementation", "true of every EnvoyFilter"),
    ("IST0151", "", "EnvoyFilters with relative positions are meant"),
];

/// Errors that are of the input.
const OF_THE_INPUT: [(&str, &str, &str); 1] =
    [("IST0109", "The VirtualServices shop/routetable-three-shop-cluster1-shop,", "a fleet shows hosts of two tables")];

/// One fleet with what was made of it.
struct Case {
    name: String,
    fleet: PathBuf,
    outputs: PathBuf,
}

/// Holds the golden fleets and everything below some directories that `cargo xtask corpus -o` wrote against the API
/// server's validation, `istioctl validate` and `istioctl analyze`; prints what they say, and whether there is an error.
///
/// # Errors
/// When a program cannot be built or does not answer, or a fleet cannot be read.
pub(crate) fn check(root: &Path, directories: &[PathBuf]) -> anyhow::Result<bool> {
    let programs = match Programs::build(root) {
        Ok(programs) => programs,
        Err(error) if error.is::<Unreachable>() => {
            say(&format!("SKIPPED istioctl: {error:#}\n"));
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    let mut cases = Vec::new();
    for directory in std::iter::once(&root.join("tests/fleets")).chain(directories) {
        find(directory, directory, &mut cases)?;
    }
    let work = tempfile::tempdir()?;
    let mut verdict = Verdict::default();
    let mut clusters = Vec::new();
    let mut seen = BTreeSet::new();
    for case in &cases {
        clusters.extend(case.lay_out(work.path(), &mut seen)?);
    }
    ensure!(!clusters.is_empty(), "no generated objects below the directories");
    programs.admit(&work.path().join("outputs"), &mut verdict)?;
    for cluster in &clusters {
        programs.look_at(work.path(), cluster, &mut verdict)?;
    }
    say(&verdict.text(clusters.len()));
    Ok(verdict.errors.is_empty())
}

/// Folders with a fleet: a golden case has its outputs within, what `corpus` writes has them beside.
fn find(top: &Path, folder: &Path, cases: &mut Vec<Case>) -> anyhow::Result<()> {
    let name = |folder: &Path| folder.strip_prefix(top).unwrap_or(folder).display().to_string();
    for (fleet, outputs) in [(folder.to_owned(), "expected"), (folder.join("fleet"), "output")] {
        if fleet.join("fleet.yaml").is_file() {
            cases.push(Case { name: name(folder), fleet, outputs: folder.join(outputs) });
            return Ok(());
        }
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut below: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    below.sort();
    below.iter().filter(|path| path.is_dir()).try_for_each(|path| find(top, path, cases))
}

impl Case {
    /// Writes the inputs that matter and the outputs of each cluster with outputs, unless it was seen as it is; gives
    /// their names.
    fn lay_out(&self, work: &Path, seen: &mut BTreeSet<[u8; 32]>) -> anyhow::Result<Vec<String>> {
        let LoadedFleet { fleet, .. } = load_fleet(&self.fleet)?;
        let mut names = Vec::new();
        for (cluster, snapshot) in &fleet.clusters {
            let made = self.outputs.join(cluster.as_str());
            if !made.is_dir() {
                continue;
            }
            let outputs = documents::below(&made)?.into_iter().flat_map(|(_, found)| found.unwrap_or_default());
            let outputs: Vec<String> = outputs.map(|object| to_yaml(&object)).collect();
            let is_input = |kind: &str| INPUTS.contains(&kind);
            let inputs = snapshot.sorted().into_iter().filter(|object| is_input(&object.key().gvk.kind));
            let inputs: Vec<String> = inputs.map(|object| to_yaml(&object.value())).collect();
            let name = format!("{}/{cluster}", self.name);
            // Most labs change one cluster of three.
            let content = blake3::hash(format!("{inputs:?}{outputs:?}").as_bytes());
            if !seen.insert(*content.as_bytes()) {
                continue;
            }
            for (folder, texts) in [("inputs", inputs), ("outputs", outputs)] {
                let path = work.join(folder).join(format!("{name}.yaml"));
                fs::create_dir_all(path.parent().unwrap_or(work))?;
                fs::write(path, texts.join("---\n"))?;
            }
            names.push(name);
        }
        Ok(names)
    }
}

struct Programs {
    istioctl: PathBuf,
    /// The API server's validation of custom resources.
    admission: PathBuf,
    definitions: PathBuf,
}

impl Programs {
    /// Builds what is not there yet. The first time takes some minutes.
    fn build(root: &Path) -> anyhow::Result<Self> {
        let definitions = istio::definitions_file()?;
        let tools = root.join(TOOLS);
        let (istioctl, admission) = (tools.join("istioctl"), tools.join("admission/admission"));
        let programs = Self { istioctl, admission, definitions };
        let source = include_str!("../admission/main.go");
        let built = format!("{}@{}\n{source}", MODULE.path, MODULE.version);
        let marker = tools.join("admission/built");
        if fs::read_to_string(&marker).is_ok_and(|of| of == built) && programs.istioctl.is_file() {
            return Ok(programs);
        }
        MODULE.download()?;
        say("istioctl: building, which takes some minutes, once\n");
        let go = || {
            let mut go = Command::new("go");
            go.env("GO111MODULE", "on").env("GOWORK", "off").env("GOBIN", &tools);
            go
        };
        let package = format!("{}/istioctl/cmd/istioctl@{}", MODULE.path, MODULE.version);
        run::shown(root, go().args(["install", &package]))?;
        let folder = tools.join("admission");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("main.go"), source)?;
        let module = format!("module admission\n\ngo 1.24\n\nrequire {} {}\n", MODULE.path, MODULE.version);
        fs::write(folder.join("go.mod"), module)?;
        run::shown(&folder, go().args(["build", "-mod=mod", "-o", "admission", "."]))?;
        fs::write(marker, built)?;
        Ok(programs)
    }

    /// Structure, unknown fields and CEL rules, as on the way into a cluster.
    fn admit(&self, outputs: &Path, verdict: &mut Verdict) -> anyhow::Result<()> {
        let mut admission = Command::new(&self.admission);
        let output = run::within(10 * DEADLINE, outputs, admission.arg(&self.definitions).arg(outputs))?;
        let output = output.context("the API server's validation did not end")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (refused, total) = text.trim_end().rsplit_once('\n').unwrap_or_else(|| ("", text.trim_end()));
        ensure!(total.contains(" objects, "), "{}", String::from_utf8_lossy(&output.stderr));
        verdict.admission = total.to_owned();
        let place = format!("{}/", outputs.display());
        // Istio's packages log to where the verdicts go, before these.
        let verdicts = refused.lines().skip_while(|line| !line.starts_with(&place));
        verdict.errors.extend(verdicts.map(|line| format!("refused: {}", line.replace(&place, ""))));
        Ok(())
    }

    fn look_at(&self, work: &Path, cluster: &str, verdict: &mut Verdict) -> anyhow::Result<()> {
        let file = |folder: &str| work.join(folder).join(format!("{cluster}.yaml"));
        let (inputs, outputs) = (file("inputs"), file("outputs"));
        let mut validate = Command::new(&self.istioctl);
        let validated = run::within(DEADLINE, work, validate.arg("validate").arg("-f").arg(&outputs))?
            .context("istioctl validate did not end")?;
        if !validated.status.success() {
            let text = String::from_utf8_lossy(&validated.stderr).into_owned();
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with("* "));
            let said: Vec<String> = lines.map(|line| format!("validate: {cluster}: {line}")).collect();
            let lost = said.is_empty().then(|| format!("validate: {cluster}: {text}"));
            verdict.errors.extend(said.into_iter().chain(lost));
        }
        let mut analyze = Command::new(&self.istioctl);
        analyze.args(["analyze", "-A", "--use-kube=false", "-o", "json"]).args([&inputs, &outputs]);
        let analyzed = run::within(DEADLINE, work, &mut analyze)?.context("istioctl analyze did not end")?;
        let messages: Vec<Value> = serde_json::from_slice(&analyzed.stdout)
            .with_context(|| format!("{cluster}: {}", String::from_utf8_lossy(&analyzed.stderr)))?;
        for message in &messages {
            verdict.see(cluster, message);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Verdict {
    admission: String,
    errors: BTreeSet<String>,
    /// Warnings by code: how many there are, and texts.
    warnings: BTreeMap<String, (usize, BTreeMap<String, String>)>,
}

impl Verdict {
    fn see(&mut self, cluster: &str, message: &Value) {
        let text = |field: &str| message[field].as_str().unwrap_or_default();
        let (code, level, said) = (text("code"), text("level"), text("message"));
        let is_listed = |(listed, begins, _): &(&str, &str, &str)| *listed == code && said.contains(begins);
        let line = format!("{code} {cluster}: {}: {said}", text("origin"));
        if level == "Error" && !OF_THE_INPUT.iter().any(is_listed) {
            self.errors.insert(format!("analyze: {line}"));
        } else if level != "Error" && !KNOWN.iter().any(is_listed) {
            let (count, texts) = self.warnings.entry(code.to_owned()).or_default();
            *count += 1;
            texts.entry(said.to_owned()).or_insert_with(|| format!("{cluster}: {}", text("origin")));
        }
    }

    fn text(&self, clusters: usize) -> String {
        let mut text = String::new();
        for (code, (count, texts)) in &self.warnings {
            text.push_str(&format!("\n{code}: {count} times\n"));
            text.extend(texts.iter().map(|(said, place)| format!("    {said}\n        {place}\n")));
        }
        text.push('\n');
        text.extend(self.errors.iter().map(|error| format!("{error}\n")));
        text.push_str(&format!(
            "{clusters} clusters; API server: {}; {} errors, {} codes of warnings\n",
            self.admission,
            self.errors.len(),
            self.warnings.len()
        ));
        text
    }
}
