//! The committed custom resource definitions are those of the types.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meshrelay_api::{KINDS, crd};
use serde_json::Value;

fn committed() -> BTreeMap<PathBuf, Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/crds");
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            (PathBuf::from(path.file_name().unwrap()), serde_saphyr::from_str(&text).unwrap())
        })
        .collect()
}

#[test]
fn committed_definitions_equal_what_the_types_generate() {
    let generated: BTreeMap<PathBuf, Value> =
        KINDS.iter().map(|info| (PathBuf::from(format!("{}_{}.yaml", info.group, info.plural)), crd(info))).collect();
    let committed = committed();
    let names: (Vec<_>, Vec<_>) = (committed.keys().collect(), generated.keys().collect());
    assert_eq!(names.0, names.1, "run `cargo xtask codegen`");
    for (name, definition) in generated {
        assert!(committed[&name] == definition, "{} is stale: run `cargo xtask codegen`", name.display());
    }
}

/// What the API server refuses in a definition: references, several types, nothing said about a node.
fn assert_structural(path: &str, schema: &Value) {
    let node = schema.as_object().unwrap_or_else(|| panic!("{path}: not a schema: {schema}"));
    let kind = node.get("type").and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: no single type: {schema}"));
    for key in node.keys() {
        let known = match key.as_str() {
            "type" | "description" | "nullable" | "x-kubernetes-validations" => true,
            "properties"
            | "additionalProperties"
            | "required"
            | "oneOf"
            | "allOf"
            | "maxProperties"
            | "x-kubernetes-preserve-unknown-fields" => kind == "object",
            "items" | "minItems" | "maxItems" => kind == "array",
            "minimum" | "maximum" => matches!(kind, "integer" | "number"),
            "enum" | "minLength" | "maxLength" | "pattern" => kind == "string",
            "format" => matches!(kind, "string" | "integer"),
            _ => false,
        };
        assert!(known, "{path}: {key} on a {kind}");
    }
    assert!(!(node.contains_key("properties") && node.contains_key("additionalProperties")), "{path}");
    for (name, field) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        assert_structural(&format!("{path}.{name}"), field);
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = node.get(key) {
            assert_structural(&format!("{path}{step}"), inner);
        }
    }
    for name in node.get("required").and_then(Value::as_array).into_iter().flatten() {
        assert!(node["properties"].get(name.as_str().unwrap()).is_some(), "{path}: requires unknown field {name}");
    }
}

#[test]
fn schemas_are_structural() {
    for info in KINDS {
        assert_structural(info.kind, &crd(info)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    }
}

#[test]
fn every_field_tells_what_it_is_for() {
    fn check(path: &str, schema: &Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(field["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} has no description");
            check(&path, field);
            check(&path, &field["items"]);
        }
    }
    for info in KINDS {
        let schema = (info.schema)();
        check(info.kind, &schema.spec);
        check(info.kind, &schema.status);
    }
}

#[test]
fn kubectl_shows_the_outcome_where_a_kind_has_one() {
    let column = |kind: &str| {
        let info = KINDS.iter().find(|info| info.kind == kind).unwrap();
        crd(info)["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"].clone()
    };
    assert_eq!(column("RouteTable"), ".status.common.State.approval");
    assert_eq!(column("RootTrustPolicy"), ".status.state");
    assert_eq!(column("Mesh"), Value::Null);
}
