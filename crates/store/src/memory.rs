//! A store in memory, for one process: what a sandbox runs with, and what Redis has to behave like.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::model::{
    Changes, Cursor, Document, DocumentWritten, Epoch, Head, Health, Lease, Reach, SnapshotId, Stored, Subject, Written,
};
use crate::store::{Answer, SnapshotStore};

/// Changes that are kept by default; who is further behind catches up.
const FEED: usize = 10_000;

/// A store in memory. Clones share it, as replicas share a Redis.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    epoch: Epoch,
    newest: watch::Sender<u64>,
    health: watch::Sender<Health>,
}

#[derive(Clone, Debug)]
struct State {
    snapshots: BTreeMap<SnapshotId, Stored>,
    documents: BTreeMap<String, Document>,
    live: BTreeMap<String, (Value, Instant)>,
    leases: BTreeMap<String, Held>,
    feed: VecDeque<(Subject, Option<u64>)>,
    kept: usize,
    /// Number of the last change; the feed ends with it.
    number: u64,
    token: u64,
}

#[derive(Clone, Debug)]
struct Held {
    holder: String,
    token: u64,
    until: Instant,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_feed(FEED)
    }
}

impl MemoryStore {
    /// An empty store whose feed keeps so many changes.
    pub fn with_feed(kept: usize) -> Self {
        let state = State {
            snapshots: BTreeMap::new(),
            documents: BTreeMap::new(),
            live: BTreeMap::new(),
            leases: BTreeMap::new(),
            feed: VecDeque::new(),
            kept,
            number: 0,
            token: 0,
        };
        Self::of(state, "memory")
    }

    /// Another store with what this one holds now, as one that is restored from a copy; `epoch` tells it from others.
    pub fn copy(&self, epoch: &str) -> Self {
        Self::of(self.shared.state.lock().clone(), epoch)
    }

    fn of(state: State, epoch: &str) -> Self {
        let epoch = Epoch::new(epoch);
        let health = Health { reach: Reach::Connected, epoch: Some(epoch.clone()) };
        let newest = watch::Sender::new(state.number);
        let shared = Shared { state: Mutex::new(state), epoch, newest, health: watch::Sender::new(health) };
        Self { shared: Arc::new(shared) }
    }

    /// Does something with the state, which is never waited for long.
    fn with<'a, T>(&'a self, work: impl FnOnce(&mut State) -> T + Send + 'a) -> Answer<'a, T> {
        async move {
            let (result, number) = {
                let mut state = self.shared.state.lock();
                (work(&mut state), state.number)
            };
            self.shared.newest.send_if_modified(|newest| std::mem::replace(newest, number) != number);
            Ok(result)
        }
        .boxed()
    }
}

impl State {
    fn changed(&mut self, subject: Subject, version: Option<u64>) {
        self.number += 1;
        self.feed.push_back((subject, version));
        while self.feed.len() > self.kept {
            self.feed.pop_front();
        }
    }

    fn put(&mut self, id: &SnapshotId, new: &Stored) -> Written {
        if let Some(there) = self.snapshots.get(id) {
            match there.rank().cmp(&new.rank()) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Written::Same,
                std::cmp::Ordering::Greater => return Written::Newer(there.head()),
            }
        }
        self.snapshots.insert(id.clone(), new.clone());
        self.changed(Subject::Snapshot(id.clone()), Some(new.version()));
        Written::Stored
    }

    fn remove(&mut self, id: &SnapshotId) -> bool {
        let removed = self.snapshots.remove(id).is_some();
        if removed {
            self.changed(Subject::Snapshot(id.clone()), None);
        }
        removed
    }

    fn put_document(&mut self, name: &str, expected: Option<u64>, value: &Value) -> DocumentWritten {
        let there = self.documents.get(name);
        if expected.is_some_and(|expected| expected != there.map_or(0, |document| document.revision)) {
            return DocumentWritten::Conflict(there.cloned());
        }
        let revision = self.number + 1;
        self.documents.insert(name.to_owned(), Document { revision, value: Arc::new(value.clone()) });
        self.changed(Subject::Document(name.to_owned()), Some(revision));
        DocumentWritten::Stored(revision)
    }

    fn remove_document(&mut self, name: &str, expected: Option<u64>) -> Option<Document> {
        let there = self.documents.get(name)?;
        if expected.is_some_and(|expected| expected != there.revision) {
            return Some(there.clone());
        }
        self.documents.remove(name);
        self.changed(Subject::Document(name.to_owned()), None);
        None
    }

    fn acquire(&mut self, name: &str, holder: &str, ttl: Duration) -> Lease {
        let now = Instant::now();
        let token = match self.leases.get(name).filter(|held| held.until > now) {
            Some(held) if held.holder != holder => {
                return Lease {
                    holder: held.holder.clone(),
                    is_ours: false,
                    token: held.token,
                    expires_in: held.until - now,
                };
            }
            Some(held) => held.token,
            None => {
                self.token += 1;
                self.token
            }
        };
        self.leases.insert(name.to_owned(), Held { holder: holder.to_owned(), token, until: now + ttl });
        Lease { holder: holder.to_owned(), is_ours: true, token, expires_in: ttl }
    }

    fn release(&mut self, name: &str, holder: &str) -> bool {
        let now = Instant::now();
        let ours = self.leases.get(name).is_some_and(|held| held.holder == holder && held.until > now);
        if ours {
            self.leases.remove(name);
        }
        ours
    }

    fn changes(&self, epoch: &Epoch, after: &Cursor) -> Changes {
        let cursor = Cursor { epoch: Some(epoch.clone()), number: self.number };
        let behind = self.number.checked_sub(after.number).and_then(|behind| usize::try_from(behind).ok());
        let first = behind.and_then(|behind| self.feed.len().checked_sub(behind));
        match first {
            Some(first) if after.epoch.as_ref() == Some(epoch) => {
                Changes::News { changed: self.feed.range(first..).cloned().collect(), cursor }
            }
            _ => Changes::CatchUp { cursor },
        }
    }
}

impl SnapshotStore for MemoryStore {
    fn put<'a>(&'a self, id: &'a SnapshotId, new: &'a Stored) -> Answer<'a, Written> {
        async move {
            new.refuse_secrets(id)?;
            self.with(|state| state.put(id, new)).await
        }
        .boxed()
    }

    fn load<'a>(&'a self, id: &'a SnapshotId, base: Option<&'a Stored>) -> Answer<'a, Option<Stored>> {
        self.with(move |state| state.snapshots.get(id).map(|there| there.sharing(base)))
    }

    fn heads(&self) -> Answer<'_, BTreeMap<SnapshotId, Head>> {
        self.with(|state| state.snapshots.iter().map(|(id, stored)| (id.clone(), stored.head())).collect())
    }

    fn remove<'a>(&'a self, id: &'a SnapshotId) -> Answer<'a, bool> {
        self.with(|state| state.remove(id))
    }

    fn document<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Document>> {
        self.with(|state| state.documents.get(name).cloned())
    }

    fn documents(&self) -> Answer<'_, BTreeMap<String, u64>> {
        self.with(|state| state.documents.iter().map(|(name, one)| (name.clone(), one.revision)).collect())
    }

    fn put_document<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        value: &'a Value,
    ) -> Answer<'a, DocumentWritten> {
        self.with(move |state| state.put_document(name, expected, value))
    }

    fn remove_document<'a>(&'a self, name: &'a str, expected: Option<u64>) -> Answer<'a, Option<Document>> {
        self.with(move |state| state.remove_document(name, expected))
    }

    fn set_live<'a>(&'a self, replica: &'a str, value: &'a Value, ttl: Duration) -> Answer<'a, ()> {
        self.with(move |state| {
            state.live.insert(replica.to_owned(), (value.clone(), Instant::now() + ttl));
        })
    }

    fn live(&self) -> Answer<'_, BTreeMap<String, Value>> {
        self.with(|state| {
            let now = Instant::now();
            state.live.retain(|_, (_, until)| *until > now);
            state.live.iter().map(|(replica, (value, _))| (replica.clone(), value.clone())).collect()
        })
    }

    fn acquire_lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.with(move |state| state.acquire(name, holder, ttl))
    }

    fn release_lease<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, bool> {
        self.with(|state| state.release(name, holder))
    }

    fn changes<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Answer<'a, Changes> {
        let mut newest = self.shared.newest.subscribe();
        async move {
            let end = Instant::now() + wait;
            loop {
                newest.mark_unchanged();
                let found = self.shared.state.lock().changes(&self.shared.epoch, after);
                match &found {
                    Changes::News { changed, .. } if changed.is_empty() => {}
                    _ => return Ok(found),
                }
                if !matches!(timeout_at(end, newest.changed()).await, Ok(Ok(()))) {
                    return Ok(found);
                }
            }
        }
        .boxed()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }
}
