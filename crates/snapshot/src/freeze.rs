//! What an agent keeps in force while not everything is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Lack, Name, Object, ObjectKey, Snapshot, depend_on, depends_on};

/// What is in force after an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// All objects that are to be there, with the meta data of the output.
    pub in_force: Snapshot,
    /// Those that are not as the output has them.
    pub kept: BTreeMap<ObjectKey, Kept>,
}

/// An object that is kept as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The first doubtful cluster that it depends on; `None` when there is a doubt about everything.
    pub because: Option<Name>,
    /// Why not everything is known.
    pub reason: String,
    /// True if the output has another version of the object, false if it has none.
    pub changed: bool,
}

/// Puts an output in force for the cluster `own`, where `before` is. Where the output has no doubts, all of it is in force
/// and nothing else. Otherwise what depends on a doubtful cluster, as the object that is in force says, is not deleted; and
/// if nothing at all is known of that cluster, it stays as it is. What is new is added.
///
/// Doing it again with the same output changes nothing.
pub fn freeze(before: &Snapshot, output: &Snapshot, own: &Name) -> Frozen {
    let meta = output.meta();
    let mut frozen = Frozen { in_force: output.clone(), kept: BTreeMap::new() };
    if meta.doubts.is_empty() && meta.any_doubt().is_none() {
        return frozen;
    }
    let differences = output.diff(before);
    for key in differences.removes {
        let Some(held) = before.get(&key) else { continue };
        let cause = doubtful(held, output, own).into_iter().next();
        let kept = match (cause.and_then(|name| Some((name.clone(), meta.doubts.get(&name)?))), meta.any_doubt()) {
            (Some((name, doubt)), _) => Kept { because: Some(name), reason: doubt.reason.clone(), changed: false },
            (None, Some(doubt)) => Kept { because: None, reason: doubt.to_owned(), changed: false },
            (None, None) => continue,
        };
        frozen.in_force.insert(Arc::clone(held));
        frozen.kept.insert(key, kept);
    }
    for object in differences.upserts {
        let Some(held) = before.get(object.key()) else { continue };
        let doubtful = doubtful(held, output, own);
        let missing = doubtful.iter().find_map(|name| {
            let doubt = meta.doubts.get(name).filter(|doubt| doubt.lack == Lack::Missing)?;
            Some(Kept { because: Some(name.clone()), reason: doubt.reason.clone(), changed: true })
        });
        if let Some(kept) = missing {
            frozen.in_force.insert(Arc::clone(held));
            frozen.kept.insert(object.key().clone(), kept);
        } else if let Some(object) = still_depending(&object, &doubtful, own) {
            frozen.in_force.insert(Arc::new(object));
        }
    }
    frozen
}

/// The doubtful clusters that an object in force depends on.
fn doubtful(held: &Object, output: &Snapshot, own: &Name) -> BTreeSet<Name> {
    let doubts = &output.meta().doubts;
    if doubts.is_empty() {
        return BTreeSet::new();
    }
    depends_on(held).into_iter().chain([own.clone()]).filter(|name| doubts.contains_key(name)).collect()
}

/// The new version of an object with the doubtful clusters that the former one depended on, if it names them no more: what
/// they had a part in may be among what is not known. `None` where nothing is to be added.
fn still_depending(object: &Object, doubtful: &BTreeSet<Name>, own: &Name) -> Option<Object> {
    let lost: Vec<&Name> = {
        let named = depends_on(object);
        doubtful.iter().filter(|name| *name != own && !named.contains(*name)).collect()
    };
    if lost.is_empty() {
        return None;
    }
    let mut value = object.value();
    depend_on(&mut value, own, lost);
    Object::from_value(&value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{ClusterDoubt, DEPENDS_ON, SnapshotMeta};

    const CLUSTERS: [&str; 4] = ["a", "b", "c", "own"];

    /// Objects by number: their content and the clusters that they depend on.
    type Picture = BTreeMap<u8, (u8, BTreeSet<usize>)>;

    fn object(number: u8, content: u8, on: &BTreeSet<usize>) -> Arc<Object> {
        let others: Vec<&str> = on.iter().map(|index| CLUSTERS[*index]).filter(|name| *name != "own").collect();
        let mut annotations = json!({"content": content.to_string()});
        if !others.is_empty() {
            annotations[DEPENDS_ON] = others.join(",").into();
        }
        let metadata = json!({"name": format!("o-{number}"), "namespace": "n", "annotations": annotations});
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        Arc::new(Object::from_value(&value).unwrap())
    }

    fn output(picture: &Picture, doubts: &BTreeMap<usize, Lack>) -> Snapshot {
        let mut snapshot: Snapshot =
            picture.iter().map(|(number, (content, on))| object(*number, *content, on)).collect();
        let doubt = |lack: &Lack| ClusterDoubt { lack: *lack, reason: "away".to_owned() };
        let doubts = doubts.iter().map(|(index, lack)| (Name::from(CLUSTERS[*index]), doubt(lack)));
        snapshot.set_meta(SnapshotMeta { doubts: doubts.collect(), ..SnapshotMeta::default() });
        snapshot
    }

    fn clusters() -> impl Strategy<Value = BTreeSet<usize>> {
        prop::collection::btree_set(0..CLUSTERS.len(), 0..3)
    }

    fn pictures() -> impl Strategy<Value = Picture> {
        prop::collection::btree_map(0..20_u8, (0..3_u8, clusters()), 0..16)
    }

    fn doubts() -> impl Strategy<Value = BTreeMap<usize, Lack>> {
        let lack = prop_oneof![Just(Lack::Missing), Just(Lack::Incomplete)];
        prop::collection::btree_map(0..CLUSTERS.len(), lack, 0..3)
    }

    proptest! {
        #[test]
        fn what_depends_on_a_doubtful_cluster_stays_and_the_rest_follows(
            steps in prop::collection::vec((pictures(), doubts()), 1..8)
        ) {
            let own = Name::from("own");
            let mut before = Snapshot::new();
            for (picture, doubts) in steps {
                let output = output(&picture, &doubts);
                let frozen = freeze(&before, &output, &own);
                prop_assert_eq!(frozen.in_force.meta(), output.meta());
                let again = freeze(&frozen.in_force, &output, &own);
                prop_assert_eq!(&again.in_force, &frozen.in_force, "once more changes nothing");
                let doubtful = |held: &Object, lack: Option<Lack>| {
                    let on: BTreeSet<Name> = depends_on(held).into_iter().chain([own.clone()]).collect();
                    doubts.iter().any(|(index, is)| lack.is_none_or(|lack| lack == *is) && on.contains(CLUSTERS[*index]))
                };
                for held in before.iter() {
                    let now = frozen.in_force.get(held.key());
                    match output.get(held.key()) {
                        None => {
                            prop_assert_eq!(now, Some(held).filter(|held| doubtful(held, None)));
                        }
                        Some(_) if doubtful(held, Some(Lack::Missing)) => prop_assert_eq!(now, Some(held)),
                        Some(wanted) => {
                            let now = now.unwrap();
                            prop_assert_eq!(now.annotation("content"), wanted.annotation("content"));
                            let mut on = depends_on(wanted);
                            if doubtful(held, None) {
                                let known = |name: &Name| doubts.keys().any(|index| CLUSTERS[*index] == name.as_str());
                                on.extend(depends_on(held).into_iter().filter(known));
                            }
                            prop_assert_eq!(depends_on(now), on);
                        }
                    }
                }
                for wanted in output.iter().filter(|wanted| before.get(wanted.key()).is_none()) {
                    prop_assert_eq!(frozen.in_force.get(wanted.key()), Some(wanted), "what is new is added");
                }
                let known = |object: &&Arc<Object>| output.get(object.key()) != Some(object);
                let differs: BTreeSet<_> = frozen.in_force.iter().filter(known).map(|object| object.key().clone()).collect();
                prop_assert!(frozen.kept.keys().all(|key| differs.contains(key) || before.get(key).is_some()));
                if doubts.is_empty() {
                    prop_assert_eq!(&frozen.in_force, &output);
                    prop_assert!(frozen.kept.is_empty());
                }
                before = frozen.in_force;
            }
        }
    }

    #[test]
    fn under_a_doubt_about_everything_nothing_goes() {
        let on = BTreeSet::new();
        let before = output(&[(1, (0, on.clone())), (2, (0, on.clone()))].into(), &BTreeMap::new());
        let mut after = output(&[(1, (1, on))].into(), &BTreeMap::new());
        after.set_meta(SnapshotMeta { doubt: Some("half".to_owned()), ..SnapshotMeta::default() });
        let frozen = freeze(&before, &after, &"own".into());
        assert_eq!((frozen.in_force.len(), frozen.kept.len()), (2, 1));
        assert_eq!(frozen.kept.values().next().unwrap().because, None);
        assert_eq!(
            frozen.in_force.get(object(1, 1, &BTreeSet::new()).key()).unwrap().annotation("content").unwrap(),
            "1"
        );
    }
}
