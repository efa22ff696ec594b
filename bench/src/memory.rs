//! Resident memory and idle load of the programs as processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meshrelay_cluster::output_folder;

use crate::enrolment::enrol;
use crate::fleet::{self, Size};
use crate::program::{LOOK, Program, free_address, text};
use crate::summary::line;
use crate::wait::wait_until;

#[derive(Debug, clap::Args)]
pub(crate) struct MemoryArguments {
    #[command(flatten)]
    size: Size,
    /// Seconds over which the idle load is measured
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Folder with the programs; default is the one of this program
    #[arg(long)]
    programs: Option<PathBuf>,
}

pub(crate) fn run(arguments: &MemoryArguments) -> anyhow::Result<()> {
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("this program is in no folder")?.to_owned(),
    };
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path();
    let size = &arguments.size;
    fleet::write(folder, size)?;
    let state = folder.join(".state");
    enrol(&state, fleet::clusters(size))?;
    let relay = free_address()?;
    let started = Instant::now();
    let server = Program::start(
        "server",
        &programs.join("gloo-mesh-mgmt-server"),
        &folder.join("server.log"),
        &[
            ("--management-directory", text(&folder.join("mgmt"))),
            ("--state-directory", text(&state.join("server"))),
            ("--relay-address", relay.to_string()),
            ("--health-address", free_address()?.to_string()),
            ("--stats-address", free_address()?.to_string()),
        ],
    )?;
    let mut agents = Vec::new();
    for cluster in fleet::clusters(size) {
        let state = state.join(&cluster);
        agents.push(Program::start(
            &cluster,
            &programs.join("gloo-mesh-agent"),
            &folder.join(format!("{cluster}.log")),
            &[
                ("--cluster", cluster.clone()),
                ("--server-address", relay.to_string()),
                ("--directory", text(&folder.join(&cluster))),
                ("--state-directory", text(&state)),
                ("--health-address", free_address()?.to_string()),
                ("--stats-address", free_address()?.to_string()),
            ],
        )?);
    }
    wait_until("outputs of all clusters", LOOK, || {
        Ok((0..size.clusters).all(|number| output_folder(folder, &fleet::cluster(number)).exists()))
    })?;
    let mut outputs = 0;
    wait_until("outputs that change no more", LOOK, || {
        std::thread::sleep(Duration::from_secs(2));
        let before = std::mem::replace(&mut outputs, files(&folder.join(".meshrelay"))?);
        Ok(outputs == before)
    })?;
    line(&format!(
        "{} agents, {} services each: {} files in, {outputs} files out; in place after {:.0} s",
        agents.len(),
        size.services,
        files(folder)? - outputs,
        started.elapsed().as_secs_f64()
    ))?;
    let programs: Vec<&Program> = std::iter::once(&server).chain(&agents).collect();
    let before = processor_times(&programs)?;
    std::thread::sleep(Duration::from_secs(arguments.idle));
    let after = processor_times(&programs)?;
    for (at, program) in programs.iter().enumerate() {
        let [resident, own, peak] = program.memory()?.map(|kibibytes| kibibytes as f64 / 1024.0);
        let load = (after[at].saturating_sub(before[at])).as_secs_f64() / arguments.idle.max(1) as f64 * 100.0;
        line(&format!(
            "{:8} resident {resident:6.1} MiB, {own:5.1} MiB without mapped files  peak {peak:6.1} MiB  idle load {load:5.2} % of a core  {} threads",
            program.name(),
            program.threads()?
        ))?;
    }
    Ok(())
}

fn processor_times(programs: &[&Program]) -> anyhow::Result<Vec<Duration>> {
    programs.iter().map(|program| program.processor_time()).collect()
}

/// Number of files below a folder, without certificates, other state, and what is on record about outputs.
fn files(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            count += if name == ".state" { 0 } else { files(&entry.path())? };
        } else {
            count += usize::from(!name.as_encoded_bytes().starts_with(b"."));
        }
    }
    Ok(count)
}
