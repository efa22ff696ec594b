//! How the replicas of a management plane are: each tells the store every few seconds, and shows what the others told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_process::VERSION;
use meshrelay_snapshot::Name;
use meshrelay_store::{Health, Reach, SnapshotStore};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rebalancing::Rebalancing;
use crate::ServerStatus;
use crate::hub::ServerHub;

/// How often a replica says how it is. What others show of it, and what they decide by it, is at most that old.
pub(crate) const PERIOD: Duration = Duration::from_secs(3);

/// How long that holds: a replica that said nothing three times is gone.
const TTL: Duration = Duration::from_secs(9);

/// Least time between two: agents come and go in crowds.
const PAUSE: Duration = Duration::from_millis(300);

/// What a replica says of itself. What a newer version says more is passed over, what an older one leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaState {
    /// Its version.
    pub version: String,
    /// Since when it runs, by its clock.
    pub started_at: Timestamp,
    /// When it said this, by its clock.
    pub said_at: Timestamp,
    /// True if it leads: it writes the reports.
    pub leader: bool,
    /// The clusters whose agents are connected to it.
    pub clusters: BTreeMap<Name, ReplicaStreams>,
    /// The clusters that its translation waits for.
    pub waiting_for: Vec<Name>,
    /// True if it waits for its first look into the store.
    pub waiting_for_store: bool,
    /// Since when it waits.
    pub waiting_since: Option<Timestamp>,
    /// When it goes on all the same.
    pub waiting_until: Option<Timestamp>,
    /// Number of its translations.
    pub translations: u64,
    /// When the last one ended.
    pub translated_at: Option<Timestamp>,
    /// How long that took.
    pub translation_time: Duration,
    /// When the store answered it last.
    pub store_seen_at: Option<Timestamp>,
}

/// The streams of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaStreams {
    /// It sends inputs.
    pub push: bool,
    /// It receives outputs.
    pub pull: bool,
}

/// A replica as another one shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// What it said of itself.
    #[serde(flatten)]
    pub state: ReplicaState,
    /// True if it is the one that shows this.
    pub this: bool,
    /// Since when nothing newer could be read of it; `None` while the store answers.
    pub stale_since: Option<Timestamp>,
}

/// Whether the snapshot store answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// It does.
    pub connected: bool,
    /// Since when it does, or does not.
    pub since: Timestamp,
    /// Why it does not; empty while it does.
    pub error: String,
}

/// The part of a replica that says how it is and reads how the others are.
pub(crate) struct Live {
    store: Arc<dyn SnapshotStore>,
    replica: String,
    hub: Arc<ServerHub>,
    rebalancing: Arc<Rebalancing>,
    started_at: Timestamp,
    /// When the store answered last.
    seen_at: Option<Timestamp>,
}

impl Live {
    pub(crate) fn new(
        store: Arc<dyn SnapshotStore>,
        replica: &str,
        hub: Arc<ServerHub>,
        rebalancing: Arc<Rebalancing>,
    ) -> Self {
        let started_at = hub.inputs.clock.now();
        Self { store, replica: replica.to_owned(), hub, rebalancing, started_at, seen_at: None }
    }

    /// Runs until stopped, and takes back then what it said.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut health = self.store.health();
        let mut status = self.hub.status.subscribe();
        stop.run_until_cancelled(async {
            loop {
                let begun = Instant::now();
                health.mark_unchanged();
                let told = connected(&status.borrow());
                self.exchange(&health).await;
                let news = async {
                    tokio::time::sleep_until(begun + PAUSE).await;
                    status.wait_for(|status| connected(status) != told).await.is_ok()
                };
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(begun + PERIOD) => {}
                    true = news => {}
                    Ok(()) = health.changed() => {}
                }
            }
        })
        .await;
        if let Err(error) = self.store.set_live(&self.replica, &Value::Null, Duration::ZERO).await {
            tracing::debug!(%error, "what this replica said of itself could not be taken back; it ends by itself");
        }
    }

    async fn exchange(&mut self, health: &watch::Receiver<Health>) {
        let own = self.state();
        let asked = async {
            let value = serde_json::to_value(&own).unwrap_or_default();
            self.store.set_live(&self.replica, &value, TTL).await?;
            self.store.live().await
        };
        match asked.await {
            Ok(all) => {
                let now = self.hub.inputs.clock.now();
                self.seen_at = Some(now);
                let others = all.into_iter().filter(|(name, _)| *name != self.replica);
                // One that cannot be read is there all the same.
                let others: BTreeMap<String, ReplicaState> =
                    others.map(|(name, value)| (name, serde_json::from_value(value).unwrap_or_default())).collect();
                self.rebalancing.heard(&others);
                let other = |state| ReplicaStatus { state, this: false, stale_since: None };
                let mut replicas: BTreeMap<_, _> =
                    others.into_iter().map(|(name, state)| (name, other(state))).collect();
                replicas.insert(self.replica.clone(), ReplicaStatus { state: own, this: true, stale_since: None });
                self.hub.metrics.replicas.set(i64::try_from(replicas.len()).unwrap_or(i64::MAX));
                self.hub.status.send_modify(|status| {
                    status.replicas = replicas;
                    status.store = Some(store_status(status.store.take(), None, now));
                });
            }
            Err(error) => {
                self.hub.metrics.store_errors.inc();
                self.rebalancing.lost();
                let (since, error) = match &health.borrow().reach {
                    Reach::Away { since, error } => (*since, error.to_string()),
                    // This call failed, whatever others do.
                    Reach::Connected => (self.hub.inputs.clock.now(), error.to_string()),
                };
                let seen_at = self.seen_at;
                self.hub.status.send_modify(|status| {
                    status.store = Some(store_status(status.store.take(), Some(error), since));
                    for (_, replica) in status.replicas.iter_mut().filter(|(name, _)| **name != self.replica) {
                        replica.stale_since = seen_at;
                    }
                    let this = ReplicaStatus { state: own, this: true, stale_since: None };
                    status.replicas.insert(self.replica.clone(), this);
                });
            }
        }
    }

    /// How this replica is now.
    fn state(&self) -> ReplicaState {
        let status = self.hub.status.borrow();
        ReplicaState {
            version: VERSION.to_owned(),
            started_at: self.started_at,
            said_at: self.hub.inputs.clock.now(),
            leader: status.leader,
            clusters: connected(&status),
            waiting_for: status.waiting_for.clone(),
            waiting_for_store: status.waiting_for_store,
            waiting_since: status.waiting_since,
            waiting_until: status.waiting_until,
            translations: status.translations,
            translated_at: status.translated_at,
            translation_time: status.translation_time,
            store_seen_at: self.seen_at,
        }
    }
}

/// The clusters whose agents are connected to this replica.
pub(crate) fn connected(status: &ServerStatus) -> BTreeMap<Name, ReplicaStreams> {
    let streams = status.clusters.iter().map(|(name, cluster)| {
        let streams = ReplicaStreams { push: cluster.pushing, pull: cluster.pulling };
        (name.clone(), streams)
    });
    streams.filter(|(_, streams)| streams.push || streams.pull).collect()
}

/// The state of the store, which lasts since it changed.
fn store_status(before: Option<StoreStatus>, error: Option<String>, now: Timestamp) -> StoreStatus {
    let connected = error.is_none();
    let since = before.filter(|before| before.connected == connected).map_or(now, |before| before.since);
    StoreStatus { connected, since, error: error.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshrelay_store::MemoryStore;

    use super::*;
    use crate::RebalanceSettings;
    use crate::replicas::testing::{StoreWithFaults, hub};

    struct Replica {
        hub: Arc<ServerHub>,
        stop: CancellationToken,
        _folder: tempfile::TempDir,
    }

    fn start(name: &str, store: Arc<dyn SnapshotStore>) -> Replica {
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let hub = hub(folder.path());
        let rebalancing = Arc::new(Rebalancing::new(RebalanceSettings::default(), name));
        tokio::spawn(Live::new(store, name, Arc::clone(&hub), rebalancing).run(stop.clone()));
        Replica { hub, stop, _folder: folder }
    }

    impl Replica {
        async fn wait(&self, good: impl FnMut(&ServerStatus) -> bool) -> ServerStatus {
            let mut status = self.hub.status.subscribe();
            let found = tokio::time::timeout(Duration::from_secs(60), status.wait_for(good)).await;
            found.unwrap().unwrap().clone()
        }

        async fn wait_for_replicas(&self, names: &[&str]) -> ServerStatus {
            let names: BTreeSet<&str> = names.iter().copied().collect();
            self.wait(|status| status.replicas.keys().map(String::as_str).collect::<BTreeSet<_>>() == names).await
        }
    }

    #[tokio::test]
    async fn each_replica_shows_the_others_and_which_clusters_they_serve() {
        let store = MemoryStore::default();
        let (a, b) = (start("a", Arc::new(store.clone())), start("b", Arc::new(store.clone())));
        let status = a.wait_for_replicas(&["a", "b"]).await;
        assert!(status.replicas["a"].this && !status.replicas["b"].this);
        assert_eq!(a.hub.metrics.replicas.get(), 2);
        b.hub.status.send_modify(|status| {
            let one = status.clusters.get_mut("one").unwrap();
            (one.pushing, one.pulling) = (true, true);
            status.waiting_for = vec!["two".into()];
        });
        let status = a.wait(|status| !status.replicas["b"].state.clusters.is_empty()).await;
        let b_state = &status.replicas["b"].state;
        assert_eq!(b_state.clusters, [("one".into(), ReplicaStreams { push: true, pull: true })].into());
        assert_eq!((b_state.waiting_for.as_slice(), b_state.version.as_str()), (&["two".into()][..], VERSION));
        assert!(status.store.is_some_and(|store| store.connected && store.error.is_empty()));
        b.stop.cancel();
        a.wait_for_replicas(&["a"]).await;
        // What cannot be read is shown all the same.
        store.set_live("odd", &serde_json::json!({"clusters": 7}), TTL).await.unwrap();
        a.wait_for_replicas(&["a", "odd"]).await;
    }

    #[tokio::test]
    async fn while_the_store_is_away_what_others_said_is_stale_and_ones_own_is_not() {
        let store = Arc::new(StoreWithFaults::over(MemoryStore::default()));
        let (a, b) =
            (start("a", Arc::<StoreWithFaults>::clone(&store)), start("b", Arc::<StoreWithFaults>::clone(&store)));
        a.wait_for_replicas(&["a", "b"]).await;
        store.away(true);
        let away = |status: &ServerStatus| status.store.as_ref().is_some_and(|store| !store.connected);
        let status = a.wait(away).await;
        assert!(status.store.unwrap().error.contains("MR0900"));
        assert_eq!(status.replicas["a"].stale_since, None);
        assert!(status.replicas["b"].stale_since.is_some_and(|since| since >= status.replicas["b"].state.said_at));
        a.hub.status.send_modify(|status| status.clusters.get_mut("two").unwrap().pulling = true);
        a.wait(|status| status.replicas["a"].state.clusters.contains_key("two")).await;
        store.away(false);
        let status = a.wait(|status| !away(status)).await;
        assert_eq!(status.replicas["b"].stale_since, None);
        drop(b);
    }
}
