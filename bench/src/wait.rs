//! Waiting for what is measured.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Longest wait: only what is broken takes that long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Looks every `look` whether it is done, which is how exact measured times are.
pub(crate) fn wait_until(
    what: &str,
    look: Duration,
    mut done: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > PATIENCE {
            bail!("expected {what} within {PATIENCE:?}, found none");
        }
        std::thread::sleep(look);
    }
    Ok(())
}
