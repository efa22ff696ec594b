//! What is not known while translation runs all the same.

use std::collections::BTreeMap;

use meshrelay_snapshot::{ClusterDoubt, Name};

use crate::{Inputs, Registered};

/// The clusters of which not everything is known: absence of what depends on them must not be acted on. Empty when all
/// inputs are there and complete.
///
/// A cluster that has sent nothing to this server is missing whether or not it is known to have sent something to another
/// one: objects that depend on it are proof enough, and a new cluster has none. That nobody waits for it makes it no better known.
pub fn doubts(inputs: &Inputs, registered: &BTreeMap<Name, Registered>) -> BTreeMap<Name, ClusterDoubt> {
    let missing = registered.iter().filter_map(|(name, cluster)| {
        // What the server itself sees of the management cluster stands in for an agent that there may never have been.
        let is_wanted = cluster.warm || !inputs.clusters.contains_key(name);
        let is_missing = !cluster.present && is_wanted;
        let doubt = || ClusterDoubt { reason: format!("the input of cluster {name} is not there yet") };
        is_missing.then(|| (name.clone(), doubt()))
    });
    let incomplete = inputs.clusters.iter().filter_map(|(name, input)| {
        let reason = format!("the input of cluster {name} is not complete: {}", input.meta().any_doubt()?);
        Some((name.clone(), ClusterDoubt { reason }))
    });
    missing.chain(incomplete).collect()
}

/// Why absence of anything at all must not be acted on: something of the management cluster is not known, whose workspaces have
/// a part in everything, and where clusters may be registered that nobody knows of. `None` when all of it is known.
pub fn doubt(inputs: &Inputs) -> Option<String> {
    let management = &inputs.management_cluster;
    let reason = inputs.clusters.get(management)?.meta().any_doubt()?;
    Some(format!("the input of the management cluster {management} is not complete: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshrelay_snapshot::{Completeness, Gvk, Snapshot, SnapshotMeta};

    use super::*;

    #[test]
    fn what_is_missing_and_what_is_incomplete_is_in_doubt() {
        let mut half = Snapshot::new();
        half.set_meta(SnapshotMeta { doubt: Some("a.yaml cannot be read".to_owned()), ..SnapshotMeta::default() });
        let clusters = [("half", half), ("whole", Snapshot::new()), ("mgmt", Snapshot::new())];
        let clusters = clusters.map(|(name, input)| (Name::from(name), Arc::new(input)));
        let inputs = Inputs { management_cluster: "mgmt".into(), clusters: clusters.into() };
        let here = Registered { present: true, warm: true, skip_warming: false };
        let away = Registered { present: false, ..here };
        let registered = [
            ("half", here),
            ("whole", here),
            ("mgmt", Registered { warm: false, ..away }),
            ("away", away),
            ("unheard of", Registered { warm: false, ..away }),
            ("not waited for", Registered { skip_warming: true, ..away }),
        ];
        let found = doubts(&inputs, &registered.map(|(name, cluster)| (Name::from(name), cluster)).into());
        let found: Vec<(&str, &str)> = found.iter().map(|(name, doubt)| (name.as_str(), &*doubt.reason)).collect();
        let missing = "the input of cluster away is not there yet";
        let incomplete = "the input of cluster half is not complete: a.yaml cannot be read";
        assert_eq!(found[..2], [("away", missing), ("half", incomplete)]);
        assert_eq!(found[2..].iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["not waited for", "unheard of"]);
    }

    #[test]
    fn what_is_not_known_of_the_management_cluster_is_a_doubt_about_everything() {
        let of = |cluster: &str| {
            let mut input = Snapshot::new();
            let reason = Completeness::Incomplete("forbidden".to_owned());
            let completeness = [(Gvk::new("admin.gloo.solo.io", "v2", "Workspace"), reason)].into();
            input.set_meta(SnapshotMeta { completeness, ..SnapshotMeta::default() });
            let clusters = [(Name::from(cluster), Arc::new(input))].into();
            doubt(&Inputs { management_cluster: "mgmt".into(), clusters })
        };
        assert_eq!(of("one"), None);
        assert_eq!(of("mgmt").unwrap(), "the input of the management cluster mgmt is not complete: forbidden");
    }
}
