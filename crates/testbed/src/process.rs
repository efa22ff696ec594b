use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::wait::wait_for;

/// Lines of the end of a log that are shown when a test fails.
const SHOWN: usize = 60;

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a program without the environment of the test; `name` is for messages.
    pub fn start(name: impl Into<String>, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), &lines);
        collect(child.stderr.take().unwrap(), &lines);
        Self { name: name.into(), child, lines }
    }

    /// Number of lines so far, to be given to [`Process::line_since`].
    pub fn mark(&self) -> usize {
        self.lines.lock().len()
    }

    /// The first line from `mark` on that is `what` is waited for, once there is one.
    pub fn line_so(&self, mark: usize, what: impl Display, is: impl Fn(&str) -> bool) -> String {
        wait_for(format_args!("a line of {} with {what}", self.name), || {
            let lines = self.lines.lock();
            lines.iter().skip(mark).find(|line| is(line)).cloned().ok_or_else(|| "none".to_owned())
        })
    }

    /// The first line from `mark` on that contains all of `parts`, once there is one.
    pub fn line_since(&self, mark: usize, parts: &[&str]) -> String {
        self.line_so(mark, format_args!("{parts:?}"), |line| parts.iter().all(|part| line.contains(part)))
    }

    /// The first line that contains all of `parts`, once there is one.
    pub fn line(&self, parts: &[&str]) -> String {
        self.line_since(0, parts)
    }

    /// True if a line contains all of `parts` now.
    pub fn has_line(&self, parts: &[&str]) -> bool {
        self.lines.lock().iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }

    /// The log record that says where the program listens.
    pub fn started(&self) -> Value {
        serde_json::from_str(&self.line(&["\"message\":\"started\""])).unwrap()
    }

    /// SIGKILL: what a crash or a lost machine is like.
    pub fn kill(&mut self) {
        // A process that has ended is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal, such as TERM.
    pub fn signal(&self, signal: &str) {
        send(signal, &self.child);
    }

    /// Lets it write no file beyond so many bytes, as a full disk does; `None` gives the room back. For a program that was
    /// started under [`SURVIVES_FULL_DISK`].
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:unlimited")]).status().unwrap();
        assert!(set.success());
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Waits until the program has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let Self { name, child, .. } = self;
        wait_for(format_args!("the end of {name}"), || {
            child.try_wait().unwrap().ok_or_else(|| "it is running".to_owned())
        })
    }
}

/// Sends a signal to a process.
pub(crate) fn send(signal: &str, child: &Child) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", child.id())).status().unwrap();
    assert!(sent.success());
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines.lock();
            eprintln!("---- {}, {} lines, the last of them:", self.name, lines.len());
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                eprintln!("{line}");
            }
        }
    }
}

fn collect(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().push(line);
        }
    });
}

/// Paths of the programs under test, which only the tests of their package know: see [`programs!`](crate::programs).
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// The management server.
    pub server: &'static str,
    /// The agent.
    pub agent: &'static str,
    /// The command line.
    pub meshctl: &'static str,
}

impl Programs {
    /// Runs `meshctl` to its end.
    pub fn meshctl(self, arguments: &[&str]) -> Answer {
        run(command(self.meshctl).args(arguments))
    }
}

/// The programs that cargo built for the tests in which this stands.
#[macro_export]
macro_rules! programs {
    () => {
        $crate::Programs {
            server: env!("CARGO_BIN_EXE_gloo-mesh-mgmt-server"),
            agent: env!("CARGO_BIN_EXE_gloo-mesh-agent"),
            meshctl: env!("CARGO_BIN_EXE_meshctl"),
        }
    };
}

/// Words before a program that make a write beyond the limit of [`Process::limit_files`] an error, and not its end.
pub const SURVIVES_FULL_DISK: [&str; 4] = ["/bin/sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];

/// Words before a program that give it a clock that is wrong by so much, such as `+3h`; its timers run as others do.
pub fn with_clock(offset: &str) -> [String; 4] {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/faketime/usr/lib");
    let folders = std::fs::read_dir(tools).into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.is_file());
    let library = library.unwrap_or_else(|| panic!("libfaketime is missing: run `cargo xtask setup`"));
    [
        "/usr/bin/env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={offset}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
}

/// A command with an empty environment.
pub fn command(program: &str) -> Command {
    command_under(&[], program)
}

/// A command with an empty environment that other words run, such as [`SURVIVES_FULL_DISK`].
pub(crate) fn command_under(words: &[&str], program: &str) -> Command {
    let mut all = words.iter().copied().chain([program]);
    let mut command = Command::new(all.next().unwrap());
    command.args(all).env_clear();
    command
}

/// What a program that ends by itself said.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to the standard output.
    pub stdout: String,
    /// What it wrote to the standard error.
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Answer {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Answer { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}
