//! What tests of replicas need: a store that can be away, and a hub without sockets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meshrelay_pki::tls::TlsMode;
use meshrelay_snapshot::Name;
use meshrelay_store::{Answer, Health, Layer, MemoryStore, SnapshotStore as _, StoreError};
use parking_lot::Mutex;
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
}

impl Layer for StoreWithFaults {
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
