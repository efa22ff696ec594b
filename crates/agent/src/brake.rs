//! The delete brake: an output that would take away much of what a cluster has is believed only when somebody says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use meshrelay_cluster::{ApplyMode, Surplus};
use meshrelay_snapshot::ContentHash;
use serde::{Deserialize, Serialize};

use crate::deletions::{Approval, HeldDeletions};

/// When deletions are held: if one output would delete more than a share of what the cluster has of us, and not just a few.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeleteBrake {
    /// Whether there is a brake.
    pub enabled: bool,
    /// Largest share that goes without approval, percent.
    pub max_percent: u8,
    /// Fewer objects than these go without approval, whatever their share.
    pub min_objects: usize,
}

impl Default for DeleteBrake {
    fn default() -> Self {
        // An object or two of a small cluster are a large share of it, and a change like any other.
        Self { enabled: true, max_percent: 30, min_objects: 10 }
    }
}

/// What may be done about an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How it is to be applied.
    pub(crate) mode: ApplyMode,
    /// What is held after that.
    pub(crate) held: Option<HeldDeletions>,
}

impl DeleteBrake {
    /// Judges a complete output. `before` is what is held already, and `approval` the newest one that was given.
    ///
    /// The share is taken of what the cluster had when the hold began, less what was approved since: the output's own new
    /// objects must not make the old ones a smaller share, and so end the hold by themselves.
    pub(crate) fn judge(
        &self,
        before: Option<&HeldDeletions>,
        approval: Option<&Approval>,
        surplus: &Surplus,
        output: ContentHash,
        now: Timestamp,
    ) -> Verdict {
        let since = before.map_or(now, |before| before.since);
        let present = before.map_or(surplus.present, |before| before.present.min(surplus.present));
        let approval = approval.filter(|approval| before.is_some_and(|before| approval.since == before.since));
        let approved = |key: &_| approval.is_some_and(|approval| approval.objects.contains(key));
        let (go, rest): (BTreeSet<_>, BTreeSet<_>) = surplus.objects.iter().cloned().partition(approved);
        if !self.is_over(rest.len(), present) {
            return Verdict { mode: ApplyMode::Complete, held: None };
        }
        Verdict {
            mode: ApplyMode::Only(Arc::new(go)),
            held: Some(HeldDeletions { since, present, output, objects: rest }),
        }
    }

    fn is_over(&self, count: usize, present: usize) -> bool {
        let (count, present) = (count as u128, present as u128);
        self.enabled && count >= self.min_objects as u128 && count * 100 > u128::from(self.max_percent) * present
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshrelay_snapshot::{Gvk, ObjectKey};
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> ObjectKey {
        ObjectKey::new(Gvk::new("networking.istio.io", "v1", "VirtualService"), "n", format!("o-{number:03}"))
    }

    fn keys(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<ObjectKey> {
        numbers.into_iter().map(key).collect()
    }

    fn judge(before: Option<&HeldDeletions>, approval: Option<&Approval>, present: usize, gone: u8) -> Verdict {
        let surplus = Surplus { present, objects: keys(0..gone) };
        DeleteBrake::default().judge(before, approval, &surplus, ContentHash::default(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn more_than_a_share_and_not_just_a_few_are_held() {
        for (present, gone, held) in [(100, 30, false), (100, 31, true), (9, 9, false), (10, 10, true), (34, 10, false)]
        {
            assert_eq!(judge(None, None, present, gone).held.is_some(), held, "{gone} of {present}");
        }
        let off = DeleteBrake { enabled: false, ..DeleteBrake::default() };
        let surplus = Surplus { present: 50, objects: keys(0..50) };
        let verdict = off.judge(None, None, &surplus, ContentHash::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(verdict, Verdict { mode: ApplyMode::Complete, held: None });
    }

    #[test]
    fn new_objects_do_not_end_a_hold_and_a_smaller_share_does() {
        let held = judge(None, None, 20, 20).held.unwrap();
        let later = judge(Some(&held), None, 200, 20).held.unwrap();
        assert_eq!((later.present, later.since), (20, held.since));
        assert!(judge(Some(&later), None, 200, 9).held.is_none());
    }

    #[test]
    fn an_approval_is_good_for_what_it_names_and_for_this_hold() {
        let held = judge(None, None, 40, 20).held.unwrap();
        let approval = Approval::of(&held, Timestamp::UNIX_EPOCH);
        assert_eq!(judge(Some(&held), Some(&approval), 40, 20).mode, ApplyMode::Complete);
        // More than that was never approved.
        let verdict = judge(Some(&held), Some(&approval), 40, 40);
        assert_eq!(verdict.mode, ApplyMode::Only(Arc::new(keys(0..20))));
        assert_eq!(verdict.held.unwrap().objects, keys(20..40));
        let later = HeldDeletions { since: Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1), ..held };
        assert_eq!(judge(Some(&later), Some(&approval), 40, 20).mode, ApplyMode::Only(Arc::default()));
        assert_eq!(judge(None, Some(&approval), 40, 20).mode, ApplyMode::Only(Arc::default()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// An output with these objects; the agent dies before it has deleted more than so many, if at all.
        Output(BTreeSet<u8>, Option<usize>),
        Approve,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let output = prop_oneof![
            prop::collection::btree_set(0..80_u8, 0..80),
            (0..80_u8, 0..80_u8).prop_map(|(from, to)| (from.min(to)..from.max(to)).collect()),
        ];
        let dies = prop_oneof![3 => Just(None), 1 => (0..30_usize).prop_map(Some)];
        prop::collection::vec(
            prop_oneof![4 => (output, dies).prop_map(|(o, d)| Step::Output(o, d)), 1 => Just(Step::Approve)],
            1..25,
        )
    }

    proptest! {
        #[test]
        fn no_output_takes_more_than_its_share_that_nobody_approved(steps in steps()) {
            let brake = DeleteBrake::default();
            let mut cluster: BTreeSet<ObjectKey> = BTreeSet::new();
            let (mut held, mut approval): (Option<HeldDeletions>, Option<Approval>) = (None, None);
            let mut approved: BTreeMap<ObjectKey, ()> = BTreeMap::new();
            for (at, step) in steps.iter().enumerate() {
                let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(at as i64);
                let (wanted, dies) = match step {
                    Step::Approve => {
                        approval = held.as_ref().map(|held| Approval::of(held, now));
                        approved = approval.iter().flat_map(|a| a.objects.iter().map(|key| (key.clone(), ()))).collect();
                        continue;
                    }
                    Step::Output(wanted, dies) => (keys(wanted.iter().copied()), *dies),
                };
                let surplus = Surplus { present: cluster.len(), objects: cluster.difference(&wanted).cloned().collect() };
                let verdict = brake.judge(held.as_ref(), approval.as_ref(), &surplus, ContentHash::default(), now);
                let mut goes = surplus.objects.iter().filter(|key| verdict.mode.allows(key)).cloned().collect::<Vec<_>>();
                goes.truncate(dies.unwrap_or(usize::MAX));
                let unasked = goes.iter().filter(|key| !approved.contains_key(key)).count();
                prop_assert!(unasked < 10 || unasked * 100 <= 30 * cluster.len(), "{unasked} of {}", cluster.len());
                let stays: BTreeSet<_> = surplus.objects.iter().filter(|key| !verdict.mode.allows(key)).cloned().collect();
                prop_assert_eq!(&stays, &verdict.held.as_ref().map(|held| held.objects.clone()).unwrap_or_default());
                cluster.extend(wanted);
                cluster.retain(|key| !goes.contains(key));
                // What is on disk is what a new process goes on from.
                let text = serde_json::to_string(&verdict.held.or_else(|| held.filter(|_| dies.is_some()))).unwrap();
                held = serde_json::from_str(&text).unwrap();
                if held.is_none() {
                    approval = None;
                    approved.clear();
                }
            }
        }
    }
}
