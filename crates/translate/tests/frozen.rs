//! Trees of tables with `failureMode: FREEZE_CONFIG` stay as they last were right.

#![allow(clippy::unwrap_used, reason = "a test may fail wherever it is")]

use std::sync::Arc;

use meshrelay_snapshot::{Name, Object, Snapshot};
use meshrelay_translate::{Code, Inputs, LastAccepted, Options, Translation, Translator};
use serde_json::{Value, json};

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "spec": spec, "metadata": {"name": name, "namespace": namespace}})
}

fn table(name: &str, spec: Value) -> Value {
    object("networking.gloo.solo.io/v2", "RouteTable", "shop", name, spec)
}

fn root(mode: &str) -> Value {
    let http = json!([{"name": "all", "delegate": {"routeTables": [{"name": "child"}]}}]);
    table("root", json!({"hosts": ["shop.mesh"], "failureMode": mode, "http": http}))
}

/// A table whose route has a path and leads to a Service, at a subset.
fn child(path: &str, service: &str) -> Value {
    let destinations = json!([{"ref": {"name": service}, "subset": {"version": path.trim_start_matches('/')}}]);
    let route =
        json!({"name": "r", "matchers": [{"uri": {"exact": path}}], "forwardTo": {"destinations": destinations}});
    table("child", json!({"http": [route]}))
}

fn fleet(tables: &[Value]) -> Inputs {
    fleet_of("shop", tables)
}

/// A fleet whose workspace has the gateways' namespace and another one.
fn fleet_of(namespace: &str, tables: &[Value]) -> Inputs {
    let template = json!({"metadata": {"labels": {"app": "web"}}});
    let ports = json!([{"name": "http", "port": 80}]);
    let namespaces = json!([{"name": "config"}, {"name": namespace}]);
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "config"}}),
        object("internal.gloo.solo.io/v2", "Mesh", "gloo-mesh", "istiod", json!({"trustDomain": "c"})),
        object("v1", "Service", "shop", "web", json!({"selector": {"app": "web"}, "ports": ports})),
        object("apps/v1", "Deployment", "shop", "web", json!({"template": template})),
        object(
            "admin.gloo.solo.io/v2",
            "Workspace",
            "gloo-mesh",
            "shop",
            json!({"workloadClusters": [{"name": "*", "namespaces": namespaces}]}),
        ),
    ];
    objects.extend(tables.iter().cloned());
    let snapshot: Snapshot = objects.iter().map(|object| Arc::new(Object::from_value(object).unwrap())).collect();
    Inputs { management_cluster: "c".into(), clusters: [(Name::from("c"), Arc::new(snapshot))].into() }
}

/// Paths or statuses of the routes, and the subsets that clients know.
fn given(translation: &Translation) -> (Vec<String>, Vec<String>) {
    let (mut routes, mut subsets) = (Vec::new(), Vec::new());
    for object in translation.outputs["c"].sorted() {
        let spec = object.value()["spec"].clone();
        for route in spec["http"].as_array().into_iter().flatten() {
            let status = route.pointer("/directResponse/status").map(ToString::to_string);
            let path = route.pointer("/match/0/uri/exact").and_then(Value::as_str).map(ToOwned::to_owned);
            routes.push(status.or(path).unwrap_or_default());
        }
        let names = spec["subsets"].as_array().into_iter().flatten().map(|subset| subset["name"].to_string());
        subsets.extend(names);
    }
    (routes, subsets)
}

fn routes(translation: &Translation) -> Vec<String> {
    given(translation).0
}

fn is_told(translation: &Translation, code: Code) -> bool {
    let mut reports = translation.reports.iter();
    reports.any(|(_, report)| report.messages.iter().any(|message| message.code == code))
}

const FREEZE: &str = "FREEZE_CONFIG";

#[test]
fn a_tree_stays_as_it_was_while_something_in_it_is_wrong() {
    let mut translator = Translator::new(Options::default());
    let first = translator.translate(&fleet(&[root(FREEZE), child("/one", "web")]));
    assert_eq!(given(&first), (vec!["/one".to_owned()], vec!["\"version-one\"".to_owned()]));
    assert!(!is_told(&first, Code::Frozen));

    let broken = fleet(&[root(FREEZE), child("/two", "gone")]);
    let second = translator.translate(&broken);
    assert_eq!(given(&second), given(&first), "the subset is still needed");
    assert!(is_told(&second, Code::Frozen));
    let (_, report) = second.reports.iter().find(|(resource, _)| resource.key.name == "root").unwrap();
    assert!(!report.shaped.is_empty(), "what is kept is listed");
    assert!(report.messages[0].text.contains("RouteTable c/shop/child spec.http[0].forwardTo"), "{report:?}");

    // The memory of another process begins with what was persisted.
    let persisted = serde_json::to_vec(translator.last_accepted()).unwrap();
    let last_accepted: LastAccepted = serde_json::from_slice(&persisted).unwrap();
    assert_eq!(&last_accepted, translator.last_accepted());
    let mut other = Translator::new(Options::default()).with_last_accepted(last_accepted);
    let again = other.translate(&broken);
    assert_eq!((again.outputs, again.reports), (second.outputs, second.reports));

    let third = other.translate(&fleet(&[root(FREEZE), child("/three", "web")]));
    assert_eq!(given(&third), (vec!["/three".to_owned()], vec!["\"version-three\"".to_owned()]));
    assert!(!is_told(&third, Code::Frozen));
}

#[test]
fn a_table_that_cannot_be_read_freezes_the_tree() {
    let mut translator = Translator::new(Options::default());
    translator.translate(&fleet(&[root(FREEZE), child("/one", "web")]));
    let unreadable = table("child", json!({"http": 7}));
    assert_eq!(routes(&translator.translate(&fleet(&[root(FREEZE), unreadable]))), ["/one"]);
    // That the table was taken away may be meant, but the route then leads nowhere.
    assert_eq!(routes(&translator.translate(&fleet(&[root(FREEZE)]))), ["/one"]);
}

#[test]
fn a_tree_that_never_was_right_is_replaced_where_it_is_wrong() {
    let mut translator = Translator::new(Options::default());
    let first = translator.translate(&fleet(&[root(FREEZE), child("/one", "gone")]));
    assert_eq!(routes(&first), ["500"]);
    assert!(is_told(&first, Code::Frozen));
    assert_eq!(translator.last_accepted().roots().count(), 0);
}

#[test]
fn only_trees_that_freeze_are_remembered_and_only_as_long_as_they_are_there() {
    let mut translator = Translator::new(Options::default());
    translator.translate(&fleet(&[root("ROUTE_REPLACEMENT"), child("/one", "web")]));
    assert_eq!(translator.last_accepted(), &LastAccepted::default());
    translator.translate(&fleet(&[root(FREEZE), child("/one", "web")]));
    assert_eq!(translator.last_accepted().roots().count(), 1);
    // Without its cluster, a table may come back as it was.
    let none = Inputs { clusters: [].into(), ..fleet(&[]) };
    translator.translate(&none);
    assert_eq!(translator.last_accepted().roots().count(), 1);
    assert_eq!(routes(&translator.translate(&fleet(&[root(FREEZE), child("/two", "gone")]))), ["/one"]);
    translator.translate(&fleet(&[root("ROUTE_REPLACEMENT"), child("/two", "gone")]));
    assert_eq!(translator.last_accepted().roots().count(), 0);
    translator.translate(&fleet(&[root(FREEZE), child("/one", "web")]));
    translator.translate(&fleet(&[child("/one", "web")]));
    assert_eq!(translator.last_accepted().roots().count(), 0);
}

#[test]
fn a_frozen_tree_gives_nothing_to_a_namespace_that_its_workspace_lost() {
    let in_config = |mut value: Value| {
        value["metadata"]["namespace"] = "config".into();
        value
    };
    let mut child = child("/one", "web");
    child["spec"]["http"][0]["forwardTo"]["destinations"][0]["ref"]["namespace"] = "shop".into();
    let tables = [in_config(root(FREEZE)), in_config(child)];
    let mut translator = Translator::new(Options::default());
    assert_eq!(routes(&translator.translate(&fleet(&tables))), ["/one"]);
    let mut broken = tables.clone();
    broken[0]["spec"]["hosts"] = json!(["shop.mesh", "no host"]);
    let lost = translator.translate(&fleet_of("other", &broken));
    assert!(routes(&lost).is_empty());
    assert!(is_told(&lost, Code::Frozen));
    assert_eq!(routes(&translator.translate(&fleet(&broken))), ["/one"]);
}

/// The EnvoyFilters, by name.
fn filters(translation: &Translation) -> Vec<Value> {
    let objects = translation.outputs["c"].sorted();
    let filters = objects.iter().filter(|object| object.key().gvk.kind == "EnvoyFilter");
    filters.map(|object| object.value()["spec"].clone()).collect()
}

#[test]
fn routes_of_a_frozen_tree_stay_protected() {
    let labels = json!([{"route": {"labels": {"login": "needed"}}}]);
    let config = json!({"server": {"name": "auth"}, "glooAuth": {"configs": []}});
    let spec = json!({"applyToRoutes": labels, "config": config});
    let policy = object("security.policy.gloo.solo.io/v2", "ExtAuthPolicy", "shop", "login", spec);
    let ports = json!([{"name": "grpc", "port": 8083}]);
    let service = object("v1", "Service", "shop", "auth", json!({"selector": {"app": "auth"}, "ports": ports}));
    let destination = json!({"ref": {"name": "auth"}, "port": {"name": "grpc"}});
    let spec = json!({"destinationServer": destination});
    let server = object("admin.gloo.solo.io/v2", "ExtAuthServer", "shop", "auth", spec);
    let mut child = child("/one", "web");
    child["spec"]["http"][0]["labels"] = json!({"login": "needed"});
    let mut translator = Translator::new(Options::default());
    let first = translator.translate(&fleet(&[root(FREEZE), policy.clone(), service.clone(), server.clone(), child]));
    assert!(filters(&first).len() > 1, "{:?}", filters(&first));

    let unreadable = table("child", json!({"http": 7}));
    let broken = fleet(&[root(FREEZE), policy, service, server, unreadable]);
    let second = translator.translate(&broken);
    assert_eq!(routes(&second), routes(&first));
    assert_eq!(filters(&second), filters(&first), "what is served without its filters is open to everyone");
    let mut other = Translator::new(Options::default())
        .with_last_accepted(translator.last_accepted().clone())
        .with_allocations(translator.allocations().clone());
    assert_eq!(other.translate(&broken).outputs, second.outputs);

    // Without the policy it is not known whether the route may be open.
    let objects = [root(FREEZE), table("child", json!({"http": 7}))];
    let third = other.translate(&fleet(&objects));
    assert_eq!(routes(&third), routes(&first));
    assert!(filters(&third).iter().any(|spec| spec.to_string().contains("policy-of-frozen-route-gone")));
}
