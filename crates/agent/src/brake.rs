//! The delete brake: an output that would take away much of what a cluster has is believed only when somebody says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use meshrelay_cluster::{ApplyMode, Surplus};
use meshrelay_snapshot::{ContentHash, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::deletions::{Approval, HeldDeletions};

/// How long deletions count together. What one command takes away goes object by object, and each moment of that is an output;
/// it is over within minutes.
pub(crate) const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// When deletions are held: if outputs would delete more than a share of what the cluster has of us within [`WINDOW`], and not
/// just a few.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeleteBrake {
    /// Whether there is a brake.
    pub enabled: bool,
    /// Largest share that goes without approval within five minutes, percent.
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
    /// What was deleted of late after that.
    pub(crate) recent: Recent,
}

/// What was deleted of late that nobody approved, with when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent {
    deletions: Vec<(ObjectKey, Timestamp)>,
}

impl Recent {
    pub(crate) fn len(&self) -> usize {
        self.deletions.len()
    }

    /// Without what is wanted again.
    pub(crate) fn unwanted(mut self, is_wanted: impl Fn(&ObjectKey) -> bool) -> Self {
        self.deletions.retain(|(key, _)| !is_wanted(key));
        self
    }

    /// Without what is there again, or still, and what was deleted long ago. A clock that was set back makes nothing newer
    /// than it is.
    fn pruned(&self, surplus: &Surplus, now: Timestamp, forever: bool) -> Self {
        let gone = self.deletions.iter().filter(|(key, _)| !surplus.objects.contains(key));
        let gone = gone.map(|(key, at)| (key.clone(), (*at).min(now)));
        Self { deletions: gone.filter(|(_, at)| forever || now.duration_since(*at) < WINDOW).collect() }
    }

    fn with(mut self, keys: impl IntoIterator<Item = ObjectKey>, now: Timestamp) -> Self {
        self.deletions.extend(keys.into_iter().map(|key| (key, now)));
        self
    }
}

impl DeleteBrake {
    /// Judges a complete output. `before` is what is held already, `approval` the newest one that was given, and `recent` what
    /// was deleted before and is still unwanted.
    ///
    /// The share is taken of what the cluster had when the hold began, less what was approved since: the output's own new
    /// objects must not make the old ones a smaller share, and so end the hold by themselves. Nor does time end it: what was
    /// recent when it began stays so. Whoever approves has looked, so counting begins anew.
    pub(crate) fn judge(
        &self,
        before: Option<&HeldDeletions>,
        approval: Option<&Approval>,
        recent: &Recent,
        surplus: &Surplus,
        output: ContentHash,
        now: Timestamp,
    ) -> Verdict {
        let since = before.map_or(now, |before| before.since);
        let approval = approval.filter(|approval| before.is_some_and(|before| approval.since == before.since));
        let approved = |key: &_| approval.is_some_and(|approval| approval.objects.contains(key));
        let (go, rest): (BTreeSet<_>, BTreeSet<_>) = surplus.objects.iter().cloned().partition(approved);
        let recent = if go.is_empty() { recent.pruned(surplus, now, before.is_some()) } else { Recent::default() };
        let had = surplus.present + recent.len();
        let present = before.map_or(had, |before| before.present.min(had));
        if rest.is_empty() || !self.is_over(rest.len() + recent.len(), present) {
            let recent = if self.enabled { recent.with(rest, now) } else { Recent::default() };
            return Verdict { mode: ApplyMode::Complete, held: None, recent };
        }
        Verdict {
            mode: ApplyMode::Only(Arc::new(go)),
            held: Some(HeldDeletions { since, present, output, objects: rest }),
            recent,
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

    use meshrelay_snapshot::Gvk;
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
        judge_at(before, approval, &Recent::default(), &surplus, 0)
    }

    fn judge_at(
        before: Option<&HeldDeletions>,
        approval: Option<&Approval>,
        recent: &Recent,
        surplus: &Surplus,
        second: i64,
    ) -> Verdict {
        let now = Timestamp::from_second(second).unwrap();
        DeleteBrake::default().judge(before, approval, recent, surplus, ContentHash::default(), now)
    }

    #[test]
    fn more_than_a_share_and_not_just_a_few_are_held() {
        for (present, gone, held) in [(100, 30, false), (100, 31, true), (9, 9, false), (10, 10, true), (34, 10, false)]
        {
            assert_eq!(judge(None, None, present, gone).held.is_some(), held, "{gone} of {present}");
        }
        let off = DeleteBrake { enabled: false, ..DeleteBrake::default() };
        let surplus = Surplus { present: 50, objects: keys(0..50) };
        let (recent, digest) = (Recent::default(), ContentHash::default());
        let verdict = off.judge(None, None, &recent, &surplus, digest, Timestamp::UNIX_EPOCH);
        assert_eq!(verdict, Verdict { mode: ApplyMode::Complete, held: None, recent });
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

    /// What a cluster with the objects up to `present` would lose of the first ones.
    fn losing(gone: std::ops::Range<u8>, present: usize) -> Surplus {
        Surplus { present, objects: keys(gone) }
    }

    #[test]
    fn outputs_that_follow_each_other_are_one_until_time_passes_or_somebody_approves() {
        let first = judge_at(None, None, &Recent::default(), &losing(0..20, 100), 0);
        assert_eq!((first.mode, first.held, first.recent.len()), (ApplyMode::Complete, None, 20));
        let second = judge_at(None, None, &first.recent, &losing(20..30, 80), 299);
        assert_eq!((second.held, second.recent.len()), (None, 30));
        // Five minutes after the first of them there is room again.
        assert!(judge_at(None, None, &second.recent, &losing(30..31, 70), 300).held.is_none());
        let held = judge_at(None, None, &second.recent, &losing(30..31, 70), 299).held.unwrap();
        assert_eq!((held.present, held.objects.len()), (100, 1));
        // Time does not end a hold.
        let later = judge_at(Some(&held), None, &second.recent, &losing(30..31, 70), 9_000);
        assert!(later.held.is_some());
        let approval = Approval::of(&held, Timestamp::UNIX_EPOCH);
        let approved = judge_at(Some(&held), Some(&approval), &later.recent, &losing(30..31, 70), 9_001);
        assert_eq!(approved, Verdict { mode: ApplyMode::Complete, held: None, recent: Recent::default() });
    }

    #[test]
    fn what_is_back_does_not_count_and_a_clock_that_is_set_back_changes_nothing() {
        let first = judge_at(None, None, &Recent::default(), &losing(0..30, 100), 1_000);
        let again = first.recent.clone().unwanted(|key| keys(0..29).contains(key));
        assert!(judge_at(None, None, &again, &losing(40..60, 99), 1_001).held.is_none());
        // Deletions that failed are not counted twice.
        assert!(judge_at(None, None, &first.recent, &losing(0..30, 100), 1_001).held.is_none());
        let earlier = judge_at(None, None, &first.recent, &losing(30..30, 70), 0).recent;
        assert!(judge_at(None, None, &earlier, &losing(30..31, 70), 299).held.is_some());
        assert!(judge_at(None, None, &earlier, &losing(30..31, 70), 300).held.is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// An output with these objects, so many seconds after the one before; the agent dies before it has deleted more than
        /// so many, if at all.
        Output(BTreeSet<u8>, i64, Option<usize>),
        Approve,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let output = prop_oneof![
            prop::collection::btree_set(0..80_u8, 0..80),
            (0..80_u8, 0..80_u8).prop_map(|(from, to)| (from.min(to)..from.max(to)).collect()),
        ];
        let dies = prop_oneof![3 => Just(None), 1 => (0..30_usize).prop_map(Some)];
        prop::collection::vec(
            prop_oneof![
                4 => (output, 0..200_i64, dies).prop_map(|(wanted, pause, dies)| Step::Output(wanted, pause, dies)),
                1 => Just(Step::Approve)
            ],
            1..25,
        )
    }

    proptest! {
        #[test]
        fn outputs_take_no_more_than_their_share_within_the_window_that_nobody_approved(steps in steps()) {
            let brake = DeleteBrake::default();
            let mut now = Timestamp::UNIX_EPOCH;
            let mut cluster: BTreeSet<ObjectKey> = BTreeSet::new();
            let (mut held, mut approval): (Option<HeldDeletions>, Option<Approval>) = (None, None);
            let mut recent = Recent::default();
            // What was deleted that nobody approved, and is not wanted again.
            let mut gone: BTreeMap<ObjectKey, Timestamp> = BTreeMap::new();
            for step in &steps {
                let (wanted, pause, dies) = match step {
                    Step::Approve => {
                        approval = held.as_ref().map(|held| Approval::of(held, now));
                        continue;
                    }
                    Step::Output(wanted, pause, dies) => (keys(wanted.iter().copied()), pause, *dies),
                };
                now += SignedDuration::from_secs(*pause);
                gone.retain(|key, at| !wanted.contains(key) && now.duration_since(*at) < WINDOW);
                let surplus = Surplus { present: cluster.len(), objects: cluster.difference(&wanted).cloned().collect() };
                let unwanted = recent.unwanted(|key| wanted.contains(key));
                let verdict =
                    brake.judge(held.as_ref(), approval.as_ref(), &unwanted, &surplus, ContentHash::default(), now);
                let mut goes = surplus.objects.iter().filter(|key| verdict.mode.allows(key)).cloned().collect::<Vec<_>>();
                goes.truncate(dies.unwrap_or(usize::MAX));
                let is_approved = |key: &&ObjectKey| approval.as_ref().is_some_and(|given| given.objects.contains(*key));
                if surplus.objects.iter().any(|key| is_approved(&key)) {
                    gone.clear();
                }
                let had = cluster.len() + gone.len();
                gone.extend(goes.iter().filter(|key| !is_approved(key)).map(|key| (key.clone(), now)));
                let unasked = gone.len();
                let is_new = gone.values().any(|at| *at == now);
                prop_assert!(!is_new || unasked < 10 || unasked * 100 <= 30 * had, "{unasked} of {had}");
                let stays: BTreeSet<_> = surplus.objects.iter().filter(|key| !verdict.mode.allows(key)).cloned().collect();
                prop_assert_eq!(&stays, &verdict.held.as_ref().map(|held| held.objects.clone()).unwrap_or_default());
                cluster.extend(wanted);
                cluster.retain(|key| !goes.contains(key));
                // What is on disk is what a new process goes on from.
                let kept = (verdict.held.or_else(|| held.filter(|_| dies.is_some())), verdict.recent);
                (held, recent) = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
                if held.is_none() {
                    approval = None;
                }
            }
        }
    }
}
