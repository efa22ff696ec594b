//! Which replica does what only one of them is to do: the holder of a lease in the store.

use std::sync::Arc;
use std::time::Duration;

use meshrelay_store::{Lease, SnapshotStore};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hub::ServerHub;

/// Name of the lease.
const LEASE: &str = "statuses";

/// How long the lease holds: what a leader that dies leaves undone for so long at most.
pub(super) const TTL: Duration = Duration::from_secs(15);

/// The part of the lease that is renewed, and after which others look whether it was.
const RENEW: u32 = 3;

/// The part of the lease before whose end its holder stops, so that what it has begun is done when another one begins; and
/// after which a question that failed is put again.
const SHORT: u32 = 15;

/// The token of the lease while this replica leads; without a store a server is its own leader, with token 0.
pub(crate) type Leadership = watch::Receiver<Option<u64>>;

/// What a replica knows of the lease: a state machine. Time is the time since some fixed moment, by its own clock.
#[derive(Debug)]
struct Holding {
    /// For how long it is asked for.
    ttl: Duration,
    /// The token of the lease that is ours, and until when it is safe to act on it.
    ours: Option<(u64, Duration)>,
    /// When the store is asked next.
    ask_at: Duration,
}

impl Holding {
    fn new(ttl: Duration) -> Self {
        Self { ttl, ours: None, ask_at: Duration::ZERO }
    }

    /// The store answered a question that was put at `asked_at`.
    fn answered(&mut self, asked_at: Duration, now: Duration, lease: &Lease) {
        if lease.is_ours {
            // The answer may have taken long: the lease began between question and answer.
            let until = asked_at.saturating_add(lease.expires_in).saturating_sub(self.ttl / SHORT);
            self.ours = Some((lease.token, until));
            self.ask_at = asked_at + self.ttl / RENEW;
        } else {
            self.ours = None;
            // At its end if it is near, since its holder would have renewed it.
            self.ask_at = now + lease.expires_in.clamp(self.ttl / SHORT, self.ttl / RENEW);
        }
    }

    /// The store did not answer.
    fn failed(&mut self, now: Duration) {
        self.ask_at = now + self.ttl / SHORT;
    }

    /// The token, if this replica leads.
    fn token(&self, now: Duration) -> Option<u64> {
        self.ours.filter(|(_, until)| now < *until).map(|(token, _)| token)
    }

    /// When it leads no longer unless the lease is renewed; `None` if it does not lead.
    fn ends_at(&self, now: Duration) -> Option<Duration> {
        self.ours.map(|(_, until)| until).filter(|until| now < *until)
    }
}

/// Asks for the lease, and tells who has it.
pub(crate) struct Leader {
    store: Arc<dyn SnapshotStore>,
    replica: String,
    hub: Arc<ServerHub>,
    ttl: Duration,
    shown: watch::Sender<Option<u64>>,
    started: Instant,
}

/// A server without others leads for as long as it runs.
pub(crate) fn alone(hub: &ServerHub) -> Leadership {
    show(hub, Some(0));
    watch::Sender::new(Some(0)).subscribe()
}

fn show(hub: &ServerHub, token: Option<u64>) {
    hub.metrics.leader.set(token.is_some().into());
    hub.status.send_if_modified(|status| std::mem::replace(&mut status.leader, token.is_some()) != token.is_some());
}

impl Leader {
    pub(crate) fn new(store: Arc<dyn SnapshotStore>, replica: &str, hub: Arc<ServerHub>, ttl: Duration) -> Self {
        let (shown, started) = (watch::Sender::new(None), Instant::now());
        Self { store, replica: replica.to_owned(), hub, ttl, shown, started }
    }

    pub(crate) fn leadership(&self) -> Leadership {
        self.shown.subscribe()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs until stopped; the lease is given back then, so that another replica leads at once.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut holding = Holding::new(self.ttl);
        let mut health = self.store.health();
        while stop.run_until_cancelled(self.step(&mut holding, &mut health)).await.is_some() {}
        self.tell(None);
        if let Err(error) = self.store.release_lease(LEASE, &self.replica).await {
            tracing::debug!(%error, "the lease of the leader could not be given back; it ends by itself");
        }
    }

    /// Waits until the store is to be asked, and asks.
    async fn step(&self, holding: &mut Holding, health: &mut watch::Receiver<meshrelay_store::Health>) {
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.started + holding.ask_at) => break,
                () = self.over(holding) => {}
                // One that is back may be a new one, without our lease.
                changed = health.changed() => if changed.is_ok() && health.borrow_and_update().is_connected() { break },
            }
        }
        // What changes from here on may be later than the answer.
        health.mark_unchanged();
        let asked_at = self.now();
        let ask = self.store.acquire_lease(LEASE, &self.replica, self.ttl);
        tokio::pin!(ask);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut ask => break answer,
                // A store that does not answer leaves the lease to others at its end.
                () = self.over(holding) => {}
            }
        };
        match answer {
            Ok(lease) => {
                holding.answered(asked_at, self.now(), &lease);
                self.hub.status.send_if_modified(|status| {
                    status.led_by.replace(lease.holder.clone()).as_ref() != Some(&lease.holder)
                });
            }
            Err(error) => {
                self.hub.metrics.store_errors.inc();
                tracing::debug!(%error, "the lease of the leader could not be asked for");
                holding.failed(self.now());
            }
        }
        self.tell(holding.token(self.now()));
    }

    /// Ends when this replica leads no longer, and has told so; never if it does not lead.
    async fn over(&self, holding: &Holding) {
        match holding.ends_at(self.now()) {
            Some(at) => tokio::time::sleep_until(self.started + at).await,
            None if self.shown.borrow().is_some() => {}
            None => return std::future::pending().await,
        }
        self.tell(None);
    }

    fn tell(&self, token: Option<u64>) {
        let before = self.shown.send_replace(token);
        if before.is_some() == token.is_some() {
            return;
        }
        if token.is_some() {
            tracing::info!(token, "this replica leads: it writes the reports from now on");
        } else {
            tracing::info!("this replica leads no longer");
        }
        show(&self.hub, token);
    }
}

#[cfg(test)]
mod tests {
    use meshrelay_store::{Answer, Health, Layer, MemoryStore, Reach, SnapshotStore as _, StoreError};

    use super::*;
    use crate::replicas::testing::{StoreWithFaults, hub};

    fn lease(is_ours: bool, token: u64, seconds: u64) -> Lease {
        Lease { holder: "a".to_owned(), is_ours, token, expires_in: at(seconds) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_leader_stops_before_its_lease_ends_by_its_own_clock() {
        let mut holding = Holding::new(TTL);
        assert_eq!((holding.token(at(0)), holding.ask_at), (None, at(0)), "it asks at once");
        // The answer took two seconds, for all of which the lease may have been running.
        holding.answered(at(0), at(2), &lease(true, 7, 15));
        assert_eq!((holding.token(at(2)), holding.token(at(13)), holding.token(at(14))), (Some(7), Some(7), None));
        assert_eq!((holding.ask_at, holding.ends_at(at(2))), (at(5), Some(at(14))));
        holding.failed(at(8));
        assert_eq!((holding.ask_at, holding.token(at(13))), (at(9), Some(7)), "it may be renewed yet");
        holding.answered(at(9), at(9), &lease(true, 7, 15));
        assert_eq!(holding.token(at(22)), Some(7));
        assert_eq!((holding.token(at(23)), holding.ends_at(at(23))), (None, None));
    }

    #[test]
    fn another_holder_is_asked_after_when_its_lease_should_have_been_renewed() {
        let mut holding = Holding::new(TTL);
        holding.answered(at(0), at(0), &lease(true, 7, 15));
        holding.answered(at(5), at(5), &lease(false, 8, 15));
        assert_eq!((holding.token(at(5)), holding.ask_at), (None, at(10)));
        holding.answered(at(10), at(10), &lease(false, 8, 2));
        assert_eq!(holding.ask_at, at(12));
        holding.answered(at(12), at(12), &Lease { expires_in: Duration::ZERO, ..lease(false, 8, 0) });
        assert_eq!(holding.ask_at, at(13), "not all the time");
    }

    struct Replica {
        hub: Arc<ServerHub>,
        leads: Leadership,
        stop: CancellationToken,
        done: tokio::task::JoinHandle<()>,
        _folder: tempfile::TempDir,
    }

    fn start(name: &str, store: Arc<dyn SnapshotStore>, ttl: Duration) -> Replica {
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let hub = hub(folder.path());
        let leader = Leader::new(store, name, Arc::clone(&hub), ttl);
        let leads = leader.leadership();
        let done = tokio::spawn(leader.run(stop.clone()));
        Replica { hub, leads, stop, done, _folder: folder }
    }

    impl Replica {
        async fn wait(&mut self, leads: bool) -> Option<u64> {
            let wait = self.leads.wait_for(|token| token.is_some() == leads);
            *tokio::time::timeout(at(30), wait).await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn one_replica_leads_and_another_one_when_it_stops() {
        let (store, ttl) = (MemoryStore::default(), at(2));
        let mut a = start("a", Arc::new(store.clone()), ttl);
        let first = a.wait(true).await;
        let mut b = start("b", Arc::new(store.clone()), ttl);
        let knows = |status: &crate::ServerStatus| status.led_by.as_deref() == Some("a");
        tokio::time::timeout(at(30), b.hub.status.subscribe().wait_for(knows)).await.unwrap().unwrap();
        assert!(!b.hub.status.borrow().leader && a.hub.status.borrow().leader);
        a.stop.cancel();
        a.done.await.unwrap();
        assert!(!a.hub.status.borrow().leader);
        let second = b.wait(true).await;
        assert!(second > first, "{second:?} {first:?}");
        assert_eq!(b.hub.metrics.leader.get(), 1);
    }

    #[tokio::test]
    async fn a_replica_that_cannot_reach_the_store_leads_no_longer_and_another_one_does() {
        let (store, ttl) = (MemoryStore::default(), at(2));
        let faulty = Arc::new(StoreWithFaults::over(store.clone()));
        let mut a = start("a", Arc::<StoreWithFaults>::clone(&faulty), ttl);
        a.wait(true).await;
        faulty.hang(true);
        let mut b = start("b", Arc::new(store.clone()), ttl);
        a.wait(false).await;
        b.wait(true).await;
        assert_eq!(*a.leads.borrow(), None, "never two at once");
        faulty.hang(false);
        b.stop.cancel();
        a.wait(true).await;
    }
    /// A store that is reached while it is asked for the first time, too late for the answer.
    #[derive(Debug)]
    struct Late(MemoryStore, watch::Sender<Health>);

    impl Layer for Late {
        async fn call<'a, T: Send + 'a>(
            &'a self,
            call: impl FnOnce(MemoryStore) -> Answer<'a, T> + Send + 'a,
        ) -> Result<T, StoreError> {
            if self.1.borrow().is_connected() {
                return call(self.0.clone()).await;
            }
            self.1.send_replace(self.0.health().borrow().clone());
            Err(StoreError::Unreachable { address: "test".to_owned(), reason: "not yet".to_owned() })
        }

        fn shown_health(&self) -> watch::Receiver<Health> {
            self.1.subscribe()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_reached_while_it_is_asked_is_asked_again_at_once() {
        let store = MemoryStore::default();
        let error = StoreError::Unreachable { address: "test".to_owned(), reason: "not yet".to_owned() };
        let away = Reach::Away { since: jiff::Timestamp::UNIX_EPOCH, error };
        let health = Health { reach: away, ..store.health().borrow().clone() };
        let begun = Instant::now();
        let mut a = start("a", Arc::new(Late(store, watch::Sender::new(health))), TTL);
        a.wait(true).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "it was not waited for the next time");
    }
}
