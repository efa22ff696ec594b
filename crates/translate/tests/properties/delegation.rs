//! Trees of tables in any order of arrival.

use proptest::collection::vec;
use proptest::option;
use proptest::sample::{select, subsequence};

use super::*;

/// How deep a table lies, which selectors ask for.
const LEVELS: [&str; 3] = ["root", "child", "grandchild"];

/// A table with when it was created, and what its routes select the tables below by.
fn table() -> impl Strategy<Value = (&'static str, Value)> {
    let created = option::of(select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]));
    let place = (cluster(), namespace(), name(), select(vec!["x", "y"]));
    let sort = select(vec!["TABLE_WEIGHT", "ROUTE_SPECIFICITY"]);
    let route = (below(), select(vec!["/", "/a", "/a/b"]), sort, any::<bool>());
    (0..LEVELS.len(), place, created, vec(route, 1..3), 0..3).prop_map(
        |(level, (cluster, namespace, name, app), created, routes, weight)| {
            let routes: Vec<Value> = routes
                .into_iter()
                .map(|(below, prefix, sort, delegates)| {
                    let mut route = json!({"matchers": [{"uri": {"prefix": prefix}}], "labels": {"app": app}});
                    if delegates && level + 1 < LEVELS.len() {
                        let mut tables = below;
                        for selector in tables.as_array_mut().into_iter().flatten() {
                            if let Some(wanted) = selector.pointer_mut("/labels/level") {
                                *wanted = LEVELS[level + 1].into();
                            }
                        }
                        route["delegate"] = json!({"routeTables": tables, "sortMethod": sort});
                    } else {
                        let y =
                            json!({"ref": {"name": "y", "namespace": "a", "cluster": "c1"}, "port": {"number": 80}});
                        route["forwardTo"] = json!({"destinations": [y]});
                    }
                    route
                })
                .collect();
            let mut spec = json!({"http": routes, "weight": weight});
            if level == 0 {
                spec["hosts"] = json!([format!("{name}.site.mesh")]);
                spec["virtualGateways"] = json!([{"name": "base", "namespace": "gateways", "cluster": "c1"}]);
            }
            let mut table = object("networking.gloo.solo.io/v2", "RouteTable", namespace, name, spec);
            // What selectors of any level could pick lies in one namespace.
            table["metadata"]["name"] = format!("{}-{name}", LEVELS[level]).into();
            table["metadata"]["labels"] = json!({"level": LEVELS[level], "app": app});
            if let Some(created) = created {
                table["metadata"]["creationTimestamp"] = created.into();
            }
            (cluster, table)
        },
    )
}

/// Stands for the level below.
const BELOW: &str = "below";

/// Selectors of tables: of the level below, or of any, which may go round in circles.
fn below() -> impl Strategy<Value = Value> {
    let of_level = prop_oneof![
        Just(json!({"labels": {"level": BELOW}})),
        Just(json!({"labels": {"level": BELOW, "app": "y"}})),
        select(&["a", "b"][..]).prop_map(|namespace| json!({"namespace": namespace, "labels": {"level": BELOW}})),
        select(&["first", "second"][..])
            .prop_map(|workspace| json!({"workspace": workspace, "labels": {"level": BELOW}})),
    ];
    let of_any = prop_oneof![
        select(&["c1", "c2"][..]).prop_map(|cluster| json!({"cluster": cluster})),
        select(&["a", "b"][..]).prop_map(|namespace| json!({"namespace": namespace})),
        (select(&LEVELS[1..]), name()).prop_map(|(level, name)| json!({"name": format!("{level}-{name}")})),
    ];
    vec(prop_oneof![2 => of_level, 1 => of_any], 1..3).prop_map(Value::from)
}

/// Headers by routes' labels: of two policies the older one holds.
fn policy() -> impl Strategy<Value = (&'static str, Value)> {
    let created = option::of(select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]));
    let app = option::of(select(vec!["x", "y"]));
    (cluster(), namespace(), name(), created, app).prop_map(|(cluster, namespace, name, created, app)| {
        let mut spec = json!({"config": {"appendRequestHeaders": {"x-from": format!("{cluster}/{namespace}/{name}")}}});
        if let Some(app) = app {
            spec["applyToRoutes"] = json!([{"route": {"labels": {"app": app}}}]);
        }
        let kind = "HeaderManipulationPolicy";
        let mut policy = object("trafficcontrol.policy.gloo.solo.io/v2", kind, namespace, name, spec);
        if let Some(created) = created {
            policy["metadata"]["creationTimestamp"] = created.into();
        }
        (cluster, policy)
    })
}

/// Trees of tables, policies for their routes, and settings of workspaces that share tables.
fn objects() -> impl Strategy<Value = Fleet> {
    let sharing = subsequence(vec!["first", "second"], 0..=2);
    (vec(table(), 4..16), vec(policy(), 0..4), sharing).prop_map(|(tables, policies, sharing)| {
        let mut fleet = Fleet::new();
        for (cluster, object) in tables.into_iter().chain(policies) {
            apply(&mut fleet, &Edit::Put(cluster, object));
        }
        for workspace in sharing {
            let rules = json!([{"workspaces": [{"name": "*"}]}]);
            let spec = json!({"importFrom": rules, "exportTo": rules});
            let namespace = if workspace == "first" { "a" } else { "b" };
            let settings = object("admin.gloo.solo.io/v2", "WorkspaceSettings", namespace, workspace, spec);
            apply(&mut fleet, &Edit::Put("c1", settings));
        }
        fleet
    })
}

type Arriving = Vec<(&'static str, Value)>;

/// What arrives at once to begin with, and what follows in steps: everything that trees need first, or nothing.
fn arrival() -> impl Strategy<Value = (Arriving, Arriving, Vec<usize>)> {
    let listed = |fleet: Fleet| -> Arriving {
        let objects =
            |(cluster, objects): (&'static str, Vec<Value>)| objects.into_iter().map(move |one| (cluster, one));
        fleet.into_iter().flat_map(objects).collect()
    };
    (objects(), any::<bool>()).prop_flat_map(move |(objects, base_first)| {
        let (mut first, mut later) = (listed(base()), listed(objects));
        if !base_first {
            later.append(&mut first);
        }
        (Just(first), Just(later).prop_shuffle(), vec(1..5_usize, 7))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn trees_do_not_depend_on_what_arrived_first((first, later, sizes) in arrival()) {
        let mut translator = Translator::new(Options::default());
        let mut fleet = Fleet::new();
        let mut sizes = sizes.into_iter().cycle();
        let mut arrived = first.as_slice();
        let mut rest = later.as_slice();
        let mut last;
        loop {
            arrived.iter().for_each(|(cluster, object)| apply(&mut fleet, &Edit::Put(cluster, object.clone())));
            last = translator.translate(&forwards(&fleet));
            if rest.is_empty() {
                break;
            }
            (arrived, rest) = rest.split_at(sizes.next().unwrap().min(rest.len()));
        }
        let whole = Translator::new(Options::default()).translate(&backwards(&fleet));
        prop_assert_eq!(bytes(&last), bytes(&whole));
        prop_assert!(whole.stats.objects > 0);
    }
}
