//! For a while after another server took over, what its outputs lack is not taken for gone: agents of other clusters may not
//! have found their way to it yet, and what it knows of their clusters may be old, or nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use meshrelay_process::machine::Clock;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::AgentError;
use crate::deletions::write_whole;

/// Which server serves the agent, over its restarts.
#[derive(Debug)]
pub(crate) struct Takeover {
    window: Duration,
    clock: Clock,
    path: PathBuf,
    served: watch::Sender<Option<Served>>,
    /// When it is believed; counted by a clock that nobody sets.
    believed_at: Mutex<Option<Instant>>,
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
        Self {
            window,
            clock: Clock::default(),
            path,
            served: watch::Sender::new(served),
            believed_at: Mutex::default(),
        }
        .with_clock(Clock::default())
    }

    /// With another clock than the machine's.
    pub(crate) fn with_clock(self, clock: Clock) -> Self {
        let passed = self.served.borrow().as_ref().map(|served| {
            // A clock that jumped back must not make it longer than the window.
            Duration::try_from(clock.now().duration_since(served.since).max(SignedDuration::ZERO))
                .unwrap_or(Duration::MAX)
        });
        *self.believed_at.lock() = passed.map(|passed| Instant::now() + self.window.saturating_sub(passed));
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
        *self.believed_at.lock() = Some(Instant::now() + self.window);
        self.served.send_replace(Some(served));
    }

    /// Why nothing is to be deleted now; `None` if deletions are believed.
    pub(crate) fn doubt(&self) -> Option<String> {
        let now = self.clock.now();
        let remaining = self.remaining()?;
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
            let remaining = self.remaining();
            tokio::select! {
                biased;
                () = tokio::time::sleep(remaining.unwrap_or_default()), if remaining.is_some() => return,
                // The sender lives as long as `self`.
                _ = served.changed() => {}
            }
        }
    }

    fn remaining(&self) -> Option<Duration> {
        let remaining = (*self.believed_at.lock())?.saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(remaining)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(180);

    #[tokio::test(start_paused = true)]
    async fn deletions_are_in_doubt_for_a_while_after_each_change_of_servers_and_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let (start, skew) = (Instant::now(), Arc::new(AtomicI64::new(1_000_000)));
        let open = |window| {
            let skew = Arc::clone(&skew);
            let now = move || {
                let passed = SignedDuration::try_from(start.elapsed()).unwrap();
                Timestamp::from_second(skew.load(Ordering::Relaxed)).unwrap() + passed
            };
            Takeover::open(folder.path(), window).with_clock(Clock::new(now))
        };
        let pass = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let takeover = open(WINDOW);
        assert_eq!(takeover.doubt(), None, "nothing was ever applied");
        takeover.served_by("one:1");
        pass(179).await;
        assert!(takeover.doubt().is_some_and(|doubt| doubt.contains("one:1")));
        pass(1).await;
        assert_eq!(takeover.doubt(), None);
        takeover.served_by("one:1");
        assert_eq!(takeover.doubt(), None, "it is the same server");
        takeover.served_by("two:1");
        pass(100).await;
        let again = open(WINDOW);
        assert!(again.doubt().is_some_and(|doubt| doubt.contains("two:1")));
        again.served_by("two:1");
        pass(80).await;
        assert_eq!(again.doubt(), None);
        let off = open(Duration::ZERO);
        off.served_by("three:1");
        assert_eq!(off.doubt(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_back_does_not_make_it_longer() {
        let folder = tempfile::tempdir().unwrap();
        let second = Arc::new(AtomicI64::new(1_000_000));
        let open = || {
            let second = Arc::clone(&second);
            let now = move || Timestamp::from_second(second.load(Ordering::Relaxed)).unwrap();
            Takeover::open(folder.path(), WINDOW).with_clock(Clock::new(now))
        };
        let takeover = open();
        takeover.served_by("one:1");
        second.store(1_000, Ordering::Relaxed);
        let again = open();
        for takeover in [&takeover, &again] {
            assert!(takeover.doubt().is_some());
        }
        tokio::time::timeout(WINDOW, again.over()).await.expect("over when the window is");
        for takeover in [takeover, again] {
            assert_eq!(takeover.doubt(), None);
        }
    }
}
