use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::{ContentHash, Snapshot};

use super::held::Held;
use crate::wire::chunk::{self, Decoded};
use crate::wire::{Basis, Begin, Chunk, Commit, Withheld};
use crate::{Limits, NackReason};

/// Most refused objects that one nack names.
const MAX_REFUSED: usize = 256;

/// Why a transfer is not accepted: the reason, what was expected and found, and refused objects.
pub(super) type Rejection = (NackReason, String, Vec<(ContentHash, String)>);

/// A transfer that has not been committed: a copy of the base that shares what it does not change.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) nonce: u64,
    version: u64,
    /// When the last part of it came.
    pub(super) progress: Duration,
    snapshot: Snapshot,
    withheld: Vec<Withheld>,
    refused: Vec<(ContentHash, String)>,
    next_index: u32,
    bytes: usize,
    entries: usize,
}

impl Staging {
    pub(super) fn begin(now: Duration, begin: Begin, held: Option<&Held>) -> Result<Self, Rejection> {
        let based = |base: ContentHash| match held {
            Some(held) if held.digest() == base => Ok(Snapshot::clone(held.sent())),
            other => {
                let found = other.map_or_else(|| "nothing".to_owned(), |held| held.digest().short());
                let message =
                    format!("expected a transfer from what is held here ({found}), found one from {}", base.short());
                Err((NackReason::BaseMismatch, message, Vec::new()))
            }
        };
        let snapshot = match begin.basis {
            Basis::Full => Snapshot::new(),
            Basis::Delta(base) => based(base)?,
            Basis::Buckets(base, buckets) => {
                let mut snapshot = based(base)?;
                for bucket in buckets {
                    let keys: Vec<_> = snapshot.bucket(bucket as usize).map(|object| object.key().clone()).collect();
                    for key in &keys {
                        snapshot.remove(key);
                    }
                }
                snapshot
            }
        };
        Ok(Self {
            nonce: begin.nonce,
            version: begin.version,
            progress: now,
            snapshot,
            withheld: Vec::new(),
            refused: Vec::new(),
            next_index: 0,
            bytes: 0,
            entries: 0,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, now: Duration, chunk: &Chunk, limits: &Limits) -> Result<(), Rejection> {
        if chunk.index != self.next_index {
            let message = format!("expected chunk {}, found chunk {}", self.next_index, chunk.index);
            return Err((NackReason::MalformedChunk, message, Vec::new()));
        }
        let decoded =
            chunk::decode(&chunk.payload, limits).map_err(|(reason, message)| (reason, message, Vec::new()))?;
        self.bytes = self.bytes.saturating_add(decoded.bytes);
        self.entries = self.entries.saturating_add(decoded.entries());
        if self.bytes > limits.staged_bytes || self.entries > limits.staged_entries {
            let message = format!(
                "expected a transfer of at most {} bytes and {} entries, found {} bytes and {} entries before its end",
                limits.staged_bytes, limits.staged_entries, self.bytes, self.entries,
            );
            return Err((NackReason::OversizeTransfer, message, Vec::new()));
        }
        self.next_index += 1;
        self.progress = now;
        self.apply(decoded);
        Ok(())
    }

    fn apply(&mut self, decoded: Decoded) {
        for key in &decoded.removes {
            self.snapshot.remove(key);
        }
        for object in decoded.upserts {
            self.snapshot.insert(Arc::new(object));
        }
        if let Some(meta) = decoded.meta {
            self.snapshot.set_meta(meta);
        }
        self.withheld.extend(decoded.withheld);
        self.refused.extend(decoded.refused);
        self.refused.truncate(MAX_REFUSED);
    }

    /// What would be held if the transfer ended here.
    #[cfg(test)]
    pub(super) fn premature(&self, before: Option<&Held>) -> Held {
        Held::committed(self.snapshot.clone(), self.snapshot.digest(), self.version, self.withheld.clone(), before)
    }

    pub(super) fn commit(self, commit: &Commit, before: Option<&Held>) -> Result<Held, Rejection> {
        if !self.refused.is_empty() {
            let message = format!("expected acceptable objects, found {} that are not", self.refused.len());
            return Err((NackReason::RefusedObjects, message, self.refused));
        }
        let (digest, objects) = (self.snapshot.digest(), self.snapshot.len() as u64);
        let withheld_digest = Withheld::digest(&self.withheld);
        if digest != commit.digest
            || objects != commit.objects
            || withheld_digest != commit.withheld_digest
            || self.version != commit.version
        {
            let message = format!(
                "expected {} objects of version {} with the digest {}, found {objects} of version {} with {}{}",
                commit.objects,
                commit.version,
                commit.digest.short(),
                self.version,
                digest.short(),
                if withheld_digest == commit.withheld_digest { "" } else { ", and another list of withheld objects" },
            );
            return Err((NackReason::DigestMismatch, message, Vec::new()));
        }
        Ok(Held::committed(self.snapshot, digest, commit.version, self.withheld, before))
    }
}
