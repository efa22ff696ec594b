//! What the store holds of clusters that were deregistered while no server ran: whoever runs then removes it at once, and
//! otherwise it would stay for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::Name;
use meshrelay_store::{DocumentWritten, Role, SnapshotStore, StoreError};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leader::Leadership;
use super::live::ReplicaState;
use crate::hub::ServerHub;
use crate::sharing::WARM;
use crate::warm;

/// After a failed call, when it is made again.
const RETRY: Duration = Duration::from_millis(500);

/// Removes inputs and outputs once each time that this replica leads, as soon as it knows all registered clusters. Reports go
/// with the first ones that a leader writes.
pub(crate) struct Leftovers {
    store: Arc<dyn SnapshotStore>,
    hub: Arc<ServerHub>,
    leader: Leadership,
}

impl Leftovers {
    pub(crate) fn new(store: Arc<dyn SnapshotStore>, hub: Arc<ServerHub>, leader: Leadership) -> Self {
        Self { store, hub, leader }
    }

    /// Runs until stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut leader, mut changes) = (self.leader.clone(), self.hub.inputs.changes());
        let mut done = None;
        let steps = async {
            loop {
                let token = *leader.borrow_and_update();
                changes.borrow_and_update();
                let mut failed = false;
                if let Some(token) = token.filter(|token| done != Some(*token)) {
                    match self.remove(token).await {
                        Ok(true) => done = Some(token),
                        Ok(false) => {}
                        Err(error) => {
                            self.hub.metrics.store_errors.inc();
                            tracing::debug!(%error, "what is left of clusters that are gone could not be removed");
                            failed = true;
                        }
                    }
                }
                let (is_pending, again) = (token.is_some() && done != token, Instant::now() + RETRY);
                tokio::select! {
                    biased;
                    changed = leader.changed() => if changed.is_err() { return },
                    Ok(()) = changes.changed(), if is_pending && !failed => {}
                    () = tokio::time::sleep_until(again), if failed => {}
                }
            }
        };
        stop.run_until_cancelled(steps).await;
    }

    /// Tells whether nothing is left; `false` when it is not known which clusters are gone.
    async fn remove(&self, token: u64) -> Result<bool, StoreError> {
        if !self.hub.inputs.knows_all_registered() {
            return Ok(false);
        }
        // A replica that serves a cluster has seen its registration, though this one has not yet.
        let Some(served) = served(self.store.live().await?.into_values()) else { return Ok(false) };
        for id in self.store.heads().await?.into_keys().filter(|id| id.role != Role::Reports) {
            if *self.leader.borrow() != Some(token) {
                return Ok(false);
            }
            if self.hub.inputs.is_known_gone(&id.cluster) && !served.contains(&id.cluster) {
                tracing::info!(snapshot = %id, "removed what the store had of a cluster that is not registered");
                self.store.remove(&id).await?;
            }
        }
        self.remove_warm(token, &served).await?;
        Ok(self.hub.inputs.knows_all_registered())
    }

    /// The same for the list of clusters that are warm: a new cluster of that name has never been connected.
    async fn remove_warm(&self, token: u64, served: &BTreeSet<Name>) -> Result<(), StoreError> {
        while let Some(document) = self.store.document(WARM).await? {
            let now = self.hub.inputs.clock.now();
            let before = warm::shared(&document.value, now);
            let mut left = before.clone();
            left.retain(|cluster, _| !self.hub.inputs.is_known_gone(cluster) || served.contains(cluster));
            if left == before || *self.leader.borrow() != Some(token) {
                break;
            }
            let value = warm::to_share(&left);
            if let DocumentWritten::Stored(_) = self.store.put_document(WARM, Some(document.revision), &value).await? {
                break;
            }
        }
        Ok(())
    }
}

/// The clusters that replicas serve or wait for; `None` if one of them says it in a way that is not known.
fn served(live: impl Iterator<Item = Value>) -> Option<BTreeSet<Name>> {
    let mut all = BTreeSet::new();
    for value in live {
        let state: ReplicaState = serde_json::from_value(value).ok()?;
        all.extend(state.clusters.into_keys().chain(state.waiting_for));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshrelay_snapshot::{Completeness, Snapshot, SnapshotMeta};
    use meshrelay_store::{MemoryStore, SnapshotId, Stored};
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::management::kubernetes_cluster;
    use crate::replicas::testing::{StoreWithFaults, hub};
    use crate::warm::Registration;

    /// The management cluster, of whose KubernetesClusters so much is known.
    fn view(completeness: Option<Completeness>, doubt: bool) -> Arc<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.set_meta(SnapshotMeta {
            completeness: completeness.map(|state| (kubernetes_cluster(), state)).into_iter().collect(),
            doubt: doubt.then(|| "a file cannot be read".to_owned()),
            ..SnapshotMeta::default()
        });
        Arc::new(snapshot)
    }

    fn registered(names: &BTreeSet<Name>) -> BTreeMap<Name, Registration> {
        names.iter().map(|name| (name.clone(), Registration::default())).collect()
    }

    async fn fill(store: &MemoryStore, ids: impl IntoIterator<Item = SnapshotId>) {
        for id in ids {
            store.put(&id, &Stored::new(1, Arc::default(), Value::Null, "gone")).await.unwrap();
        }
    }

    async fn left(store: &MemoryStore) -> BTreeSet<SnapshotId> {
        store.heads().await.unwrap().into_keys().collect()
    }

    async fn warm_in(store: &MemoryStore) -> BTreeSet<Name> {
        let document = store.document(WARM).await.unwrap().unwrap();
        warm::shared(&document.value, jiff::Timestamp::UNIX_EPOCH).into_keys().collect()
    }

    fn both(cluster: &str) -> [SnapshotId; 2] {
        [SnapshotId::input(cluster), SnapshotId::output(cluster)]
    }

    fn completeness() -> impl Strategy<Value = Option<Completeness>> {
        prop_oneof![
            3 => Just(Some(Completeness::Synced)),
            1 => Just(None),
            1 => Just(Some(Completeness::Listing)),
            1 => Just(Some(Completeness::Stale("old".to_owned()))),
            1 => Just(Some(Completeness::Incomplete("broken".to_owned()))),
        ]
    }

    fn names() -> impl Strategy<Value = BTreeSet<Name>> {
        prop::collection::btree_set(
            prop::sample::select(vec!["one", "two", "three", "four"]).prop_map(Name::from),
            0..4,
        )
    }

    proptest! {
        #[test]
        fn nothing_is_removed_but_what_is_known_to_be_gone(
            (completeness, doubt, leads) in (completeness(), prop::bool::weighted(0.2), prop::bool::weighted(0.8)),
            (stored, registered_names, served_names) in (names(), names(), names()),
        ) {
            let is_known = completeness == Some(Completeness::Synced) && !doubt;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (before, after, done) = runtime.block_on(async {
                let (folder, store) = (tempfile::tempdir().unwrap(), MemoryStore::default());
                let hub = hub(folder.path());
                hub.inputs.set_management(view(completeness, doubt), registered(&registered_names));
                fill(&store, stored.iter().flat_map(|cluster| both(cluster))).await;
                let clusters = served_names.iter().map(|name| (name.clone(), Default::default())).collect();
                let live = serde_json::to_value(ReplicaState { clusters, ..ReplicaState::default() }).unwrap();
                store.set_live("other", &live, Duration::from_secs(60)).await.unwrap();
                let leader = watch::Sender::new(leads.then_some(1)).subscribe();
                let leftovers = Leftovers::new(Arc::new(store.clone()), hub, leader);
                let before = left(&store).await;
                let done = leftovers.remove(1).await.unwrap();
                (before, left(&store).await, done)
            });
            let stays = |id: &&SnapshotId| {
                !is_known || !leads || registered_names.contains(&id.cluster) || served_names.contains(&id.cluster)
            };
            prop_assert_eq!(&after, &before.iter().filter(stays).cloned().collect());
            prop_assert!(!done || is_known);
        }
    }

    #[tokio::test]
    async fn a_leader_that_starts_removes_what_is_left_of_clusters_that_went_while_no_server_ran() {
        let store = MemoryStore::default();
        fill(&store, ["one", "gone"].iter().flat_map(|cluster| both(cluster))).await;
        store.put_document(WARM, None, &json!(["one", "gone"])).await.unwrap();
        let faulty = Arc::new(StoreWithFaults::over(store.clone()));
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let (hub, leads) = (hub(folder.path()), watch::Sender::new(None));
        let leftovers = Leftovers::new(Arc::<StoreWithFaults>::clone(&faulty), Arc::clone(&hub), leads.subscribe());
        let running = tokio::spawn(leftovers.run(stop.clone()));
        let one = registered(&["one".into()].into());
        hub.inputs.set_management(view(Some(Completeness::Incomplete("broken".to_owned())), false), one.clone());
        faulty.away(true);
        leads.send_replace(Some(1));
        hub.inputs.set_management(view(Some(Completeness::Synced), false), one);
        while hub.metrics.store_errors.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(left(&store).await.len(), 4);
        faulty.away(false);
        let mut cursor = meshrelay_store::Cursor::default();
        let removed = async {
            while left(&store).await != both("one").into() || warm_in(&store).await != ["one".into()].into() {
                use meshrelay_store::Changes::{CatchUp, News};
                let (News { cursor: next, .. } | CatchUp { cursor: next }) =
                    store.changes(&cursor, Duration::from_secs(60)).await.unwrap();
                cursor = next;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), removed).await.unwrap();
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn a_replica_that_cannot_be_understood_may_serve_any_cluster() {
        let known = json!({"clusters": {"one": {"push": true}}, "waitingFor": ["two"]});
        assert_eq!(served([known.clone()].into_iter()), Some(["one".into(), "two".into()].into()));
        assert_eq!(served([known, json!({"clusters": 7})].into_iter()), None);
    }
}
