//! What tests of replicas need: a store that can be away, and a hub without sockets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use meshrelay_pki::tls::TlsMode;
use meshrelay_snapshot::Name;
use meshrelay_store::{
    Answer, Changes, Cursor, Document, DocumentWritten, Head, Health, Lease, MemoryStore, SnapshotId, SnapshotStore,
    StoreError, Stored, Written,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::hub::ServerHub;
use crate::inputs::Inputs;
use crate::state_file::StateFile;
use crate::warm::{Registration, WarmClusters};
use crate::{Metrics, ServerStatus};

/// The clusters that are registered with a [`hub`].
pub(crate) const CLUSTERS: [&str; 2] = ["one", "two"];

/// A hub with two registered clusters.
pub(crate) fn hub(folder: &Path) -> Arc<ServerHub> {
    let inputs = Arc::new(Inputs::new("mgmt".into(), WarmClusters::new()));
    let clusters = CLUSTERS.map(|cluster| (Name::from(cluster), Registration::default()));
    inputs.set_management(Arc::default(), clusters.into_iter().collect());
    let status = Arc::new(watch::Sender::new(ServerStatus::default()));
    status.send_modify(|status| {
        for cluster in CLUSTERS {
            status.clusters.entry(cluster.into()).or_default().registered = true;
        }
    });
    Arc::new(ServerHub {
        inputs,
        outputs: Mutex::new(BTreeMap::new()),
        status,
        metrics: Metrics::default(),
        tls_mode: TlsMode::Insecure,
        pki: None,
        rebalancing: None,
        stored_outputs: Some(Arc::default()),
        warm_file: Mutex::new((StateFile::new(folder, "warm.json"), WarmClusters::new())),
    })
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Calls fail at once.
    Away,
    /// Calls are not answered.
    Hanging,
}

/// A store in memory that can be away, or leave calls without an answer.
#[derive(Debug)]
pub(crate) struct StoreWithFaults {
    store: MemoryStore,
    fault: watch::Sender<Fault>,
}

impl StoreWithFaults {
    pub(crate) fn over(store: MemoryStore) -> Self {
        Self { store, fault: watch::Sender::default() }
    }

    pub(crate) fn away(&self, away: bool) {
        self.fault.send_replace(if away { Fault::Away } else { Fault::None });
    }

    pub(crate) fn hang(&self, hang: bool) {
        self.fault.send_replace(if hang { Fault::Hanging } else { Fault::None });
    }

    fn through<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        async move {
            let mut fault = self.fault.subscribe();
            // The sender lives as long as `self`.
            let fault = *fault.wait_for(|fault| *fault != Fault::Hanging).await.unwrap();
            if fault == Fault::Away {
                let (address, reason) = ("test".to_owned(), "it is away".to_owned());
                return Err(StoreError::Unreachable { address, reason });
            }
            answer.await
        }
        .boxed()
    }
}

impl SnapshotStore for StoreWithFaults {
    fn put<'a>(&'a self, id: &'a SnapshotId, new: &'a Stored) -> Answer<'a, Written> {
        self.through(self.store.put(id, new))
    }

    fn load<'a>(&'a self, id: &'a SnapshotId, base: Option<&'a Stored>) -> Answer<'a, Option<Stored>> {
        self.through(self.store.load(id, base))
    }

    fn heads(&self) -> Answer<'_, BTreeMap<SnapshotId, Head>> {
        self.through(self.store.heads())
    }

    fn remove<'a>(&'a self, id: &'a SnapshotId) -> Answer<'a, bool> {
        self.through(self.store.remove(id))
    }

    fn document<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Document>> {
        self.through(self.store.document(name))
    }

    fn documents(&self) -> Answer<'_, BTreeMap<String, u64>> {
        self.through(self.store.documents())
    }

    fn put_document<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        value: &'a Value,
    ) -> Answer<'a, DocumentWritten> {
        self.through(self.store.put_document(name, expected, value))
    }

    fn remove_document<'a>(&'a self, name: &'a str, expected: Option<u64>) -> Answer<'a, Option<Document>> {
        self.through(self.store.remove_document(name, expected))
    }

    fn set_live<'a>(&'a self, replica: &'a str, value: &'a Value, ttl: Duration) -> Answer<'a, ()> {
        self.through(self.store.set_live(replica, value, ttl))
    }

    fn live(&self) -> Answer<'_, BTreeMap<String, Value>> {
        self.through(self.store.live())
    }

    fn acquire_lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.through(self.store.acquire_lease(name, holder, ttl))
    }

    fn release_lease<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, bool> {
        self.through(self.store.release_lease(name, holder))
    }

    fn changes<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Answer<'a, Changes> {
        self.through(self.store.changes(after, wait))
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.store.health()
    }
}
