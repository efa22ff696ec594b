use std::collections::BTreeMap;

use meshrelay_snapshot::{ClusterDoubt, Name, SnapshotMeta};
use meshrelay_translate::{Inputs, Registered, doubt, doubts};

/// What was not known when outputs were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// Why anything may be missing.
    pub(crate) everything: Option<String>,
    /// The clusters of which not everything is known.
    pub(crate) clusters: BTreeMap<Name, ClusterDoubt>,
}

impl Doubts {
    pub(crate) fn of(inputs: &Inputs, registered: &BTreeMap<Name, Registered>) -> Self {
        Self { everything: doubt(inputs), clusters: doubts(inputs, registered) }
    }

    /// The meta data of an output made under these doubts.
    pub(crate) fn stated(&self, meta: &SnapshotMeta) -> SnapshotMeta {
        SnapshotMeta { doubt: self.everything.clone(), doubts: self.clusters.clone(), ..meta.clone() }
    }
}
