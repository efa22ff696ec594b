//! What of the store is to be read: each part by itself, so that one that cannot be read holds up no other.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use meshrelay_snapshot::Name;
use meshrelay_store::{Cursor, Role, SnapshotId, Subject};
use tokio::time::Instant;

use super::inputs::WARM;

/// When that is read again which could not be read. What takes too long ends the connection, so it is not asked for at once.
const AGAIN: Duration = Duration::from_secs(2);

/// A part of what replicas share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Which clusters are warm.
    Warm,
    /// All that translation remembers.
    Memory,
    /// One document of what translation remembers.
    Document(String),
    /// The input of a cluster.
    Input(Name),
}

impl Part {
    /// The part that a change is of; outputs and reports are none.
    pub(super) fn of(subject: Subject) -> Option<Self> {
        match subject {
            Subject::Snapshot(SnapshotId { role: Role::Input, cluster }) => Some(Self::Input(cluster)),
            Subject::Snapshot(_) => None,
            Subject::Document(name) if name == WARM => Some(Self::Warm),
            Subject::Document(name) => Some(Self::Document(name)),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warm => f.write_str("reading which clusters are warm"),
            Self::Memory => f.write_str("reading what translation remembers"),
            Self::Document(name) => write!(f, "reading {name}"),
            Self::Input(cluster) => write!(f, "reading the input of {cluster}"),
        }
    }
}

/// What is to be read, and the place in the feed up to which it is known.
#[derive(Debug, Default)]
pub(super) struct Unread {
    pub(super) cursor: Cursor,
    /// What was not tried since it changed.
    news: BTreeSet<Part>,
    /// What could not be read, and when it is tried again: the one that failed last comes last.
    failed: VecDeque<(Instant, Part)>,
    /// Everything is to be read, and it was known by then which clusters are registered.
    is_all: bool,
}

impl Unread {
    /// Has everything read again.
    pub(super) fn start_over(&mut self) {
        self.cursor = Cursor::default();
        self.is_all = false;
    }

    /// Notes what changed until a place in the feed.
    pub(super) fn add(&mut self, parts: impl IntoIterator<Item = Part>, until: Cursor) {
        self.news.extend(parts);
        self.cursor = until;
    }

    /// Notes everything that there is.
    pub(super) fn add_all(&mut self, inputs: BTreeSet<Name>, until: Cursor, knows_registered: bool) {
        self.add([Part::Warm, Part::Memory].into_iter().chain(inputs.into_iter().map(Part::Input)), until);
        self.is_all = knows_registered;
    }

    /// How long there is nothing to read, as far as is known.
    pub(super) fn wait(&self, at_most: Duration) -> Duration {
        match self.failed.front() {
            _ if !self.news.is_empty() => Duration::ZERO,
            Some((at, _)) => at.saturating_duration_since(Instant::now()).min(at_most),
            None => at_most,
        }
    }

    /// What to read now. It stays until it is told how that went.
    pub(super) fn next(&self) -> Option<Part> {
        let again = || self.failed.front().filter(|(at, _)| *at <= Instant::now()).map(|(_, part)| part);
        self.news.first().or_else(again).cloned()
    }

    pub(super) fn done(&mut self, part: &Part) {
        self.news.remove(part);
        self.failed.retain(|(_, failed)| failed != part);
    }

    pub(super) fn failed(&mut self, part: Part) {
        self.done(&part);
        self.failed.push_back((Instant::now() + AGAIN, part));
    }

    /// Whether all was read that a start waits for; says so once. An input that cannot be read is missing, as that of an agent
    /// that is away. What else is shared belongs to all clusters.
    pub(super) fn is_read(&mut self) -> bool {
        let is_read =
            self.is_all && self.news.is_empty() && self.failed.iter().all(|(_, part)| matches!(part, Part::Input(_)));
        if is_read {
            self.is_all = false;
        }
        is_read
    }
}
