//! What the log is told of the store, once each.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_store::{Reach, SnapshotStore, StoreError};
use parking_lot::Mutex;

use crate::Metrics;

/// Whether the store is there, and does what it is asked to.
pub(super) struct StoreHealth {
    store: Arc<dyn SnapshotStore>,
    metrics: Metrics,
    /// What the store refuses though it is there, and why, as far as the log was told.
    failing: Mutex<BTreeMap<String, String>>,
}

impl StoreHealth {
    pub(super) fn new(store: Arc<dyn SnapshotStore>, metrics: Metrics) -> Self {
        Self { store, metrics, failing: Mutex::default() }
    }

    /// Says once that the store is away, and once that it is back.
    pub(super) async fn watch(&self) {
        let mut health = self.store.health();
        let mut was_connected = true;
        // Before the first attempt to connect has ended there is nothing to say.
        if !health.borrow_and_update().is_connected() && health.changed().await.is_err() {
            return std::future::pending().await;
        }
        loop {
            let now = health.borrow_and_update().clone();
            match (was_connected, &now.reach) {
                (true, Reach::Away { error, .. }) => tracing::error!(
                    %error,
                    "the snapshot store is away: translation goes on with what is in memory, other replicas do not see \
                     changes until it is back"
                ),
                (false, Reach::Connected) => tracing::info!("the snapshot store is back: writing what it lacks"),
                _ => {}
            }
            was_connected = now.is_connected();
            if health.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    pub(super) fn failed(&self, what: &str, error: &StoreError) {
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
        self.failing.lock().insert(what.to_owned(), reason);
    }

    /// Takes note that something works that may have failed before.
    pub(super) fn works(&self, what: &str) {
        if self.failing.lock().remove(what).is_some() {
            tracing::info!(what, "the snapshot store does it again");
        }
    }
}
