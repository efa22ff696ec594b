//! What happened in a run that matters.

use std::collections::BTreeMap;

/// What has to happen in runs: a simulation in which it never does proves nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Situation {
    /// A server translates.
    Translation,
    AgentCrash,
    ServerCrash,
    /// What a process kept is gone when it starts again.
    LostDisk,
    RollingUpgrade,
    EverythingGoneAtOnce,
    /// More than one process is down.
    SeveralDown,
    /// The store is away, slow or flaky.
    StoreFault,
    /// The store loses data.
    StoreLoss,
    CutConnection,
    /// An agent does not reach a server.
    UnreachableServer,
    /// A cluster is registered or deregistered.
    Registration,
    /// Something of a cluster cannot be read.
    Unreadable,
    /// Translation waits for inputs.
    Halt,
    /// The safe start window runs out.
    SafeStartOver,
    ServerDoubts,
    /// An agent keeps what depends on a cluster.
    Frozen,
    /// A server is behind what an agent has in force.
    ServerBehind,
    /// The delete brake holds.
    DeleteBrake,
    /// Somebody approves deletions.
    Approval,
    AnotherServerTookOver,
}

impl Situation {
    const ALL: [Self; Self::AnotherServerTookOver as usize + 1] = [
        Self::Translation,
        Self::AgentCrash,
        Self::ServerCrash,
        Self::LostDisk,
        Self::RollingUpgrade,
        Self::EverythingGoneAtOnce,
        Self::SeveralDown,
        Self::StoreFault,
        Self::StoreLoss,
        Self::CutConnection,
        Self::UnreachableServer,
        Self::Registration,
        Self::Unreadable,
        Self::Halt,
        Self::SafeStartOver,
        Self::ServerDoubts,
        Self::Frozen,
        Self::ServerBehind,
        Self::DeleteBrake,
        Self::Approval,
        Self::AnotherServerTookOver,
    ];
}

/// How often each happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Situations(BTreeMap<Situation, u64>);

impl Situations {
    pub(crate) fn add(&mut self, situation: Situation, times: u64) {
        *self.0.entry(situation).or_default() += times;
    }

    pub(crate) fn add_all(&mut self, more: &Self) {
        for (situation, times) in &more.0 {
            self.add(*situation, *times);
        }
    }

    /// All there are, with those that never happened.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Situation, u64)> {
        Situation::ALL.into_iter().map(|situation| (situation, self.0.get(&situation).copied().unwrap_or_default()))
    }
}
