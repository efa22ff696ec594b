//! A store in Redis: one server, a master that Sentinels watch, or a Redis Cluster.
//!
//! `docs/redis.md` has the layout of keys, the settings, and what the user has to be permitted.

mod codec;
mod connect;
mod failure;
mod keys;
mod listing;
mod script;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use meshrelay_snapshot::canonical_json;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::StoreError;
use crate::model::{Changes, Cursor, Document, DocumentWritten, Head, Health, Lease, SnapshotId, Stored, Written};
use crate::settings::RedisSettings;
use crate::store::{Answer, SnapshotStore};
use keys::Keys;
use listing::{read_changes, read_heads};
use script::{Reply, Script};
use session::{Deadline, Known, Session, fresh};

/// Entries of the feed that are read at once.
const BATCH: usize = 1000;

/// How often a write is made anew against what other writers stored meanwhile, before it replaces everything.
const ATTEMPTS: usize = 5;

/// In place of what a write was made against: it replaces everything.
const EVERYTHING: &str = "*";

/// Longest time for which something is kept, milliseconds: a hundred years, which fits everywhere.
const LONGEST_TTL: u128 = 3_155_760_000_000;

/// A store in Redis. Dropping it ends its connections.
pub struct RedisStore {
    session: Arc<Session>,
    task: AbortHandle,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("settings", &self.session.settings).finish_non_exhaustive()
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RedisStore {
    /// Begins to connect, and returns at once: whether it is connected is told by [`SnapshotStore::health`]. Planes of
    /// different names share a Redis without seeing each other. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Settings`] when the settings cannot work.
    pub fn start(settings: RedisSettings, plane: &str) -> Result<Self, StoreError> {
        settings.check()?;
        let (session, suspected) = Session::new(settings, Keys::new(plane)?);
        let session = Arc::new(session);
        let task = tokio::spawn(Arc::clone(&session).keep(suspected)).abort_handle();
        Ok(Self { session, task })
    }

    fn keys(&self) -> &Keys {
        &self.session.keys
    }

    async fn run<const K: usize, const A: usize>(
        &self,
        script: &Script,
        keys: [String; K],
        arguments: [&[u8]; A],
        deadline: Deadline,
    ) -> Result<Reply, StoreError> {
        self.run_all(script, &keys, &arguments.map(<[u8]>::to_vec), deadline).await
    }

    async fn run_all(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[Vec<u8>],
        deadline: Deadline,
    ) -> Result<Reply, StoreError> {
        let keys: Vec<_> = std::iter::once(self.keys().store()).chain(keys.iter().cloned()).collect();
        Ok(self.session.call(script, &keys, arguments, deadline).await?.1)
    }

    fn kept(&self) -> String {
        self.session.settings.feed_length.to_string()
    }

    async fn put(&self, id: &SnapshotId, new: &Stored) -> Result<Written, StoreError> {
        new.refuse_secrets(id)?;
        let deadline = self.session.writing();
        let (rank, digests) = (new.rank(), new.snapshot().bucket_digests());
        let keys = [self.keys().feed(), self.keys().heads(), self.keys().snapshot(id)];
        let mut known = self.session.known.lock().get(id).cloned();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let known_rank = known.as_ref().map_or("", |known| known.rank.as_str());
            let base = if attempt > ATTEMPTS { EVERYTHING } else { known_rank };
            let index = known.as_ref().filter(|_| base != EVERYTHING).map(|known| codec::index(&known.digests));
            let codec::Difference { gone, fields } = codec::difference(new, &digests, index.as_deref());
            let mut arguments: Vec<Vec<u8>> = vec![
                fresh().into_bytes(),
                self.kept().into_bytes(),
                id.to_string().into_bytes(),
                new.version().to_string().into_bytes(),
                rank.clone().into_bytes(),
                base.as_bytes().to_vec(),
                gone.len().to_string().into_bytes(),
            ];
            arguments.extend(gone.into_iter().map(String::into_bytes));
            arguments.extend(fields);
            let reply = self.run_all(&script::PUT, &keys, &arguments, deadline).await?;
            let answer = PutAnswer::read(reply).map_err(unreadable(id))?;
            let written = match answer {
                PutAnswer::Written(written) => written,
                PutAnswer::Base(found) => {
                    known = found.map(Arc::new);
                    continue;
                }
            };
            if !matches!(written, Written::Newer(_)) {
                self.session.known.lock().insert(id.clone(), Arc::new(Known { rank, digests }));
            }
            return Ok(written);
        }
    }

    async fn load(&self, id: &SnapshotId, base: Option<&Stored>) -> Result<Option<Stored>, StoreError> {
        let index = base.map(|base| codec::index(&base.snapshot().bucket_digests())).unwrap_or_default();
        let rank = base.map(Stored::rank).unwrap_or_default();
        let arguments = [rank.as_bytes(), &index];
        let mut reply = self.run(&script::LOAD, [self.keys().snapshot(id)], arguments, self.session.reading()).await?;
        match reply.optional().map_err(unreadable(id))?.as_deref() {
            None => Ok(None),
            Some(b"same") => Ok(base.cloned()),
            Some(_) => codec::assemble(reply, base).map(Some).map_err(unreadable(id)),
        }
    }

    async fn heads(&self) -> Result<BTreeMap<SnapshotId, Head>, StoreError> {
        let key = self.keys().heads();
        let mut reply = self.run(&script::LIST, [key.clone()], [], self.session.reading()).await?;
        read_heads(&mut reply).map_err(unreadable(&key))
    }

    async fn remove(&self, id: &SnapshotId) -> Result<bool, StoreError> {
        let keys = [self.keys().feed(), self.keys().heads(), self.keys().snapshot(id)];
        let (fresh, kept, name) = (fresh(), self.kept(), id.to_string());
        let arguments = [fresh.as_bytes(), kept.as_bytes(), name.as_bytes()];
        let mut reply = self.run(&script::REMOVE, keys, arguments, self.session.writing()).await?;
        self.session.known.lock().remove(id);
        Ok(reply.number().map_err(unreadable(id))? > 0)
    }

    async fn document(&self, name: &str) -> Result<Option<Document>, StoreError> {
        let reply = self.run(&script::DOCUMENT, [self.keys().document(name)], [], self.session.reading()).await?;
        document(reply).map_err(unreadable(name))
    }

    async fn documents(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let key = self.keys().documents();
        let mut reply = self.run(&script::LIST, [key.clone()], [], self.session.reading()).await?;
        let mut documents = BTreeMap::new();
        while !reply.is_empty() {
            let (name, revision) =
                reply.text().and_then(|name| Ok((name, reply.number()?))).map_err(unreadable(&key))?;
            documents.insert(name, revision);
        }
        Ok(documents)
    }

    async fn put_document(
        &self,
        name: &str,
        expected: Option<u64>,
        value: &Value,
    ) -> Result<DocumentWritten, StoreError> {
        // By this name an attempt of this call is known whose answer was lost.
        let call = fresh();
        let keys = [self.keys().feed(), self.keys().documents(), self.keys().document(name)];
        let arguments = vec![
            fresh().into_bytes(),
            self.kept().into_bytes(),
            name.as_bytes().to_vec(),
            expected.map(|revision| revision.to_string()).unwrap_or_default().into_bytes(),
            call.into_bytes(),
            codec::pack(&canonical_json(value)),
        ];
        let mut reply = self.run_all(&script::PUT_DOCUMENT, &keys, &arguments, self.session.writing()).await?;
        match reply.text().map_err(unreadable(name))?.as_str() {
            "stored" => Ok(DocumentWritten::Stored(reply.number().map_err(unreadable(name))?)),
            _ => Ok(DocumentWritten::Conflict(document(reply).map_err(unreadable(name))?)),
        }
    }

    async fn remove_document(&self, name: &str, expected: Option<u64>) -> Result<Option<Document>, StoreError> {
        let keys = [self.keys().feed(), self.keys().documents(), self.keys().document(name)];
        let expected = expected.map(|revision| revision.to_string()).unwrap_or_default();
        let (fresh, kept) = (fresh(), self.kept());
        let arguments = [fresh.as_bytes(), kept.as_bytes(), name.as_bytes(), expected.as_bytes()];
        let mut reply = self.run(&script::REMOVE_DOCUMENT, keys, arguments, self.session.writing()).await?;
        match reply.text().map_err(unreadable(name))?.as_str() {
            "gone" => Ok(None),
            _ => document(reply).map_err(unreadable(name)),
        }
    }

    async fn set_live(&self, replica: &str, value: &Value, ttl: Duration) -> Result<(), StoreError> {
        let packed = codec::pack(&canonical_json(value));
        let millis = millis(ttl);
        let arguments = [replica.as_bytes(), millis.as_bytes(), &packed];
        self.run(&script::SET_LIVE, [self.keys().live()], arguments, self.session.writing()).await?;
        Ok(())
    }

    async fn live(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        let key = self.keys().live();
        let mut reply = self.run(&script::LIVE, [key.clone()], [], self.session.reading()).await?;
        let mut live = BTreeMap::new();
        while !reply.is_empty() {
            let replica = reply.text().map_err(unreadable(&key))?;
            let value = reply.bytes().and_then(|packed| json(&packed)).map_err(unreadable(&replica))?;
            live.insert(replica, value);
        }
        Ok(live)
    }

    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease, StoreError> {
        let (fresh, millis) = (fresh(), millis(ttl));
        let arguments = [fresh.as_bytes(), holder.as_bytes(), millis.as_bytes()];
        let mut reply =
            self.run(&script::ACQUIRE, [self.keys().lease(name)], arguments, self.session.writing()).await?;
        let mut read = || -> Result<Lease, String> {
            let (found, token, left) = (reply.text()?, reply.number()?, reply.text()?);
            // Negative: it ended at this very moment.
            let expires_in = Duration::from_millis(left.parse().unwrap_or(0));
            Ok(Lease { is_ours: found == holder, holder: found, token, expires_in })
        };
        read().map_err(unreadable(name))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<bool, StoreError> {
        let arguments = [holder.as_bytes()];
        let mut reply =
            self.run(&script::RELEASE, [self.keys().lease(name)], arguments, self.session.writing()).await?;
        Ok(reply.number().map_err(unreadable(name))? > 0)
    }

    async fn changes(&self, after: &Cursor, wait: Duration) -> Result<Changes, StoreError> {
        let (mut newest, mut health) = (self.session.newest.subscribe(), self.session.health.subscribe());
        let end = Instant::now() + wait;
        loop {
            newest.mark_unchanged();
            health.mark_unchanged();
            let found = self.changes_now(after).await?;
            match &found {
                Changes::News { changed, .. } if changed.is_empty() => {}
                _ => return Ok(found),
            }
            let event = async {
                tokio::select! {
                    _ = newest.changed() => {}
                    _ = health.changed() => {}
                }
            };
            if timeout_at(end, event).await.is_err() {
                return Ok(found);
            }
        }
    }

    async fn changes_now(&self, after: &Cursor) -> Result<Changes, StoreError> {
        let from = format!("{}-0", after.number.saturating_add(1));
        let keys = [self.keys().store(), self.keys().feed()];
        let arguments = [from.into_bytes(), BATCH.to_string().into_bytes()];
        let (link, reply) = self.session.call(&script::CHANGES, &keys, &arguments, self.session.reading()).await?;
        let read = read_changes(reply, after.number).map_err(unreadable(self.keys().feed()))?;
        if read.store.as_deref() != Some(&link.store) {
            // It was emptied; the connection notices at the latest when it looks again, which is now.
            let reason = "it has lost its data".to_owned();
            let error = StoreError::Unreachable { address: self.session.settings.address.clone(), reason };
            self.session.suspect(&link, error.clone());
            return Err(error);
        }
        let cursor = |number| Cursor { epoch: Some(link.epoch.clone()), number };
        Ok(match read.changed {
            Some(changed) if after.epoch.as_ref() == Some(&link.epoch) => {
                Changes::News { changed, cursor: cursor(read.last) }
            }
            _ => Changes::CatchUp { cursor: cursor(read.number) },
        })
    }
}

/// What a write of a snapshot came to.
enum PutAnswer {
    Written(Written),
    /// Something else is there than the write was made against: this, or nothing.
    Base(Option<Known>),
}

impl PutAnswer {
    fn read(mut reply: Reply) -> Result<Self, String> {
        Ok(match reply.text()?.as_str() {
            "stored" => Self::Written(Written::Stored),
            "same" => Self::Written(Written::Same),
            "newer" => Self::Written(Written::Newer(codec::head(&reply.bytes()?)?)),
            _ => match (reply.optional()?, reply.optional()?) {
                (Some(rank), Some(index)) => {
                    let rank = String::from_utf8(rank).map_err(|_| "its rank is not text".to_owned())?;
                    Self::Base(Some(Known { rank, digests: codec::digests(&index)? }))
                }
                _ => Self::Base(None),
            },
        })
    }
}

fn document(mut reply: Reply) -> Result<Option<Document>, String> {
    if reply.is_empty() {
        return Ok(None);
    }
    let Some(revision) = reply.optional()? else { return Ok(None) };
    let revision = std::str::from_utf8(&revision).ok().and_then(|text| text.parse().ok());
    let revision = revision.ok_or("its revision is no number")?;
    Ok(Some(Document { revision, value: Arc::new(json(&reply.bytes()?)?) }))
}

fn json(packed: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(&codec::unpack(packed)?).map_err(|error| error.to_string())
}

fn unreadable(what: impl ToString) -> impl FnOnce(String) -> StoreError {
    let what = what.to_string();
    move |problem| StoreError::Unreadable { what, problem }
}

/// Whole milliseconds, rounded up: what is short is not nothing.
fn millis(ttl: Duration) -> String {
    ttl.as_nanos().div_ceil(1_000_000).min(LONGEST_TTL).to_string()
}

impl SnapshotStore for RedisStore {
    fn put<'a>(&'a self, id: &'a SnapshotId, new: &'a Stored) -> Answer<'a, Written> {
        self.put(id, new).boxed()
    }

    fn load<'a>(&'a self, id: &'a SnapshotId, base: Option<&'a Stored>) -> Answer<'a, Option<Stored>> {
        self.load(id, base).boxed()
    }

    fn heads(&self) -> Answer<'_, BTreeMap<SnapshotId, Head>> {
        self.heads().boxed()
    }

    fn remove<'a>(&'a self, id: &'a SnapshotId) -> Answer<'a, bool> {
        self.remove(id).boxed()
    }

    fn document<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Document>> {
        self.document(name).boxed()
    }

    fn documents(&self) -> Answer<'_, BTreeMap<String, u64>> {
        self.documents().boxed()
    }

    fn put_document<'a>(
        &'a self,
        name: &'a str,
        expected: Option<u64>,
        value: &'a Value,
    ) -> Answer<'a, DocumentWritten> {
        self.put_document(name, expected, value).boxed()
    }

    fn remove_document<'a>(&'a self, name: &'a str, expected: Option<u64>) -> Answer<'a, Option<Document>> {
        self.remove_document(name, expected).boxed()
    }

    fn set_live<'a>(&'a self, replica: &'a str, value: &'a Value, ttl: Duration) -> Answer<'a, ()> {
        self.set_live(replica, value, ttl).boxed()
    }

    fn live(&self) -> Answer<'_, BTreeMap<String, Value>> {
        self.live().boxed()
    }

    fn acquire_lease<'a>(&'a self, name: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.acquire(name, holder, ttl).boxed()
    }

    fn release_lease<'a>(&'a self, name: &'a str, holder: &'a str) -> Answer<'a, bool> {
        self.release(name, holder).boxed()
    }

    fn changes<'a>(&'a self, after: &'a Cursor, wait: Duration) -> Answer<'a, Changes> {
        self.changes(after, wait).boxed()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.session.health.subscribe()
    }
}
