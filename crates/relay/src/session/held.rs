use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Snapshot};

use crate::wire::{HeldClaim, Withheld};

/// What a receiver holds: the last committed version, and what it kept of objects that exist but did not travel.
#[derive(Clone, Debug)]
pub struct Held {
    version: u64,
    digest: ContentHash,
    committed: Arc<Snapshot>,
    visible: Arc<Snapshot>,
    withheld: Arc<[Withheld]>,
}

impl Held {
    /// From a store: a snapshot that was visible in a former process.
    pub fn restored(snapshot: Arc<Snapshot>, version: u64) -> Self {
        let digest = snapshot.digest();
        Self { version, digest, committed: Arc::clone(&snapshot), visible: snapshot, withheld: Arc::from([]) }
    }

    /// The state after a commit. Withheld objects stay as `before` had them.
    pub(super) fn committed(
        committed: Snapshot,
        digest: ContentHash,
        version: u64,
        withheld: Vec<Withheld>,
        before: Option<&Self>,
    ) -> Self {
        let committed = Arc::new(committed);
        let kept: Vec<_> = withheld
            .iter()
            .filter(|withheld| committed.get(&withheld.key).is_none())
            .filter_map(|withheld| before?.visible.get(&withheld.key).cloned())
            .collect();
        let visible = if kept.is_empty() {
            Arc::clone(&committed)
        } else {
            let mut visible = Snapshot::clone(&committed);
            for object in kept {
                visible.insert(object);
            }
            Arc::new(visible)
        };
        Self { version, digest, committed, visible, withheld: withheld.into() }
    }

    /// The snapshot to use: the committed version, with withheld objects as they were before.
    pub fn visible(&self) -> &Arc<Snapshot> {
        &self.visible
    }

    /// The snapshot as it was sent.
    pub fn sent(&self) -> &Arc<Snapshot> {
        &self.committed
    }

    /// Version of the last commit, as the sender counts.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Digest of [`Held::sent`].
    pub fn digest(&self) -> ContentHash {
        self.digest
    }

    /// Objects that exist but did not travel; their kinds are marked incomplete in the meta data.
    pub fn withheld(&self) -> &[Withheld] {
        &self.withheld
    }

    pub(super) fn claim(held: Option<&Self>) -> HeldClaim {
        held.map_or_else(HeldClaim::default, |held| HeldClaim { version: held.version, digest: Some(held.digest) })
    }
}
