//! What the replicas of a management plane share beside the inputs of their agents: how they are, who of them leads, what
//! they gave agents last, what there is to say about resources, and who serves whom.

mod leader;
mod leftovers;
mod live;
mod outputs;
mod rebalancing;
mod reports;
#[cfg(test)]
pub(crate) mod testing;
mod versions;

use std::sync::Arc;

use meshrelay_process::machine::Tasks;
use meshrelay_relay::grpc::RelayHandle;
use meshrelay_store::SnapshotStore;
use meshrelay_translate::Reports;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::reports::StoredReports;
use crate::hub::ServerHub;

pub(crate) use self::leader::{Leadership, alone};
pub(crate) use self::live::connected;
pub use self::live::{ReplicaState, ReplicaStatus, ReplicaStreams, StoreStatus};
pub(crate) use self::outputs::StoredOutputs;
pub(crate) use self::rebalancing::Rebalancing;
pub use self::reports::EarlierReports;

/// One of several servers with one store.
pub(crate) struct Replicas {
    pub(crate) store: Arc<dyn SnapshotStore>,
    /// Name of this one.
    pub(crate) replica: String,
    pub(crate) hub: Arc<ServerHub>,
}

impl Replicas {
    /// Starts what shares with the others; tells whether this one leads.
    pub(crate) fn start(
        self,
        relay: &RelayHandle,
        reports: &watch::Receiver<Option<Arc<Reports>>>,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) -> Leadership {
        let Self { store, replica, hub } = self;
        let leader = leader::Leader::new(Arc::clone(&store), &replica, Arc::clone(&hub), leader::TTL);
        let leadership = leader.leadership();
        tasks.spawn(leader.run(stop.clone()));
        if let Some(stored) = hub.stored_outputs.clone() {
            let outputs = outputs::Outputs::new(Arc::clone(&store), &replica, Arc::clone(&hub), stored);
            tasks.spawn(outputs.run(stop.clone()));
        }
        let leftovers = leftovers::Leftovers::new(Arc::clone(&store), Arc::clone(&hub), leadership.clone());
        tasks.spawn(leftovers.run(stop.clone()));
        let stored = StoredReports::new(Arc::clone(&store), &replica, Arc::clone(&hub), leadership.clone());
        tasks.spawn(stored.run(reports.clone(), stop.clone()));
        if let Some(rebalancing) = hub.rebalancing.clone() {
            let live = live::Live::new(store, &replica, Arc::clone(&hub), Arc::clone(&rebalancing));
            tasks.spawn(live.run(stop.clone()));
            tasks.spawn(stop.clone().run_until_cancelled_owned(rebalancing.run(hub, relay.clone())));
        }
        leadership
    }
}
