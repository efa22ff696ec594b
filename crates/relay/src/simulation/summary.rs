use std::collections::BTreeMap;

use crate::TransferKind;

/// What happened, to see that a run met what it is for.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) commits: BTreeMap<TransferKind, u64>,
    pub(super) unchanged: u64,
    pub(super) nacks: u64,
    pub(super) kept: u64,
    pub(super) refused: u64,
    pub(super) ends: BTreeMap<&'static str, u64>,
    pub(super) agent_crashes: u64,
    pub(super) server_crashes: u64,
    pub(super) older_servers: u64,
}

impl Summary {
    pub(super) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.commits {
            *self.commits.entry(*kind).or_default() += count;
        }
        for (end, count) in &other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.unchanged += other.unchanged;
        self.nacks += other.nacks;
        self.kept += other.kept;
        self.refused += other.refused;
        self.agent_crashes += other.agent_crashes;
        self.server_crashes += other.server_crashes;
        self.older_servers += other.older_servers;
    }

    pub(super) fn situations(&self) -> Vec<(&'static str, u64)> {
        let kind = |kind| self.commits.get(&kind).copied().unwrap_or_default();
        let end = |end: &str| self.ends.get(end).copied().unwrap_or_default();
        vec![
            ("deltas", kind(TransferKind::Delta)),
            ("transfers of buckets", kind(TransferKind::Buckets)),
            ("full transfers", kind(TransferKind::Full)),
            ("reconnects without a transfer", self.unchanged),
            ("refused transfers", self.nacks),
            ("withheld objects that kept their version", self.kept),
            ("refused second agents", self.refused),
            ("crashes of agents", self.agent_crashes),
            ("crashes of the server", self.server_crashes),
            ("servers that know less than the one before", self.older_servers),
            ("lost connections", end("lost")),
            ("violations of the protocol", end("violation")),
            ("silent peers", end("peer_silent")),
            ("peers that do not read", end("write_stalled")),
            ("replaced streams", end("superseded")),
            ("drained streams", end("drained")),
        ]
    }
}
