//! The test command: every check that a change has to pass, one after the other.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::run;
use crate::say;
use crate::setup::{self, Tools};

/// The advisory database is on a host that a build machine may not reach; a hanging connection must not hold the run up.
const ADVISORIES_DEADLINE: Duration = Duration::from_secs(90);

/// Cheap steps first. All use the one development profile and change no environment, so that none builds anew what
/// another one built.
const STEPS: [Step; 6] = [
    Step { name: "setup", check: |context| Ok(context.tools().map(|_| Counts::ONE)?) },
    Step { name: "format", check: |context| context.cargo(&["fmt", "--all", "--check"]) },
    Step { name: "dependencies", check: dependencies },
    Step {
        name: "clippy",
        check: |context| context.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Step { name: "tests", check: tests },
    Step { name: "advisories", check: advisories },
];

struct Step {
    name: &'static str,
    check: fn(&mut Context<'_>) -> Result<Counts, Failure>,
}

struct Context<'a> {
    root: &'a Path,
    tools: Option<Tools>,
}

impl Context<'_> {
    fn cargo(&mut self, arguments: &[&str]) -> Result<Counts, Failure> {
        run::shown(self.root, run::cargo().args(arguments))?;
        Ok(Counts::ONE)
    }

    fn tools(&mut self) -> anyhow::Result<&Tools> {
        if self.tools.is_none() {
            self.tools = Some(setup::set_up(self.root)?);
        }
        self.tools.as_ref().context("set-up gave no tools")
    }
}

/// How many checks had which outcome; a test is one check, and so is a step that is not made of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    const ONE: Self = Self { passed: 1, failed: 0, skipped: 0 };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Adds what a line of cargo's test output says: the result of one set of tests, or that a test skipped itself.
    fn see(&mut self, line: &str) {
        if let Some((_, numbers)) = line.split_once("test result: ") {
            for part in numbers.split([';', '.']) {
                match part.trim().split_once(' ').map(|(number, what)| (number.parse::<u64>(), what)) {
                    Some((Ok(number), "passed")) => self.passed += number,
                    Some((Ok(number), "failed")) => self.failed += number,
                    Some((Ok(number), "ignored")) => self.skipped += number,
                    _ => {}
                }
            }
        } else if line.contains("SKIPPED") {
            self.skipped += 1;
        }
    }
}

/// A step that failed, with what can be counted of it.
struct Failure {
    counts: Counts,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { counts: Counts { failed: 1, ..Counts::default() }, error }
    }
}

fn dependencies(context: &mut Context<'_>) -> Result<Counts, Failure> {
    let mut deny = std::process::Command::new(&context.tools()?.cargo_deny);
    run::shown(context.root, deny.args(["--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    Ok(Counts::ONE)
}

/// Never fails the run: an advisory that is published today says nothing about today's change.
fn advisories(context: &mut Context<'_>) -> Result<Counts, Failure> {
    let mut deny = std::process::Command::new(&context.tools()?.cargo_deny);
    let output = run::within(ADVISORIES_DEADLINE, context.root, deny.args(["check", "advisories"]))?;
    let skipped = Counts { skipped: 1, ..Counts::default() };
    let Some(output) = output else {
        say(&format!("SKIPPED advisories: no answer from the database within {ADVISORIES_DEADLINE:?}\n"));
        return Ok(skipped);
    };
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(Counts::ONE);
    }
    say(&told);
    if told.contains("failed to fetch advisory database") {
        say("SKIPPED advisories: the database cannot be reached from here\n");
    } else {
        say(
            "SKIPPED advisories: there are findings, above; they do not fail this run, look at them in a change of their own\n",
        );
    }
    Ok(skipped)
}

fn tests(context: &mut Context<'_>) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    // One failing test must not hide those of the crates after it.
    let outcome =
        run::lines(context.root, run::cargo().args(["test", "--workspace", "--no-fail-fast"]), |line| counts.see(line));
    tested(counts, outcome)
}

/// Joins what was counted with how cargo ended: neither is trusted alone.
fn tested(mut counts: Counts, outcome: anyhow::Result<()>) -> Result<Counts, Failure> {
    let outcome = outcome.and_then(|()| {
        anyhow::ensure!(counts.failed == 0, "{} tests failed, but cargo ended well", counts.failed);
        anyhow::ensure!(counts.passed > 0, "expected tests, found none");
        Ok(())
    });
    outcome.map(|()| counts).map_err(|error| {
        // A crate that does not compile, or a test program that crashed, is a failure that no result line tells.
        counts.failed = counts.failed.max(1);
        Failure { counts, error }
    })
}

/// Names of the steps, in their order.
pub(crate) fn step_names() -> [&'static str; STEPS.len()] {
    STEPS.map(|step| step.name)
}

/// Runs the steps, or only the wanted ones, shows a summary, and tells whether all is well.
pub(crate) fn run(root: &Path, wanted: &[String], keep_going: bool) -> bool {
    let mut context = Context { root, tools: None };
    let mut table = format!("\n{:<14}{:>9}{:>9}{:>9}{:>9}\n", "step", "time", "passed", "failed", "skipped");
    let mut total = Counts::default();
    let mut stopped = false;
    let begin = Instant::now();
    for step in STEPS.iter().filter(|step| wanted.is_empty() || wanted.iter().any(|name| name == step.name)) {
        if stopped {
            // The lines of the table cannot fail: they go into a String.
            let _ = writeln!(table, "{:<14}{:>9}", step.name, "not run");
            continue;
        }
        say(&format!("\n== {}\n", step.name));
        let start = Instant::now();
        let outcome = (step.check)(&mut context);
        let counts = outcome.as_ref().map_or_else(|failure| failure.counts, |counts| *counts);
        if let Err(failure) = outcome {
            say(&format!("FAILED {}: {:#}\n", step.name, failure.error));
            stopped = !keep_going;
        }
        table_line(&mut table, step.name, start.elapsed(), counts);
        total.add(counts);
    }
    table_line(&mut table, "all", begin.elapsed(), total);
    say(&table);
    if stopped {
        say("stopped at the first failure; --keep-going runs the other steps too\n");
    }
    say(&format!("{} passed, {} failed, {} skipped\n", total.passed, total.failed, total.skipped));
    total.failed == 0
}

fn table_line(table: &mut String, name: &str, time: Duration, counts: Counts) {
    let Counts { passed, failed, skipped } = counts;
    let time = format!("{:.1} s", time.as_secs_f64());
    let _ = writeln!(table, "{name:<14}{time:>9}{passed:>9}{failed:>9}{skipped:>9}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargo_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.02s",
            "SKIPPED istio: cannot get the Go module",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            counts.see(line);
        }
        assert_eq!(counts, Counts { passed: 15, failed: 2, skipped: 2 });
    }

    #[test]
    fn neither_the_count_nor_the_exit_code_is_trusted_alone() {
        let counts = |passed, failed| Counts { passed, failed, skipped: 0 };
        let failed = |counts, outcome| tested(counts, outcome).err().map(|failure| failure.counts.failed);
        assert_eq!(failed(counts(3, 0), Ok(())), None);
        assert_eq!(failed(counts(3, 2), Err(anyhow::anyhow!("exit status: 101"))), Some(2));
        assert_eq!(failed(counts(3, 0), Err(anyhow::anyhow!("does not compile"))), Some(1));
        assert_eq!(failed(counts(3, 2), Ok(())), Some(2));
        assert_eq!(failed(counts(0, 0), Ok(())), Some(1));
    }
}
