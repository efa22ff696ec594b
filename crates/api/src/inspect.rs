use std::fmt;

use serde_json::{Map, Value};

use crate::{OneofConflict, TypeMismatch};

/// Something in a document that does not stop it from being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldWarning {
    /// Where, such as `spec.http[0].forwardTo`.
    pub path: String,
    /// What is wrong there.
    pub problem: FieldProblem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldProblem {
    /// The kind has no such field; it is ignored.
    UnknownField {
        /// The field of the kind that was probably meant.
        nearest: Option<String>,
    },
    /// The field is one of named values, and this is none of them.
    UnknownValue {
        /// What is there.
        found: String,
        /// The values that there are.
        allowed: Vec<String>,
    },
    /// Several fields are set of which at most one may be.
    Oneof(OneofConflict),
    /// A bound or a demand of the kind's schema is broken: what was expected and what was found.
    Rule(String),
    /// The whole status cannot be read; it is ignored.
    Status(String),
}

impl fmt::Display for FieldWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.problem {
            FieldProblem::UnknownField { nearest: Some(nearest) } => {
                write!(f, "MR0102: {path}: no such field, ignored: did you mean {nearest}?")
            }
            FieldProblem::UnknownField { nearest: None } => {
                write!(f, "MR0102: {path}: no such field, ignored: remove it")
            }
            FieldProblem::UnknownValue { found, allowed } => {
                write!(f, "MR0103: {path}: expected one of {}, found {found:?}", allowed.join(", "))?;
                match nearest(found, allowed.iter()) {
                    Some(nearest) => write!(f, ": did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            FieldProblem::Oneof(conflict) => write!(f, "{conflict} (at {path})"),
            FieldProblem::Rule(text) => write!(f, "MR0105: {path}: {text}"),
            FieldProblem::Status(text) => write!(f, "MR0106: {path}: ignored, not readable: {text}"),
        }
    }
}

/// What a walk over a document along its schema found.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) warnings: Vec<FieldWarning>,
    pub(crate) mismatches: Vec<TypeMismatch>,
    path: String,
}

impl Findings {
    pub(crate) fn warn(&mut self, problem: FieldProblem) {
        self.warnings.push(FieldWarning { path: self.path.clone(), problem });
    }

    /// Runs `inner` one step further down the path.
    pub(crate) fn at(&mut self, step: fmt::Arguments<'_>, inner: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut self.path, step);
        inner(self);
        self.path.truncate(length);
    }

    fn mismatch(&mut self, expected: &str, found: &Value) {
        self.mismatches.push(TypeMismatch {
            path: self.path.clone(),
            expected: expected.to_owned(),
            found: describe(found),
        });
    }

    fn rule(&mut self, broken: bool, text: impl FnOnce() -> String) {
        if broken {
            self.warn(FieldProblem::Rule(text()));
        }
    }

    /// Compares a value with its schema.
    pub(crate) fn inspect(&mut self, schema: &Value, value: &Value) {
        if is_opaque(schema) && value.is_object() {
            return;
        }
        match (schema.get("type").and_then(Value::as_str), value) {
            (Some("object"), Value::Object(map)) => self.inspect_object(schema, map),
            (Some("object"), other) => self.mismatch("a map", other),
            (Some("array"), Value::Array(items)) => self.inspect_list(schema, items),
            (Some("array"), other) => self.mismatch("a list", other),
            (Some("string"), Value::String(text)) => self.inspect_text(schema, text),
            (Some("string"), Value::Number(number)) if schema.get("enum").is_some() => {
                self.inspect_number(schema, number)
            }
            (Some("string"), other) => self.mismatch("a string", other),
            (Some("integer"), Value::Number(number)) if !number.is_f64() => self.inspect_bounds(schema, number),
            (Some("integer"), other) => self.mismatch("a whole number", other),
            (Some("number"), Value::Number(number)) => self.inspect_bounds(schema, number),
            (Some("number"), other) => self.mismatch("a number", other),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(_), other) => self.mismatch("true or false", other),
        }
    }

    fn inspect_object(&mut self, schema: &Value, map: &Map<String, Value>) {
        if let Some(values) = schema.get("additionalProperties") {
            for (key, value) in map {
                self.at(format_args!("[{key}]"), |findings| findings.inspect(values, value));
            }
            return;
        }
        let empty = Map::new();
        let fields = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        for (key, value) in map {
            self.at(format_args!(".{key}"), |findings| match fields.get(key) {
                Some(field) => findings.inspect(field, value),
                None => {
                    let nearest = nearest(key, fields.keys()).map(str::to_owned);
                    findings.warn(FieldProblem::UnknownField { nearest });
                }
            });
        }
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                self.at(format_args!(".{name}"), |findings| findings.rule(true, || "required, but missing".to_owned()));
            }
        }
        self.inspect_oneof(schema, map);
        for group in list(schema, "allOf") {
            self.inspect_oneof(group, map);
        }
    }

    /// The form that [`crate::schema::Oneofs`] writes: none, or one of the members.
    fn inspect_oneof(&mut self, schema: &Value, map: &Map<String, Value>) {
        let members = || list(schema, "oneOf").iter().filter_map(|choice| choice["required"][0].as_str());
        let found: Vec<String> = members().filter(|member| map.contains_key(*member)).map(str::to_owned).collect();
        if found.len() > 1 {
            self.warn(FieldProblem::Oneof(OneofConflict { found, allowed: members().map(str::to_owned).collect() }));
        }
    }

    fn inspect_list(&mut self, schema: &Value, items: &[Value]) {
        self.inspect_length(schema, ("minItems", "maxItems"), items.len(), "items");
        if let Some(item_schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.at(format_args!("[{index}]"), |findings| findings.inspect(item_schema, item));
            }
        }
    }

    fn inspect_text(&mut self, schema: &Value, text: &str) {
        self.inspect_length(schema, ("minLength", "maxLength"), text.chars().count(), "characters");
        let allowed = list(schema, "enum");
        if !allowed.is_empty() && !allowed.iter().any(|value| value == text) {
            self.unknown_value(allowed, text.to_owned());
        }
    }

    /// The number of a named value.
    fn inspect_number(&mut self, schema: &Value, number: &serde_json::Number) {
        let allowed = list(schema, "enum");
        let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
        if index.is_none_or(|index| index >= allowed.len()) {
            self.unknown_value(allowed, number.to_string());
        }
    }

    fn unknown_value(&mut self, allowed: &[Value], found: String) {
        let allowed = allowed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        self.warn(FieldProblem::UnknownValue { found, allowed });
    }

    fn inspect_bounds(&mut self, schema: &Value, number: &serde_json::Number) {
        let value = number.as_f64().unwrap_or(f64::NAN);
        let bound = |key| schema.get(key).and_then(Value::as_f64);
        if let Some(minimum) = bound("minimum") {
            self.rule(value < minimum, || format!("expected at least {minimum}, found {number}"));
        }
        if let Some(maximum) = bound("maximum") {
            self.rule(value > maximum, || format!("expected at most {maximum}, found {number}"));
        }
    }

    fn inspect_length(&mut self, schema: &Value, (min, max): (&str, &str), length: usize, of: &str) {
        let bound = |key| schema.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        if let Some(minimum) = bound(min) {
            self.rule(length < minimum, || format!("expected at least {minimum} {of}, found {length}"));
        }
        if let Some(maximum) = bound(max) {
            self.rule(length > maximum, || format!("expected at most {maximum} {of}, found {length}"));
        }
    }
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether the schema lets anything stand inside a node.
pub(crate) fn is_opaque(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields").is_some_and(|value| *value == true)
}

/// How a value is called in messages; long ones are cut.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() > 40 => {
            format!("the string {:?}…", text.chars().take(40).collect::<String>())
        }
        Value::String(text) => format!("the string {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

/// The candidate that was probably meant: the same but for case and underscores, or a third of its letters.
pub(crate) fn nearest<'a>(found: &str, candidates: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let found = plain(found);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&found, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (found.len().max(candidate.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_close() {
        let names = ["exportTo", "importFrom", "options", "tls"].map(str::to_owned);
        for (found, expected) in [
            ("exportTpo", Some("exportTo")),
            ("export_to", Some("exportTo")),
            ("ImportFrom", Some("importFrom")),
            ("option", Some("options")),
            ("tsl", Some("tls")),
            ("workloads", None),
            ("x", None),
        ] {
            assert_eq!(nearest(found, names.iter()), expected, "{found}");
        }
    }
}
