use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::{ContentHash, Object, ObjectKey, Snapshot, SnapshotMeta};
use prost::Message as _;

use super::withhold::Outgoing;
use crate::Limits;
use crate::wire::chunk::Entries;
use crate::wire::{Basis, Begin, Chunk, Commit, Frame, Withheld, codec};

/// How a version travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferKind {
    /// What changed since the last acknowledged version.
    Delta,
    /// The buckets that differ.
    Buckets,
    /// Everything.
    Full,
}

/// One version on its way. Frames are made one by one, when there is room for them.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) nonce: u64,
    pub(super) version: u64,
    pub(super) kind: TransferKind,
    pub(super) outgoing: Outgoing,
    basis: Option<Basis>,
    upserts: std::vec::IntoIter<Arc<Object>>,
    removes: std::vec::IntoIter<ObjectKey>,
    meta: Option<SnapshotMeta>,
    /// How many withheld objects are listed already.
    listed: usize,
    index: u32,
    /// When the commit was written.
    pub(super) sent_at: Option<Duration>,
}

impl Transfer {
    pub(super) fn delta(nonce: u64, version: u64, outgoing: Outgoing, base: &Snapshot, digest: ContentHash) -> Self {
        let delta = outgoing.snapshot.diff(base);
        let mut transfer = Self::new(nonce, version, TransferKind::Delta, outgoing, Basis::Delta(digest));
        transfer.upserts = delta.upserts.into_iter();
        transfer.removes = delta.removes.into_iter();
        transfer.meta = delta.meta;
        transfer
    }

    pub(super) fn full(nonce: u64, version: u64, outgoing: Outgoing) -> Self {
        let upserts: Vec<_> = outgoing.snapshot.iter().cloned().collect();
        let mut transfer = Self::new(nonce, version, TransferKind::Full, outgoing, Basis::Full);
        transfer.upserts = upserts.into_iter();
        transfer
    }

    /// `held` are the receiver's bucket digests.
    pub(super) fn buckets(
        nonce: u64,
        version: u64,
        outgoing: Outgoing,
        base: ContentHash,
        held: &[ContentHash],
    ) -> Self {
        let ours = outgoing.snapshot.bucket_digests();
        let differing: BTreeSet<usize> = ours
            .iter()
            .zip(held)
            .enumerate()
            .filter(|(_, (our, their))| our != their)
            .map(|(index, _)| index)
            .collect();
        let upserts: Vec<_> = differing.iter().flat_map(|&bucket| outgoing.snapshot.bucket(bucket).cloned()).collect();
        let numbers = differing.into_iter().filter_map(|bucket| u32::try_from(bucket).ok()).collect();
        let mut transfer = Self::new(nonce, version, TransferKind::Buckets, outgoing, Basis::Buckets(base, numbers));
        transfer.upserts = upserts.into_iter();
        transfer
    }

    fn new(nonce: u64, version: u64, kind: TransferKind, outgoing: Outgoing, basis: Basis) -> Self {
        Self {
            nonce,
            version,
            kind,
            basis: Some(basis),
            upserts: Vec::new().into_iter(),
            removes: Vec::new().into_iter(),
            meta: Some(outgoing.snapshot.meta().clone()),
            listed: 0,
            outgoing,
            index: 0,
            sent_at: None,
        }
    }

    /// The key of the object with that content.
    pub(super) fn key_of(&self, hash: ContentHash) -> Option<ObjectKey> {
        self.outgoing.snapshot.iter().find(|object| object.hash() == hash).map(|object| object.key().clone())
    }

    /// The next frame; `None` once the commit is out. `budget` is the size of a chunk that the receiver takes.
    pub(super) fn next_frame(&mut self, now: Duration, limits: &Limits, budget: usize) -> Option<Frame> {
        if let Some(basis) = self.basis.take() {
            return Some(Frame::Begin(Begin { nonce: self.nonce, version: self.version, basis }));
        }
        let entries = self.next_entries(limits, budget);
        if !entries.is_empty() {
            let (nonce, index) = (self.nonce, self.index);
            self.index += 1;
            return Some(Frame::Chunk(Chunk { nonce, index, payload: entries.encode(limits.chunk_ratio) }));
        }
        if self.sent_at.is_some() {
            return None;
        }
        self.sent_at = Some(now);
        Some(Frame::Commit(Commit {
            nonce: self.nonce,
            version: self.version,
            digest: self.outgoing.digest,
            objects: self.outgoing.snapshot.len() as u64,
            withheld_digest: Withheld::digest(&*self.outgoing.withheld),
        }))
    }

    fn next_entries(&mut self, limits: &Limits, budget: usize) -> Entries {
        let mut entries = Entries::default();
        let fits = |entries: &Entries, bytes| entries.fits(bytes, budget, limits.chunk_entries);
        if let Some(meta) = self.meta.take() {
            entries.meta(&meta);
        }
        while let Some(key) = self.removes.as_slice().first() {
            if !fits(&entries, codec::encode_key(key).encoded_len()) {
                return entries;
            }
            entries.remove(key);
            self.removes.next();
        }
        while let Some(withheld) = self.outgoing.withheld.get(self.listed) {
            if !fits(&entries, codec::encode_withheld(withheld).len()) {
                return entries;
            }
            entries.withheld(withheld);
            self.listed += 1;
        }
        while let Some(object) = self.upserts.as_slice().first() {
            if !fits(&entries, object.pieces().len()) {
                return entries;
            }
            entries.upsert(object);
            self.upserts.next();
        }
        entries
    }
}
