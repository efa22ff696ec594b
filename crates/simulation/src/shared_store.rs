//! The store of the plane, and what can be wrong with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use meshrelay_store::{
    Answer, Changes, Cursor, Document, DocumentWritten, Head, Health, Lease, MemoryStore, Reach, SnapshotId,
    SnapshotStore, StoreError, Stored, Written,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

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
    health: watch::Sender<Health>,
    /// How often it became another store.
    replaced: watch::Sender<u64>,
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
            health: watch::Sender::new(health),
            replaced: watch::Sender::new(0),
        }
    }

    pub(crate) fn set_fault(&self, fault: StoreFault) {
        note!(self.context, "the store: {fault:?}");
        *self.fault.lock() = fault;
        let mut health = self.inner.lock().health().borrow().clone();
        if fault == StoreFault::Away {
            health.reach = Reach::Away { since: Timestamp::UNIX_EPOCH, error: away() };
        }
        self.health.send_replace(health);
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
        let epoch = *self.replaced.borrow() + 1;
        let new = by.copy(&format!("epoch-{epoch}"));
        let health = new.health().borrow().clone();
        *self.inner.lock() = new;
        self.replaced.send_replace(epoch);
        if *self.fault.lock() != StoreFault::Away {
            self.health.send_replace(health);
        }
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl for<'s> FnOnce(&'s MemoryStore) -> Answer<'s, T> + Send + 'a,
    ) -> Answer<'a, T> {
        async move {
            let fault = *self.fault.lock();
            match fault {
                StoreFault::None => {}
                StoreFault::Away => {
                    let wait = if self.context.chance(0.5) { TIMEOUT } else { Duration::from_millis(1) };
                    tokio::time::sleep(wait).await;
                    return Err(away());
                }
                StoreFault::Slow => tokio::time::sleep(self.context.millis(2_500)).await,
                StoreFault::Flaky if self.context.chance(0.3) => return Err(away()),
                StoreFault::Flaky => {}
            }
            let inner = self.inner.lock().clone();
            let done = call(&inner).await;
            if fault == StoreFault::Flaky && self.context.chance(0.3) {
                return Err(away());
            }
            done
        }
        .boxed()
    }
}

fn away() -> StoreError {
    StoreError::Unreachable { address: "simulated".to_owned(), reason: "it is away".to_owned() }
}

impl SnapshotStore for SharedStore {
    fn put<'a>(&'a self, id: &'a SnapshotId, new: &'a Stored) -> Answer<'a, Written> {
        let (id, new) = (id.clone(), new.clone());
        self.call(move |store| {
            let store = store.clone();
            async move { store.put(&id, &new).await }.boxed()
        })
    }

    fn load<'a>(&'a self, id: &'a SnapshotId, base: Option<&'a Stored>) -> Answer<'a, Option<Stored>> {
        let (id, base) = (id.clone(), base.cloned());
        self.call(move |store| {
            let store = store.clone();
            async move { store.load(&id, base.as_ref()).await }.boxed()
        })
    }

    fn heads(&self) -> Answer<'_, BTreeMap<SnapshotId, Head>> {
        self.call(|store| store.heads())
    }

    fn remove<'a>(&'a self, id: &'a SnapshotId) -> Answer<'a, bool> {
        let id = id.clone();
        self.call(move |store| {
            let store = store.clone();
            async move { store.remove(&id).await }.boxed()
        })
    }

    fn document<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Document>> {
        let name = name.to_owned();
        self.call(move |store| {
            let store = store.clone();
            async move { store.document(&name).await }.boxed()
        })
    }

    fn documents(&self) -> Answer<'_, BTreeMap<String, u64>> {
        self.call(|store| store.documents())
    }

    fn put_document<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        value: &'a Value,
    ) -> Answer<'a, DocumentWritten> {
        let (name, value) = (name.to_owned(), value.clone());
        self.call(move |store| {
            let store = store.clone();
            async move { store.put_document(&name, expected, &value).await }.boxed()
        })
    }

    fn remove_document<'a>(&'a self, name: &'a str, expected: Option<u64>) -> Answer<'a, Option<Document>> {
        let name = name.to_owned();
        self.call(move |store| {
            let store = store.clone();
            async move { store.remove_document(&name, expected).await }.boxed()
        })
    }

    fn set_live<'a>(&'a self, replica: &'a str, value: &'a Value, ttl: Duration) -> Answer<'a, ()> {
        let (replica, value) = (replica.to_owned(), value.clone());
        self.call(move |store| {
            let store = store.clone();
            async move { store.set_live(&replica, &value, ttl).await }.boxed()
        })
    }

    fn live(&self) -> Answer<'_, BTreeMap<String, Value>> {
        self.call(|store| store.live())
    }

    fn acquire_lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.call(move |store| {
            let store = store.clone();
            async move { store.acquire_lease(&name, &holder, ttl).await }.boxed()
        })
    }

    fn release_lease<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, bool> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.call(move |store| {
            let store = store.clone();
            async move { store.release_lease(&name, &holder).await }.boxed()
        })
    }

    fn changes<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Answer<'a, Changes> {
        let (after, mut replaced) = (after.clone(), self.replaced.subscribe());
        self.call(move |store| {
            let store = store.clone();
            async move {
                tokio::select! {
                    biased;
                    _ = replaced.changed() => Err(away()),
                    changes = store.changes(&after, wait) => changes,
                }
            }
            .boxed()
        })
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}
