//! The store of the plane, and what can be wrong with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_store::{Answer, Changes, Cursor, Health, Layer, MemoryStore, Reach, SnapshotStore as _, StoreError};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::trace::{Context, note};

/// Copies that are kept to go back to.
const COPIES: usize = 6;

/// How long a call to a store that is away takes before it fails.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum StoreFault {
    #[default]
    None,
    /// It does not answer.
    Away,
    /// It answers late.
    Slow,
    /// Calls fail, after they were done or without.
    Flaky,
}

pub(crate) struct SharedStore {
    context: Arc<Context>,
    inner: Mutex<MemoryStore>,
    copies: Mutex<VecDeque<MemoryStore>>,
    fault: Mutex<StoreFault>,
    health: Mutex<Health>,
    /// One channel for each who follows: in the order in which they began, which a shared one does not keep.
    followers: Mutex<Vec<watch::Sender<Health>>>,
    /// Something was written.
    news: Notify,
    /// How often it became another store.
    replaced: Mutex<u64>,
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("fault", &*self.fault.lock()).finish_non_exhaustive()
    }
}

impl SharedStore {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        // A short feed, so that some catch up.
        let inner = MemoryStore::with_feed(8).copy("epoch-0");
        let health = inner.health().borrow().clone();
        Self {
            context: Arc::clone(context),
            inner: Mutex::new(inner),
            copies: Mutex::default(),
            fault: Mutex::default(),
            health: Mutex::new(health),
            followers: Mutex::default(),
            news: Notify::new(),
            replaced: Mutex::default(),
        }
    }

    pub(crate) fn set_fault(&self, fault: StoreFault) {
        note!(self.context, "the store: {fault:?}");
        *self.fault.lock() = fault;
        let mut health = self.inner.lock().health().borrow().clone();
        if fault == StoreFault::Away {
            health.reach = Reach::Away { since: Timestamp::UNIX_EPOCH, error: away() };
        }
        self.tell(health);
    }

    fn tell(&self, health: Health) {
        *self.health.lock() = health.clone();
        self.followers.lock().retain(|follower| follower.send(health.clone()).is_ok());
    }

    /// Keeps a copy to go back to.
    pub(crate) fn copy(&self) {
        let copy = self.inner.lock().copy("copy");
        let mut copies = self.copies.lock();
        copies.push_back(copy);
        if copies.len() > COPIES {
            copies.pop_front();
        }
    }

    /// Loses everything.
    pub(crate) fn lose_all(&self) {
        note!(self.context, "the store has lost everything");
        self.replace(&MemoryStore::with_feed(8));
    }

    /// Loses what was written last.
    pub(crate) fn lose_last(&self) {
        let copies: Vec<MemoryStore> = self.copies.lock().iter().cloned().collect();
        if copies.is_empty() {
            return;
        }
        let back = self.context.below(copies.len() as u64) as usize;
        note!(self.context, "the store has lost its last writes: copy {back} of {}", copies.len());
        self.replace(&copies[back]);
    }

    fn replace(&self, by: &MemoryStore) {
        let epoch = *self.replaced.lock() + 1;
        let new = by.copy(&format!("epoch-{epoch}"));
        let health = new.health().borrow().clone();
        *self.inner.lock() = new;
        *self.replaced.lock() = epoch;
        self.news.notify_waiters();
        if *self.fault.lock() != StoreFault::Away {
            self.tell(health);
        }
    }
}

fn away() -> StoreError {
    StoreError::Unreachable { address: "simulated".to_owned(), reason: "it is away".to_owned() }
}

impl Layer for SharedStore {
    async fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(MemoryStore) -> Answer<'a, T> + Send + 'a,
    ) -> Result<T, StoreError> {
        let (fault, fate) = (*self.fault.lock(), self.context.fate(1_000));
        match fault {
            StoreFault::None => {}
            StoreFault::Away => {
                let wait = if fate.percent(50) { TIMEOUT } else { Duration::from_millis(1) };
                tokio::time::sleep(wait).await;
                return Err(away());
            }
            StoreFault::Slow => tokio::time::sleep(fate.millis(2_500)).await,
            StoreFault::Flaky if fate.percent(30) => return Err(away()),
            StoreFault::Flaky => {}
        }
        let inner = self.inner.lock().clone();
        let done = call(inner).await;
        self.news.notify_waiters();
        if fault == StoreFault::Flaky && self.context.fate(1_001).percent(30) {
            return Err(away());
        }
        done
    }

    async fn follow<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Result<Changes, StoreError> {
        let (end, epoch) = (Instant::now() + wait, *self.replaced.lock());
        loop {
            let news = self.news.notified();
            let fault = *self.fault.lock();
            if fault == StoreFault::Away || epoch != *self.replaced.lock() {
                if fault == StoreFault::Away {
                    tokio::time::sleep(TIMEOUT).await;
                }
                return Err(away());
            }
            let inner = self.inner.lock().clone();
            let found = inner.changes(after, Duration::ZERO).await?;
            let is_news = !matches!(&found, Changes::News { changed, .. } if changed.is_empty());
            if is_news || tokio::time::timeout_at(end, news).await.is_err() {
                return if fault == StoreFault::Flaky && self.context.fate(1_002).percent(30) {
                    Err(away())
                } else {
                    Ok(found)
                };
            }
        }
    }

    fn shown_health(&self) -> watch::Receiver<Health> {
        let (follower, health) = watch::channel(self.health.lock().clone());
        self.followers.lock().push(follower);
        health
    }
}
