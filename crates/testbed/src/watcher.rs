use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fleet::Fleet;

/// Pause between two looks, so that two cores are left for those who are watched.
const PAUSE: Duration = Duration::from_millis(1);

/// Looks all the time whether what is applied stays there and whole.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    looks: Option<JoinHandle<Result<u64, String>>>,
}

/// A file that is watched.
struct Watched {
    path: PathBuf,
    /// What has to be in it; `None` if it is edited meanwhile.
    content: Option<Vec<u8>>,
    /// The file that was found to hold that.
    seen: Option<(u64, u64, i64)>,
}

impl Watcher {
    /// Watches that everything that is applied in these clusters now stays there.
    pub fn over(fleet: &Fleet, clusters: &[&str]) -> Self {
        Self::start(fleet, clusters, |_| true)
    }

    /// Watches that everything that is applied in any cluster now stays there and as it is, but for what is edited: files
    /// with one of these texts in their path.
    pub fn of_contents(fleet: &Fleet, edited: &[&str]) -> Self {
        let clusters: Vec<&str> = fleet.clusters().collect();
        Self::start(fleet, &clusters, |path| edited.iter().any(|part| path.contains(part)))
    }

    fn start(fleet: &Fleet, clusters: &[&str], may_change: impl Fn(&str) -> bool) -> Self {
        let mut watched = Vec::new();
        for cluster in clusters {
            for (path, text) in fleet.applied(cluster) {
                let content = (!may_change(&path)).then(|| text.into_bytes());
                watched.push(Watched { path: fleet.output(cluster).join(path), content, seen: None });
            }
        }
        assert!(!watched.is_empty(), "there is something to watch");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looks = std::thread::spawn(move || {
            let mut looks = 0;
            loop {
                for file in &mut watched {
                    // Each path by itself: a listing may leave out a file that is being replaced.
                    file.look().map_err(|found| format!("{}: {found}, at look {looks}", file.path.display()))?;
                }
                looks += 1;
                // At the end, so that there is a look even if the test is done before this thread has begun.
                if stopped.load(Ordering::Relaxed) {
                    return Ok(looks);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, looks: Some(looks) }
    }

    /// How many looks there were, or the first loss.
    pub fn report(mut self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.looks.take().unwrap().join().unwrap()
    }

    /// Fails the test if anything was missing or changed at any look.
    pub fn finish(self) {
        assert!(self.report().unwrap_or_else(|missing| panic!("an output disappeared: {missing}")) > 0);
    }
}

impl Watched {
    fn look(&mut self) -> Result<(), String> {
        let metadata = fs::metadata(&self.path).map_err(|error| error.to_string())?;
        if metadata.len() == 0 {
            return Err("empty".to_owned());
        }
        let Some(content) = &self.content else { return Ok(()) };
        if self.seen == Some(identity(&metadata)) {
            return Ok(());
        }
        let found = fs::read(&self.path).map_err(|error| error.to_string())?;
        if found != *content {
            return Err(format!("changed to\n{}", String::from_utf8_lossy(&found)));
        }
        self.seen = Some(identity(&metadata));
        Ok(())
    }
}

/// What is another one when a file is replaced or written.
fn identity(metadata: &Metadata) -> (u64, u64, i64) {
    (metadata.ino(), metadata.len(), metadata.mtime_nsec())
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
