//! What tests of replicas need: a store with faults, and a hub without sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt as _;
use meshrelay_pki::tls::TlsMode;
use meshrelay_snapshot::Name;
use meshrelay_store::{Answer, Call, Health, Layer, MemoryStore, SnapshotId, SnapshotStore as _, StoreError, Stored};
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

/// A store in memory that can be away, leave calls without an answer, be damaged, or take no writes.
#[derive(Debug)]
pub(crate) struct StoreWithFaults {
    store: MemoryStore,
    fault: watch::Sender<Fault>,
    damaged: Mutex<BTreeSet<SnapshotId>>,
    takes_no_writes: Mutex<bool>,
    /// So many writes of snapshots find that another replica wrote in between.
    overtaken: Mutex<u64>,
}

impl StoreWithFaults {
    pub(crate) fn over(store: MemoryStore) -> Self {
        Self {
            store,
            fault: watch::Sender::default(),
            damaged: Mutex::default(),
            takes_no_writes: Mutex::default(),
            overtaken: Mutex::default(),
        }
    }

    pub(crate) fn away(&self, away: bool) {
        self.fault.send_replace(if away { Fault::Away } else { Fault::None });
    }

    pub(crate) fn hang(&self, hang: bool) {
        self.fault.send_replace(if hang { Fault::Hanging } else { Fault::None });
    }
}

impl StoreWithFaults {
    /// These snapshots cannot be read.
    pub(crate) fn damage(&self, damaged: impl IntoIterator<Item = SnapshotId>) {
        *self.damaged.lock() = damaged.into_iter().collect();
    }

    /// Another replica writes in between so many times.
    pub(crate) fn overtake(&self, times: u64) {
        *self.overtaken.lock() = times;
    }

    pub(crate) fn take_no_writes(&self, takes_no_writes: bool) {
        *self.takes_no_writes.lock() = takes_no_writes;
    }
}

impl Layer for StoreWithFaults {
    fn refusal(&self, call: Call<'_>) -> Option<StoreError> {
        match call {
            Call::Load(id) if self.damaged.lock().contains(id) => {
                Some(StoreError::Unreadable { what: id.to_string(), problem: "it is damaged".to_owned() })
            }
            Call::Put(..) | Call::Write if *self.takes_no_writes.lock() => Some(StoreError::OutOfMemory),
            Call::Put(id, new) => {
                let mut left = self.overtaken.lock();
                if let Some(less) = left.checked_sub(1) {
                    *left = less;
                    let other = Stored::new(new.version() + 1, Arc::default(), Value::Null, "other");
                    self.store.put(id, &other).now_or_never().unwrap().unwrap();
                }
                None
            }
            Call::Load(_) | Call::Write => None,
        }
    }

    async fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(MemoryStore) -> Answer<'a, T> + Send + 'a,
    ) -> Result<T, StoreError> {
        let mut fault = self.fault.subscribe();
        // The sender lives as long as `self`.
        let fault = *fault.wait_for(|fault| *fault != Fault::Hanging).await.unwrap();
        if fault == Fault::Away {
            let (address, reason) = ("test".to_owned(), "it is away".to_owned());
            return Err(StoreError::Unreachable { address, reason });
        }
        call(self.store.clone()).await
    }

    fn shown_health(&self) -> watch::Receiver<Health> {
        self.store.health()
    }
}
