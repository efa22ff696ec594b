//! What is used of an input of which not everything could be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Carried, Completeness, Gvk, Snapshot, SnapshotMeta};

/// An input of which not everything could be read, with what the one `before` it had besides: what cannot be read now is as it
/// was. The kinds in question are stale then, and nothing is in doubt but what was between the two: both come with their versions,
/// and versions that follow each other have nothing between them.
///
/// `None` if nothing is in doubt of the input, or something was of the one before it: then nobody knows what it lacks.
pub fn carry_over((before, earlier): (&Snapshot, u64), (input, version): (&Snapshot, u64)) -> Option<Snapshot> {
    let meta = input.meta();
    meta.any_doubt()?;
    if before.meta().any_doubt().is_some() {
        return None;
    }
    let stale = |gvk: &Gvk| meta.doubt_about(gvk).map(|reason| Completeness::Stale(reason.to_owned()));
    let mut completeness: BTreeMap<Gvk, Completeness> = meta
        .completeness
        .iter()
        .map(|(gvk, state)| (gvk.clone(), stale(gvk).unwrap_or_else(|| state.clone())))
        .collect();
    let (mut completed, mut carried) = (input.clone(), Snapshot::default());
    for object in before.iter().filter(|object| input.get(object.key()).is_none()) {
        let gvk = &object.key().gvk;
        if let Some(stale) = stale(gvk) {
            completeness.entry(gvk.clone()).or_insert(stale);
            completed.insert(Arc::clone(object));
            carried.insert(Arc::clone(object));
        }
    }
    let known = before.meta().carried;
    let follows = version <= earlier.saturating_add(1);
    let carried = Carried {
        from: known.map_or(earlier, |known| known.from),
        until: known.filter(|_| follows).map_or(version, |known| known.until),
        objects: carried.digest(),
    };
    completed.set_meta(SnapshotMeta { completeness, doubt: None, carried: Some(carried), ..meta.clone() });
    Some(completed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Object;

    fn input(names: &[(&str, &str)], meta: SnapshotMeta) -> Snapshot {
        let object = |(kind, name): &(&str, &str)| {
            let metadata = json!({"name": name, "namespace": "n"});
            Arc::new(Object::from_value(&json!({"apiVersion": "v1", "kind": kind, "metadata": metadata})).unwrap())
        };
        let mut snapshot: Snapshot = names.iter().map(object).collect();
        snapshot.set_meta(meta);
        snapshot
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        snapshot.sorted().into_iter().map(|object| object.key().name.to_string()).collect()
    }

    #[test]
    fn what_cannot_be_read_is_as_it_was_and_the_rest_as_it_is() {
        let before = input(&[("Service", "a"), ("Service", "b"), ("Secret", "c")], SnapshotMeta::default());
        let service = Gvk::new("", "v1", "Service");
        let reason = Completeness::Incomplete("forbidden".to_owned());
        let half = SnapshotMeta { completeness: [(service.clone(), reason)].into(), ..SnapshotMeta::default() };
        let carried = carry_over((&before, 4), (&input(&[("Service", "a"), ("Service", "d")], half), 9)).unwrap();
        assert_eq!(names(&carried), ["a", "b", "d"], "all of the other kind is known, and c is gone");
        assert_eq!(carried.meta().completeness[&service], Completeness::Stale("forbidden".to_owned()));
        assert_eq!(carried.meta().any_doubt(), None);

        let doubt = Some("a.yaml cannot be read".to_owned());
        let broken = input(&[], SnapshotMeta { doubt, ..SnapshotMeta::default() });
        let of = |input: &Snapshot| input.meta().carried.map(|carried| (carried.from, carried.until));
        assert_eq!(of(&carried), Some((4, 9)));
        let carried_again = carry_over((&carried, 9), (&broken, 10)).unwrap();
        assert_eq!((names(&carried_again), carried_again.meta().any_doubt()), (names(&carried), None));
        assert_eq!(of(&carried_again), Some((4, 9)), "nothing is between 9 and 10");
        let later = carry_over((&carried_again, 10), (&broken, 12)).unwrap();
        assert_eq!(of(&later), Some((4, 12)));
        let objects = |input: &Snapshot| input.meta().carried.map(|carried| carried.objects);
        assert_eq!(objects(&later), objects(&carried_again), "the same as before");
        assert_ne!(objects(&carried_again), objects(&carried), "more than before");
        assert_eq!(
            carry_over((&carried_again, 10), (&broken, 10)),
            Some(carried_again.clone()),
            "as often as it comes"
        );
    }

    #[test]
    fn nothing_is_carried_over_where_nothing_is_in_doubt_or_everything_may_be_missing() {
        let doubt = Some("a.yaml cannot be read".to_owned());
        let broken = input(&[("Service", "a")], SnapshotMeta { doubt, ..SnapshotMeta::default() });
        let whole = input(&[], SnapshotMeta::default());
        assert_eq!(carry_over((&broken, 1), (&whole, 2)), None);
        assert_eq!(carry_over((&broken, 1), (&broken, 2)), None);
        assert!(carry_over((&whole, 1), (&broken, 2)).is_some());
    }
}
