use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use meshrelay_cluster::{Applied, ClusterView, Surplus};
use meshrelay_snapshot::{
    Carried, ClusterDoubt, ContentHash, DEPENDS_ON, Name, Object, ObjectKey, Snapshot, SnapshotMeta,
};
use serde_json::json;

use super::*;

/// A cluster in memory that has one object of ours to begin with.
struct Fake {
    name: Name,
    applied: Mutex<Snapshot>,
    recorded: Mutex<Option<ContentHash>>,
    is_readable: AtomicBool,
}

impl Fake {
    fn new() -> Arc<Self> {
        Self::with([object("a")].into_iter().collect())
    }

    fn with(applied: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            name: "one".into(),
            applied: Mutex::new(applied),
            recorded: Mutex::default(),
            is_readable: AtomicBool::new(true),
        })
    }

    fn has(&self) -> Vec<String> {
        let text = |object: &Arc<Object>| match object.value()["metadata"]["annotations"]["content"].as_str() {
            None | Some("") => object.key().name.to_string(),
            Some(content) => format!("{}={content}", object.key().name),
        };
        self.applied.lock().sorted().into_iter().map(text).collect()
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
        *self.recorded.lock() = Some(desired.digest());
        ApplyOutcome { held, deleted, ..ApplyOutcome::default() }
    }

    async fn surplus(&self, desired: &Snapshot) -> Result<Surplus, ApplyError> {
        self.readable()?;
        let objects = self.surplus(desired);
        Ok(Surplus { present: self.applied.lock().len(), objects })
    }

    async fn current(&self) -> Result<Applied, ApplyError> {
        self.readable()?;
        Ok(Applied { snapshot: self.applied.lock().clone(), desired: *self.recorded.lock() })
    }
}

/// `a` or, with other content, `a=1`; one that depends on cluster west is `west-a`.
fn object(text: &str) -> Arc<Object> {
    let (name, content) = text.split_once('=').unwrap_or((text, ""));
    let mut metadata = json!({"name": name, "namespace": "n", "annotations": {"content": content}});
    if name.starts_with("west-") {
        metadata["annotations"][DEPENDS_ON] = "west".into();
    }
    Arc::new(Object::from_value(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).unwrap())
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

/// As a new process, with what it applies at first.
async fn restarted(folder: &Path, cluster: &Arc<Fake>) -> (Outputs<Fake>, Option<Held>) {
    let mut outputs = outputs(folder, cluster).await;
    let read_back = outputs.file.load().unwrap();
    outputs.in_force = tokio::sync::Mutex::new(InForce::load(folder, &cluster.name, read_back.as_ref()));
    let resumed = outputs.resumed(read_back).await;
    (outputs, resumed)
}

/// The disk was full when the last output came, or a backup of it was put back.
#[tokio::test(start_paused = true)]
async fn an_output_on_disk_that_is_not_what_was_applied_last_is_not_applied_again() {
    // What was changed in the management cluster is newer without a newer input.
    for basis in [4, 5] {
        let (cluster, folder, other) = (Fake::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        outputs(folder.path(), &cluster).await.apply(output(1, &["a=1"], made_from(basis))).await;
        outputs(other.path(), &cluster).await.apply(output(2, &["a=2", "b"], made_from(5))).await;
        let (outputs, resumed) = restarted(folder.path(), &cluster).await;
        assert!(resumed.is_none());
        let waiting = outputs.status.borrow().waiting.clone().unwrap();
        assert!(waiting.reason.contains("not what was applied here last") && waiting.what_to_do.contains("a server"));
        // Nor is what is on disk taken for what is in force, where a server is behind.
        outputs.apply(output(3, &["a=2"], made_from(4))).await;
        let missing = ClusterDoubt { reason: "away".to_owned() };
        let away = SnapshotMeta { doubts: [("one".into(), missing)].into(), ..made_from(5) };
        outputs.apply(output(4, &["a=1"], away)).await;
        assert_eq!(cluster.has(), ["a=2", "b"]);
        outputs.apply(output(5, &["a=1"], made_from(5))).await;
        assert_eq!((cluster.has(), outputs.status.borrow().waiting.clone()), (vec!["a=1".to_owned()], None));
    }
}

/// West was read in full in version 6, which this disk missed, and which a server missed.
#[tokio::test(start_paused = true)]
async fn what_was_carried_over_to_an_output_on_disk_does_not_count_for_what_was_applied_since() {
    let (cluster, folder, other) = (Fake::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let carried = |west: u64| {
        let carried = Carried { from: 3, until: west, objects: Snapshot::new().digest() };
        SnapshotMeta { carried_inputs: [("west".into(), carried)].into(), ..made_from(west) }
    };
    outputs(folder.path(), &cluster).await.apply(output(1, &["a"], carried(5))).await;
    outputs(other.path(), &cluster).await.apply(output(2, &["a", "west-b"], made_from(6))).await;
    let (outputs, _) = restarted(folder.path(), &cluster).await;
    let report = outputs.apply(output(3, &["a"], carried(7))).await;
    assert!(report.results[0].message.contains("version 3 of the input of cluster west"), "{report:?}");
    assert_eq!(cluster.has(), ["a", "west-b"]);
    outputs.apply(output(4, &["a"], made_from(8))).await;
    assert_eq!(cluster.has(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_output_that_was_applied_last_goes_on_without_a_server() {
    let (cluster, folder) = (Fake::with(Snapshot::new()), tempfile::tempdir().unwrap());
    let first = outputs(folder.path(), &cluster).await;
    first.apply(output(1, &["a=1", "b"], made_from(5))).await;
    // What is in force is not the output.
    first.apply(output(2, &["c"], made_from(4))).await;
    assert_eq!(cluster.has(), ["a=1", "b", "c"]);
    cluster.applied.lock().insert(object("a=7"));
    let (second, resumed) = restarted(folder.path(), &cluster).await;
    second.apply(resumed.unwrap()).await;
    assert_eq!(cluster.has(), ["a=1", "b", "c"], "somebody's change is put right");
    let (_, resumed) = restarted(folder.path(), &Fake::with(Snapshot::new())).await;
    assert!(resumed.is_some(), "a cluster that never had anything gets it");
    cluster.is_readable.store(false, Ordering::Relaxed);
    let (_, resumed) = restarted(folder.path(), &cluster).await;
    assert!(resumed.is_none(), "nobody knows");
    cluster.is_readable.store(true, Ordering::Relaxed);
    // What is kept beside an output belongs to that output alone.
    outputs(folder.path(), &cluster).await.file.store(&output(1, &["a=1"], made_from(4))).unwrap();
    let (_, resumed) = restarted(folder.path(), &cluster).await;
    assert!(resumed.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_kept_leaves_no_older_one_on_disk() {
    let (cluster, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let outputs = outputs(folder.path(), &cluster).await;
    outputs.apply(output(1, &["a", "b"], made_from(5))).await;
    assert!(outputs.file.load().unwrap().is_some());
    let in_the_way = folder.path().join("last-output.jsonl.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    outputs.apply(output(2, &["a"], made_from(4))).await;
    let on_disk: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!((cluster.has(), on_disk), (vec!["a".into(), "b".into()], vec!["last-output.jsonl.tmp".into()]));
    std::fs::remove_dir(&in_the_way).unwrap();
    tokio::time::timeout(HOUR, outputs.due()).await.expect("it is tried again");
    outputs.apply(output(2, &["a"], made_from(4))).await;
    assert!(restarted(folder.path(), &cluster).await.1.is_some());
}

/// An output with the objects of these numbers.
fn numbered(version: u64, numbers: std::ops::Range<u32>, meta: SnapshotMeta) -> Held {
    let names: Vec<String> = numbers.map(|number| format!("o-{number}")).collect();
    output(version, &names.iter().map(String::as_str).collect::<Vec<_>>(), meta)
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_another_reason_meanwhile_stays_held_and_approved() {
    let missing = ClusterDoubt { reason: "away".to_owned() };
    let away = SnapshotMeta { doubts: [("one".into(), missing)].into(), ..made_from(5) };
    for kept in [made_from(4), away] {
        for is_approved in [false, true] {
            let (cluster, folder) = (Fake::with(Snapshot::new()), tempfile::tempdir().unwrap());
            let outputs = outputs(folder.path(), &cluster).await;
            outputs.apply(numbered(1, 0..90, made_from(5))).await;
            outputs.apply(numbered(2, 40..90, made_from(5))).await;
            let held = outputs.deletions.held().unwrap().unwrap();
            assert_eq!((held.objects.len(), held.present), (40, 90));
            outputs.apply(numbered(3, 40..150, made_from(5))).await;
            if is_approved {
                outputs.deletions.approve(&held, Timestamp::UNIX_EPOCH).unwrap();
            }
            outputs.apply(numbered(4, 40..150, kept.clone())).await;
            assert_eq!(cluster.has().len(), 150);
            let still = outputs.deletions.held().unwrap().unwrap();
            assert_eq!((still.since, still.digest(), still.present), (held.since, held.digest(), 90));
            // Two of five are many, and two of eight are not: it is counted as when it began.
            outputs.apply(numbered(5, 40..150, made_from(5))).await;
            assert_eq!(cluster.has().len(), if is_approved { 110 } else { 150 });
            assert_eq!(outputs.deletions.held().unwrap().is_some(), !is_approved);
            assert!(outputs.deletions.approval().unwrap().is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_another_reason_goes_on_to_count_for_the_rest_of_a_hold() {
    let (cluster, folder) = (Fake::with(Snapshot::new()), tempfile::tempdir().unwrap());
    let outputs = outputs(folder.path(), &cluster).await;
    let names: Vec<String> =
        (0..90).map(|number| if number < 20 { format!("west-{number}") } else { format!("o-{number}") }).collect();
    let output = |version, from: usize, meta| {
        output(version, &names[from..].iter().map(String::as_str).collect::<Vec<_>>(), meta)
    };
    outputs.apply(output(1, 0, certain())).await;
    outputs.apply(output(2, 40, certain())).await;
    let held = outputs.deletions.held().unwrap().unwrap();
    let missing = ClusterDoubt { reason: "away".to_owned() };
    let away = || SnapshotMeta { doubts: [("west".into(), missing.clone())].into(), ..certain() };
    // The other twenty of ninety would be few.
    outputs.apply(output(3, 40, away())).await;
    let still = outputs.deletions.held().unwrap().unwrap();
    assert_eq!((cluster.has().len(), still.digest()), (90, held.digest()));
    // Of what is approved, what can go goes, and the rest later without another approval.
    outputs.deletions.approve(&held, Timestamp::UNIX_EPOCH).unwrap();
    outputs.apply(output(3, 40, away())).await;
    assert_eq!(cluster.has().len(), 70);
    outputs.apply(output(4, 40, certain())).await;
    assert_eq!((cluster.has().len(), outputs.deletions.held().unwrap()), (50, None));
    assert!(outputs.deletions.approval().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_before_what_the_brake_holds_is_on_disk() {
    let (cluster, folder) = (Fake::with(Snapshot::new()), tempfile::tempdir().unwrap());
    let outputs = outputs(folder.path(), &cluster).await;
    outputs.apply(numbered(1, 0..90, certain())).await;
    let in_the_way = folder.path().join("deletions-held.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    let report = outputs.apply(numbered(2, 40..150, certain())).await;
    assert_eq!((report.applied, cluster.has().len()), (0, 90), "new objects would make it a smaller share");
    let waiting = outputs.status.borrow().waiting.clone().unwrap();
    assert!(waiting.reason.contains("MR0704") && waiting.what_to_do.contains("make room"), "{waiting:?}");
    std::fs::remove_dir(&in_the_way).unwrap();
    tokio::time::timeout(HOUR, outputs.due()).await.expect("it is tried again");
    outputs.apply(numbered(2, 40..150, certain())).await;
    assert_eq!((cluster.has().len(), outputs.status.borrow().waiting.clone()), (150, None));
    assert_eq!(outputs.status.borrow().held.as_ref().unwrap().objects, 40);
    // Once it is there, the rest goes on whether details of it can be written or not.
    std::fs::create_dir(&in_the_way).unwrap();
    outputs.apply(numbered(3, 41..151, certain())).await;
    assert_eq!((cluster.has().len(), outputs.deletions.held().unwrap().unwrap().objects.len()), (151, 40));
    assert!(outputs.status.borrow().waiting.is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_before_it_is_counted_on_disk() {
    let (cluster, folder) = (Fake::with(Snapshot::new()), tempfile::tempdir().unwrap());
    let outputs = outputs(folder.path(), &cluster).await;
    outputs.apply(numbered(1, 0..90, certain())).await;
    let in_the_way = folder.path().join("deletions-recent.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        outputs.apply(numbered(2, 20..91, certain())).await;
        assert_eq!(cluster.has().len(), 91, "what is new does not wait");
        let held = outputs.status.borrow().held.clone().unwrap();
        assert_eq!(held.objects, 20);
        assert!(held.reason.contains("MR0704") && held.what_to_do.contains("make room"), "{held:?}");
    }
    std::fs::remove_dir(&in_the_way).unwrap();
    tokio::time::timeout(HOUR, outputs.due()).await.expect("it is tried again");
    outputs.apply(numbered(2, 20..91, certain())).await;
    assert_eq!((cluster.has().len(), outputs.status.borrow().held.clone()), (71, None));
    assert_eq!(outputs.deletions.recent().unwrap().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_as_anything_may_be_missing_is_shown_as_held() {
    let (cluster, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let outputs = outputs(folder.path(), &cluster).await;
    outputs.apply(output(1, &["a", "b", "c"], certain())).await;
    let in_doubt = |version| {
        let doubt = Some("cluster west was not there yet".to_owned());
        output(version, &["a"], SnapshotMeta { doubt, ..certain() })
    };
    let report = outputs.apply(in_doubt(2)).await;
    let held = outputs.status.borrow().held.clone().unwrap();
    assert_eq!((held.objects, held.reason.as_str(), held.digest), (2, "cluster west was not there yet", None));
    let gauge = |reason| outputs.metrics.deletions_held.get_or_create(&Reason { reason }).get();
    assert_eq!((gauge("incomplete"), gauge("brake")), (2, 0));
    assert!(report.results.iter().all(|result| result.message.contains(&held.what_to_do)), "{report:?}");
    tokio::time::sleep(HOUR).await;
    outputs.apply(in_doubt(3)).await;
    assert_eq!(outputs.status.borrow().held.as_ref().map(|held| held.since), Some(held.since));
    outputs.apply(output(4, &["a"], certain())).await;
    assert_eq!((cluster.has(), outputs.status.borrow().held.clone()), (vec!["a".to_owned()], None));
    assert_eq!(gauge("incomplete"), 0);
}
