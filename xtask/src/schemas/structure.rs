//! Structural schemas: types, fields and values, as the API server checks them, and a field that would be dropped is an
//! error.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use regex::Regex;
use serde_json::Value;

/// Longest part of a value that a problem shows, characters.
const SHOWN: usize = 80;

/// Whether a schema says what may be there, or is a condition within `oneOf` and its like, which only compares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Shape,
    Condition,
}

/// Holds one object against a schema.
#[derive(Default)]
pub(super) struct Check {
    problems: RefCell<Vec<String>>,
    patterns: RefCell<BTreeMap<String, Option<Regex>>>,
}

/// Fields of every object, which some schemas ask for.
const NOT_OF_THE_SCHEMA: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Check {
    /// What is wrong with an object, each with its path. Kind and metadata are not the schema's.
    pub(super) fn object(self, schema: &Value, object: &Value) -> Vec<String> {
        let mut own = object.clone();
        if let Some(fields) = own.as_object_mut() {
            fields.retain(|field, _| !NOT_OF_THE_SCHEMA.contains(&field.as_str()));
        }
        self.node(schema, &own, "", Role::Shape);
        self.problems.into_inner()
    }

    fn say(&self, path: &str, problem: impl std::fmt::Display) {
        let path = if path.is_empty() { "object" } else { path.trim_start_matches('.') };
        self.problems.borrow_mut().push(format!("{path}: {problem}"));
    }

    /// Whether a condition holds.
    fn holds(&self, schema: &Value, value: &Value) -> bool {
        let inner = Self::default();
        inner.node(schema, value, "", Role::Condition);
        inner.problems.into_inner().is_empty()
    }

    fn node(&self, schema: &Value, value: &Value, path: &str, role: Role) {
        if value.is_null() {
            if role == Role::Shape && schema["nullable"] != true {
                self.say(path, "null is not allowed");
            }
            return;
        }
        if !self.has_type(schema, value, path) {
            return;
        }
        match value {
            Value::Object(_) => self.fields(schema, value, path, role),
            Value::Array(items) => self.items(schema, items, path, role),
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Bool(_) | Value::Null => {}
        }
        if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
            self.say(path, format_args!("expected one of {}, found {}", Value::from(allowed.clone()), shown(value)));
        }
        self.conditions(schema, value, path);
    }

    fn has_type(&self, schema: &Value, value: &Value, path: &str) -> bool {
        if schema["x-kubernetes-int-or-string"] == true {
            if value.is_string() || value.is_i64() || value.is_u64() {
                return true;
            }
            self.say(path, format_args!("expected integer or string, found {}", shown(value)));
            return false;
        }
        let Some(wanted) = schema["type"].as_str() else { return true };
        let fits = match wanted {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
            _ => false,
        };
        if !fits {
            self.say(path, format_args!("expected {wanted}, found {}", shown(value)));
        }
        fits
    }

    fn fields(&self, schema: &Value, value: &Value, path: &str, role: Role) {
        let Some(fields) = value.as_object() else { return };
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let is_elsewhere = path.is_empty() && NOT_OF_THE_SCHEMA.contains(&required);
            if !fields.contains_key(required) && !is_elsewhere {
                self.say(path, format_args!("{required} is missing"));
            }
        }
        let rest = &schema["additionalProperties"];
        for (name, value) in fields {
            let below = format!("{path}.{name}");
            match schema["properties"].get(name) {
                Some(schema) => self.node(schema, value, &below, role),
                None if rest.is_object() => self.node(rest, value, &below, role),
                None if role == Role::Condition || rest == true => {}
                None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                None => self.say(&below, "no such field"),
            }
        }
        self.size(schema, ["minProperties", "maxProperties"], fields.len(), "fields", path);
    }

    fn items(&self, schema: &Value, items: &[Value], path: &str, role: Role) {
        self.size(schema, ["minItems", "maxItems"], items.len(), "items", path);
        if schema["items"].is_object() {
            for (index, item) in items.iter().enumerate() {
                self.node(&schema["items"], item, &format!("{path}[{index}]"), role);
            }
        }
        let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            Some("set") => Vec::new(),
            _ => return,
        };
        let mut seen = BTreeSet::new();
        for item in items {
            let identity = match keys.is_empty() {
                true => item.to_string(),
                false => keys.iter().map(|key| format!("{key}={} ", item[*key])).collect(),
            };
            if !seen.insert(identity.clone()) {
                self.say(path, format_args!("{} is there twice", identity.trim()));
            }
        }
    }

    fn text(&self, schema: &Value, text: &str, path: &str) {
        self.size(schema, ["minLength", "maxLength"], text.chars().count(), "characters", path);
        if let Some(pattern) = schema["pattern"].as_str() {
            let mut patterns = self.patterns.borrow_mut();
            let compiled = patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
            match compiled {
                Some(pattern) if pattern.is_match(text) => {}
                Some(_) => self.say(path, format_args!("{text:?} does not match {pattern}")),
                None => self.say(path, format_args!("the pattern {pattern} of the definition cannot be read")),
            }
        }
        if schema["format"] == "cidr" && !is_cidr(text) {
            self.say(path, format_args!("expected an IP address with the length of a prefix, found {text:?}"));
        }
    }

    fn number(&self, schema: &Value, number: &serde_json::Number, path: &str) {
        let value = number.as_f64().unwrap_or_default();
        let bound = |key: &str| schema[key].as_f64();
        let format = match schema["format"].as_str() {
            Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
            _ => None,
        };
        let lowest = [bound("minimum"), format.map(|(lowest, _)| lowest)];
        let highest = [bound("maximum"), format.map(|(_, highest)| highest)];
        if lowest.into_iter().flatten().any(|lowest| value < lowest) {
            self.say(path, format_args!("{number} is too small"));
        }
        if highest.into_iter().flatten().any(|highest| value > highest) {
            self.say(path, format_args!("{number} is too large"));
        }
    }

    fn size(&self, schema: &Value, [least, most]: [&str; 2], size: usize, of: &str, path: &str) {
        let bound = |key: &str| schema[key].as_u64().and_then(|bound| usize::try_from(bound).ok());
        if let Some(least) = bound(least).filter(|least| size < *least) {
            self.say(path, format_args!("expected at least {least} {of}, found {size}"));
        }
        if let Some(most) = bound(most).filter(|most| size > *most) {
            self.say(path, format_args!("expected at most {most} {of}, found {size}"));
        }
    }

    fn conditions(&self, schema: &Value, value: &Value, path: &str) {
        let holding = |key: &str| {
            schema[key].as_array().map(|all| (all.iter().filter(|one| self.holds(one, value)).count(), all.len()))
        };
        if holding("oneOf").is_some_and(|(number, _)| number != 1) {
            self.say(path, format_args!("expected exactly one of {}", alternatives(&schema["oneOf"])));
        }
        if holding("anyOf").is_some_and(|(number, _)| number == 0) {
            self.say(path, format_args!("expected one of {}", alternatives(&schema["anyOf"])));
        }
        if holding("allOf").is_some_and(|(number, all)| number != all) {
            self.say(path, format_args!("expected all of {}", alternatives(&schema["allOf"])));
        }
        if schema["not"].is_object() && self.holds(&schema["not"], value) {
            self.say(path, format_args!("must not be {}", alternatives(&schema["not"])));
        }
    }
}

/// Conditions as they stand in the definition.
fn alternatives(conditions: &Value) -> String {
    shown(conditions)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        let most = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.parse::<u8>().is_ok_and(|length| length <= most)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(schema: Value, value: Value) -> Vec<String> {
        let schema = json!({"type": "object", "required": ["metadata"], "properties": {"spec": schema}});
        let object = json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"}, "spec": value});
        Check::default().object(&schema, &object)
    }

    #[test]
    fn each_keyword_can_fail_and_hold() {
        let either = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}});
        let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let cases = [
            (json!({"type": "string", "nullable": true}), json!(null), ""),
            (json!({"type": "string"}), json!(null), "null is not allowed"),
            (json!({"x-kubernetes-int-or-string": true}), json!("50%"), ""),
            (json!({"x-kubernetes-int-or-string": true}), json!(1.5), "expected integer or string, found 1.5"),
            (json!({"type": "integer"}), json!(2.0), ""),
            (json!({"type": "integer", "format": "int32"}), json!(3_000_000_000_u32), "3000000000 is too large"),
            (json!({"type": "integer", "minimum": 0}), json!(-1), "-1 is too small"),
            (json!({"type": "string", "pattern": "^a+$"}), json!("aab"), "\"aab\" does not match ^a+$"),
            (json!({"type": "string", "maxLength": 2}), json!("äöü"), "expected at most 2 characters, found 3"),
            (json!({"type": "string", "format": "cidr"}), json!("10.0.0.0/8"), ""),
            (json!({"type": "string", "format": "cidr"}), json!("10.0.0.0/40"), "expected an IP address with"),
            (json!({"type": "array", "minItems": 1, "items": {}}), json!([]), "expected at least 1 items, found 0"),
            (either.clone(), json!({"a": "1"}), ""),
            (either.clone(), json!({}), "expected exactly one of"),
            (either, json!({"a": "1", "b": "2"}), "expected exactly one of"),
            (json!({"type": "string", "not": {"enum": ["x"]}}), json!("x"), "must not be"),
            (json!({"type": "string", "anyOf": [{"enum": ["x"]}, {"maxLength": 1}]}), json!("y"), ""),
            (json!({"type": "string", "anyOf": [{"enum": ["x"]}, {"maxLength": 1}]}), json!("yy"), "expected one of"),
            (json!({"type": "string", "allOf": [{"enum": ["x"]}, {"maxLength": 1}]}), json!("y"), "expected all of"),
            (map.clone(), json!([{"k": "1", "v": "a"}, {"k": "2", "v": "a"}]), ""),
            (map, json!([{"k": "1", "v": "a"}, {"k": "1", "v": "b"}]), "k=\"1\" is there twice"),
            (set, json!(["a", "a"]), "\"a\" is there twice"),
            (open, json!({"any": 1}), ""),
        ];
        for (schema, value, expected) in cases {
            let found = problems(schema.clone(), value.clone());
            match expected {
                "" => assert!(found.is_empty(), "{schema} {value}: {found:?}"),
                _ => assert!(
                    found.len() == 1 && found[0].starts_with(&format!("spec: {expected}")),
                    "{schema} {value}: {found:?}"
                ),
            }
        }
        let closed = json!({"type": "object", "properties": {"a": {"type": "object", "additionalProperties": {"type": "string"}}}});
        assert_eq!(problems(closed.clone(), json!({"a": {"x": "y"}})), [] as [&str; 0]);
        assert_eq!(
            problems(closed, json!({"a": {"x": 1}, "b": 2})),
            ["spec.a.x: expected string, found 1", "spec.b: no such field"]
        );
    }
}
