//! What the replicas of a management plane tell each other through the store: the inputs of each other's agents.
//!
//! A replica writes what its own agents send, and takes over what is newer than what it holds. Versions are counted by
//! the agents, so "newer" means the same to every replica, whatever its clock says and however long the store was away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_relay::Held;
use meshrelay_snapshot::Name;
use meshrelay_store::{
    Changes, Cursor, DocumentWritten, Head, Role, SnapshotId, SnapshotStore, StoreError, Stored, Subject, Written,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Metrics;
use crate::inputs::Inputs;
use crate::shared_memory::SharedMemory;
use crate::warm::{self, WarmClusters};

/// How long the store is asked to wait for changes: a bound for calls that hang, not for how fast changes are seen.
const FEED_WAIT: Duration = Duration::from_secs(2);

/// After a failed call, when it is made again.
const RETRY: Duration = Duration::from_millis(500);

/// What is done with the store, for the log.
const WRITING: &str = "writing an input";
const FOLLOWING: &str = "following changes";

/// Document with the clusters that have sent a snapshot at some time, and when they sent the first.
const WARM: &str = "warm-clusters";

/// The part of a replica that reads and writes the store.
pub(crate) struct Sharing {
    store: Arc<dyn SnapshotStore>,
    inputs: Arc<Inputs>,
    memory: Arc<SharedMemory>,
    metrics: Metrics,
    /// Name of this replica.
    replica: String,
    /// What the store is known to hold, to write and read differences only.
    known: Mutex<BTreeMap<Name, Stored>>,
    /// What the store refuses though it is there, and why, as far as the log was told.
    failing: Mutex<BTreeMap<&'static str, String>>,
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
        Self {
            store,
            inputs,
            memory,
            metrics,
            replica: replica.into(),
            known: Mutex::default(),
            failing: Mutex::default(),
        }
    }

    /// Writes and follows until stopped. A store that is away stops neither agents nor translation: both go on with what
    /// is in memory, and what could not be written is written when it is back.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let both = async { tokio::join!(self.write(), self.write_memory(), self.follow(), self.watch_health()) };
        stop.run_until_cancelled(both).await;
    }

    /// Says once that the store is away, and once that it is back.
    async fn watch_health(&self) {
        let mut health = self.store.health();
        let mut was_connected = true;
        // Before the first attempt to connect has ended there is nothing to say.
        if !health.borrow_and_update().is_connected() && health.changed().await.is_err() {
            return std::future::pending().await;
        }
        loop {
            let now = health.borrow_and_update().clone();
            match (was_connected, now.is_connected()) {
                (true, false) => tracing::error!(
                    reach = ?now.reach,
                    "the snapshot store is away: translation goes on with what is in memory, other replicas do not see \
                     changes until it is back"
                ),
                (false, true) => tracing::info!("the snapshot store is back: writing what it lacks"),
                _ => {}
            }
            was_connected = now.is_connected();
            if health.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Writes what own agents send. What changes meanwhile coalesces.
    async fn write(&self) {
        let mut changes = self.inputs.unshared_changes();
        loop {
            changes.borrow_and_update();
            let mut failed = BTreeSet::new();
            for cluster in self.inputs.take_unshared() {
                match self.write_one(&cluster).await {
                    Ok(()) => self.works(WRITING),
                    // To try again would not help before the agent sends something else.
                    Err(error) if matches!(error, StoreError::Secret { .. }) => {
                        tracing::error!(%cluster, %error, "the input is not shared with other replicas");
                    }
                    Err(error) => {
                        self.failed(WRITING, &error);
                        failed.insert(cluster);
                    }
                }
            }
            if failed.is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
            } else {
                self.inputs.put_back_unshared(failed);
                tokio::time::sleep(RETRY).await;
            }
        }
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
                    self.failed("writing what translation remembers", &error);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn write_one(&self, cluster: &Name) -> Result<(), StoreError> {
        let Some(held) = self.inputs.held(cluster) else {
            // Deregistered: what is left of it in the store would come back with the next restart.
            self.known.lock().remove(cluster);
            self.store.remove(&SnapshotId::input(cluster.clone())).await?;
            return self.share_warm(Some(cluster)).await;
        };
        // Warm first: should this process die in between, others wait for the input rather than do without.
        self.share_warm(None).await?;
        let stored = Stored::new(held.version(), Arc::clone(held.visible()), Value::Null, &self.replica);
        let begun = Instant::now();
        let written = self.store.put(&SnapshotId::input(cluster.clone()), &stored).await?;
        self.metrics.store_write_time.observe(begun.elapsed().as_secs_f64());
        match written {
            Written::Stored | Written::Same => drop(self.known.lock().insert(cluster.clone(), stored)),
            Written::Newer(_) => self.read_one(cluster).await?,
        }
        Ok(())
    }

    /// Makes the store's list of warm clusters hold ours too, without one that is gone.
    async fn share_warm(&self, gone: Option<&Name>) -> Result<(), StoreError> {
        let mut shared = self.store.document(WARM).await?;
        loop {
            let theirs =
                shared.as_ref().map(|document| warm_in(&document.value, self.inputs.clock.now())).unwrap_or_default();
            let mut all = theirs.clone();
            all.retain(|name, _| Some(name) != gone);
            self.inputs.add_warm(all.clone());
            // Ours win: they hold all of theirs, with the earlier times.
            all.extend(self.inputs.warm().into_iter().filter(|(name, _)| Some(name) != gone));
            if all == theirs {
                return Ok(());
            }
            let revision = shared.as_ref().map_or(0, |document| document.revision);
            let value = all.iter().map(|(name, since)| (name.as_str(), Value::from(since.to_string()))).collect();
            match self.store.put_document(WARM, Some(revision), &value).await? {
                DocumentWritten::Stored(_) => return Ok(()),
                DocumentWritten::Conflict(now) => shared = now,
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
                        self.works(FOLLOWING);
                        cursor = next;
                    }
                    Err(error) => {
                        self.failed(FOLLOWING, &error);
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
            Subject::Snapshot(SnapshotId { role: Role::Input, cluster }) => self.read_one(cluster).await,
            Subject::Document(name) if name == WARM => self.share_warm(None).await,
            Subject::Document(name) => {
                if self.memory.read(&*self.store, name).await? {
                    self.inputs.look_again();
                }
                Ok(())
            }
            Subject::Snapshot(_) => Ok(()),
        }
    }

    /// Takes over all that is newer, and has all written that is not there, or is older: the store may be new.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let is_complete = self.inputs.knows_registered();
        self.share_warm(None).await?;
        let heads = self.store.heads().await?;
        let ours = self.inputs.all_held();
        let head = |cluster: &Name| heads.get(&SnapshotId::input(cluster.clone()));
        let lacking = ours.iter().filter(|(cluster, held)| head(cluster).is_none_or(|head| is_older(head, held)));
        self.inputs.put_back_unshared(lacking.map(|(cluster, _)| cluster.clone()).collect());
        for SnapshotId { cluster, .. } in heads.keys().filter(|id| id.role == Role::Input) {
            if self.inputs.is_registered(cluster) {
                self.read_one(cluster).await?;
            }
        }
        self.memory.read_all(&*self.store).await?;
        if is_complete {
            self.inputs.store_is_read();
        }
        Ok(())
    }

    async fn read_one(&self, cluster: &Name) -> Result<(), StoreError> {
        let base = self.known.lock().get(cluster).cloned();
        let Some(stored) = self.store.load(&SnapshotId::input(cluster.clone()), base.as_ref()).await? else {
            // Absent is not gone: what we hold of it stays, and is written back by whoever catches up.
            self.known.lock().remove(cluster);
            return Ok(());
        };
        if !self.inputs.warm().contains_key(cluster) {
            // So that it is warm since the same time everywhere.
            self.share_warm(None).await?;
        }
        self.inputs.adopt(cluster, Held::restored(Arc::clone(stored.snapshot()), stored.version()));
        self.known.lock().insert(cluster.clone(), stored);
        Ok(())
    }

    fn failed(&self, what: &'static str, error: &StoreError) {
        self.metrics.store_errors.inc();
        let reason = error.to_string();
        // Of a store that is away the watch of its health says so once.
        let is_told = !self.store.health().borrow().is_connected() || self.failing.lock().get(what) == Some(&reason);
        if is_told {
            tracing::debug!(what, %error, "the snapshot store did not answer");
            return;
        }
        tracing::error!(
            what,
            %error,
            "the snapshot store refuses: translation goes on with what is in memory, other replicas do not see changes \
             until it is mended"
        );
        self.failing.lock().insert(what, reason);
    }

    /// Takes note that something works that may have failed before.
    fn works(&self, what: &'static str) {
        if self.failing.lock().remove(what).is_some() {
            tracing::info!(what, "the snapshot store does it again");
        }
    }
}

fn warm_in(value: &Value, now: Timestamp) -> WarmClusters {
    warm::shared(value, now)
}

/// Whether what the store has is older than what we hold.
fn is_older(head: &Head, held: &Held) -> bool {
    (head.version, head.digest) < (held.version(), held.visible().digest())
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::{Object, Snapshot};
    use meshrelay_store::MemoryStore;
    use serde_json::json;

    use super::*;
    use crate::warm::Registration;

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
                store.document(WARM).await.unwrap().map(|warm| warm_in(&warm.value, time(0))).unwrap_or_default();
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
}
