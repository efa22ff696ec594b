use std::collections::BTreeMap;

use jiff::Timestamp;
use meshrelay_relay::Held;
use meshrelay_snapshot::{Completeness, Name, Object, Snapshot, SnapshotMeta};
use meshrelay_store::{Cursor, MemoryStore, SnapshotId, Stored};
use serde_json::{Value, json};

use super::inputs::WARM;
use super::*;
use crate::management::kubernetes_cluster;
use crate::replicas::testing::StoreWithFaults;
use crate::warm::{self, Registration, WarmClusters};

fn snapshot(content: u64) -> Arc<Snapshot> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"},
        "data": {"content": content.to_string()},
    });
    Arc::new([Arc::new(Object::from_value(&object).unwrap())].into_iter().collect())
}

fn held(version: u64, content: u64) -> Held {
    Held::restored(snapshot(content), version)
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A replica with two registered clusters.
struct Replica {
    inputs: Arc<Inputs>,
    stop: CancellationToken,
}

impl Replica {
    fn start(name: &str, store: &Arc<impl SnapshotStore + 'static>) -> Self {
        let inputs = Arc::new(Inputs::new("mgmt".into(), WarmClusters::new()));
        let clusters = ["one", "two"].map(|cluster| (Name::from(cluster), Registration::default()));
        inputs.set_management(Arc::default(), clusters.into_iter().collect());
        let stop = CancellationToken::new();
        let store: Arc<dyn SnapshotStore> = Arc::clone(store) as _;
        let sharing = Sharing::new(store, Arc::clone(&inputs), Arc::default(), Metrics::default(), name);
        tokio::spawn(sharing.run(stop.clone()));
        Self { inputs, stop }
    }

    async fn holds(&self, cluster: &str, version: u64) {
        let mut changes = self.inputs.changes();
        let cluster = Name::from(cluster);
        let arrived = async {
            while self.inputs.held(&cluster).is_none_or(|held| held.version() != version) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn what_an_agent_sends_to_one_replica_all_have() {
    let store = Arc::new(MemoryStore::default());
    let (a, b) = (Replica::start("a", &store), Replica::start("b", &store));
    a.inputs.set(&"one".into(), held(1, 1), time(1));
    b.inputs.set(&"two".into(), held(1, 2), time(2));
    b.holds("one", 1).await;
    a.holds("two", 1).await;
    assert!(a.inputs.registered().values().all(|cluster| cluster.warm && cluster.present));
    // The agent of one goes on at the other replica.
    b.inputs.set(&"one".into(), held(2, 3), time(3));
    a.holds("one", 2).await;
    let late = Replica::start("c", &store);
    late.holds("one", 2).await;
    late.holds("two", 1).await;
    let warm = WarmClusters::from([("one".into(), time(1)), ("two".into(), time(2))]);
    for replica in [&a, &b, &late] {
        assert_eq!(replica.inputs.warm(), warm, "since the same time everywhere");
    }
    assert_eq!(**late.inputs.held(&"one".into()).unwrap().visible(), *snapshot(3));
}

#[tokio::test]
async fn nothing_is_translated_before_what_others_know_of_registered_clusters_was_read() {
    let store: Arc<dyn SnapshotStore> = Arc::new(MemoryStore::default());
    let stored = Stored::new(5, snapshot(5), Value::Null, "gone");
    store.put(&SnapshotId::input("one"), &stored).await.unwrap();
    let inputs = Arc::new(Inputs::new("mgmt".into(), WarmClusters::new()));
    let sharing = Sharing::new(Arc::clone(&store), Arc::clone(&inputs), Arc::default(), Metrics::default(), "new");
    let is_read = || inputs.for_translation().is_some_and(|picture| !picture.store_unread);
    // The store is faster than the management cluster, as it may be.
    let mut unread = Unread::default();
    sharing.step(&mut unread).await.unwrap();
    assert!(!is_read());
    inputs.set_management(Arc::default(), BTreeMap::from([("one".into(), Registration::default())]));
    assert!(!is_read(), "no cluster is warm yet, as far as is known here");
    unread.start_over();
    sharing.step(&mut unread).await.unwrap();
    assert!(is_read());
    let picture = inputs.for_translation().unwrap();
    assert!(picture.registered.values().all(|cluster| cluster.warm && cluster.present));
    assert_eq!(picture.versions, BTreeMap::from([("one".into(), 5)]));
}

#[tokio::test]
async fn an_old_input_never_replaces_a_newer_one() {
    let store = Arc::new(MemoryStore::default());
    let id = SnapshotId::input("one");
    store.put(&id, &Stored::new(5, snapshot(5), Value::Null, "gone")).await.unwrap();
    // A replica that was cut off for long comes with what it had.
    let old = Replica::start("old", &store);
    old.inputs.set(&"one".into(), held(4, 4), time(1));
    old.holds("one", 5).await;
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().version(), 5);
}

#[tokio::test]
async fn a_cluster_that_is_no_longer_registered_leaves_the_store() {
    let store = Arc::new(MemoryStore::default());
    let a = Replica::start("a", &store);
    a.inputs.set(&"one".into(), held(1, 1), time(1));
    let mut cursor = Cursor::default();
    let mut see = async |clusters: usize| loop {
        let heads = store.heads().await.unwrap();
        let warm =
            store.document(WARM).await.unwrap().map(|warm| warm::shared(&warm.value, time(0))).unwrap_or_default();
        if (heads.len(), warm.len()) == (clusters, clusters) {
            return;
        }
        let changes = store.changes(&cursor, Duration::from_secs(20)).await.unwrap();
        let (Changes::News { cursor: next, .. } | Changes::CatchUp { cursor: next }) = changes;
        assert_ne!(next, cursor, "nothing changes any more");
        cursor = next;
    };
    see(1).await;
    a.inputs.set_management(Arc::default(), BTreeMap::from([("two".into(), Registration::default())]));
    see(0).await;
}

/// A replica's part in sharing inputs, without tasks.
fn shared() -> (MemoryStore, Arc<Inputs>, SharedInputs) {
    let store = MemoryStore::default();
    let (inputs, shared) = shared_in(&store);
    (store, inputs, shared)
}

fn shared_in(store: &MemoryStore) -> (Arc<Inputs>, SharedInputs) {
    let inputs = Arc::new(Inputs::new("mgmt".into(), WarmClusters::new()));
    let shared = SharedInputs::new(Arc::new(store.clone()), Arc::clone(&inputs), Metrics::default(), "a".to_owned());
    (inputs, shared)
}

/// Has these be all registered clusters, as a replica sees them that has read its folder.
fn register(inputs: &Inputs, clusters: &[&str]) {
    let mut view = Snapshot::default();
    let completeness = [(kubernetes_cluster(), Completeness::Synced)].into();
    view.set_meta(SnapshotMeta { completeness, ..SnapshotMeta::default() });
    let registered = clusters.iter().map(|cluster| (Name::from(*cluster), Registration::default()));
    inputs.set_management(Arc::new(view), registered.collect());
}

/// The clusters that are warm as the store has it.
async fn warm_in(store: &MemoryStore) -> Vec<String> {
    let document = store.document(WARM).await.unwrap();
    let warm = document.map(|document| warm::shared(&document.value, time(0))).unwrap_or_default();
    warm.into_keys().map(|name| name.to_string()).collect()
}

/// Writes what waits to be written, in the order in which it is.
async fn write_all(inputs: &Inputs, shared: &SharedInputs) {
    for cluster in inputs.take_unshared() {
        shared.write_one(&cluster).await.unwrap();
    }
}

#[tokio::test]
async fn a_cluster_that_is_deregistered_while_another_one_is_written_stays_warm_nowhere() {
    let (store, inputs, shared) = shared();
    register(&inputs, &["a", "x"]);
    for cluster in ["a", "x"] {
        inputs.set(&cluster.into(), held(1, 1), time(1));
    }
    write_all(&inputs, &shared).await;
    assert_eq!(warm_in(&store).await, ["a", "x"]);
    inputs.set(&"a".into(), held(2, 2), time(2));
    register(&inputs, &["a"]);
    write_all(&inputs, &shared).await;
    // The feed tells of the write.
    shared.read_warm().await.unwrap();
    shared.share_warm(None).await.unwrap();
    assert_eq!(warm_in(&store).await, ["a"]);
    assert_eq!(inputs.warm().into_keys().collect::<Vec<_>>(), ["a"]);
    register(&inputs, &["a", "x"]);
    shared.read_warm().await.unwrap();
    assert!(!inputs.registered()["x"].warm, "nobody waits for an agent that never came");
}

#[tokio::test]
async fn a_cluster_that_one_replica_still_knows_is_warm_nowhere_once_both_know_it_is_gone() {
    let store = MemoryStore::default();
    let (a, b) = (shared_in(&store), shared_in(&store));
    for (inputs, _) in [&a, &b] {
        register(inputs, &["x"]);
    }
    a.0.set(&"x".into(), held(1, 1), time(1));
    write_all(&a.0, &a.1).await;
    b.1.read_one(&"x".into()).await.unwrap();
    register(&a.0, &[]);
    write_all(&a.0, &a.1).await;
    assert!(warm_in(&store).await.is_empty());
    // The other one has it still, and says so.
    b.1.share_warm(None).await.unwrap();
    b.1.read_one(&"x".into()).await.unwrap();
    write_all(&b.0, &b.1).await;
    a.1.share_warm(None).await.unwrap();
    assert_eq!(warm_in(&store).await, ["x"], "it may be registered anew");
    register(&b.0, &[]);
    write_all(&b.0, &b.1).await;
    for (inputs, shared) in [&a, &b, &a] {
        shared.share_warm(None).await.unwrap();
        assert!(warm_in(&store).await.is_empty());
        assert!(inputs.warm().is_empty());
    }
    assert!(store.heads().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_cluster_that_was_registered_anew_while_the_store_was_away_is_not_warm() {
    let (store, inputs, shared) = shared();
    register(&inputs, &["x"]);
    inputs.set(&"x".into(), held(1, 1), time(1));
    write_all(&inputs, &shared).await;
    register(&inputs, &[]);
    register(&inputs, &["x"]);
    // The store is back, and read before it is written.
    shared.read_warm().await.unwrap();
    write_all(&inputs, &shared).await;
    shared.share_warm(None).await.unwrap();
    assert!(warm_in(&store).await.is_empty());
    assert!(!inputs.registered()["x"].warm);
}

#[tokio::test]
async fn a_cluster_whose_registration_others_saw_first_is_warm_as_soon_as_it_is_registered_here() {
    let store = MemoryStore::default();
    let (a, b) = (shared_in(&store), shared_in(&store));
    register(&a.0, &["new"]);
    register(&b.0, &[]);
    a.0.set(&"new".into(), held(1, 1), time(1));
    write_all(&a.0, &a.1).await;
    b.1.share_warm(None).await.unwrap();
    assert_eq!(warm_in(&store).await, ["new"]);
    register(&b.0, &["new"]);
    assert!(b.0.registered()["new"].warm, "it is not done without");
}

#[tokio::test]
async fn what_the_store_loses_is_written_back() {
    let (store, inputs, shared) = shared();
    let id = SnapshotId::input("one");
    register(&inputs, &["one"]);
    inputs.set(&"one".into(), held(1, 1), time(1));
    write_all(&inputs, &shared).await;
    store.remove(&id).await.unwrap();
    shared.read_one(&"one".into()).await.unwrap();
    write_all(&inputs, &shared).await;
    assert!(store.heads().await.unwrap().contains_key(&id));
    register(&inputs, &[]);
    write_all(&inputs, &shared).await;
    shared.read_one(&"one".into()).await.unwrap();
    assert!(inputs.take_unshared().is_empty(), "what is gone is not written back");
}

/// Waits until nothing of the store is waited for, and gives what is known of the clusters then.
async fn started(inputs: &Inputs) -> BTreeMap<Name, crate::inputs::Known> {
    let mut changes = inputs.changes();
    let read = async {
        while inputs.for_translation().is_none_or(|picture| picture.store_unread) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    inputs.known()
}

#[tokio::test]
async fn an_input_that_cannot_be_read_holds_up_no_other_and_no_start() {
    let store = Arc::new(StoreWithFaults::over(MemoryStore::default()));
    let [one, two] = ["one", "two"].map(SnapshotId::input);
    store.put_document(WARM, None, &json!(["one", "two"])).await.unwrap();
    for id in [&one, &two] {
        store.put(id, &Stored::new(1, snapshot(1), Value::Null, "gone")).await.unwrap();
    }
    store.damage([one.clone()]);
    let a = Replica::start("a", &store);
    let known = started(&a.inputs).await;
    assert!(known["one"].unreadable.as_ref().is_some_and(|reason| reason.contains("in the store cannot be read")));
    assert!(known["two"].unreadable.is_none());
    let registered = a.inputs.registered();
    assert!(registered["one"].warm && !registered["one"].present, "it is waited for as if its agent were away");
    assert!(registered["two"].present);
    // So it is while it runs.
    store.damage([two.clone()]);
    a.holds("one", 1).await;
    assert!(a.inputs.known()["one"].unreadable.is_none());
    for (id, version) in [(&two, 2), (&one, 2)] {
        store.put(id, &Stored::new(version, snapshot(version), Value::Null, "b")).await.unwrap();
    }
    a.holds("one", 2).await;
    store.damage([]);
    a.holds("two", 2).await;
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_read_and_written_as_soon_as_it_takes_them() {
    let memory = MemoryStore::default();
    let store = Arc::new(StoreWithFaults::over(memory.clone()));
    memory.put(&SnapshotId::input("one"), &Stored::new(1, snapshot(1), Value::Null, "gone")).await.unwrap();
    store.take_no_writes(true);
    let a = Replica::start("a", &store);
    started(&a.inputs).await;
    a.holds("one", 1).await;
    memory.put_document(WARM, None, &json!(["two"])).await.unwrap();
    let mut changes = a.inputs.changes();
    while !a.inputs.registered()["two"].warm {
        changes.changed().await.unwrap();
    }
    store.take_no_writes(false);
    let mut cursor = Cursor::default();
    let written = async {
        while warm_in(&memory).await != ["one", "two"] {
            let changes = memory.changes(&cursor, Duration::from_secs(20)).await.unwrap();
            let (Changes::News { cursor: next, .. } | Changes::CatchUp { cursor: next }) = changes;
            cursor = next;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), written).await.unwrap();
}

/// The store was away while it was deregistered, so what it sent before is there still.
#[tokio::test]
async fn what_a_cluster_sent_before_it_was_registered_anew_counts_for_nothing() {
    let (store, inputs, shared) = shared();
    let (one, id) = (Name::from("one"), SnapshotId::input("one"));
    let registered = || BTreeMap::from([(one.clone(), Registration::default())]);
    inputs.set_management(Arc::default(), registered());
    inputs.set(&one, held(2, 2), time(1));
    inputs.set_management(Arc::default(), BTreeMap::new());
    inputs.set_management(Arc::default(), registered());
    for (version, stays) in [(1, false), (2, false), (3, true)] {
        store.put(&id, &Stored::new(version, snapshot(version), Value::Null, "gone")).await.unwrap();
        shared.read_one(&one).await.unwrap();
        assert_eq!(inputs.held(&one).map(|held| held.version()), Some(version).filter(|_| stays));
        shared.write_one(&one).await.unwrap();
        assert_eq!(store.heads().await.unwrap().contains_key(&id), stays, "version {version}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_registered_anew_keeps_what_another_replica_has_of_it() {
    let (store, inputs, shared) = shared();
    inputs.set_management(Arc::default(), BTreeMap::from([("one".into(), Registration::default())]));
    let id = SnapshotId::input("one");
    store.put(&id, &Stored::new(3, snapshot(3), Value::Null, "b")).await.unwrap();
    shared.write_one(&"one".into()).await.unwrap();
    assert!(store.heads().await.unwrap().contains_key(&id));
}
