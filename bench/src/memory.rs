//! Resident memory and idle load of the programs as processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use meshrelay_cluster::output_folder;

use crate::enrolment::enrol;
use crate::fleet::{self, Size};
use crate::summary::line;

/// Longest wait for the programs to have done their first work.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks at what the programs have done.
const LOOK: Duration = Duration::from_millis(100);

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

/// A running program, ended with this value.
struct Program {
    name: String,
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(name: &str, program: &Path, log: &Path, arguments: &[(&str, String)]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        for (flag, value) in arguments {
            command.arg(flag).arg(value);
        }
        let log = fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let build = "build the programs with `cargo build --release -p meshrelay`";
        let child = child.with_context(|| format!("cannot start {}; {build}", program.display()))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Resident memory, the part of it that is no mapped file, and the peak, KiB.
    fn memory(&self) -> anyhow::Result<[u64; 3]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field in /proc")?;
            anyhow::Ok(line.trim_end_matches("kB").trim().parse()?)
        };
        Ok([field("VmRSS:")?, field("RssAnon:")?, field("VmHWM:")?])
    }

    /// Time on a processor so far.
    fn processor_time(&self) -> anyhow::Result<Duration> {
        // In nanoseconds, where /proc/<pid>/stat counts in ticks of 10 ms; of all threads.
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let statistics = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += statistics.split_whitespace().next().context("no time in schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn threads(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.child.id()))?.count())
    }
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
    wait_until("outputs of all clusters", || {
        Ok((0..size.clusters).all(|number| output_folder(folder, &fleet::cluster(number)).exists()))
    })?;
    let mut outputs = 0;
    wait_until("outputs that change no more", || {
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
            program.name,
            program.threads()?
        ))?;
    }
    Ok(())
}

fn processor_times(programs: &[&Program]) -> anyhow::Result<Vec<Duration>> {
    programs.iter().map(|program| program.processor_time()).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Number of files below a folder, without certificates and other state.
fn files(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == ".state" {
            continue;
        }
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn wait_until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > PATIENCE {
            bail!("expected {what} within {PATIENCE:?}, found none");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
