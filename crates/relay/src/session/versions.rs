use std::sync::Arc;

use meshrelay_snapshot::Snapshot;

/// How the versions of one sender are counted: on over all of its sessions, and over its restarts if its owner keeps them.
///
/// Where several receivers know more or less, or share a store, the greater version is the newer snapshot. So no version
/// is given twice, whatever the receiver of a session knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    last: u64,
    floor: u64,
}

impl Versions {
    /// Greatest version, far above what anybody counts to and far enough from overflow; a peer that claims more is wrong.
    pub const MAX: u64 = 1 << 62;

    /// Goes on after `last`. A receiver that holds a lower version gets a new one, even of the same content: somebody
    /// else may hold what was given between the two.
    pub fn after(last: u64) -> Self {
        Self { last: last.min(Self::MAX), floor: 0 }
    }

    /// From now on no version is below `floor`, such as the present time in microseconds: for a sender that lost what
    /// it kept.
    pub fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor.min(Self::MAX));
    }

    /// The last version that was given counts for nothing any more: a receiver that holds it gets a new one.
    pub(crate) fn outdate(&mut self) {
        self.last = self.last.saturating_add(1).min(Self::MAX);
    }

    /// The last version that was given.
    pub fn last(self) -> u64 {
        self.last
    }

    /// Gives the next version for a receiver that holds `held`.
    pub(super) fn give(&mut self, held: u64) -> u64 {
        self.last = self.last.max(held).saturating_add(1).max(self.floor);
        self.last
    }

    /// True if no version was given after the one that the receiver holds.
    pub(super) fn none_after(self, held: u64) -> bool {
        held >= self.last
    }
}

/// What a sender carries from one session to the next.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What the peer was last known to hold, to make deltas from.
    pub base: Option<Arc<Snapshot>>,
    /// How versions are counted.
    pub versions: Versions,
}
