//! Follows files by polling: content that changed and settled is applied; what cannot be used is reported, and the last good
//! stays in force. Polling sees link swaps, network file systems and mounted secrets alike.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::error::PkiError;
use crate::secret_dir::{Contents, read_together};

/// Time between two polls by default. A change is applied at the second poll that sees it.
pub const DEFAULT_POLL_PERIOD: Duration = Duration::from_secs(2);

type Apply = dyn Fn(&Contents, &[PathBuf]) -> Result<(), PkiError> + Send + Sync;

/// Files that belong together and what to do when they change.
pub struct Watched {
    status: ReloadStatus,
    paths: Vec<PathBuf>,
    apply: Box<Apply>,
    applied: blake3::Hash,
    /// Content or failure seen by the last poll but not judged, because it may be half written.
    unsettled: Option<blake3::Hash>,
    /// What was judged bad, so that it is reported once.
    rejected: Option<blake3::Hash>,
}

/// Files whose contents were loaded, before it is said how changes are applied.
pub(crate) struct Loaded {
    what: &'static str,
    paths: Vec<PathBuf>,
    applied: blake3::Hash,
}

/// How reloading one set of files stands.
#[derive(Clone, Debug)]
pub struct ReloadStatus {
    /// What the files are, such as `server certificate`.
    pub what: &'static str,
    /// How often new content was put in force.
    pub reloads: u64,
    /// Why the newest content is not in force; `None` when it is.
    pub problem: Option<Arc<PkiError>>,
}

/// Polls sets of files.
#[derive(Debug)]
pub struct FileWatch {
    watched: Vec<Watched>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("status", &self.status).field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Watched {
    /// Reads files that belong together and makes something of them; the rest is said with [`Loaded::then`].
    pub(crate) fn load<T>(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: impl FnOnce(&Contents, &[PathBuf]) -> Result<T, PkiError>,
    ) -> Result<(Arc<T>, Loaded), PkiError> {
        let contents = read_together(&paths)?;
        let made = Arc::new(make(&contents, &paths)?);
        Ok((made, Loaded { what, applied: hash(&Ok(contents)), paths }))
    }

    /// One poll; whether the status changed.
    fn poll(&mut self) -> bool {
        let contents = read_together(&self.paths);
        let hash = hash(&contents);
        if hash == self.applied {
            self.unsettled = None;
            self.rejected = None;
            return self.status.problem.take().is_some();
        }
        if self.rejected == Some(hash) {
            return false;
        }
        if self.unsettled.replace(hash) != Some(hash) {
            return false;
        }
        self.unsettled = None;
        match contents.and_then(|contents| (self.apply)(&contents, &self.paths)) {
            Ok(()) => {
                self.applied = hash;
                self.rejected = None;
                self.status.reloads += 1;
                self.status.problem = None;
                tracing::info!(what = self.status.what, "reloaded");
            }
            Err(problem) => {
                self.rejected = Some(hash);
                tracing::warn!(what = self.status.what, %problem, code = problem.code(), "kept the last good content");
                self.status.problem = Some(Arc::new(problem));
            }
        }
        true
    }
}

impl Loaded {
    /// Says how later contents are applied.
    pub(crate) fn then(
        self,
        apply: impl Fn(&Contents, &[PathBuf]) -> Result<(), PkiError> + Send + Sync + 'static,
    ) -> Watched {
        Watched {
            status: ReloadStatus { what: self.what, reloads: 0, problem: None },
            paths: self.paths,
            apply: Box::new(apply),
            applied: self.applied,
            unsettled: None,
            rejected: None,
        }
    }
}

impl FileWatch {
    /// Watches these sets of files.
    pub fn new(watched: Vec<Watched>) -> Self {
        Self { watched }
    }

    /// Looks at all files once; whether any status changed. New content has to look the same twice before it is judged, since
    /// certificate and key are often written one after the other. Blocks on the disk.
    pub fn poll(&mut self) -> bool {
        self.watched.iter_mut().fold(false, |changed, watched| watched.poll() | changed)
    }

    /// How every set of files stands.
    pub fn status(&self) -> Vec<ReloadStatus> {
        self.watched.iter().map(|watched| watched.status.clone()).collect()
    }

    /// Polls every `period` and publishes the status when it changes, until all receivers are gone.
    pub async fn run(mut self, period: Duration, status: watch::Sender<Vec<ReloadStatus>>) {
        status.send_replace(self.status());
        let mut ticks = tokio::time::interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = status.closed() => return,
            }
            let polled = tokio::task::spawn_blocking(move || {
                let changed = self.poll();
                (self, changed)
            });
            let Ok((watch, changed)) = polled.await else {
                tracing::error!("certificates are no longer followed, because the task that polls them ended");
                return;
            };
            self = watch;
            if changed {
                status.send_replace(self.status());
            }
        }
    }
}

/// The content of the file at `index`, which must exist.
pub(crate) fn required<'a>(contents: &'a Contents, paths: &[PathBuf], index: usize) -> Result<&'a [u8], PkiError> {
    contents.get(index).and_then(Option::as_deref).map(Vec::as_slice).ok_or_else(|| PkiError::Missing {
        path: paths.get(index).cloned().unwrap_or_default(),
        hint: "put the file there, or correct the path in the settings",
    })
}

/// Tells contents apart, missing files and failures to read included.
fn hash(contents: &Result<Contents, PkiError>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    match contents {
        Ok(contents) => {
            for content in contents {
                match content {
                    Some(bytes) => hasher.update(&[1]).update(blake3::hash(bytes).as_bytes()),
                    None => hasher.update(&[0]),
                };
            }
        }
        Err(error) => drop(hasher.update(&[2]).update(error.to_string().as_bytes())),
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parking_lot::Mutex;

    use super::*;

    fn watch_one(path: PathBuf) -> (Arc<Mutex<String>>, FileWatch) {
        let text = |contents: &Contents, paths: &[PathBuf]| {
            let text = String::from_utf8_lossy(required(contents, paths, 0)?).into_owned();
            if text.starts_with("bad") {
                return Err(PkiError::Tls { reason: text });
            }
            Ok(text)
        };
        let (value, loaded) = Watched::load("test file", vec![path], |c, p| text(c, p).map(Mutex::new)).unwrap();
        let target = Arc::clone(&value);
        let watched = loaded.then(move |c, p| text(c, p).map(|text| *target.lock() = text));
        (value, FileWatch::new(vec![watched]))
    }

    #[test]
    fn settled_changes_are_applied_and_bad_ones_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let (value, mut watch) = watch_one(path.clone());
        assert!(!watch.poll() && !watch.poll());

        fs::write(&path, "tw").unwrap();
        assert!(!watch.poll(), "it may be half written");
        fs::write(&path, "two").unwrap();
        assert!(!watch.poll());
        assert_eq!(*value.lock(), "one");
        assert!(watch.poll());
        assert_eq!((value.lock().as_str(), watch.status()[0].reloads), ("two", 1));

        fs::write(&path, "bad").unwrap();
        assert_eq!([watch.poll(), watch.poll(), watch.poll(), watch.poll()], [false, true, false, false]);
        assert!(watch.status()[0].problem.is_some());
        assert_eq!(*value.lock(), "two");

        fs::remove_file(&path).unwrap();
        assert_eq!([watch.poll(), watch.poll(), watch.poll()], [false, true, false]);
        assert_eq!(watch.status()[0].problem.as_ref().unwrap().code(), "MR0308");

        fs::write(&path, "two").unwrap();
        assert!(watch.poll(), "back at what is in force");
        assert!(watch.status()[0].problem.is_none());
        assert_eq!(watch.status()[0].reloads, 1);
    }

    #[tokio::test]
    async fn the_task_publishes_and_ends_with_its_last_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let (value, watch) = watch_one(path.clone());
        let (sender, mut status) = watch::channel(Vec::new());
        let task = tokio::spawn(watch.run(Duration::from_millis(1), sender));
        fs::write(&path, "two").unwrap();
        status.wait_for(|all| all.first().is_some_and(|one| one.reloads == 1)).await.unwrap();
        assert_eq!(*value.lock(), "two");
        drop(status);
        task.await.unwrap();
    }
}
