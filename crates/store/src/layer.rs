//! A store in memory with something in between: what tests put there to make calls fail, be late, or hang.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::Value;
use tokio::sync::watch;

use crate::model::{Changes, Cursor, Document, DocumentWritten, Head, Health, Lease, SnapshotId, Stored, Written};
use crate::store::{Answer, SnapshotStore};
use crate::{MemoryStore, StoreError};

/// A call that may be refused by itself.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Reads this snapshot.
    Load(&'a SnapshotId),
    /// Writes this version of a snapshot.
    Put(&'a SnapshotId, &'a Stored),
    /// Writes a document, or removes something.
    Write,
}

/// What is between callers and a store in memory: whatever is such a layer is a [`SnapshotStore`].
pub trait Layer: fmt::Debug + Send + Sync {
    /// Why a call fails, though others may not. It is asked before the call is made.
    fn refusal(&self, _: Call<'_>) -> Option<StoreError> {
        None
    }

    /// Makes a call or does not, with a store that the layer picks.
    fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(MemoryStore) -> Answer<'a, T> + Send + 'a,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'a;

    /// Waits for changes: a call like any other, unless the layer has to see what becomes of the wait.
    fn follow<'a>(
        &'a self,
        after: &'a Cursor,
        wait: Duration,
    ) -> impl Future<Output = Result<Changes, StoreError>> + Send + 'a {
        self.call(move |store| async move { store.changes(after, wait).await }.boxed())
    }

    /// State of the store as callers see it.
    fn shown_health(&self) -> watch::Receiver<Health>;
}

/// Makes a call that the layer may refuse.
fn refusable<'a, L: Layer, T: Send + 'a>(
    layer: &'a L,
    kind: Call<'a>,
    call: impl FnOnce(MemoryStore) -> Answer<'a, T> + Send + 'a,
) -> Answer<'a, T> {
    async move {
        match layer.refusal(kind) {
            Some(error) => Err(error),
            None => layer.call(call).await,
        }
    }
    .boxed()
}

impl<L: Layer> SnapshotStore for L {
    fn put<'a>(&'a self, id: &'a SnapshotId, new: &'a Stored) -> Answer<'a, Written> {
        refusable(self, Call::Put(id, new), move |store| async move { store.put(id, new).await }.boxed())
    }

    fn load<'a>(&'a self, id: &'a SnapshotId, base: Option<&'a Stored>) -> Answer<'a, Option<Stored>> {
        refusable(self, Call::Load(id), move |store| async move { store.load(id, base).await }.boxed())
    }

    fn heads(&self) -> Answer<'_, BTreeMap<SnapshotId, Head>> {
        self.call(move |store| async move { store.heads().await }.boxed()).boxed()
    }

    fn remove<'a>(&'a self, id: &'a SnapshotId) -> Answer<'a, bool> {
        refusable(self, Call::Write, move |store| async move { store.remove(id).await }.boxed())
    }

    fn document<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Document>> {
        self.call(move |store| async move { store.document(name).await }.boxed()).boxed()
    }

    fn documents(&self) -> Answer<'_, BTreeMap<String, u64>> {
        self.call(move |store| async move { store.documents().await }.boxed()).boxed()
    }

    fn put_document<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        value: &'a Value,
    ) -> Answer<'a, DocumentWritten> {
        refusable(self, Call::Write, move |store| {
            async move { store.put_document(name, expected, value).await }.boxed()
        })
    }

    fn remove_document<'a>(&'a self, name: &'a str, expected: Option<u64>) -> Answer<'a, Option<Document>> {
        refusable(self, Call::Write, move |store| async move { store.remove_document(name, expected).await }.boxed())
    }

    fn set_live<'a>(&'a self, replica: &'a str, value: &'a Value, ttl: Duration) -> Answer<'a, ()> {
        self.call(move |store| async move { store.set_live(replica, value, ttl).await }.boxed()).boxed()
    }

    fn live(&self) -> Answer<'_, BTreeMap<String, Value>> {
        self.call(move |store| async move { store.live().await }.boxed()).boxed()
    }

    fn acquire_lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.call(move |store| async move { store.acquire_lease(name, holder, ttl).await }.boxed()).boxed()
    }

    fn release_lease<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, bool> {
        self.call(move |store| async move { store.release_lease(name, holder).await }.boxed()).boxed()
    }

    fn changes<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Answer<'a, Changes> {
        self.follow(after, wait).boxed()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shown_health()
    }
}
