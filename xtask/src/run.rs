//! Running other programs.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// The cargo that started this program, or the one of the search path.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command in a directory, with its output shown.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn shown(directory: &Path, command: &mut Command) -> anyhow::Result<()> {
    lines(directory, command, |_| {})
}

/// Runs a command in a directory, with its output shown and every line of its stdout given to `see`.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn lines(directory: &Path, command: &mut Command, mut see: impl FnMut(&str)) -> anyhow::Result<()> {
    let text = text(command);
    crate::say(&format!("$ {text}\n"));
    let mut child = command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{text}`"))?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut line = Vec::new();
    while stdout.read_until(b'\n', &mut line)? > 0 {
        let shown = String::from_utf8_lossy(&line);
        crate::say(&shown);
        see(shown.trim_end());
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.success(), "`{text}` ended with {status}");
    Ok(())
}

/// Runs a command and gives what it wrote, `None` when it had not ended by the deadline.
///
/// # Errors
/// When it cannot be started or its output cannot be kept.
pub(crate) fn within(deadline: Duration, directory: &Path, command: &mut Command) -> anyhow::Result<Option<Output>> {
    let text = text(command);
    // Files instead of pipes: a full pipe would hold the program up while nobody reads.
    let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    let mut child = command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(stdout.reopen()?)
        .stderr(stderr.reopen()?)
        .spawn()
        .with_context(|| format!("cannot run `{text}`"))?;
    let end = Instant::now() + deadline;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            None => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
    };
    Ok(Some(Output { status, stdout: std::fs::read(stdout.path())?, stderr: std::fs::read(stderr.path())? }))
}

/// What a command writes to stdout when it succeeds, `None` when it does not or is not there.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command as one would type it.
fn text(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::iter::once(program)
        .chain(command.get_args().map(|a| a.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let here = Path::new(".");
        assert!(within(Duration::ZERO, here, Command::new("sleep").arg("60")).unwrap().is_none());
        let output = within(Duration::from_secs(60), here, Command::new("echo").arg("a")).unwrap().unwrap();
        assert_eq!(output.stdout, b"a\n");
    }

    #[test]
    fn lines_are_seen_and_a_failure_is_told() {
        let mut seen = Vec::new();
        let mut shell = Command::new("sh");
        let error =
            lines(Path::new("."), shell.args(["-c", "echo one; echo two; exit 3"]), |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two"]);
        assert!(error.unwrap_err().to_string().contains("exit status: 3"));
    }
}
