use std::collections::BTreeMap;

use meshrelay_snapshot::{ClusterDoubt, Name, SnapshotMeta};
use meshrelay_translate::{Inputs, Registered, doubt, doubts};
use serde::{Deserialize, Serialize};

/// What is held still while the input of a warm cluster is missing (`glooMgmtServer.safeModeScope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SafeModeScope {
    /// All outputs: translation halts, as far as safe mode or the safe start window says so.
    #[default]
    Fleet,
    /// What depends on that cluster: translation never halts, and agents keep what depends on it.
    Dependents,
}

/// What was not known when outputs were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// Why anything may be missing.
    pub(crate) everything: Option<String>,
    /// The clusters of which not everything is known.
    pub(crate) clusters: BTreeMap<Name, ClusterDoubt>,
}

impl Doubts {
    /// Unless only dependents are to be held still, a doubt about one cluster is one about everything.
    pub(crate) fn of(inputs: &Inputs, registered: &BTreeMap<Name, Registered>, scope: SafeModeScope) -> Self {
        let clusters = doubts(inputs, registered);
        let is_known = |(name, _): &(&Name, &ClusterDoubt)| {
            let known = registered.get(*name);
            known.is_some_and(|cluster| cluster.present || (cluster.warm && !cluster.skip_warming))
                || inputs.clusters.contains_key(*name)
        };
        // A cluster that never sent anything takes nothing away, and one that skips warming holds up nobody else.
        let first = || clusters.iter().find(is_known).map(|(_, doubt)| doubt.reason.clone());
        let everything = doubt(inputs).or_else(|| (scope == SafeModeScope::Fleet).then(first).flatten());
        Self { everything, clusters }
    }

    /// The meta data of an output that was made under these doubts from inputs of these versions.
    pub(crate) fn stated(&self, meta: &SnapshotMeta, basis: &BTreeMap<Name, u64>) -> SnapshotMeta {
        let (doubt, doubts, basis) = (self.everything.clone(), self.clusters.clone(), basis.clone());
        SnapshotMeta { doubt, doubts, basis, ..meta.clone() }
    }
}
