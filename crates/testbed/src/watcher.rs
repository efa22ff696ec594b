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

impl Watcher {
    /// Watches everything that is applied in these clusters now.
    pub fn over(fleet: &Fleet, clusters: &[&str]) -> Self {
        let paths: Vec<PathBuf> = clusters
            .iter()
            .flat_map(|cluster| fleet.applied(cluster).into_keys().map(|path| fleet.output(cluster).join(path)))
            .collect();
        assert!(!paths.is_empty(), "there is something to watch");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looks = std::thread::spawn(move || {
            let mut looks = 0;
            loop {
                for path in &paths {
                    // Each path by itself: a listing may leave out a file that is being replaced.
                    match std::fs::metadata(path) {
                        Ok(metadata) if metadata.len() > 0 => {}
                        Ok(_) => return Err(format!("{} was empty", path.display())),
                        Err(error) => return Err(format!("{}: {error}, at look {looks}", path.display())),
                    }
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

    /// Fails the test if anything was missing at any look.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looks.take().unwrap().join().unwrap();
        assert!(looks.unwrap_or_else(|missing| panic!("an output disappeared: {missing}")) > 0);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
