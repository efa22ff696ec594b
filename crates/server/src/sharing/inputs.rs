//! The inputs of agents, as the replicas of a plane share them, and which clusters are warm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_relay::Held;
use meshrelay_snapshot::Name;
use meshrelay_store::{DocumentWritten, Head, Role, SnapshotId, SnapshotStore, StoreError, Stored, Written};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::RETRY;
use super::health::StoreHealth;
use crate::Metrics;
use crate::inputs::Inputs;
use crate::warm;

/// What is done with the store, for the log.
const WRITING: &str = "writing an input";

/// Document with the clusters that have sent a snapshot at some time, and when they sent the first.
pub(super) const WARM: &str = "warm-clusters";

/// The inputs of this replica and those in the store.
pub(super) struct SharedInputs {
    store: Arc<dyn SnapshotStore>,
    inputs: Arc<Inputs>,
    metrics: Metrics,
    /// Name of this replica.
    replica: String,
    /// What the store is known to hold, to write and read differences only.
    known: Mutex<BTreeMap<Name, Stored>>,
}

impl SharedInputs {
    pub(super) fn new(store: Arc<dyn SnapshotStore>, inputs: Arc<Inputs>, metrics: Metrics, replica: String) -> Self {
        Self { store, inputs, metrics, replica, known: Mutex::default() }
    }

    /// Writes what own agents send. What changes meanwhile coalesces.
    pub(super) async fn write(&self, health: &StoreHealth) {
        let mut changes = self.inputs.unshared_changes();
        loop {
            changes.borrow_and_update();
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
            let theirs = shared
                .as_ref()
                .map(|document| warm::shared(&document.value, self.inputs.clock.now()))
                .unwrap_or_default();
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

    /// Takes over all that is newer, and has all written that is not there, or is older: the store may be new.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
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
        Ok(())
    }

    pub(super) async fn read_one(&self, cluster: &Name) -> Result<(), StoreError> {
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
}

/// Whether what the store has is older than what we hold.
fn is_older(head: &Head, held: &Held) -> bool {
    (head.version, head.digest) < (held.version(), held.visible().digest())
}
