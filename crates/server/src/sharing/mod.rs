//! What the replicas of a management plane tell each other through the store: the inputs of each other's agents, and
//! what translation remembers.
//!
//! A replica writes what its own agents send, and takes over what is newer than what it holds. Versions are counted by
//! the agents, so "newer" means the same to every replica, whatever its clock says and however long the store was away.

mod health;
mod inputs;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use meshrelay_store::{Changes, Cursor, Role, SnapshotId, SnapshotStore, StoreError, Subject};
use tokio_util::sync::CancellationToken;

use self::health::StoreHealth;
use self::inputs::{SharedInputs, WARM};
use crate::Metrics;
use crate::inputs::Inputs;

pub(crate) use self::memory::{RightTree, Shareable, SharedMemory};

/// How long the store is asked to wait for changes: a bound for calls that hang, not for how fast changes are seen.
const FEED_WAIT: Duration = Duration::from_secs(2);

/// After a failed call, when it is made again.
const RETRY: Duration = Duration::from_millis(500);

/// What is done with the store, for the log.
const FOLLOWING: &str = "following changes";

/// The part of a replica that reads and writes the store.
pub(crate) struct Sharing {
    store: Arc<dyn SnapshotStore>,
    inputs: Arc<Inputs>,
    shared_inputs: SharedInputs,
    memory: Arc<SharedMemory>,
    health: StoreHealth,
}

impl Sharing {
    pub(crate) fn new(
        store: Arc<dyn SnapshotStore>,
        inputs: Arc<Inputs>,
        memory: Arc<SharedMemory>,
        metrics: Metrics,
        replica: impl Into<String>,
    ) -> Self {
        inputs.expect_store();
        let health = StoreHealth::new(Arc::clone(&store), metrics.clone());
        let shared_inputs = SharedInputs::new(Arc::clone(&store), Arc::clone(&inputs), metrics, replica.into());
        Self { store, inputs, shared_inputs, memory, health }
    }

    /// Writes and follows until stopped. A store that is away stops neither agents nor translation: both go on with what
    /// is in memory, and what could not be written is written when it is back.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (inputs, health) = (self.shared_inputs.write(&self.health), self.health.watch());
        let all = async { tokio::join!(inputs, self.write_memory(), self.follow(), health) };
        stop.run_until_cancelled(all).await;
    }

    /// Writes what translation remembers.
    async fn write_memory(&self) {
        let mut unwritten = self.memory.unwritten();
        loop {
            unwritten.borrow_and_update();
            match self.memory.write(&*self.store).await {
                Ok(is_news) => {
                    if is_news {
                        self.inputs.look_again();
                    }
                    if unwritten.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.health.failed("writing what translation remembers", &error);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes over what others write.
    async fn follow(&self) {
        let mut cursor = Cursor::default();
        let mut registered = self.inputs.registrations();
        loop {
            // Marked as seen only where it is acted on: it may come while something else is done.
            if registered.has_changed().unwrap_or_default() {
                registered.borrow_and_update();
                cursor = Cursor::default();
            }
            let step = async {
                match self.store.changes(&cursor, FEED_WAIT).await? {
                    Changes::News { changed, cursor } => {
                        for subject in changed.into_keys() {
                            self.take(&subject).await?;
                        }
                        Ok::<_, StoreError>(cursor)
                    }
                    Changes::CatchUp { cursor } => {
                        self.catch_up().await?;
                        Ok(cursor)
                    }
                }
            };
            tokio::select! {
                biased;
                done = step => match done {
                    Ok(next) => {
                        self.health.works(FOLLOWING);
                        cursor = next;
                    }
                    Err(error) => {
                        self.health.failed(FOLLOWING, &error);
                        tokio::time::sleep(RETRY).await;
                    }
                },
                // What others had written of a cluster before it was registered here has been passed over.
                changed = registered.changed() => match changed {
                    Ok(()) => cursor = Cursor::default(),
                    Err(_) => return,
                },
            }
        }
    }

    async fn take(&self, subject: &Subject) -> Result<(), StoreError> {
        match subject {
            Subject::Snapshot(SnapshotId { role: Role::Input, cluster }) => self.shared_inputs.read_one(cluster).await,
            Subject::Document(name) if name == WARM => self.shared_inputs.share_warm(None).await,
            Subject::Document(name) => {
                if self.memory.read(&*self.store, name).await? {
                    self.inputs.look_again();
                }
                Ok(())
            }
            Subject::Snapshot(_) => Ok(()),
        }
    }

    /// Reads everything, and has all written that is not there: the store may be new.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let is_complete = self.inputs.knows_registered();
        self.shared_inputs.catch_up().await?;
        self.memory.read_all(&*self.store).await?;
        if is_complete {
            self.inputs.store_is_read();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use meshrelay_relay::Held;
    use meshrelay_snapshot::{Name, Object, Snapshot};
    use meshrelay_store::{MemoryStore, Stored};
    use serde_json::{Value, json};

    use super::*;
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
        fn start(name: &str, store: &Arc<MemoryStore>) -> Self {
            let inputs = Arc::new(Inputs::new("mgmt".into(), WarmClusters::new()));
            let clusters = ["one", "two"].map(|cluster| (Name::from(cluster), Registration::default()));
            inputs.set_management(Arc::default(), clusters.into_iter().collect());
            let stop = CancellationToken::new();
            let store: Arc<dyn SnapshotStore> = Arc::<MemoryStore>::clone(store);
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
        sharing.catch_up().await.unwrap();
        assert!(!is_read());
        inputs.set_management(Arc::default(), BTreeMap::from([("one".into(), Registration::default())]));
        assert!(!is_read(), "no cluster is warm yet, as far as is known here");
        sharing.catch_up().await.unwrap();
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
        let inputs = Arc::new(Inputs::new("mgmt".into(), WarmClusters::new()));
        let shared =
            SharedInputs::new(Arc::new(store.clone()), Arc::clone(&inputs), Metrics::default(), "a".to_owned());
        (store, inputs, shared)
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
}
