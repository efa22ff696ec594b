//! The adapter for a directory of manifests: watching by looking regularly, and at once where the system gives a hint;
//! applying by writing files.

mod apply;
mod basis;
mod follow;
mod hints;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::{ClusterFacts, Gvk, Name, ObjectKey, Snapshot};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::{Admission, Applied, ApplyError, ApplyFailure, ApplyMode, ApplyOutcome, Cluster, ClusterView, Surplus};
use apply::Applier;
use follow::{Follower, Progress};
use hints::Hints;

/// Without hints: while files change, a person is at work and the next change is near, so look more often for so many
/// looks, about ten seconds.
const BUSY_POLLS: u32 = 50;

/// With hints: time between two looks without any. They find what gives none: changes that another machine makes on a
/// network file system, behind a symbolic link, or in a file that is never closed.
const HINTED_POLL: Duration = Duration::from_secs(2);

/// How long a file must keep still after a hint, which comes when its writer is done with it. Not less than one tick of
/// a file system's clock (10 ms at most), so that a later change has another time stamp.
const HINTED_SETTLE: Duration = Duration::from_millis(10);

/// What a [`DirectoryCluster`] is made from.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Name of the cluster.
    pub name: Name,
    /// Folder with the cluster's manifests.
    pub folder: PathBuf,
    /// Folder into which outputs are applied; made when there is something to apply.
    pub output: PathBuf,
    /// Kinds to watch; all that there are if it is empty.
    pub kinds: Vec<Gvk>,
    /// What an API server would add to objects.
    pub admission: Admission,
    /// What the view says of the cluster beside its objects.
    pub facts: ClusterFacts,
    /// Time between two looks at a folder in which nothing happens; a third of it while files change. Default 600 ms,
    /// so that a change is seen within a second; 300 files then cost about 0.06 % of a core. At least 2 s while hints
    /// are in force.
    pub poll: Duration,
    /// How long a changed file must keep still before it is read, so that a half-written one is not taken as final.
    /// Default 100 ms. At most 10 ms after a hint.
    pub settle: Duration,
    /// Whether the operating system is asked for hints that something changed, so that it is seen at once. Where it
    /// gives none, regular looks find the change. Default true.
    pub hints: bool,
}

impl DirectoryOptions {
    /// With the defaults: all kinds, no addresses, the default clock.
    pub fn new(name: impl Into<Name>, folder: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            folder: folder.into(),
            output: output.into(),
            kinds: Vec::new(),
            admission: Admission::default(),
            facts: ClusterFacts::default(),
            poll: Duration::from_millis(600),
            settle: Duration::from_millis(100),
            hints: true,
        }
    }
}

/// A cluster that is a directory of manifests. Stops watching when it is dropped.
#[derive(Debug)]
pub struct DirectoryCluster {
    name: Name,
    views: watch::Receiver<Arc<ClusterView>>,
    applier: Arc<Mutex<Applier>>,
    watcher: JoinHandle<()>,
}

impl DirectoryCluster {
    /// Reads the directory and begins to watch it. A directory that cannot be read is a cluster of which nothing is
    /// known, until it can be. Must be called within a tokio runtime.
    pub async fn open(options: DirectoryOptions) -> Self {
        let name = options.name.clone();
        let applier = Applier::new(options.output.clone(), name.clone());
        let pace = Pace { poll: options.poll, settle: options.settle, busy: 0 };
        let hinted = options.hints;
        let opened = tokio::task::spawn_blocking(move || {
            let follower = Follower::open(options);
            let mut hints = Hints::new(hinted);
            hints.follow(follower.folders());
            (follower, hints)
        });
        let opened = opened.await;
        let view = opened.as_ref().map(|(follower, _)| follower.view()).unwrap_or_default();
        let (sender, views) = watch::channel(view);
        let watcher = tokio::spawn(async move {
            match opened {
                Ok((follower, hints)) => keep_watching(follower, hints, sender, pace).await,
                Err(error) => tracing::error!(%error, "reading the directory failed"),
            }
        });
        Self { name, views, applier: Arc::new(Mutex::new(applier)), watcher }
    }
}

impl Drop for DirectoryCluster {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// When to look next.
#[derive(Debug)]
struct Pace {
    poll: Duration,
    settle: Duration,
    /// Looks that are still made more often than usual.
    busy: u32,
}

impl Pace {
    /// How long nothing has to happen before the next look.
    fn idle(&mut self, changed: bool, hinted: bool) -> Duration {
        self.busy = if changed { BUSY_POLLS } else { self.busy.saturating_sub(1) };
        match (hinted, self.busy > 0) {
            (true, _) => self.poll.max(HINTED_POLL),
            (false, true) => self.poll / 3,
            (false, false) => self.poll,
        }
    }

    /// How long what was found has to keep still.
    fn settle(&self, after_hint: bool) -> Duration {
        if after_hint { self.settle.min(HINTED_SETTLE) } else { self.settle }
    }
}

async fn keep_watching(
    mut follower: Follower,
    mut hints: Hints,
    sender: watch::Sender<Arc<ClusterView>>,
    mut pace: Pace,
) {
    let hint = hints.hint();
    // What changed between the first listing and the first watch gave no hint.
    let mut after_hint = hints.in_force();
    let mut settling = after_hint;
    let mut idle = pace.poll;
    loop {
        if settling {
            // Whole, whatever hints come meanwhile: they are kept for the next look.
            tokio::time::sleep(pace.settle(after_hint)).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(idle) => after_hint = false,
                () = hint.notified() => after_hint = true,
            }
        }
        let looked = tokio::task::spawn_blocking(move || {
            let progress = follower.poll();
            let unhinted = hints.follow(follower.folders());
            (follower, hints, progress, unhinted)
        });
        let (progress, unhinted);
        match looked.await {
            Ok(after) => (follower, hints, progress, unhinted) = after,
            Err(error) => {
                tracing::error!(%error, "watching the directory failed");
                return;
            }
        }
        if progress.changed {
            let view = follower.view();
            for problem in &view.problems {
                if !sender.borrow().problems.contains(problem) {
                    tracing::warn!(%problem, "a manifest has a problem");
                }
            }
            sender.send_replace(view);
        }
        let Progress { changed, settling: unsettled } = progress;
        settling = unsettled || unhinted;
        idle = pace.idle(changed || settling, hints.in_force());
    }
}

impl DirectoryCluster {
    /// What came of applying that did not come to its end. Nobody knows how far it got, so nothing counts as done.
    async fn broken_off(&self, desired: &Snapshot, mode: &ApplyMode, error: &JoinError) -> ApplyOutcome {
        tracing::error!(%error, "applying into the directory failed");
        let place = "the output folder".to_owned();
        let error = ApplyError::Failed { place, reason: error.to_string() };
        // If that is not known either, one without a name stands for whatever should have gone.
        let unknown = |_| Surplus { objects: [ObjectKey::default()].into(), ..Surplus::default() };
        let surplus = self.surplus(desired).await.unwrap_or_else(unknown);
        let (go, held): (Vec<_>, Vec<_>) = surplus.objects.into_iter().partition(|key| mode.allows(key));
        let wanted = desired.sorted().into_iter().map(|object| object.key().clone());
        let failed = wanted.chain(go).map(|key| ApplyFailure { key, error: error.clone() }).collect();
        ApplyOutcome { held, failed, ..ApplyOutcome::default() }
    }
}

impl Cluster for DirectoryCluster {
    fn name(&self) -> &Name {
        &self.name
    }

    fn watch(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.views.clone()
    }

    async fn apply(&self, desired: &Snapshot, mode: ApplyMode) -> ApplyOutcome {
        let (wanted, how) = (desired.clone(), mode.clone());
        let mut applier = Arc::clone(&self.applier).lock_owned().await;
        match tokio::task::spawn_blocking(move || applier.apply(&wanted, how)).await {
            Ok(outcome) => outcome,
            Err(error) => self.broken_off(desired, &mode, &error).await,
        }
    }

    async fn surplus(&self, desired: &Snapshot) -> Result<Surplus, ApplyError> {
        let desired = desired.clone();
        let mut applier = Arc::clone(&self.applier).lock_owned().await;
        let looked = tokio::task::spawn_blocking(move || applier.surplus(&desired)).await;
        looked.unwrap_or_else(|error| Err(unknown(&error)))
    }

    async fn current(&self) -> Result<Applied, ApplyError> {
        let mut applier = Arc::clone(&self.applier).lock_owned().await;
        let read = tokio::task::spawn_blocking(move || applier.current()).await;
        read.unwrap_or_else(|error| Err(unknown(&error)))
    }
}

fn unknown(error: &JoinError) -> ApplyError {
    ApplyError::Unreadable { place: "the output folder".to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Object;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn nothing_counts_as_done_where_applying_broke_off() {
        let folder = tempfile::tempdir().unwrap();
        let options = DirectoryOptions::new("one", folder.path().join("in"), folder.path().join("out"));
        let cluster = DirectoryCluster::open(options).await;
        let snapshot = |names: &[&str]| -> Snapshot {
            let metadata = |name: &&str| json!({"name": name, "namespace": "n"});
            let value = |name| json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(name)});
            names.iter().map(|name| Arc::new(Object::from_value(&value(name)).unwrap())).collect()
        };
        cluster.apply(&snapshot(&["a", "b"]), ApplyMode::Complete).await;
        let panicked = tokio::task::spawn_blocking(|| panic!("a mistake")).await.unwrap_err();
        let failed = |outcome: &ApplyOutcome| {
            assert_eq!((&outcome.applied, outcome.unchanged), (&Vec::new(), 0));
            outcome.failed.iter().map(|failure| failure.key.name.to_string()).collect::<Vec<_>>()
        };
        let outcome = cluster.broken_off(&snapshot(&["a"]), &ApplyMode::Complete, &panicked).await;
        assert_eq!((failed(&outcome), outcome.held.clone()), (vec!["a".to_owned(), "b".to_owned()], Vec::new()));
        assert!(outcome.failed[0].error.to_string().contains("MR0421"), "{outcome:?}");
        let outcome = cluster.broken_off(&snapshot(&["a"]), &ApplyMode::AddOnly, &panicked).await;
        assert_eq!((failed(&outcome), outcome.held.len()), (vec!["a".to_owned()], 1));
        let outcome = cluster.broken_off(&Snapshot::new(), &ApplyMode::Complete, &panicked).await;
        assert_eq!(failed(&outcome), ["a", "b"], "what should have gone did not");
    }
}
