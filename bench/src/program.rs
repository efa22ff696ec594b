//! Programs that are measured as processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

/// Between two looks at what the programs have done.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// A running program, ended with this value.
pub(crate) struct Program {
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
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn start(name: &str, program: &Path, log: &Path, arguments: &[(&str, String)]) -> anyhow::Result<Self> {
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
    pub(crate) fn memory(&self) -> anyhow::Result<[u64; 3]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field in /proc")?;
            anyhow::Ok(line.trim_end_matches("kB").trim().parse()?)
        };
        Ok([field("VmRSS:")?, field("RssAnon:")?, field("VmHWM:")?])
    }

    /// Time on a processor so far.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        // In nanoseconds, where /proc/<pid>/stat counts in ticks of 10 ms; of all threads.
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let statistics = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += statistics.split_whitespace().next().context("no time in schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    pub(crate) fn threads(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.child.id()))?.count())
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
