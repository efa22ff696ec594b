//! What a process asks of its machine beside files and sockets: the time of day, threads for work that blocks, tasks. A
//! simulation gives it other answers.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The wall clock of a machine, which may be wrong.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Clock {
    /// A clock that says what `now` does.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// Does something that blocks where it holds nobody up. A runtime of one thread does it at once: what happens there depends
/// on no other thread.
///
/// # Errors
/// When the work panicked, or the runtime ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        tokio::task::yield_now().await;
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The tasks of a process, or of what is one in a test.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    killed: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends, or all are killed.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) {
        let killed = self.killed.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = killed.cancelled() => {}
                _ = task => {}
            }
        });
    }

    /// Waits until all have ended.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends all tasks where they stand, as when the process dies.
    pub fn kill(&self) {
        self.killed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_killed_task_goes_not_one_step_further() {
        let (tasks, steps) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
        tasks.spawn({
            let steps = Arc::clone(&steps);
            async move {
                loop {
                    steps.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        while steps.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        tasks.kill();
        let then = steps.load(Ordering::Relaxed);
        tasks.finished().await;
        assert_eq!(steps.load(Ordering::Relaxed), then);
    }

    #[tokio::test]
    async fn with_one_thread_work_is_done_on_it() {
        let here = std::thread::current().id();
        assert_eq!(blocking(move || std::thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn with_several_threads_work_that_panics_is_an_error() {
        let work: fn() = || panic!("on purpose");
        assert!(blocking(work).await.is_err());
    }
}
