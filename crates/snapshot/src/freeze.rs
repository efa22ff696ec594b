//! What an agent keeps in force while not everything is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Carried, ClusterDoubt, Name, Object, ObjectKey, Snapshot, SnapshotMeta, depend_on, depends_on};

/// What is in force after an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// All objects that are to be there, with the meta data of the output and the newest versions of inputs.
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
/// and nothing else. Otherwise what depends on a doubtful cluster, as the object that is in force says, stays as it is, but for
/// that it names the clusters that the output's version of it depends on. What is new is added.
///
/// A cluster of which a newer input had a part in what is in force than in the output is doubtful too: whoever made the output
/// has not heard of it yet. As nobody says then what else it may not have heard of, nothing is deleted at all meanwhile. The
/// meta data keeps the newest version of such a cluster.
///
/// Doing it again with the same output changes nothing.
pub fn freeze(before: &Snapshot, output: &Snapshot, own: &Name) -> Frozen {
    let meta = output.meta();
    let mut frozen = Frozen { in_force: output.clone(), kept: BTreeMap::new() };
    if !is_doubtful(before, output) {
        return frozen;
    }
    let doubts = Doubts::new(before, output, own);
    if let Some(meta) = doubts.keep_basis(before.meta(), meta) {
        frozen.in_force.set_meta(meta);
    }
    let differences = output.diff(before);
    for key in differences.removes {
        let Some(held) = before.get(&key) else { continue };
        let dependence = doubts.about(held).map(|(name, reason)| (Some(name), reason)).next();
        let Some((because, reason)) = dependence.or_else(|| doubts.about_everything()) else { continue };
        frozen.in_force.insert(Arc::clone(held));
        frozen.kept.insert(key, Kept { because: because.cloned(), reason: reason.to_owned(), changed: false });
    }
    for object in differences.upserts {
        let Some(held) = before.get(object.key()) else { continue };
        let Some((because, reason)) = doubts.about(held).next() else { continue };
        // What the output has of it is in force too, so it also depends on whatever had a part in that.
        frozen.in_force.insert(naming(held, &depends_on(&object), own));
        let kept = Kept { because: Some(because.clone()), reason: reason.to_owned(), changed: true };
        frozen.kept.insert(object.key().clone(), kept);
    }
    frozen
}

/// Whether anything is in doubt of an output where `before` is in force, so that not all of it may be put in force.
pub fn is_doubtful(before: &Snapshot, output: &Snapshot) -> bool {
    let meta = output.meta();
    !meta.doubts.is_empty() || meta.any_doubt().is_some() || outdated(before.meta(), meta).next().is_some()
}

/// The clusters of which less had a part in an output than in what is in force, with the version that had and the newest one. One
/// that an output does not speak of at all is registered no more, or nobody waits for it. If the same was carried over to what is in
/// force, nothing of it was missed.
fn outdated<'a>(before: &'a SnapshotMeta, output: &'a SnapshotMeta) -> impl Iterator<Item = (&'a Name, u64, u64)> {
    before.basis.iter().filter_map(|(name, newest)| {
        let is_known =
            |carried: &Carried| before.carried_inputs.get(name).is_some_and(|known| known.objects == carried.objects);
        let carried = output.carried_inputs.get(name).filter(|carried| carried.misses(*newest) && !is_known(carried));
        let older = output.basis.get(name).filter(|found| *found < newest);
        Some((name, carried.map(|carried| carried.from).or_else(|| older.copied())?, *newest))
    })
}

/// What is not known, as of one output.
struct Doubts<'a> {
    own: &'a Name,
    /// Why anything may be missing, as the output says.
    everything: Option<&'a str>,
    stated: &'a BTreeMap<Name, ClusterDoubt>,
    /// Why each cluster is doubtful that the output knows less of than what is in force.
    outdated: BTreeMap<&'a Name, String>,
}

impl<'a> Doubts<'a> {
    fn new(before: &'a Snapshot, output: &'a Snapshot, own: &'a Name) -> Self {
        let meta = output.meta();
        let reason = |(name, found, newest): (&'a Name, u64, u64)| {
            let text = format!(
                "the server knows version {found} of the input of cluster {name}, and version {newest} had a part in what is \
                 in force"
            );
            (name, text)
        };
        let outdated = outdated(before.meta(), meta).map(reason).collect();
        Self { own, everything: meta.any_doubt(), stated: &meta.doubts, outdated }
    }

    /// The doubtful clusters that an object in force depends on, each with the reason.
    fn about(&self, held: &Object) -> impl Iterator<Item = (&Name, &str)> {
        let on: BTreeSet<Name> = depends_on(held).into_iter().chain([self.own.clone()]).collect();
        on.into_iter().filter_map(|name| {
            if let Some((name, doubt)) = self.stated.get_key_value(&name) {
                return Some((name, doubt.reason.as_str()));
            }
            self.outdated.get_key_value(&name).map(|(name, reason)| (*name, reason.as_str()))
        })
    }

    /// Why nothing at all is to be deleted.
    fn about_everything(&self) -> Option<(Option<&Name>, &str)> {
        let outdated = || self.outdated.iter().next().map(|(name, reason)| (Some(*name), reason.as_str()));
        self.everything.map(|reason| (None, reason)).or_else(outdated)
    }

    /// The meta data of an output with the newest versions of what is doubtful; `None` if it has them.
    fn keep_basis(&self, before: &SnapshotMeta, output: &SnapshotMeta) -> Option<SnapshotMeta> {
        let is_doubtful = |name: &Name| {
            self.everything.is_some() || self.stated.contains_key(name) || self.outdated.contains_key(name)
        };
        let newer = |(name, newest): &(&Name, &u64)| {
            // What is carried over may be older than the input that it is carried over to.
            self.outdated.contains_key(*name)
                || (is_doubtful(name) && output.basis.get(*name).is_none_or(|found| found < newest))
        };
        let mut kept = before.basis.iter().filter(newer).peekable();
        kept.peek()?;
        let mut meta = output.clone();
        for (name, newest) in kept {
            meta.set_basis(name, *newest, before.carried_inputs.get(name).copied());
        }
        Some(meta)
    }
}

/// The object with the name of each of these clusters but its own as one that it depends on.
fn naming(object: &Arc<Object>, clusters: &BTreeSet<Name>, own: &Name) -> Arc<Object> {
    let named = depends_on(object);
    let lacking: Vec<&Name> = clusters.iter().filter(|name| *name != own && !named.contains(*name)).collect();
    if lacking.is_empty() {
        return Arc::clone(object);
    }
    let mut value = object.value();
    depend_on(&mut value, own, lacking);
    Object::from_value(&value).map_or_else(|_| Arc::clone(object), Arc::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{ContentHash, DEPENDS_ON};

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

    fn output(picture: &Picture, doubts: &BTreeSet<usize>) -> Snapshot {
        let mut snapshot: Snapshot =
            picture.iter().map(|(number, (content, on))| object(*number, *content, on)).collect();
        let doubt = ClusterDoubt { reason: "away".to_owned() };
        let doubts = doubts.iter().map(|index| (Name::from(CLUSTERS[*index]), doubt.clone()));
        snapshot.set_meta(SnapshotMeta { doubts: doubts.collect(), ..SnapshotMeta::default() });
        snapshot
    }

    fn clusters() -> impl Strategy<Value = BTreeSet<usize>> {
        prop::collection::btree_set(0..CLUSTERS.len(), 0..3)
    }

    fn pictures() -> impl Strategy<Value = Picture> {
        prop::collection::btree_map(0..20_u8, (0..3_u8, clusters()), 0..16)
    }

    proptest! {
        #[test]
        fn what_depends_on_a_doubtful_cluster_stays_and_the_rest_follows(
            steps in prop::collection::vec((pictures(), clusters()), 1..8)
        ) {
            let own = Name::from("own");
            let mut before = Snapshot::new();
            for (picture, doubts) in steps {
                let output = output(&picture, &doubts);
                let frozen = freeze(&before, &output, &own);
                prop_assert_eq!(frozen.in_force.meta(), output.meta());
                let again = freeze(&frozen.in_force, &output, &own);
                prop_assert_eq!(&again.in_force, &frozen.in_force, "once more changes nothing");
                let doubtful = |held: &Object| {
                    let on: BTreeSet<Name> = depends_on(held).into_iter().chain([own.clone()]).collect();
                    doubts.iter().any(|index| on.contains(CLUSTERS[*index]))
                };
                for held in before.iter() {
                    let now = frozen.in_force.get(held.key());
                    match output.get(held.key()) {
                        None => {
                            prop_assert_eq!(now, Some(held).filter(|held| doubtful(held)));
                        }
                        Some(wanted) if doubtful(held) => {
                            let on: BTreeSet<Name> = depends_on(held).union(&depends_on(wanted)).cloned().collect();
                            prop_assert_eq!(now.unwrap().annotation("content"), held.annotation("content"));
                            prop_assert_eq!(depends_on(now.unwrap()), on);
                        }
                        wanted => prop_assert_eq!(now, wanted),
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

    /// Like [`output`] without doubts, made from these versions.
    fn made_from(picture: &[(u8, u8, &[usize])], basis: &[(&str, u64)]) -> Snapshot {
        let picture = picture.iter().map(|(number, content, on)| (*number, (*content, on.iter().copied().collect())));
        let mut output = output(&picture.collect(), &BTreeSet::new());
        let basis = basis.iter().map(|(name, version)| (Name::from(*name), *version)).collect();
        output.set_meta(SnapshotMeta { basis, ..SnapshotMeta::default() });
        output
    }

    #[test]
    fn an_output_of_a_server_that_has_not_heard_of_the_newest_input_takes_nothing_away() {
        let own = Name::from("own");
        let before = made_from(&[(1, 0, &[0]), (2, 0, &[0, 1]), (3, 0, &[1]), (4, 0, &[])], &[("a", 9), ("b", 5)]);
        // It lacks 1 because of `a`, has less in 2 on that account, and knows of an edit that took 4 and one that changed 3.
        let behind = made_from(&[(2, 1, &[0, 1]), (3, 1, &[1]), (5, 0, &[])], &[("a", 8), ("b", 6)]);
        let frozen = freeze(&before, &behind, &own);
        let expected =
            made_from(&[(1, 0, &[0]), (2, 0, &[0, 1]), (3, 1, &[1]), (4, 0, &[]), (5, 0, &[])], &[("a", 9), ("b", 6)]);
        assert_eq!(frozen.in_force, expected);
        let because: Vec<_> = frozen.kept.values().map(|kept| (kept.because.clone(), kept.changed)).collect();
        assert_eq!(because, [(Some("a".into()), false), (Some("a".into()), true), (Some("a".into()), false)]);
        assert!(
            frozen.kept.values().all(|kept| kept.reason.contains("version 8") && kept.reason.contains("version 9"))
        );
        assert_eq!(freeze(&expected, &behind, &own).in_force, expected, "as often as it comes");
        // That it does not know all of the older input either makes nothing better.
        let mut partly = behind.clone();
        let doubt = ClusterDoubt { reason: "half".to_owned() };
        partly.set_meta(SnapshotMeta { doubts: [("a".into(), doubt)].into(), ..behind.meta().clone() });
        let frozen = freeze(&expected, &partly, &own);
        let number = |snapshot: &Snapshot, number: u8| snapshot.get(object(number, 0, &BTreeSet::new()).key()).cloned();
        assert_eq!(number(&frozen.in_force, 2), number(&expected, 2), "it has less");
        // It has heard of it, and nothing else has changed.
        let current = made_from(&[(2, 2, &[0, 1]), (3, 1, &[1]), (5, 0, &[])], &[("a", 9), ("b", 6)]);
        assert_eq!(freeze(&expected, &current, &own), Frozen { in_force: current, kept: BTreeMap::new() });
    }

    /// Version 9 of `a` had a part in what is in force; a server that has not heard of it took what it could not read of version 12
    /// from version 8.
    #[test]
    fn what_is_carried_over_from_an_older_input_takes_nothing_away() {
        let own = Name::from("own");
        let before = made_from(&[(1, 0, &[0]), (2, 0, &[])], &[("a", 9)]);
        let carried = |content: u8, (from, until, version): (u64, u64, u64)| {
            let mut output = made_from(&[(1, content, &[0]), (2, content, &[])], &[("a", version)]);
            let objects = ContentHash::of(&from.to_be_bytes());
            let carried_inputs = [("a".into(), Carried { from, until, objects })].into();
            output.set_meta(SnapshotMeta { carried_inputs, ..output.meta().clone() });
            output
        };
        let content = |frozen: &Frozen| -> Vec<String> {
            frozen.in_force.sorted().iter().map(|object| object.annotation("content").unwrap().to_owned()).collect()
        };
        let frozen = freeze(&before, &carried(1, (8, 12, 12)), &own);
        assert_eq!(content(&frozen), ["0", "1"]);
        let again = freeze(&frozen.in_force, &carried(1, (8, 12, 13)), &own);
        assert_eq!(content(&again), ["0", "1"], "for as long as that is so");
        // What is carried over is as new, or was in force already.
        for versions in [(9, 12, 12), (7, 9, 10)] {
            assert_eq!(content(&freeze(&before, &carried(1, versions), &own)), ["1", "1"]);
        }
        // The agent of `a` comes to another server, over the same broken file.
        let known = freeze(&before, &carried(1, (9, 12, 12)), &own).in_force;
        let older = freeze(&known, &carried(2, (8, 20, 20)), &own);
        assert_eq!(content(&older), ["1", "2"]);
        for known in [known, older.in_force] {
            assert_eq!(
                content(&freeze(&known, &carried(3, (9, 21, 21)), &own)),
                ["3", "3"],
                "the same was carried over"
            );
        }
        let read = made_from(&[(1, 1, &[0]), (2, 1, &[])], &[("a", 14)]);
        assert_eq!(freeze(&again.in_force, &read, &own), Frozen { in_force: read, kept: BTreeMap::new() });
    }

    /// What two clusters give is in force because of one of them, which then is away; the other one is behind afterwards.
    #[test]
    fn what_is_kept_for_one_cluster_depends_on_the_others_that_would_have_it_by_now() {
        let own = Name::from("own");
        let before = made_from(&[(1, 0, &[0])], &[("a", 5), ("b", 5)]);
        let mut without = made_from(&[(1, 0, &[1])], &[("b", 6)]);
        let doubt = ClusterDoubt { reason: "away".to_owned() };
        without.set_meta(SnapshotMeta { doubts: [("a".into(), doubt)].into(), ..without.meta().clone() });
        let in_force = freeze(&before, &without, &own).in_force;
        // a has it no more, and whoever made this has not heard that b has it.
        let behind = made_from(&[(1, 1, &[])], &[("a", 6), ("b", 5)]);
        let frozen = freeze(&in_force, &behind, &own);
        assert_eq!(frozen.in_force.iter().next().unwrap().annotation("content").unwrap(), "0");
        assert_eq!(frozen.kept.values().next().unwrap().because, Some("b".into()));
    }

    #[test]
    fn of_a_cluster_that_is_in_doubt_the_newest_version_is_remembered_and_of_one_that_is_gone_none() {
        let own = Name::from("own");
        let before = made_from(&[(1, 0, &[0])], &[("a", 9), ("b", 5)]);
        let mut without = made_from(&[], &[]);
        let doubt = ClusterDoubt { reason: "away".to_owned() };
        without.set_meta(SnapshotMeta { doubts: [("a".into(), doubt)].into(), ..SnapshotMeta::default() });
        let frozen = freeze(&before, &without, &own);
        assert_eq!(frozen.in_force.meta().basis, [("a".into(), 9)].into(), "b is registered no more");
        let behind = made_from(&[], &[("a", 8)]);
        assert_eq!(freeze(&frozen.in_force, &behind, &own).in_force.len(), 1);
        let gone = made_from(&[], &[]);
        assert_eq!(freeze(&frozen.in_force, &gone, &own), Frozen::default());
        without.set_meta(SnapshotMeta { doubt: Some("half".to_owned()), ..SnapshotMeta::default() });
        assert_eq!(freeze(&before, &without, &own).in_force.meta().basis, before.meta().basis);
    }

    #[test]
    fn under_a_doubt_about_everything_nothing_goes() {
        let on = BTreeSet::new();
        let before = output(&[(1, (0, on.clone())), (2, (0, on.clone()))].into(), &BTreeSet::new());
        let mut after = output(&[(1, (1, on))].into(), &BTreeSet::new());
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
