use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use crate::StoreError;
use crate::model::{Changes, Cursor, Document, DocumentWritten, Head, Health, Lease, SnapshotId, Stored, Written};

/// What a store answers, within its time-out.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What replicas of one management plane share.
///
/// Every call is atomic: others see all of what it did or nothing. A call that failed may have been done all the same,
/// and every call can be made again: none does harm the second time.
pub trait SnapshotStore: fmt::Debug + Send + Sync {
    /// Stores a version of a snapshot, if what is there is older. Only what differs from it is written.
    fn put<'a>(&'a self, id: &'a SnapshotId, new: &'a Stored) -> Answer<'a, Written>;

    /// The snapshot as it is now. With a `base`, only what differs from it is read, and the rest is shared with it.
    fn load<'a>(&'a self, id: &'a SnapshotId, base: Option<&'a Stored>) -> Answer<'a, Option<Stored>>;

    /// What snapshots there are.
    fn heads(&self) -> Answer<'_, BTreeMap<SnapshotId, Head>>;

    /// Removes a snapshot; tells whether it was there. Nothing is remembered of it: any version can be stored again.
    fn remove<'a>(&'a self, id: &'a SnapshotId) -> Answer<'a, bool>;

    /// The document of that name.
    fn document<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Document>>;

    /// What documents there are, with their revisions.
    fn documents(&self) -> Answer<'_, BTreeMap<String, u64>>;

    /// Writes a document if its revision is the `expected` one: 0 when there must be none, `None` whatever is there.
    fn put_document<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        value: &'a Value,
    ) -> Answer<'a, DocumentWritten>;

    /// Removes a document if its revision is the `expected` one, `None` whatever is there. Gives nothing when it is gone
    /// now, or was not there; what is there instead of the expected one otherwise.
    fn remove_document<'a>(&'a self, name: &'a str, expected: Option<u64>) -> Answer<'a, Option<Document>>;

    /// Says how a replica is, for so long; no time at all takes it back. Not part of the feed of changes.
    fn set_live<'a>(&'a self, replica: &'a str, value: &'a Value, ttl: Duration) -> Answer<'a, ()>;

    /// How the replicas are that said so not too long ago, by the store's clock.
    fn live(&self) -> Answer<'_, BTreeMap<String, Value>>;

    /// Takes a lease that nobody has, or renews one's own, for so long by the store's clock.
    fn acquire_lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease>;

    /// Gives a lease back; tells whether it was the holder's.
    fn release_lease<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, bool>;

    /// What changed after a place in the feed, at the latest after `wait`. A new [`Cursor`] begins with catching up.
    fn changes<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Answer<'a, Changes>;

    /// State of the store, followed without calls.
    fn health(&self) -> watch::Receiver<Health>;
}
