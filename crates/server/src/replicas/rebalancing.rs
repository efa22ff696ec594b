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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use meshrelay_relay::Direction;
    use meshrelay_relay::grpc::{Caller, Hub as _, Peer};
    use meshrelay_relay::wire::Hello;
    use meshrelay_store::Span;

    use super::*;
    use crate::replicas::testing::hub;

    #[test]
    fn a_full_replica_refuses_streams_and_tells_who_only_asks_that_it_is_welcome() {
        let settings = RebalanceSettings { settle: Span::millis(0), ..RebalanceSettings::default() };
        let rebalancing = Rebalancing::new(settings, "a");
        let folder = tempfile::tempdir().unwrap();
        let mut hub = hub(folder.path());
        let other = ReplicaState { translations: 1, said_at: Timestamp::UNIX_EPOCH, ..ReplicaState::default() };
        rebalancing.heard(&[("b".to_owned(), other.clone())].into());
        Arc::get_mut(&mut hub).unwrap().rebalancing = Some(Arc::new(rebalancing));
        let caller = |port, only_asks| Caller {
            hello: Hello { cluster: "two".into(), ..Hello::default() },
            peer: Peer { certificate: None, source: Some(SocketAddr::from(([127, 0, 0, 1], port))) },
            token: None,
            direction: Direction::Push,
            only_asks,
        };
        assert_eq!(hub.authorize(&caller(1, false)), Ok(()), "it is the first");
        hub.status.send_modify(|status| status.clusters.get_mut("one").unwrap().pulling = true);
        for port in 1..=3 {
            assert_eq!(hub.authorize(&caller(port, true)), Ok(()));
            let refusal = hub.authorize(&caller(port, false)).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::AtCapacity);
            hub.on_refused("two", &refusal);
        }
        assert_eq!(hub.status.borrow().clusters["two"].last_error, "", "nothing is wrong with it");
        assert_eq!(hub.authorize(&caller(4, false)), Ok(()));
        // A replica that translates nothing has no room.
        let halted = ReplicaState { waiting_for: vec!["one".into()], ..other };
        hub.rebalancing.as_ref().unwrap().heard(&[("b".to_owned(), halted)].into());
        let mut third = caller(5, false);
        third.hello.cluster = "one".into();
        hub.status.send_modify(|status| status.clusters.get_mut("two").unwrap().pulling = true);
        assert_eq!(hub.authorize(&third), Ok(()));
    }
}
