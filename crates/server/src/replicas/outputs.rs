//! Outputs in the store: the replica that serves an agent writes what it gives it, and one that cannot translate yet gives
//! that to an agent that holds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::{Name, Snapshot, SnapshotMeta};
use meshrelay_store::{Epoch, SnapshotId, SnapshotStore, StoreError, Stored};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::versions::{Newest, put_newest};
use crate::ServerStatus;
use crate::hub::ServerHub;

/// After a failed call, when it is made again.
const RETRY: Duration = Duration::from_millis(500);

/// Why absence from an output that was read from the store is no order to delete.
const DOUBT: &str = "translation is halted; this is the last output, from the store";

/// Between the streams of agents and the store: what is to be written, and what was read.
#[derive(Debug, Default)]
pub(crate) struct StoredOutputs {
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Clusters whose agents hold nothing.
    empty: BTreeSet<Name>,
    /// Clusters that are no longer registered.
    gone: BTreeSet<Name>,
    /// What was read, for agents that hold nothing.
    last: BTreeMap<Name, watch::Sender<Option<Arc<Snapshot>>>>,
}

impl StoredOutputs {
    /// There is a new output, or somebody to get one.
    pub(crate) fn changed(&self) {
        self.news.send_replace(());
    }

    /// The agent of a cluster holds nothing.
    pub(crate) fn holds_nothing(&self, cluster: &Name) {
        self.state.lock().empty.insert(cluster.clone());
        self.changed();
    }

    /// A cluster is no longer registered.
    pub(crate) fn forget(&self, cluster: &Name) {
        let mut state = self.state.lock();
        state.empty.remove(cluster);
        state.last.remove(cluster);
        state.gone.insert(cluster.clone());
        drop(state);
        self.changed();
    }

    /// What an agent that holds nothing is given while there is no output.
    pub(crate) fn last(&self, cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.state.lock().last.entry(cluster.clone()).or_default().subscribe()
    }

    fn take_gone(&self) -> BTreeSet<Name> {
        std::mem::take(&mut self.state.lock().gone)
    }

    fn put_back_gone(&self, cluster: Name) {
        self.state.lock().gone.insert(cluster);
    }

    fn empty(&self) -> BTreeSet<Name> {
        self.state.lock().empty.clone()
    }

    fn read(&self, cluster: &Name, found: Option<Snapshot>) {
        let mut state = self.state.lock();
        // One that was deregistered meanwhile gets nothing.
        if state.empty.remove(cluster)
            && let Some(found) = found
        {
            state.last.entry(cluster.clone()).or_default().send_replace(Some(Arc::new(found)));
        }
    }

    /// Nobody needs what was read once there are outputs.
    fn release(&self) {
        let mut state = self.state.lock();
        state.empty.clear();
        for last in state.last.values() {
            last.send_if_modified(|last| last.take().is_some());
        }
    }
}

/// What of the store's this replica knows.
struct Known {
    version: u64,
    /// What was written.
    output: Arc<Snapshot>,
}

/// Writes outputs and reads them.
pub(crate) struct Outputs {
    store: Arc<dyn SnapshotStore>,
    replica: String,
    hub: Arc<ServerHub>,
    shared: Arc<StoredOutputs>,
    known: BTreeMap<Name, Known>,
    /// The store that `known` is about.
    epoch: Option<Epoch>,
}

impl Outputs {
    pub(crate) fn new(
        store: Arc<dyn SnapshotStore>,
        replica: &str,
        hub: Arc<ServerHub>,
        shared: Arc<StoredOutputs>,
    ) -> Self {
        Self { store, replica: replica.to_owned(), hub, shared, known: BTreeMap::new(), epoch: None }
    }

    /// Runs until stopped. What changes while something is written coalesces.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut news, mut health) = (self.shared.news.subscribe(), self.store.health());
        let mut status = self.hub.status.subscribe();
        let steps = async {
            loop {
                news.borrow_and_update();
                let epoch = health.borrow_and_update().epoch.clone();
                if self.epoch != epoch {
                    // Another store, or one that may lack the last writes.
                    self.known.clear();
                    self.epoch = epoch;
                }
                let was_halted = is_halted(&status.borrow());
                let is_done = self.step().await.inspect_err(|error| self.failed(error)).unwrap_or(false);
                let again = Instant::now() + RETRY;
                tokio::select! {
                    biased;
                    Ok(()) = news.changed() => {}
                    Ok(()) = health.changed() => {}
                    Ok(_) = status.wait_for(|status| is_halted(status) != was_halted) => {}
                    () = tokio::time::sleep_until(again), if !is_done => {}
                }
            }
        };
        stop.run_until_cancelled(steps).await;
    }

    fn failed(&self, error: &StoreError) {
        self.hub.metrics.store_errors.inc();
        tracing::debug!(%error, "an output could not be written or read");
    }

    /// Tells whether all is written.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let mut result = Ok(true);
        for cluster in self.shared.take_gone() {
            self.known.remove(&cluster);
            if let Err(error) = self.store.remove(&SnapshotId::output(cluster.clone())).await {
                self.shared.put_back_gone(cluster);
                result = Err(error);
            }
        }
        let (halted, serving) = {
            let status = self.hub.status.borrow();
            let serving = status.clusters.iter().filter(|(_, cluster)| cluster.pulling);
            (is_halted(&status), serving.map(|(name, _)| name.clone()).collect::<Vec<_>>())
        };
        for cluster in serving {
            let Some(output) = self.hub.published(&cluster) else { continue };
            match self.write(&cluster, Arc::clone(&output)).await {
                // To try again would not help before there is another output.
                Err(error @ StoreError::Secret { .. }) => {
                    tracing::error!(%cluster, %error, "the output is not in the store");
                    let version = self.known.get(&cluster).map_or(0, |known| known.version);
                    self.known.insert(cluster, Known { version, output });
                }
                written => result = result.and_then(|all| Ok(written? && all)),
            }
        }
        if !halted {
            // Translation that waits for the store alone has nothing to give either.
            if self.hub.has_published() {
                self.shared.release();
            }
            return result;
        }
        for cluster in self.shared.empty() {
            let stored = self.store.load(&SnapshotId::output(cluster.clone()), None).await?;
            let found = stored.map(|stored| {
                let mut output = Snapshot::clone(stored.snapshot());
                output.set_meta(SnapshotMeta { doubt: Some(DOUBT.to_owned()), ..output.meta().clone() });
                tracing::info!(
                    %cluster, objects = output.len(), version = stored.version(),
                    "translation is halted: the agent, which holds nothing, gets the last output from the store"
                );
                output
            });
            self.shared.read(&cluster, found);
        }
        result
    }

    /// Tells whether it is written.
    async fn write(&mut self, cluster: &Name, output: Arc<Snapshot>) -> Result<bool, StoreError> {
        let known = self.known.get(cluster);
        if known.is_some_and(|known| Arc::ptr_eq(&known.output, &output)) {
            return Ok(true);
        }
        let (id, version) = (SnapshotId::output(cluster.clone()), known.map_or(0, |known| known.version));
        let stored = |version| Some(Stored::new(version, Arc::clone(&output), Value::Null, &self.replica));
        let begun = Instant::now();
        let now = self.hub.inputs.clock.now();
        let Newest::Version(version) = put_newest(&*self.store, &id, version, now, stored).await? else {
            return Ok(false);
        };
        self.hub.metrics.store_write_time.observe(begun.elapsed().as_secs_f64());
        self.known.insert(cluster.clone(), Known { version, output });
        Ok(true)
    }
}

/// Translation waits for inputs, so that there may be no output for long.
fn is_halted(status: &ServerStatus) -> bool {
    !status.waiting_for.is_empty()
}

#[cfg(test)]
mod tests {
    use meshrelay_relay::Direction;
    use meshrelay_relay::grpc::{Hub as _, Notice, Peer};
    use meshrelay_relay::wire::Hello;
    use meshrelay_snapshot::Object;
    use meshrelay_store::MemoryStore;
    use serde_json::json;

    use super::*;
    use crate::doubts::Doubts;
    use crate::replicas::testing::{StoreWithFaults, hub};
    use crate::warm::Registration;

    fn output(content: u64) -> Arc<Snapshot> {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"},
            "data": {"content": content.to_string()},
        });
        Arc::new([Arc::new(Object::from_value(&object).unwrap())].into_iter().collect())
    }

    struct Replica {
        hub: Arc<ServerHub>,
        _stop: tokio_util::sync::DropGuard,
        _folder: tempfile::TempDir,
    }

    fn start(name: &str, store: Arc<dyn SnapshotStore>) -> Replica {
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let hub = hub(folder.path());
        let stored = hub.stored_outputs.clone().unwrap();
        tokio::spawn(Outputs::new(store, name, Arc::clone(&hub), stored).run(stop.clone()));
        Replica { hub, _stop: stop.drop_guard(), _folder: folder }
    }

    impl Replica {
        fn publish(&self, content: u64) {
            let outputs = ["one", "two"].map(|cluster| (Name::from(cluster), output(content)));
            self.hub.publish(&outputs.into(), &Doubts::default(), &BTreeMap::new());
        }

        fn pulls(&self, cluster: &str) {
            let peer = Peer { certificate: None, source: None };
            let notice = Notice::Connected { hello: Hello::default(), peer };
            self.hub.on_notice(&cluster.into(), Direction::Pull, notice);
        }
    }

    /// Waits until the output of cluster one in the store is this one.
    async fn wait(store: &MemoryStore, wanted: Option<&Snapshot>) -> Option<Stored> {
        let id = SnapshotId::output("one");
        let mut cursor = meshrelay_store::Cursor::default();
        let found = async {
            loop {
                use meshrelay_store::Changes::{CatchUp, News};
                let (News { cursor: next, .. } | CatchUp { cursor: next }) =
                    store.changes(&cursor, Duration::from_secs(60)).await.unwrap();
                cursor = next;
                let stored = store.load(&id, None).await.unwrap();
                if stored.as_ref().map(|stored| &**stored.snapshot()) == wanted {
                    return stored;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.unwrap()
    }

    #[tokio::test]
    async fn the_replica_that_serves_an_agent_writes_its_output_above_what_is_there() {
        let store = MemoryStore::default();
        let (a, b) = (start("a", Arc::new(store.clone())), start("b", Arc::new(store.clone())));
        // By a clock that was ahead.
        let ahead = Stored::new(1 << 61, output(0), Value::Null, "gone");
        store.put(&SnapshotId::output("one"), &ahead).await.unwrap();
        a.publish(1);
        b.publish(2);
        a.pulls("one");
        let first = wait(&store, Some(&*output(1))).await.unwrap();
        assert_eq!((first.writer(), first.version() > 1 << 61), ("a", true));
        b.pulls("one");
        let second = wait(&store, Some(&*output(2))).await.unwrap();
        assert_eq!((second.writer(), second.version() > first.version()), ("b", true));
        assert!(store.load(&SnapshotId::output("two"), None).await.unwrap().is_none(), "nobody serves it");
        b.publish(3);
        assert!(wait(&store, Some(&*output(3))).await.unwrap().version() > second.version());
        let registered = BTreeMap::from([("two".into(), Registration::default())]);
        for cluster in b.hub.inputs.set_management(Arc::default(), registered) {
            b.hub.forget(&cluster);
        }
        wait(&store, None).await;
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_when_the_store_is_back() {
        let store = MemoryStore::default();
        let faulty = Arc::new(StoreWithFaults::over(store.clone()));
        faulty.away(true);
        let a = start("a", Arc::<StoreWithFaults>::clone(&faulty));
        a.pulls("one");
        a.publish(1);
        a.publish(2);
        assert_eq!(a.hub.published(&"one".into()), Some(output(2)), "nobody waits for the store");
        faulty.away(false);
        wait(&store, Some(&*output(2))).await;
    }

    #[tokio::test]
    async fn an_output_that_others_overtake_again_and_again_is_written_at_last() {
        let store = MemoryStore::default();
        let faulty = Arc::new(StoreWithFaults::over(store.clone()));
        faulty.overtake(7);
        let a = start("a", Arc::<StoreWithFaults>::clone(&faulty));
        a.pulls("one");
        a.publish(1);
        wait(&store, Some(&*output(1))).await;
    }

    #[tokio::test]
    async fn an_agent_that_holds_nothing_is_remembered_while_the_store_alone_is_waited_for() {
        let store = MemoryStore::default();
        store.put(&SnapshotId::output("one"), &Stored::new(7, output(1), Value::Null, "gone")).await.unwrap();
        let a = start("a", Arc::new(store.clone()));
        let mut last = a.hub.last_output(&"one".into());
        a.hub.status.send_modify(|status| status.waiting_for_store = true);
        a.hub.on_notice(&"one".into(), Direction::Pull, Notice::HoldsNothing);
        // Something that the task does after it has heard of the agent.
        let two = SnapshotId::output("two");
        store.put(&two, &Stored::new(1, output(1), Value::Null, "gone")).await.unwrap();
        a.hub.stored_outputs.as_ref().unwrap().forget(&"two".into());
        let removed = async {
            while store.heads().await.unwrap().contains_key(&two) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), removed).await.unwrap();
        a.hub.status.send_modify(|status| status.waiting_for = vec!["two".into()]);
        let found = tokio::time::timeout(Duration::from_secs(60), last.wait_for(Option::is_some)).await;
        assert!(found.unwrap().unwrap().is_some());
    }

    #[tokio::test]
    async fn while_translation_is_halted_an_agent_that_holds_nothing_gets_the_last_output_with_a_doubt() {
        let store = MemoryStore::default();
        store.put(&SnapshotId::output("one"), &Stored::new(7, output(1), Value::Null, "gone")).await.unwrap();
        let a = start("a", Arc::new(store.clone()));
        let mut last = a.hub.last_output(&"one".into());
        a.hub.on_notice(&"one".into(), Direction::Pull, Notice::HoldsNothing);
        a.hub.status.send_modify(|status| status.waiting_for = vec!["two".into()]);
        let found = tokio::time::timeout(Duration::from_secs(60), last.wait_for(Option::is_some)).await;
        let found = found.unwrap().unwrap().clone().unwrap();
        assert_eq!(found.meta().any_doubt(), Some(DOUBT));
        assert!(found.iter().eq(output(1).iter()));
        a.publish(2);
        a.hub.status.send_modify(|status| status.waiting_for.clear());
        let gone = tokio::time::timeout(Duration::from_secs(60), last.wait_for(Option::is_none)).await;
        assert!(gone.unwrap().unwrap().is_none(), "there are outputs now");
    }
}
