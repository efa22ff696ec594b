use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use meshrelay_cluster::{ClusterView, Surplus};
use meshrelay_snapshot::{Name, Object, ObjectKey, SnapshotMeta};
use serde_json::json;

use super::*;

/// A cluster in memory that has one object of ours to begin with.
struct Fake {
    name: Name,
    applied: Mutex<Snapshot>,
    is_readable: AtomicBool,
}

impl Fake {
    fn new() -> Arc<Self> {
        let applied = [object("a")].into_iter().collect();
        Arc::new(Self { name: "one".into(), applied: Mutex::new(applied), is_readable: AtomicBool::new(true) })
    }

    fn has(&self) -> Vec<String> {
        self.applied.lock().sorted().into_iter().map(|object| object.key().name.to_string()).collect()
    }

    fn readable(&self) -> Result<(), ApplyError> {
        if self.is_readable.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(ApplyError::Unreadable { place: "the cluster".to_owned(), reason: "it is away".to_owned() })
    }

    fn surplus(&self, desired: &Snapshot) -> BTreeSet<ObjectKey> {
        let applied = self.applied.lock();
        applied.iter().map(|object| object.key().clone()).filter(|key| desired.get(key).is_none()).collect()
    }
}

impl Cluster for Fake {
    fn name(&self) -> &Name {
        &self.name
    }

    fn watch(&self) -> watch::Receiver<Arc<ClusterView>> {
        watch::channel(Arc::default()).1
    }

    async fn apply(&self, desired: &Snapshot, mode: ApplyMode) -> ApplyOutcome {
        let (deleted, held): (Vec<_>, Vec<_>) = self.surplus(desired).into_iter().partition(|key| mode.allows(key));
        let mut applied = self.applied.lock();
        desired.iter().for_each(|object| drop(applied.insert(Arc::clone(object))));
        deleted.iter().for_each(|key| drop(applied.remove(key)));
        applied.set_meta(SnapshotMeta { basis: desired.meta().basis.clone(), ..SnapshotMeta::default() });
        ApplyOutcome { held, deleted, ..ApplyOutcome::default() }
    }

    async fn surplus(&self, desired: &Snapshot) -> Result<Surplus, ApplyError> {
        self.readable()?;
        let objects = self.surplus(desired);
        Ok(Surplus { present: self.applied.lock().len(), objects })
    }

    async fn current(&self) -> Result<Snapshot, ApplyError> {
        self.readable()?;
        Ok(self.applied.lock().clone())
    }
}

fn object(name: &str) -> Arc<Object> {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"}});
    Arc::new(Object::from_value(&value).unwrap())
}

fn output(version: u64, names: &[&str], meta: SnapshotMeta) -> Held {
    let mut output: Snapshot = names.iter().map(|name| object(name)).collect();
    output.set_meta(meta);
    Held::restored(Arc::new(output), version)
}

fn certain() -> SnapshotMeta {
    SnapshotMeta::default()
}

fn made_from(west: u64) -> SnapshotMeta {
    SnapshotMeta { basis: [("west".into(), west)].into(), ..SnapshotMeta::default() }
}

async fn outputs(folder: &Path, cluster: &Arc<Fake>) -> Outputs<Fake> {
    let (name, start) = (cluster.name.clone(), Instant::now());
    let clock = Clock::new(move || Timestamp::UNIX_EPOCH + SignedDuration::try_from(start.elapsed()).unwrap());
    let deletions = DeletionFiles::new(folder, name.clone());
    Outputs {
        cluster: Arc::clone(cluster),
        hold: Hold::load(&deletions, &clock).await,
        file: HeldOutputFile::new(folder, name.clone()),
        in_force: tokio::sync::Mutex::new(InForce::load(folder, &name, None)),
        brake: DeleteBrake::default(),
        deletions,
        metrics: Metrics::default(),
        status: Arc::new(watch::Sender::new(AgentStatus::default())),
        readiness: Readiness::new(),
        takeover: Arc::new(Takeover::open(folder, Duration::from_secs(60)).with_clock(clock.clone())),
        retry: Mutex::default(),
        clock,
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn an_output_that_is_in_doubt_is_not_applied_again_because_a_server_is_believed_by_now() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = outputs(folder.path(), &Fake::new()).await;
    outputs.takeover.served_by("a:1");
    assert_eq!(outputs.apply(output(1, &[], certain())).await.results.len(), 1);
    tokio::time::timeout(HOUR, outputs.due()).await.expect("the first is applied again");
    outputs.takeover.served_by("b:1");
    outputs.apply(output(1, &[], certain())).await;
    let doubt = Some("a file cannot be read".to_owned());
    outputs.apply(output(2, &[], SnapshotMeta { doubt, ..certain() })).await;
    tokio::time::sleep(HOUR).await;
    tokio::time::timeout(HOUR, outputs.due()).await.expect_err("nothing would come of it");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_or_believed_before_the_cluster_can_be_read() {
    let (folder, cluster) = (tempfile::tempdir().unwrap(), Fake::new());
    let outputs = outputs(folder.path(), &cluster).await;
    cluster.is_readable.store(false, Ordering::Relaxed);
    let report = outputs.apply(output(1, &["b"], certain())).await;
    assert_eq!((report.applied, report.results[0].outcome), (0, Outcome::Held));
    assert!(report.results[0].message.contains("it is away"), "{report:?}");
    assert_eq!(cluster.has(), ["a"]);
    assert!(outputs.status.borrow().waiting.is_some());
    assert!(outputs.file.load().unwrap().is_none(), "the next process would take it for what is in force");
    cluster.is_readable.store(true, Ordering::Relaxed);
    tokio::time::timeout(HOUR, outputs.due()).await.expect("it is applied again");
    assert!(outputs.apply(output(1, &["b"], certain())).await.results.is_empty());
    assert_eq!((cluster.has(), outputs.status.borrow().waiting.clone()), (vec!["b".to_owned()], None));
    tokio::time::timeout(HOUR, outputs.due()).await.expect_err("all is done");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lost_its_folder_knows_a_server_that_is_behind() {
    let cluster = Fake::new();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    outputs(folders[0].path(), &cluster).await.apply(output(1, &["a", "b"], made_from(5))).await;
    let outputs = outputs(folders[1].path(), &cluster).await;
    let report = outputs.apply(output(2, &["a"], made_from(4))).await;
    assert!(report.results[0].message.contains("version 4 of the input of cluster west"), "{report:?}");
    assert_eq!(cluster.has(), ["a", "b"]);
    let report = outputs.apply(output(3, &["a"], made_from(5))).await;
    assert_eq!((report.results.len(), cluster.has()), (0, vec!["a".to_owned()]));
}

/// The disk was full when the last output came, so an older one is on it.
#[tokio::test(start_paused = true)]
async fn what_is_on_disk_may_be_older_than_what_is_in_force() {
    let cluster = Fake::new();
    let folder = tempfile::tempdir().unwrap();
    let older = output(1, &["a"], made_from(4));
    outputs(folder.path(), &cluster).await.apply(output(2, &["a", "b"], made_from(5))).await;
    HeldOutputFile::new(folder.path(), cluster.name.clone()).store(&older).unwrap();
    let mut outputs = outputs(folder.path(), &cluster).await;
    outputs.in_force = tokio::sync::Mutex::new(InForce::load(folder.path(), &cluster.name, Some(&older)));
    outputs.apply(older).await;
    assert_eq!(cluster.has(), ["a", "b"]);
}
