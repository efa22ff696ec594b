//! The whole way from what real people wrote to what Istio would get.

mod edits;
mod outcome;
mod random;
mod report;
pub(crate) mod scenario;

use std::path::{Path, PathBuf};

use crate::say;
use crate::schemas::Schemas;
use outcome::Outcome;
use report::{Findings, Summary};
use scenario::{Checkpoint, Scenario};

/// What `cargo xtask corpus` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Directory of scenarios: folders with scenario.json, checkpoints.json and a folder of manifests per cluster
    directory: PathBuf,
    /// Directory of custom resource definitions that the outputs have to satisfy; default: Istio's own, from its Go module
    #[arg(long)]
    crds: Option<PathBuf>,
    /// Write fleets, outputs and reports below this directory, for people and `cargo xtask istioctl`
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Print everything that was reported, by code, and which resources came to nothing without a word
    #[arg(long)]
    reports: bool,
    /// Scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Instead: edit a fleet of each scenario at random this many times, and check after each time that what is
    /// translated incrementally equals what is translated from nothing
    #[arg(long, value_name = "N")]
    edits: Option<usize>,
    /// What the random edits start from
    #[arg(long, default_value_t = 1, requires = "edits")]
    seed: u64,
}

/// Translates every checkpoint of every scenario and prints what came of it; false when something is not as it must be.
///
/// # Errors
/// When the scenarios or definitions cannot be read, or the output cannot be written.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut scenarios = Scenario::below(&arguments.directory)?;
    let only = arguments.only.as_deref().unwrap_or_default();
    scenarios.retain(|scenario| scenario.name.contains(only));
    match arguments.edits {
        Some(times) => edit(&scenarios, times, arguments.seed),
        None => translate(&scenarios, arguments),
    }
}

fn edit(scenarios: &[Scenario], times: usize, seed: u64) -> anyhow::Result<bool> {
    let mut holds = true;
    for scenario in scenarios {
        let folder = tempfile::tempdir()?;
        let fleets =
            scenario.checkpoints.iter().enumerate().map(|(index, checkpoint)| {
                Ok(scenario.fleet(checkpoint, &folder.path().join(index.to_string()))?.fleet)
            });
        let fleets = fleets.collect::<anyhow::Result<Vec<_>>>()?;
        match edits::check(&fleets, times, seed) {
            Ok(()) => say(&format!("{}: {times} times, all well\n", scenario.name)),
            Err(error) => {
                holds = false;
                say(&format!("{}: --seed {seed}: {error:#}\n", scenario.name));
            }
        }
    }
    Ok(holds)
}

fn translate(scenarios: &[Scenario], arguments: &Arguments) -> anyhow::Result<bool> {
    let schemas = Schemas::wanted(arguments.crds.as_deref())?;
    let mut summary = Summary::default();
    let mut findings = Findings::default();
    for scenario in scenarios {
        let mut outcomes = Vec::new();
        for (index, checkpoint) in scenario.checkpoints.iter().enumerate() {
            let title = checkpoint.title();
            let outcome = at(scenario, checkpoint, index, arguments.output.as_deref(), schemas.as_ref())?;
            for problem in &outcome.problems {
                say(&format!("{}: {title}: {problem}\n", scenario.name));
            }
            findings.add(&scenario.name, index + 1, &outcome);
            outcomes.push((title, outcome));
        }
        say(&format!("\n== {}\n{}\n", scenario.name, report::table(&outcomes)));
        summary.add(&scenario.name, &outcomes);
    }
    say(&format!("\n== all\n{}\n", summary.table()));
    if let Some(schemas) = &schemas {
        let without = summary.kinds().filter(|kind| !schemas.knows(kind)).collect::<Vec<_>>();
        if !without.is_empty() {
            say(&format!("no definition to hold these against: {}\n", without.join(", ")));
        }
    }
    if arguments.reports {
        say(&findings.text());
    }
    Ok(summary.problems == 0)
}

/// One checkpoint: into a folder that stays or one that goes.
fn at(
    scenario: &Scenario,
    checkpoint: &Checkpoint,
    index: usize,
    output: Option<&Path>,
    schemas: Option<&Schemas>,
) -> anyhow::Result<Outcome> {
    let temporary = tempfile::tempdir()?;
    let folder = match output {
        Some(output) => output.join(&scenario.name).join(format!("{:02}", index + 1)),
        None => temporary.path().to_owned(),
    };
    if output.is_some() && folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let fleet = scenario.fleet(checkpoint, &folder.join("fleet"))?;
    let outcome = Outcome::of(fleet, schemas);
    if output.is_some() {
        outcome.write(&folder)?;
    }
    Ok(outcome)
}
