//! For a while after another server took over, what its outputs lack is not taken for gone: agents of other clusters may not
//! have found their way to it yet, and what it knows of their clusters may be old, or nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use meshrelay_process::machine::Clock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::AgentError;
use crate::deletions::write_whole;

/// Which server serves the agent, over its restarts.
#[derive(Debug)]
pub(crate) struct Takeover {
    window: Duration,
    clock: Clock,
    path: PathBuf,
    served: watch::Sender<Option<Served>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    server: String,
    since: Timestamp,
}

impl Takeover {
    /// Reads which server served the last process. A window of zero means that there is nothing to wait for.
    pub(crate) fn open(state_directory: &Path, window: Duration) -> Self {
        let path = state_directory.join("served-by.json");
        let served = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { window, clock: Clock::default(), path, served: watch::Sender::new(served) }
    }

    /// With another clock than the machine's.
    pub(crate) fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// A server is connected; to be said before any output of it is taken.
    pub(crate) fn served_by(&self, server: &str) {
        if self.window.is_zero() || self.served.borrow().as_ref().is_some_and(|served| served.server == server) {
            return;
        }
        let served = Served { server: server.to_owned(), since: self.clock.now() };
        if let Err(source) = write_whole(&self.path, &served) {
            let error = AgentError::State { path: self.path.clone(), source };
            tracing::error!(%error, "which server serves could not be kept for the next start");
        }
        self.served.send_replace(Some(served));
    }

    /// Why nothing is to be deleted now; `None` if deletions are believed.
    pub(crate) fn doubt(&self) -> Option<String> {
        let now = self.clock.now();
        let remaining = self.remaining(now)?;
        let served = self.served.borrow().clone()?;
        let until = now.checked_add(remaining).unwrap_or(now);
        let second = |time: Timestamp| time.round(jiff::Unit::Second).unwrap_or(time);
        Some(format!(
            "server {} took over at {}: until {} other clusters may not have found it yet",
            served.server,
            second(served.since),
            second(until)
        ))
    }

    /// Ends when deletions that were in doubt are to be believed; never if none are.
    pub(crate) async fn over(&self) {
        let mut served = self.served.subscribe();
        loop {
            served.mark_unchanged();
            let remaining = self.remaining(self.clock.now());
            tokio::select! {
                biased;
                () = tokio::time::sleep(remaining.unwrap_or_default()), if remaining.is_some() => return,
                // The sender lives as long as `self`.
                _ = served.changed() => {}
            }
        }
    }

    fn remaining(&self, now: Timestamp) -> Option<Duration> {
        let since = self.served.borrow().as_ref()?.since;
        // A clock that jumped back must not make it longer.
        let passed = Duration::try_from(now.duration_since(since).max(SignedDuration::ZERO)).unwrap_or(Duration::MAX);
        self.window.checked_sub(passed).filter(|remaining| !remaining.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(180);

    #[test]
    fn deletions_are_in_doubt_for_a_while_after_each_change_of_servers_and_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let second = Arc::new(AtomicI64::new(0));
        let at = |to: i64| second.store(to, Ordering::Relaxed);
        let open = |window| {
            let second = Arc::clone(&second);
            let now = move || Timestamp::from_second(1_000_000 + second.load(Ordering::Relaxed)).unwrap();
            Takeover::open(folder.path(), window).with_clock(Clock::new(now))
        };
        let takeover = open(WINDOW);
        assert_eq!(takeover.doubt(), None, "nothing was ever applied");
        takeover.served_by("one:1");
        at(179);
        assert!(takeover.doubt().is_some_and(|doubt| doubt.contains("one:1")));
        at(180);
        assert_eq!(takeover.doubt(), None);
        at(400);
        takeover.served_by("one:1");
        assert_eq!(takeover.doubt(), None, "it is the same server");
        at(500);
        takeover.served_by("two:1");
        let again = open(WINDOW);
        at(600);
        assert!(again.doubt().is_some_and(|doubt| doubt.contains("two:1")));
        at(610);
        again.served_by("two:1");
        at(680);
        assert_eq!(again.doubt(), None);
        at(-9_000);
        assert!(again.doubt().is_some(), "and the clock may be wrong");
        assert_eq!(again.remaining(again.clock.now()), Some(WINDOW));
        let off = open(Duration::ZERO);
        off.served_by("three:1");
        assert_eq!(off.doubt(), None);
    }
}
