use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::inspect::{Findings, is_opaque, nearest};
use crate::{FieldProblem, FieldWarning, Kind, Metadata, Resource};

/// What was read, and what in the document had no part in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<T> {
    /// What was read.
    pub value: T,
    /// What users should know, ordered by field.
    pub warnings: Vec<FieldWarning>,
}

impl<T> Decoded<T> {
    /// Converts what was read and keeps the warnings.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Decoded<U> {
        Decoded { value: convert(self.value), warnings: self.warnings }
    }
}

/// Why a document cannot be read as an object of a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The document is something else, or does not say what it is.
    #[error("MR0100: expected {expected}, found {found}")]
    Identity {
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Fields have another type than the kind gives them.
    #[error("MR0101: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Types(Vec<TypeMismatch>),
    /// A field has the right type, but its value cannot be read.
    #[error("MR0101: {path}: {message}")]
    Value {
        /// Where.
        path: String,
        /// What was expected and found.
        message: String,
    },
}

/// A field has another type than its kind gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeMismatch {
    /// Where, such as `spec.http[0].forwardTo`.
    pub path: String,
    /// The type that the kind gives it.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for TypeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Reads an object of kind `K`.
///
/// Fields and values that the kind does not have, and broken rules of its schema, become warnings, because they do not
/// stop the rest from working; so does a status that cannot be read. `null` counts as absent.
///
/// # Errors
/// When the object is of another kind, has no name, or a field has another type than the kind gives it.
pub fn decode<K: Kind>(object: &Value) -> Result<Decoded<Resource<K>>, DecodeError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let info = K::INFO;
    if text("kind") != info.kind || text("apiVersion") != info.api_version() {
        return Err(DecodeError::Identity {
            expected: format!("{} of {}", info.kind, info.api_version()),
            found: format!("kind {:?} of {:?}", text("kind"), text("apiVersion")),
        });
    }
    let empty = Value::Object(Map::new());
    let part = |key: &str| object.get(key).filter(|value| !value.is_null()).unwrap_or(&empty);

    let metadata: Metadata = read(&without_nulls(part("metadata"), &Value::Null), "metadata")?;
    if metadata.name.is_empty() {
        return Err(DecodeError::Identity { expected: "metadata.name".to_owned(), found: "none".to_owned() });
    }
    let mut findings = Findings::default();
    for key in object.as_object().into_iter().flat_map(Map::keys).filter(|key| !TOP_LEVEL.contains(&key.as_str())) {
        let nearest = nearest(key, TOP_LEVEL.map(str::to_owned).iter()).map(str::to_owned);
        findings.at(format_args!("{key}"), |findings| findings.warn(FieldProblem::UnknownField { nearest }));
    }
    let schema = (info.schema)();
    let spec = without_nulls(part("spec"), &schema.spec);
    findings.at(format_args!("spec"), |findings| findings.inspect(&schema.spec, &spec));
    if !findings.mismatches.is_empty() {
        return Err(DecodeError::Types(findings.mismatches));
    }
    let spec = read(&spec, "spec")?;
    let status = match part("status") {
        absent if absent == &empty => None,
        status => match read(&without_nulls(status, &schema.status), "status") {
            Ok(status) => Some(status),
            Err(error) => {
                let problem = FieldProblem::Status(error.to_string());
                findings.at(format_args!("status"), |findings| findings.warn(problem));
                None
            }
        },
    };
    Ok(Decoded { value: Resource { metadata, spec, status }, warnings: findings.warnings })
}

fn read<T: DeserializeOwned>(value: &Value, root: &str) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => root.to_owned(),
            path => format!("{root}.{path}"),
        };
        DecodeError::Value { path, message: error.into_inner().to_string() }
    })
}

/// The value without fields that are `null`, except where the schema lets anything stand.
fn without_nulls<'a>(value: &'a Value, schema: &Value) -> Cow<'a, Value> {
    if !has_null_field(value) {
        return Cow::Borrowed(value);
    }
    let mut value = value.clone();
    drop_nulls(&mut value, schema);
    Cow::Owned(value)
}

fn has_null_field(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().any(|value| value.is_null() || has_null_field(value)),
        Value::Array(items) => items.iter().any(has_null_field),
        _ => false,
    }
}

fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(_) if is_opaque(schema) => {}
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            for (key, value) in map {
                let field = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
                drop_nulls(value, field.unwrap_or(&Value::Null));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| drop_nulls(item, &schema["items"])),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::admin::WorkspaceSettingsSpec;
    use crate::networking::{RouteTableSpec, VirtualDestinationSpec, VirtualGatewaySpec};
    use crate::status::Approval;

    fn route_table(spec: Value) -> Value {
        json!({
            "apiVersion": "networking.gloo.solo.io/v2",
            "kind": "RouteTable",
            "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": null, "labels": null},
            "spec": spec
        })
    }

    fn warnings<K: Kind>(object: &Value) -> Vec<String> {
        decode::<K>(object).unwrap().warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_read_is_written_back() {
        let object = route_table(json!({
            "hosts": ["*.example.com"],
            "workloadSelectors": [{}],
            "http": [{
                "name": "all",
                "matchers": [{"uri": {"prefix": ""}, "headers": [{"name": "x", "invertMatch": true}]}],
                "forwardTo": {"destinations": [{"ref": {"name": "web"}, "port": {"number": 80}, "weight": 7}],
                              "autoHostRewrite": false}
            }]
        }));
        let decoded = decode::<RouteTableSpec>(&object).unwrap();
        assert_eq!(decoded.warnings, []);
        let mut expected = object.clone();
        expected["metadata"] = json!({"name": "web", "namespace": "shop"});
        assert_eq!(serde_json::to_value(&decoded.value).unwrap(), expected);
    }

    #[test]
    fn unknown_fields_are_named_with_the_nearest_known_one() {
        let object = json!({
            "apiVersion": "admin.gloo.solo.io/v2", "kind": "WorkspaceSettings", "metadata": {"name": "web"},
            "spce": {},
            "spec": {"exportTpo": [], "importFrom": [{"workspaces": [{"nmae": "x", "zzzzzzzz": 1}]}]}
        });
        assert_eq!(
            warnings::<WorkspaceSettingsSpec>(&object),
            [
                "MR0102: spce: no such field, ignored: did you mean spec?",
                "MR0102: spec.exportTpo: no such field, ignored: did you mean exportTo?",
                "MR0102: spec.importFrom[0].workspaces[0].nmae: no such field, ignored: did you mean name?",
                "MR0102: spec.importFrom[0].workspaces[0].zzzzzzzz: no such field, ignored: remove it",
            ]
        );
    }

    #[test]
    fn unknown_values_conflicts_and_broken_rules_are_told_and_the_rest_is_read() {
        let object = route_table(json!({
            "failureMode": "FREEZE",
            "http": [{
                "forwardTo": {"destinations": [{"port": {"number": 70000, "name": "http"}, "kind": 9}]},
                "directResponse": {}
            }],
            "portalMetadata": {"apiProductId": "a", "apiVersion": "1", "title": "t"}
        }));
        let decoded = decode::<RouteTableSpec>(&object).unwrap();
        let mut told: Vec<String> = decoded.warnings.iter().map(ToString::to_string).collect();
        told.sort();
        let destination = "spec.http[0].forwardTo.destinations[0]";
        let mut expected = [
            "MR0103: spec.failureMode: expected one of ROUTE_REPLACEMENT, FREEZE_CONFIG, found \"FREEZE\"".to_owned(),
            format!(
                "MR0103: {destination}.kind: expected one of SERVICE, VIRTUAL_DESTINATION, EXTERNAL_SERVICE, \
                 found \"9\""
            ),
            format!(
                "MR0104: expected at most one of number, name, found number and name together: keep one \
                 (at {destination}.port)"
            ),
            "MR0104: expected at most one of forwardTo, delegate, redirect, directResponse, graphql, found forwardTo and \
             directResponse together: keep one (at spec.http[0])"
                .to_owned(),
            format!("MR0105: {destination}.port.number: expected at most 65535, found 70000"),
            "MR0105: spec.http[0].directResponse.status: required, but missing".to_owned(),
        ];
        expected.sort();
        assert_eq!(told, expected);
        assert_eq!(decoded.value.spec.http[0].forward_to.as_ref().unwrap().destinations.len(), 1);
        assert!(decoded.value.spec.http[0].action_type().is_err());
    }

    #[test]
    fn lists_that_are_too_short_are_told() {
        let object = json!({
            "apiVersion": "networking.gloo.solo.io/v2", "kind": "VirtualDestination", "metadata": {"name": "vd"},
            "spec": {"hosts": ["a.global"], "ports": []}
        });
        assert_eq!(
            warnings::<VirtualDestinationSpec>(&object),
            ["MR0105: spec.ports: expected at least 1 items, found 0"]
        );
    }

    #[test]
    fn every_wrong_type_is_named_with_its_path() {
        let error = decode::<RouteTableSpec>(&route_table(json!({
            "hosts": "example.com",
            "http": [{"forwardTo": {"destinations": [{"weight": "50", "subset": {"version": 1}}]}}]
        })))
        .unwrap_err();
        let destination = "spec.http[0].forwardTo.destinations[0]";
        assert_eq!(
            error.to_string(),
            format!(
                "MR0101: spec.hosts: expected a list, found the string \"example.com\"; \
                 {destination}.subset[version]: expected a string, found the number 1; \
                 {destination}.weight: expected a whole number, found the string \"50\""
            )
        );
        let error = decode::<RouteTableSpec>(&route_table(json!({"weight": 3_000_000_000_u64}))).unwrap_err();
        assert_eq!(error.to_string(), "MR0101: spec.weight: invalid value: integer `3000000000`, expected i32");
        let error = decode::<RouteTableSpec>(&route_table(json!([]))).unwrap_err();
        assert_eq!(error.to_string(), "MR0101: spec: expected a map, found a list");
    }

    #[test]
    fn another_kind_and_a_missing_name_are_refused() {
        let error = decode::<VirtualGatewaySpec>(&route_table(json!({}))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "MR0100: expected VirtualGateway of networking.gloo.solo.io/v2, \
             found kind \"RouteTable\" of \"networking.gloo.solo.io/v2\""
        );
        let mut nameless = route_table(json!({}));
        nameless["metadata"] = Value::Null;
        assert_eq!(
            decode::<RouteTableSpec>(&nameless).unwrap_err().to_string(),
            "MR0100: expected metadata.name, found none"
        );
        nameless["metadata"] = json!({"labels": []});
        assert!(decode::<RouteTableSpec>(&nameless).unwrap_err().to_string().starts_with("MR0101: metadata.labels: "));
    }

    #[test]
    fn a_bad_status_costs_nothing_but_the_status() {
        let mut object = route_table(json!({"http": []}));
        object["status"] = json!({"common": {"State": {"approval": "ACCEPTED", "observedGeneration": 3}}});
        let good = decode::<RouteTableSpec>(&object).unwrap();
        let state = good.value.status.unwrap().common.unwrap().state.unwrap();
        assert_eq!((state.approval, state.observed_generation), (Approval::Accepted, 3));

        object["status"] = json!({"common": {"State": {"observedGeneration": "three"}}});
        let bad = decode::<RouteTableSpec>(&object).unwrap();
        assert_eq!(bad.value.status, None);
        let told = bad.warnings[0].to_string();
        assert!(told.starts_with("MR0106: status: ignored, not readable: MR0101: status.common.State"), "{told}");
    }

    #[test]
    fn null_counts_as_absent() {
        let spec = json!({"hosts": null, "http": [{"forwardTo": null, "delegate": {"routeTables": null}}]});
        let object = route_table(spec);
        let decoded = decode::<RouteTableSpec>(&object).unwrap();
        assert_eq!(decoded.warnings, []);
        assert_eq!(serde_json::to_value(&decoded.value.spec).unwrap(), json!({"http": [{"delegate": {}}]}));
    }

    #[test]
    fn what_older_versions_had_in_an_open_field_is_ignored_silently() {
        let object = json!({
            "apiVersion": "networking.gloo.solo.io/v2", "kind": "VirtualGateway", "metadata": {"name": "gw"},
            "spec": {"listeners": [{"port": {"number": 80}, "http": {"old": true}}]}
        });
        assert_eq!(warnings::<VirtualGatewaySpec>(&object), [] as [String; 0]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let names = "http hosts forwardTo destinations ref port number kind weight labels x";
        let name = prop::sample::select(names.split(' ').collect::<Vec<_>>());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[A-Z_a-z]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 48, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_reads_reads_again_the_same(spec in any_json()) {
            if let Ok(first) = decode::<RouteTableSpec>(&route_table(spec)) {
                let written = serde_json::to_value(&first.value).unwrap();
                prop_assert_eq!(decode::<RouteTableSpec>(&written).unwrap().value, first.value);
            }
        }
    }
}
