use std::collections::BTreeMap;

use meshrelay_snapshot::{Carried, ClusterDoubt, Name, SnapshotMeta};
use meshrelay_translate::{doubt, doubts};
use serde::{Deserialize, Serialize};

use crate::inputs::Picture;

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

/// What the store has of clusters that nobody here has heard of is not known.
const STORE_UNREAD: &str = "the snapshot store was not read yet, and other clusters may have sent inputs";

/// What was not known when outputs were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// Why anything may be missing.
    pub(crate) everything: Option<String>,
    /// The clusters of which not everything is known.
    pub(crate) clusters: BTreeMap<Name, ClusterDoubt>,
    /// Where that comes from which could not be read of inputs.
    pub(crate) carried: BTreeMap<Name, Carried>,
}

impl Doubts {
    /// Unless only dependents are to be held still, a doubt about one cluster is one about everything.
    pub(crate) fn of(picture: &Picture, scope: SafeModeScope) -> Self {
        let Picture { registered, inputs, versions, store_unread, management_doubt } = picture;
        let mut clusters = doubts(inputs, registered);
        let management = &inputs.management_cluster;
        let unseen = management_doubt
            .as_ref()
            .map(|reason| format!("the server cannot see all of the management cluster {management}: {reason}"));
        if let Some(reason) = unseen.clone() {
            clusters.entry(management.clone()).or_insert(ClusterDoubt { reason });
        }
        let is_known = |(name, _): &(&Name, &ClusterDoubt)| {
            let known = registered.get(*name);
            known.is_some_and(|cluster| cluster.present || (cluster.warm && !cluster.skip_warming))
                || inputs.clusters.contains_key(*name)
        };
        // A cluster that never sent anything takes nothing away, and one that skips warming holds up nobody else.
        let first = || clusters.iter().find(is_known).map(|(_, doubt)| doubt.reason.clone());
        let everything = doubt(inputs)
            .or(unseen)
            .or_else(|| store_unread.then(|| STORE_UNREAD.to_owned()))
            .or_else(|| (scope == SafeModeScope::Fleet).then(first).flatten());
        let carried = |name: &Name| Some((name.clone(), inputs.clusters.get(name)?.meta().carried?));
        Self { everything, clusters, carried: versions.keys().filter_map(carried).collect() }
    }

    /// The meta data of an output that was made under these doubts from inputs of these versions.
    pub(crate) fn stated(&self, meta: &SnapshotMeta, basis: &BTreeMap<Name, u64>) -> SnapshotMeta {
        let (doubt, doubts, basis) = (self.everything.clone(), self.clusters.clone(), basis.clone());
        SnapshotMeta { doubt, doubts, basis, carried_inputs: self.carried.clone(), ..meta.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshrelay_snapshot::Snapshot;
    use meshrelay_translate::Inputs;

    use super::*;

    /// Everything is there.
    fn picture() -> Picture {
        let clusters = [(Name::from("mgmt"), Arc::<Snapshot>::default())].into();
        let inputs = Inputs { management_cluster: "mgmt".into(), clusters };
        let (registered, versions) = (BTreeMap::new(), BTreeMap::new());
        Picture { registered, inputs, versions, store_unread: false, management_doubt: None }
    }

    #[test]
    fn in_either_scope_nothing_is_known_of_clusters_that_the_server_may_not_have_heard_of() {
        for scope in [SafeModeScope::Fleet, SafeModeScope::Dependents] {
            assert_eq!(Doubts::of(&picture(), scope), Doubts::default());
            let unread = Doubts::of(&Picture { store_unread: true, ..picture() }, scope);
            assert_eq!((unread.everything.as_deref(), unread.clusters.len()), (Some(STORE_UNREAD), 0));
            // The agent of the management cluster has sent all, and the server sees less.
            let management_doubt = Some("clusters.yaml cannot be read".to_owned());
            let unseen = Doubts::of(&Picture { management_doubt, ..picture() }, scope);
            assert!(unseen.everything.unwrap().ends_with("mgmt: clusters.yaml cannot be read"));
            assert!(unseen.clusters.contains_key("mgmt"), "what it gives is kept as it is");
        }
    }

    #[test]
    fn outputs_say_what_their_inputs_were_completed_from() {
        let Picture { mut inputs, mut versions, .. } = picture();
        let carried = Carried { from: 2, until: 4, objects: Snapshot::default().digest() };
        let mut input = Snapshot::default();
        input.set_meta(SnapshotMeta { carried: Some(carried), ..SnapshotMeta::default() });
        for (name, input) in [("one", Arc::new(input)), ("two", Arc::default())] {
            inputs.clusters.insert(name.into(), input);
            versions.insert(name.into(), 4);
        }
        let doubts = Doubts::of(&Picture { inputs, versions, ..picture() }, SafeModeScope::Fleet);
        let stated = doubts.stated(&SnapshotMeta::default(), &BTreeMap::new());
        assert_eq!(stated.carried_inputs, [("one".into(), carried)].into());
        assert_eq!(stated.any_doubt(), None, "whoever has nothing in between in force has nothing to doubt");
    }
}
