//! What agents keep while a cluster is away, or known in part.

use meshrelay_snapshot::{ClusterDoubt, Lack, SnapshotMeta, depends_on, freeze};
use meshrelay_translate::{Options, Translator};

use super::*;

/// From what a translator knows now, as a new one would.
fn anew(translator: &Translator, fleet: &Fleet) -> BTreeMap<Name, Arc<Snapshot>> {
    let mut fresh = Translator::new(Options::default())
        .with_allocations(translator.allocations().clone())
        .with_last_accepted(translator.last_accepted().clone());
    fresh.translate(&forwards(fleet)).outputs
}

fn depends(object: &Object, own: &str, on: &str) -> bool {
    own == on || depends_on(object).contains(on)
}

fn differs(object: &Object, from: &Snapshot) -> bool {
    from.get(object.key()).is_none_or(|other| **other != *object)
}

#[test]
fn without_a_freeze_a_cluster_that_is_away_takes_from_others() {
    let mut fleet = base();
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    fleet.remove("c2");
    let given = &anew(&translator, &fleet)["c1"];
    let changed: Vec<_> = complete["c1"].iter().filter(|object| differs(object, given)).collect();
    assert!(changed.iter().any(|object| given.get(object.key()).is_none()), "nothing is lost");
    assert!(changed.iter().any(|object| given.get(object.key()).is_some()), "nothing is less than it was");
    assert!(changed.iter().all(|object| depends(object, "c1", "c2")));
    assert!(complete["c1"].iter().any(|object| !depends(object, "c1", "c2")), "everything depends on everything");

    // With one, nothing is: all that is there is as it was.
    let mut given = Snapshot::clone(given);
    let doubt = ClusterDoubt { lack: Lack::Missing, reason: "away".to_owned() };
    given.set_meta(SnapshotMeta { doubts: [("c2".into(), doubt)].into(), ..SnapshotMeta::default() });
    let frozen = freeze(&complete["c1"], &given, &"c1".into());
    assert!(complete["c1"].iter().all(|object| !differs(object, &frozen.in_force)));
    assert_eq!(frozen.kept.len(), changed.len());
}
