//! What agents keep while a cluster is away, or known in part.

use meshrelay_snapshot::{ClusterDoubt, DEPENDS_ON, Frozen, ObjectKey, SnapshotMeta, depends_on, freeze};
use meshrelay_translate::{Options, Translator};
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::RngSeed;

use super::*;

/// The clusters that may be away.
const WORKLOAD: [&str; 3] = ["c1", "c2", "c3"];

/// A fleet with one more cluster, so that several may be away.
fn larger() -> Fleet {
    let mut fleet = base();
    let copy = fleet["c2"].clone();
    fleet.insert("c3", copy);
    fleet
}

/// What is not known of clusters.
#[derive(Clone, Debug)]
enum Away {
    /// All of them.
    Whole(Vec<&'static str>),
    /// The objects of the kind of one of its objects.
    Kind(&'static str, Index),
}

impl Away {
    fn clusters(&self) -> Vec<&'static str> {
        match self {
            Self::Whole(clusters) => clusters.clone(),
            Self::Kind(cluster, _) => vec![cluster],
        }
    }

    fn doubts(&self) -> BTreeMap<Name, ClusterDoubt> {
        let doubt = ClusterDoubt { reason: "away".to_owned() };
        self.clusters().into_iter().map(|cluster| (cluster.into(), doubt.clone())).collect()
    }

    /// Whether an object of a cluster depends on any of what is not known.
    fn matters(&self, object: &Object, own: &str) -> bool {
        self.clusters().into_iter().any(|cluster| depends(object, own, cluster))
    }

    /// The fleet as the server sees it.
    fn seen(&self, mut fleet: Fleet) -> Fleet {
        match self {
            Self::Whole(clusters) => fleet.retain(|name, _| !clusters.contains(name)),
            Self::Kind(cluster, index) => {
                let Some(objects) = fleet.get_mut(cluster).filter(|objects| !objects.is_empty()) else { return fleet };
                let kind = index.get(objects)["kind"].clone();
                objects.retain(|object| object["kind"] != kind);
            }
        }
        fleet
    }
}

fn away() -> impl Strategy<Value = Away> {
    let whole = subsequence(WORKLOAD.to_vec(), 1..3).prop_map(Away::Whole);
    let kind = (select(&WORKLOAD[..2]), any::<Index>()).prop_map(|(cluster, index)| Away::Kind(cluster, index));
    prop_oneof![whole, kind]
}

/// What is away in steps that follow each other: a second cluster may go while one is away, and either may be back first.
fn stretch() -> impl Strategy<Value = Vec<Option<Away>>> {
    let two = (subsequence(WORKLOAD.to_vec(), 2).prop_shuffle(), 0..2_usize).prop_map(|(two, last)| {
        let last = two[last];
        [vec![two[0]], two, vec![last]].map(|away| Some(Away::Whole(away))).into()
    });
    prop_oneof![2 => Just(vec![None]), 3 => away().prop_map(|away| vec![Some(away)]), 2 => two]
}

/// Edits of up to three steps, with what is away meanwhile.
fn steps() -> impl Strategy<Value = Vec<(Vec<Edit>, Option<Away>)>> {
    let stretch = (prop::array::uniform3(prop::collection::vec(edit(), 0..6)), stretch());
    let stretches = prop::collection::vec(stretch, 1..5);
    stretches.prop_map(|all| all.into_iter().flat_map(|(edits, away)| edits.into_iter().zip(away)).collect())
}

type Outputs = BTreeMap<Name, Arc<Snapshot>>;

/// From what a translator knows now, as a new one would.
fn anew(translator: &Translator, fleet: &Fleet) -> Outputs {
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
    let fleet = base();
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    let given = &anew(&translator, &Away::Whole(vec!["c2"]).seen(fleet))["c1"];
    let changed: Vec<_> = complete["c1"].iter().filter(|object| differs(object, given)).collect();
    assert!(changed.iter().any(|object| given.get(object.key()).is_none()), "nothing is lost");
    assert!(changed.iter().any(|object| given.get(object.key()).is_some()), "nothing is less than it was");
    assert!(changed.iter().all(|object| depends(object, "c1", "c2")));
    assert!(complete["c1"].iter().any(|object| !depends(object, "c1", "c2")), "everything depends on everything");
}

/// The first object that absence takes away or changes though it does not depend on what is absent.
fn unexplained(translator: &Translator, fleet: &Fleet, complete: &Outputs, away: &Away) -> Option<String> {
    let given = anew(translator, &away.seen(fleet.clone()));
    given.iter().find_map(|(cluster, given)| {
        let mut changed = complete[cluster].iter().filter(|object| differs(object, given));
        let object = changed.find(|object| !away.matters(object, cluster))?;
        let depends_on = depends_on(object);
        Some(format!("{away:?} changes {} of {cluster}, which depends on {depends_on:?}", object.key()))
    })
}

/// ExternalServices with one host, which share a rule only where both have something to say.
#[test]
fn who_says_something_to_others_only_has_no_part_in_what_is_said_to_a_workspace() {
    let mut fleet = larger();
    let networking = "networking.gloo.solo.io/v2";
    let external = |port: Value| json!({"hosts": ["one.host"], "ports": [port]});
    let open = json!([{"workspaces": [{"name": "*"}]}]);
    let policy = json!({"applyToDestinations": [{"kind": "EXTERNAL_SERVICE"}], "config": {"consecutiveErrors": 2}});
    let sharing = json!({"importFrom": open, "exportTo": open});
    let resilience = "resilience.policy.gloo.solo.io/v2";
    let admin = "admin.gloo.solo.io/v2";
    let tls = json!({"number": 80, "protocol": "HTTP", "clientsideTls": {}});
    for (cluster, object) in [
        ("c1", object(admin, "WorkspaceSettings", "b", "x", sharing.clone())),
        ("c2", object(admin, "WorkspaceSettings", "a", "x", sharing)),
        ("c1", object(resilience, "OutlierDetectionPolicy", "b", "x", policy)),
        ("c2", object(networking, "ExternalService", "a", "x", external(tls))),
        ("c2", object(networking, "ExternalService", "a", "y", external(json!({"number": 80, "protocol": "HTTP"})))),
    ] {
        apply(&mut fleet, &Edit::Put(cluster, object));
    }
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    let of_host = |object: &&Arc<Object>| object.value().pointer("/spec/host") == Some(&json!("one.host"));
    let rules: Vec<_> = complete["c2"].iter().filter(of_host).collect();
    let dependent = rules.iter().filter(|rule| depends(rule, "c2", "c1")).count();
    assert!(0 < dependent && dependent < rules.len(), "{dependent} of {}", rules.len());
    assert_eq!(unexplained(&translator, &fleet, &complete, &Away::Whole(vec!["c1"])), None);
}

/// The base has an ExternalService of c1, for which clients of all clusters leave the mesh by their gateways.
#[test]
fn what_is_said_to_those_only_who_leave_the_mesh_depends_on_what_they_leave_it_for() {
    let mut fleet = larger();
    let services = json!([{"namespace": "gateways", "name": "x"}]);
    let ports = json!([{"number": 80, "protocol": "HTTP"}]);
    let behind = json!({"hosts": ["gateway.mesh"], "services": services, "ports": ports});
    let policy = json!({"applyToDestinations": [{"kind": "VIRTUAL_DESTINATION"}],
        "config": {"simple": "RANDOM", "healthyPanicThreshold": 3}});
    let traffic_control = "trafficcontrol.policy.gloo.solo.io/v2";
    for object in [
        object("networking.gloo.solo.io/v2", "VirtualDestination", "a", "x", behind),
        object(traffic_control, "LoadBalancerPolicy", "a", "x", policy),
    ] {
        apply(&mut fleet, &Edit::Put("c2", object));
    }
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    let is_of_gateway = |object: &&Arc<Object>| object.key().name.starts_with("clusters-x-gateways");
    let mut filters = complete["c2"].iter().filter(is_of_gateway).peekable();
    assert!(filters.peek().is_some() && filters.all(|filter| depends(filter, "c2", "c1")));
    assert_eq!(unexplained(&translator, &fleet, &complete, &Away::Whole(vec!["c1"])), None);
}

/// What a VirtualDestination says about a Service is said in the name of the Service if anybody has a policy for that.
#[test]
fn what_is_said_in_the_name_of_a_service_depends_on_who_else_has_a_policy_for_it() {
    let mut fleet = larger();
    let open = json!([{"workspaces": [{"name": "*"}]}]);
    let sharing = json!({"importFrom": open, "exportTo": open});
    let policy = |targets: Value| json!({"applyToDestinations": targets, "config": {"tcp": {"maxConnections": 2}}});
    let (admin, resilience) = ("admin.gloo.solo.io/v2", "resilience.policy.gloo.solo.io/v2");
    let of_hosts = policy(json!([{"kind": "VIRTUAL_DESTINATION"}]));
    for (cluster, object) in [
        ("c1", object(admin, "WorkspaceSettings", "a", "x", sharing.clone())),
        ("mgmt", object(admin, "WorkspaceSettings", "b", "x", sharing)),
        ("c2", object(resilience, "ConnectionPolicy", "b", "x", policy(json!([])))),
        ("c1", object(resilience, "ConnectionPolicy", "a", "x", of_hosts)),
    ] {
        apply(&mut fleet, &Edit::Put(cluster, object));
    }
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    let is_of_service = |object: &&Arc<Object>| object.key().name.starts_with("y-a-svc-c1");
    let mut rules = complete["c1"].iter().filter(is_of_service).peekable();
    assert!(rules.peek().is_some() && rules.all(|rule| depends(rule, "c1", "c2")));
    assert_eq!(unexplained(&translator, &fleet, &complete, &Away::Whole(vec!["c2"])), None);
}

/// A policy that asks a Service, in a workspace with two settings. Those in force, of c2, do not federate its Services, and
/// those that wait behind them do.
fn asking(keys: Value) -> (Fleet, Translator, Outputs) {
    let mut fleet = larger();
    let policy = json!({"applyToDestinations": [{}], "config": {"providers": {"one": {"remote": keys}}}});
    let federation = |enabled: bool| json!({"options": {"federation": {"enabled": enabled}}});
    let admin = "admin.gloo.solo.io/v2";
    for (cluster, object) in [
        ("c2", object(admin, "WorkspaceSettings", "a", "x", federation(false))),
        ("mgmt", object(admin, "WorkspaceSettings", "a", "x", federation(true))),
        ("c1", object("security.policy.gloo.solo.io/v2", "JWTPolicy", "a", "x", policy)),
    ] {
        apply(&mut fleet, &Edit::Put(cluster, object));
    }
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    (fleet, translator, complete)
}

fn filters(output: &Snapshot) -> Vec<Arc<Object>> {
    output.iter().filter(|object| object.key().name.starts_with("http-filters-y-")).cloned().collect()
}

#[test]
fn what_is_asked_in_its_own_cluster_does_not_depend_on_federation() {
    let here = json!({"ref": {"name": "y"}, "port": {"number": 80}});
    let (fleet, translator, complete) = asking(json!({"url": "https://keys.mesh", "destinationRef": here}));
    let filters = filters(&complete["c1"]);
    assert!(!filters.is_empty() && filters.iter().all(|filter| !depends(filter, "c1", "c2")));
    assert_eq!(unexplained(&translator, &fleet, &complete, &Away::Whole(vec!["c2"])), None);
}

#[test]
fn what_is_asked_elsewhere_depends_on_the_settings_that_do_not_federate_it() {
    let there = json!({"ref": {"name": "y", "cluster": "c1"}, "port": {"number": 80}});
    let (fleet, translator, complete) = asking(json!({"url": "https://keys.mesh", "destinationRef": there}));
    let filters = filters(&complete["c3"]);
    assert!(!filters.is_empty() && filters.iter().all(|filter| depends(filter, "c3", "c2")));
    assert_eq!(unexplained(&translator, &fleet, &complete, &Away::Whole(vec!["c2"])), None);
}

/// The settings in force, of c1, share nothing with workspace b, and those that wait behind them share all.
#[test]
fn what_sidecars_are_not_told_of_depends_on_the_settings_that_do_not_share_it() {
    let mut fleet = larger();
    let sharing = |with: Value| json!({"importFrom": with, "exportTo": with});
    let all = json!([{"workspaces": [{"name": "*"}]}]);
    let mut trimmed = sharing(all.clone());
    trimmed["options"] = json!({"serviceIsolation": {"enabled": true, "trimProxyConfig": true}});
    let pods = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"serviceAccountName": "x"}});
    let admin = "admin.gloo.solo.io/v2";
    for (cluster, object) in [
        ("c1", object(admin, "WorkspaceSettings", "a", "x", sharing(json!([])))),
        ("c2", object(admin, "WorkspaceSettings", "a", "x", sharing(all))),
        ("c2", object(admin, "WorkspaceSettings", "b", "x", trimmed)),
        ("c2", object("apps/v1", "Deployment", "b", "x", json!({"template": pods}))),
    ] {
        apply(&mut fleet, &Edit::Put(cluster, object));
    }
    let mut translator = Translator::new(Options::default());
    let complete = translator.translate(&forwards(&fleet)).outputs;
    let is_sidecar = |object: &&Arc<Object>| *object.key().gvk.kind == *"Sidecar";
    let mut sidecars = complete["c2"].iter().filter(is_sidecar).peekable();
    assert!(sidecars.peek().is_some() && sidecars.all(|sidecar| depends(sidecar, "c2", "c1")));
    assert_eq!(unexplained(&translator, &fleet, &complete, &Away::Whole(vec!["c1"])), None);
}

/// The same few fleets each time; `PROPTEST_CASES` asks for so many others.
fn config() -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let rng_seed = if wanted.is_some() { RngSeed::Random } else { RngSeed::Fixed(21) };
    ProptestConfig { cases: wanted.unwrap_or(20), rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_absence_takes_away_or_changes_depends_on_what_is_absent(
        edits in edits(),
        away in prop::collection::vec(away(), 1..5),
    ) {
        let mut fleet = larger();
        edits.iter().for_each(|edit| apply(&mut fleet, edit));
        let mut translator = Translator::new(Options::default());
        let complete = translator.translate(&forwards(&fleet)).outputs;
        for away in away {
            prop_assert_eq!(unexplained(&translator, &fleet, &complete, &away), None);
        }
    }

    #[test]
    fn agents_lose_nothing_and_follow_in_what_does_not_depend_on_it(
        sharing in edits(),
        steps in steps(),
    ) {
        let mut fleet = larger();
        sharing.iter().filter(|edit| !matches!(edit, Edit::DropCluster(_))).for_each(|edit| apply(&mut fleet, edit));
        let mut translator = Translator::new(Options::default());
        let mut agents = translator.translate(&forwards(&fleet)).outputs;
        for (edits, away) in steps.into_iter().chain([(Vec::new(), None)]) {
            let edits = edits.iter().filter(|edit| !matches!(edit, Edit::DropCluster(_)));
            edits.for_each(|edit| apply(&mut fleet, edit));
            let seen = away.iter().fold(fleet.clone(), |fleet, away| away.seen(fleet));
            let outputs = translator.translate(&forwards(&seen)).outputs;
            let complete = anew(&translator, &fleet);
            let doubts = away.as_ref().map(Away::doubts).unwrap_or_default();
            for (cluster, output) in outputs {
                let mut output = Snapshot::clone(&output);
                output.set_meta(SnapshotMeta { doubts: doubts.clone(), ..SnapshotMeta::default() });
                let before = agents.remove(&cluster).unwrap();
                let Frozen { in_force, kept } = freeze(&before, &output, &cluster);
                let complete = &complete[&cluster];
                for held in before.iter() {
                    let key: &ObjectKey = held.key();
                    if let Some(wanted) = complete.get(key).filter(|wanted| has_all_of(held, wanted)) {
                        let is_there = in_force.get(key).is_some_and(|now| has_all_of(now, wanted));
                        prop_assert!(is_there, "{} loses {}, which nobody touched, while {:?}", cluster, key, away);
                    }
                    if !away.as_ref().is_some_and(|away| away.matters(held, &cluster)) {
                        prop_assert_eq!(in_force.get(key), output.get(key), "{} does not follow", key);
                    }
                }
                for object in output.iter().filter(|object| before.get(object.key()).is_none()) {
                    prop_assert_eq!(in_force.get(object.key()), Some(object));
                }
                if away.is_none() {
                    prop_assert_eq!(&in_force, &**complete);
                    prop_assert!(kept.is_empty());
                }
                agents.insert(cluster, Arc::new(in_force));
            }
        }
    }
}

/// Whether an object is as another one, and names all clusters that the other one depends on.
fn has_all_of(object: &Object, other: &Object) -> bool {
    let unnamed = |object: &Object| {
        let mut value = object.value();
        value["metadata"]["annotations"].as_object_mut().map(|annotations| annotations.remove(DEPENDS_ON));
        value
    };
    object == other || (depends_on(object).is_superset(&depends_on(other)) && unnamed(object) == unnamed(other))
}
