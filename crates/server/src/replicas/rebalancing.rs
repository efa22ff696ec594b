//! Sends agents to other replicas, and lets them in, as [`Rebalance`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_relay::grpc::RelayHandle;
use meshrelay_relay::{Refusal, RefusalReason};
use meshrelay_snapshot::{ContentHash, Name};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::live::{ReplicaState, connected};
use crate::hub::ServerHub;
use crate::rebalance::{Rebalance, RebalanceSettings, Said};

/// How often it is looked whether somebody has to go.
const LOOK: Duration = Duration::from_secs(1);

/// The state machine with its clock.
#[derive(Debug)]
pub(crate) struct Rebalancing {
    started: Instant,
    rebalance: Mutex<Rebalance>,
}

impl Rebalancing {
    /// Of replicas with different names each makes other choices.
    pub(crate) fn new(settings: RebalanceSettings, replica: &str) -> Self {
        let name = ContentHash::of(replica.as_bytes());
        let seed = name.as_bytes().iter().take(8).fold(0, |seed: u64, byte| seed << 8 | u64::from(*byte));
        let rebalance = Rebalance::new(settings, seed);
        Self { started: Instant::now(), rebalance: Mutex::new(rebalance) }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The store told how the other replicas are.
    pub(crate) fn heard(&self, others: &BTreeMap<String, ReplicaState>) {
        let said = |state: &ReplicaState| Said {
            at: state.said_at,
            clusters: state.clusters.keys().cloned().collect(),
            translates: state.translations > 0 && state.waiting_for.is_empty() && !state.waiting_for_store,
        };
        let said = others.iter().map(|(name, state)| (name.clone(), said(state))).collect();
        self.rebalance.lock().heard(self.now(), said);
    }

    /// The store did not answer.
    pub(crate) fn lost(&self) {
        self.rebalance.lock().lost();
    }

    /// Whether an agent is let in; `own` are the clusters whose agents are.
    ///
    /// # Errors
    /// The refusal that sends it to another replica.
    pub(crate) fn admit(
        &self,
        own: &BTreeSet<Name>,
        cluster: &Name,
        source: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let admitted = self.rebalance.lock().admit(self.now(), own, cluster, source);
        admitted.map_err(|message| Refusal::new(RefusalReason::AtCapacity, message))
    }

    /// Sends agents away for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<ServerHub>, relay: RelayHandle) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let own: BTreeSet<Name> = connected(&hub.status.borrow()).into_keys().collect();
            let going = self.rebalance.lock().send_away(self.now(), &own);
            for cluster in going {
                tracing::info!(%cluster, connected = own.len(), "the agent is asked to go to a replica that serves fewer");
                hub.metrics.sent_away.inc();
                relay.drain_cluster(&cluster, "another replica serves fewer clusters");
            }
        }
    }
}
