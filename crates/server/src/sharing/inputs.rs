//! The inputs of agents, as the replicas of a plane share them, and which clusters are warm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_relay::Held;
use meshrelay_snapshot::Name;
use meshrelay_store::{Document, DocumentWritten, Head, Role, SnapshotId, SnapshotStore, StoreError, Stored, Written};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::RETRY;
use super::health::StoreHealth;
use crate::Metrics;
use crate::inputs::Inputs;
use crate::warm::{self, WarmClusters};

/// What is done with the store, for the log.
const WRITING: &str = "writing an input";
const WRITING_WARM: &str = "writing which clusters are warm";

/// Document with the clusters that have sent a snapshot at some time, and when they sent the first.
pub(crate) const WARM: &str = "warm-clusters";

/// The inputs of this replica and those in the store.
pub(super) struct SharedInputs {
    store: Arc<dyn SnapshotStore>,
    inputs: Arc<Inputs>,
    metrics: Metrics,
    /// Name of this replica.
    replica: String,
    /// What the store is known to hold, to write and read differences only.
    known: Mutex<BTreeMap<Name, Stored>>,
    /// The store's list of warm clusters lacks something.
    warm_unwritten: watch::Sender<bool>,
}

impl SharedInputs {
    pub(super) fn new(store: Arc<dyn SnapshotStore>, inputs: Arc<Inputs>, metrics: Metrics, replica: String) -> Self {
        Self { store, inputs, metrics, replica, known: Mutex::default(), warm_unwritten: watch::Sender::default() }
    }

    /// Writes what own agents send. What changes meanwhile coalesces.
    pub(super) async fn write(&self, health: &StoreHealth) {
        let (mut changes, mut warm) = (self.inputs.unshared_changes(), self.warm_unwritten.subscribe());
        loop {
            changes.borrow_and_update();
            let warm_failed = *warm.borrow_and_update() && !self.write_warm(health).await;
            let mut failed = BTreeSet::new();
            for cluster in self.inputs.take_unshared() {
                match self.write_one(&cluster).await {
                    Ok(()) => health.works(WRITING),
                    // To try again would not help before the agent sends something else.
                    Err(error) if matches!(error, StoreError::Secret { .. }) => {
                        tracing::error!(%cluster, %error, "the input is not shared with other replicas");
                    }
                    Err(error) => {
                        health.failed(WRITING, &error);
                        failed.insert(cluster);
                    }
                }
            }
            if !failed.is_empty() || warm_failed {
                self.inputs.put_back_unshared(failed);
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                Ok(()) = warm.changed() => {}
            }
        }
    }

    /// Writes which clusters are warm; tells whether that worked.
    async fn write_warm(&self, health: &StoreHealth) -> bool {
        // Before the write: what is found to be lacking meanwhile is written again.
        self.warm_unwritten.send_if_modified(|unwritten| {
            *unwritten = false;
            false
        });
        match self.share_warm(None).await {
            Ok(()) => health.works(WRITING_WARM),
            Err(error) => {
                health.failed(WRITING_WARM, &error);
                self.warm_unwritten.send_replace(true);
                return false;
            }
        }
        true
    }

    pub(super) async fn write_one(&self, cluster: &Name) -> Result<(), StoreError> {
        let Some(held) = self.inputs.held(cluster) else {
            return self.remove_one(cluster).await;
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

    /// Removes what is left of a deregistered cluster: it would come back with the next restart. If it is registered again by
    /// now, another replica may have a new input of it.
    async fn remove_one(&self, cluster: &Name) -> Result<(), StoreError> {
        let id = SnapshotId::input(cluster.clone());
        if let Some(head) = self.store.heads().await?.get(&id)
            && !self.inputs.precedes_registration(cluster, head.version)
        {
            return Ok(());
        }
        self.known.lock().remove(cluster);
        self.store.remove(&id).await?;
        self.share_warm(Some(cluster)).await
    }

    /// Makes the store's list of warm clusters hold ours too, without one that is gone.
    pub(super) async fn share_warm(&self, gone: Option<&Name>) -> Result<(), StoreError> {
        let mut shared = self.store.document(WARM).await?;
        loop {
            let theirs = self.read_of(shared.as_ref());
            let all = self.inputs.merge_warm(theirs.clone(), gone);
            if all == theirs {
                return Ok(());
            }
            let revision = shared.as_ref().map_or(0, |document| document.revision);
            match self.store.put_document(WARM, Some(revision), &warm::to_share(&all)).await? {
                DocumentWritten::Stored(_) => return Ok(()),
                DocumentWritten::Conflict(now) => shared = now,
            }
        }
    }

    /// Takes over which clusters are warm, and has ours written if the store's list lacks something. To write may be refused
    /// where to read is not.
    pub(super) async fn read_warm(&self) -> Result<(), StoreError> {
        let theirs = self.read_of(self.store.document(WARM).await?.as_ref());
        if self.inputs.merge_warm(theirs.clone(), None) != theirs {
            self.warm_unwritten.send_replace(true);
        }
        Ok(())
    }

    fn read_of(&self, shared: Option<&Document>) -> WarmClusters {
        shared.map(|document| warm::shared(&document.value, self.inputs.clock.now())).unwrap_or_default()
    }

    /// Has all written that is not in the store, or is older there: it may be a new one. Gives the clusters of which it has an
    /// input.
    pub(super) async fn compare(&self) -> Result<BTreeSet<Name>, StoreError> {
        let heads = self.store.heads().await?;
        let ours = self.inputs.all_held();
        let head = |cluster: &Name| heads.get(&SnapshotId::input(cluster.clone()));
        let lacking = ours.iter().filter(|(cluster, held)| head(cluster).is_none_or(|head| is_older(head, held)));
        self.inputs.put_back_unshared(lacking.map(|(cluster, _)| cluster.clone()).collect());
        Ok(heads.into_keys().filter(|id| id.role == Role::Input).map(|id| id.cluster).collect())
    }

    pub(super) async fn read_one(&self, cluster: &Name) -> Result<(), StoreError> {
        let base = self.known.lock().get(cluster).cloned();
        let Some(stored) = self.store.load(&SnapshotId::input(cluster.clone()), base.as_ref()).await? else {
            self.known.lock().remove(cluster);
            // Absent is not gone: the store lost it, or somebody removed it who has not seen that it is registered.
            if self.inputs.held(cluster).is_some() {
                self.inputs.put_back_unshared([cluster.clone()].into());
            }
            return Ok(());
        };
        if !self.inputs.warm().contains_key(cluster) {
            // So that it is warm since the same time everywhere.
            self.read_warm().await?;
        }
        self.inputs.adopt(cluster, Held::restored(Arc::clone(stored.snapshot()), stored.version()));
        self.known.lock().insert(cluster.clone(), stored);
        Ok(())
    }
}

/// Whether what the store has is older than what we hold.
fn is_older(head: &Head, held: &Held) -> bool {
    (head.version, head.digest) < (held.version(), held.visible().digest())
}
