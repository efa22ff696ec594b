//! What must hold for any fleet and any sequence of edits.

#![allow(clippy::unwrap_used, reason = "a test may fail wherever it is")]

mod absence;
mod delegation;
mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edits::*;
use meshrelay_snapshot::{Name, Object, Snapshot};
use meshrelay_translate::{Inputs, Options, Translation, Translator};
use proptest::prelude::*;
use serde_json::{Value, json};

type Fleet = BTreeMap<&'static str, Vec<Value>>;

/// A fleet in which much can be translated: meshes, gateways, and a workspace that owns nearly everything.
fn base() -> Fleet {
    let mut fleet = Fleet::new();
    for cluster in CLUSTERS {
        let objects = fleet.entry(cluster).or_default();
        for namespace in NAMESPACES {
            objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        }
        if cluster == "mgmt" {
            continue;
        }
        let internal = "internal.gloo.solo.io/v2";
        objects.push(object(internal, "Mesh", "gloo-mesh", "istiod", json!({"trustDomain": cluster})));
        for (name, role) in [("x", "ingressgateway"), ("y-a", "eastwestgateway")] {
            let ports = json!([{"name": "tls", "number": 15443}, {"name": "https", "number": 16443}]);
            let spec = json!({"service": {"name": name, "namespace": "gateways"}, "workloadLabels": {"istio": role},
                "externalAddresses": [{"address": format!("{name}.{cluster}.example.com"), "ports": ports}]});
            objects.push(object(internal, "DiscoveredGateway", "gloo-mesh", name, spec));
            let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tls", "port": 15443},
                {"name": "https", "port": 16443}]);
            objects.push(object(
                "v1",
                "Service",
                "gateways",
                name,
                json!({"selector": {"istio": role}, "ports": ports}),
            ));
        }
        let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
        objects.push(object("v1", "Service", "a", "y", json!({"selector": {"app": "y"}, "ports": ports})));
    }
    let listener = json!({"http": {}, "port": {"number": 80}});
    let leaves = json!({"virtualGatewayRefs": [{"name": "base", "namespace": "gateways"}]});
    let outside = json!([{"number": 80, "protocol": "HTTP", "egressGatewayRoutes": leaves}]);
    let services = json!([{"labels": {"app": "y"}}]);
    let ports = json!([{"number": 80, "protocol": "HTTP"}]);
    let destinations = json!([{"ref": {"name": "y"}, "port": {"number": 80}, "subset": {"version": "v1"}},
        {"ref": {"name": "base"}, "kind": "VIRTUAL_DESTINATION"}]);
    let http = json!([{"name": "all", "forwardTo": {"destinations": destinations}}]);
    let gateways = json!([{"name": "base", "namespace": "gateways"}]);
    let networking = "networking.gloo.solo.io/v2";
    fleet.entry("c1").or_default().extend([
        object(networking, "VirtualGateway", "gateways", "base", json!({"listeners": [listener]})),
        object(
            networking,
            "VirtualDestination",
            "a",
            "base",
            json!({"hosts": ["b.mesh"], "services": services, "ports": ports}),
        ),
        object(networking, "ExternalService", "a", "base", json!({"hosts": ["outside.org"], "ports": outside})),
        object(
            networking,
            "RouteTable",
            "a",
            "base",
            json!({"hosts": ["site.mesh"], "virtualGateways": gateways, "http": http}),
        ),
    ]);
    for (name, namespaces) in [("first", ["gateways", "a"]), ("second", ["b", "config"])] {
        let namespaces: Vec<Value> = namespaces.iter().map(|namespace| json!({"name": namespace})).collect();
        let spec = json!({"workloadClusters": [{"name": "*", "namespaces": namespaces}]});
        let mut workspace = object("admin.gloo.solo.io/v2", "Workspace", "gloo-mesh", name, spec);
        workspace["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        fleet.entry("mgmt").or_default().push(workspace);
    }
    fleet
}

fn apply(fleet: &mut Fleet, edit: &Edit) {
    match edit {
        Edit::Put(cluster, object) => {
            let objects = fleet.entry(cluster).or_default();
            let same = |other: &Value| {
                ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"]
                    .iter()
                    .all(|field| other.pointer(field) == object.pointer(field))
            };
            objects.retain(|other| !same(other));
            objects.push(object.clone());
        }
        Edit::Remove(cluster, index) => {
            let objects = fleet.entry(cluster).or_default();
            if !objects.is_empty() {
                objects.remove(index % objects.len());
            }
        }
        Edit::DropCluster(cluster) => {
            fleet.remove(cluster);
        }
    }
}

fn inputs<'a>(clusters: impl Iterator<Item = (&'a &'static str, Vec<&'a Value>)>) -> Inputs {
    let clusters = clusters.map(|(name, objects)| {
        let objects = objects.into_iter().map(|object| Arc::new(Object::from_value(object).unwrap()));
        (Name::from(*name), Arc::new(objects.collect::<Snapshot>()))
    });
    Inputs { management_cluster: "mgmt".into(), clusters: clusters.collect() }
}

fn forwards(fleet: &Fleet) -> Inputs {
    inputs(fleet.iter().map(|(name, objects)| (name, objects.iter().collect())))
}

fn backwards(fleet: &Fleet) -> Inputs {
    inputs(fleet.iter().rev().map(|(name, objects)| (name, objects.iter().rev().collect())))
}

/// Everything that leaves the program.
fn bytes(translation: &Translation) -> Vec<Vec<u8>> {
    let outputs = translation.outputs.iter().flat_map(|(cluster, snapshot)| {
        let objects = snapshot.sorted().into_iter().map(|object| object.body().to_vec());
        [cluster.as_bytes().to_vec()].into_iter().chain(objects).collect::<Vec<_>>()
    });
    let reports = serde_json::to_vec(&translation.reports.document()).unwrap();
    outputs.chain([reports]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_from_scratch(edits in prop::collection::vec(prop::collection::vec(edit(), 1..6), 1..8)) {
        let mut fleet = base();
        let mut translator = Translator::new(Options::default());
        translator.translate(&forwards(&fleet));
        for step in edits {
            step.iter().for_each(|edit| apply(&mut fleet, edit));
            let incremental = translator.translate(&forwards(&fleet));
            let mut fresh = Translator::new(Options::default())
                .with_allocations(translator.allocations().clone())
                .with_last_accepted(translator.last_accepted().clone());
            let from_scratch = fresh.translate(&forwards(&fleet));
            prop_assert_eq!(bytes(&incremental), bytes(&from_scratch));
            prop_assert_eq!(&incremental.reports, &from_scratch.reports);
            prop_assert_eq!(translator.last_accepted(), fresh.last_accepted());
            prop_assert_eq!(&incremental.outputs, &from_scratch.outputs);
            prop_assert_eq!(translator.visibility(), fresh.visibility());
            let again = translator.translate(&forwards(&fleet));
            prop_assert_eq!(again.stats.recomputed, 0);
            for (cluster, snapshot) in &again.outputs {
                prop_assert!(Arc::ptr_eq(snapshot, &incremental.outputs[cluster]));
            }
        }
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(edits in prop::collection::vec(edit(), 0..40)) {
        let mut fleet = base();
        edits.iter().for_each(|edit| apply(&mut fleet, edit));
        let one = Translator::new(Options::default()).translate(&forwards(&fleet));
        let two = Translator::new(Options::default()).translate(&backwards(&fleet));
        prop_assert_eq!(bytes(&one), bytes(&two));
    }

    #[test]
    fn every_object_comes_from_one_unit_and_goes_to_its_context(edits in prop::collection::vec(edit(), 0..40)) {
        let mut fleet = base();
        edits.iter().for_each(|edit| apply(&mut fleet, edit));
        let mut translator = Translator::new(Options::default());
        let translation = translator.translate(&forwards(&fleet));
        let mut published = 0;
        let mut units = BTreeSet::new();
        for unit in translator.units() {
            prop_assert!(units.insert(unit.id.clone()), "{:?} twice", unit.id);
            prop_assert!(!unit.objects.is_empty());
            for object in &unit.objects {
                published += 1;
                prop_assert_eq!(&object.key().namespace, &unit.id.context.namespace);
                let labels = object.labels();
                prop_assert_eq!(&labels["context.mesh.gloo.solo.io/cluster"], &unit.id.context.cluster);
                prop_assert_eq!(&labels["context.mesh.gloo.solo.io/workspace"], &unit.id.context.workspace);
                prop_assert_eq!(&labels["gloo.solo.io/parent_name"], &unit.id.parent.key.name);
            }
        }
        // No object hides another: two that would have one name both get through.
        let objects: usize = translation.outputs.values().map(|snapshot| snapshot.len()).sum();
        prop_assert_eq!(objects, published);
        prop_assert_eq!(objects, translation.stats.objects);
        for (resource, report) in translation.reports.iter() {
            for (cluster, key) in &report.shaped {
                let object = translation.outputs[cluster].get(key);
                prop_assert!(object.is_some(), "{} reports {}, which is not there", resource, key);
            }
        }
    }

    #[test]
    fn a_host_has_one_rule_per_namespace_with_every_subset_that_routes_use(
        edits in prop::collection::vec(edit(), 0..40)
    ) {
        let mut fleet = base();
        edits.iter().for_each(|edit| apply(&mut fleet, edit));
        let translation = Translator::new(Options::default()).translate(&forwards(&fleet));
        for (cluster, snapshot) in &translation.outputs {
            let of_kind = |kind: &'static str| snapshot.iter().filter(move |object| object.key().gvk.kind == kind);
            let mut subsets = BTreeMap::new();
            for rule in of_kind("DestinationRule") {
                let spec = &rule.value()["spec"];
                let names: Vec<String> =
                    spec["subsets"].as_array().into_iter().flatten().map(|subset| subset["name"].to_string()).collect();
                let unique: BTreeSet<String> = names.iter().cloned().collect();
                prop_assert_eq!(unique.len(), names.len(), "subsets of {:?}", rule.key());
                let place = (rule.key().namespace.clone(), spec["host"].to_string());
                prop_assert!(!subsets.contains_key(&place), "{}: two rules for {:?}", cluster, place);
                subsets.insert(place, unique);
            }
            for routes in of_kind("VirtualService") {
                let mut used = BTreeSet::new();
                used_subsets(&routes.value()["spec"], &mut used);
                for (host, subset) in used {
                    let known = subsets.get(&(routes.key().namespace.clone(), host.clone()));
                    let is_known = known.is_some_and(|known| known.contains(&subset));
                    prop_assert!(is_known, "{}: {} leads to {} {}", cluster, routes.key(), host, subset);
                }
            }
        }
    }
}

/// The subsets that routes lead to, with their hosts.
fn used_subsets(value: &Value, into: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| used_subsets(value, into)),
        Value::Object(fields) => {
            if let (Some(host), Some(subset)) = (fields.get("host"), fields.get("subset")) {
                into.insert((host.to_string(), subset.to_string()));
            }
            fields.values().for_each(|value| used_subsets(value, into));
        }
        _ => {}
    }
}

#[test]
fn a_change_recomputes_only_what_depends_on_it() {
    let mut fleet = base();
    let networking = "networking.gloo.solo.io/v2";
    for (name, host) in [("one", "one.mesh"), ("two", "two.mesh")] {
        let services = json!([{"name": "y", "namespace": "a"}]);
        let spec = json!({"hosts": [host], "services": services, "ports": [{"number": 80, "protocol": "HTTP"}]});
        apply(&mut fleet, &Edit::Put("c1", object(networking, "VirtualDestination", "a", name, spec)));
    }
    let mut translator = Translator::new(Options::default());
    let before = translator.translate(&forwards(&fleet));
    assert!(before.stats.objects >= 8, "{:?}", before.stats);
    assert_eq!(before.stats.recomputed, before.stats.units);

    let external = json!({"hosts": ["x.example.com"], "ports": [{"number": 80, "protocol": "HTTP"}]});
    apply(&mut fleet, &Edit::Put("c1", object(networking, "ExternalService", "a", "new", external)));
    let after = translator.translate(&forwards(&fleet));
    assert_eq!((after.stats.changed_clusters, after.stats.recomputed), (1, 4), "an entry in each of four namespaces");

    let objects = |translation: &Translation| -> BTreeMap<_, _> {
        let all = translation.outputs.iter().flat_map(|(cluster, snapshot)| {
            snapshot
                .iter()
                .map(|object| ((cluster.clone(), object.key().clone()), Arc::clone(object)))
                .collect::<Vec<_>>()
        });
        all.collect()
    };
    let after = objects(&after);
    for (key, object) in objects(&before) {
        assert!(Arc::ptr_eq(&object, &after[&key]), "{key:?} was made again");
    }
}

#[test]
fn names_that_collide_are_told_apart() {
    let mut fleet = base();
    let networking = "networking.gloo.solo.io/v2";
    for (name, host) in [("one", "h.a.mesh"), ("two", "h-a.mesh")] {
        let services = json!([{"name": "y", "namespace": "a"}]);
        let spec = json!({"hosts": [host], "services": services, "ports": [{"number": 80, "protocol": "HTTP"}]});
        apply(&mut fleet, &Edit::Put("c1", object(networking, "VirtualDestination", "a", name, spec)));
    }
    let translation = Translator::new(Options::default()).translate(&forwards(&fleet));
    let entries = |host: &str| {
        let snapshot = &translation.outputs["c1"];
        let entries = snapshot.iter().filter(|object| object.key().gvk.kind == "ServiceEntry");
        entries.filter(|object| object.value()["spec"]["hosts"] == json!([host])).count()
    };
    assert_eq!((entries("h.a.mesh"), entries("h-a.mesh")), (1, 1));
}

#[test]
fn trimmed_sidecars_follow_the_tables_that_they_serve() {
    let mut fleet = base();
    let template = json!({"metadata": {"labels": {"app": "y"}}});
    let policy = json!({"config": {"includedDestinations": [{"selector": {"name": "y"}}]}});
    let resilience = "resilience.policy.gloo.solo.io/v2";
    for object in [
        object("apps/v1", "Deployment", "a", "y", json!({"template": template})),
        object(resilience, "TrimProxyConfigPolicy", "a", "x", policy),
    ] {
        apply(&mut fleet, &Edit::Put("c1", object));
    }
    let table = |host: &str, app: &str| {
        let http = json!([{"forwardTo": {"destinations": [{"ref": {"name": "y"}, "port": {"number": 80}}]}}]);
        let selectors = json!([{"selector": {"labels": {"app": app}}}]);
        let spec = json!({"hosts": [host], "workloadSelectors": selectors, "http": http});
        Edit::Put("c1", object("networking.gloo.solo.io/v2", "RouteTable", "a", "x", spec))
    };
    let mut translator = Translator::new(Options::default());
    let mut hosts = |fleet: &Fleet| {
        let translation = translator.translate(&forwards(fleet));
        let sidecar = translation.outputs["c1"].iter().find(|object| object.key().gvk.kind == "Sidecar").unwrap();
        sidecar.value()["spec"]["egress"][0]["hosts"].clone()
    };
    let own = "*/y.a.svc.cluster.local";
    assert_eq!(hosts(&fleet), json!([own]));
    for (table, expected) in [
        (table("site.mesh", "y"), json!([own, "./site.mesh"])),
        (table("*-b.mesh", "y"), json!([own, "./*.mesh"])),
        (table("y", "y"), json!([own])),
        (table("short", "y"), json!([own, "./short.a.svc.cluster.local"])),
        (table("site.mesh", "other"), json!([own])),
    ] {
        apply(&mut fleet, &table);
        assert_eq!(hosts(&fleet), expected, "{table:?}");
    }
}
