//! Differences between our custom resource definitions and others for the same kinds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use meshrelay_api::{KINDS, crd};
use serde_json::{Map, Value};

use super::documents;

/// Compares field paths, types and rules of every kind of ours with the definitions below a directory, and gives one
/// line per difference and a summary per kind.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn report(reference: &Path) -> anyhow::Result<String> {
    let references: Vec<Value> =
        documents::below(reference)?.into_iter().flat_map(|(_, documents)| documents.unwrap_or_default()).collect();
    let mut report = String::new();
    for info in KINDS {
        let ours = crd(info);
        let theirs = references
            .iter()
            .find(|other| other["spec"]["group"] == info.group && other["spec"]["names"]["kind"] == info.kind);
        let Some(theirs) = theirs else {
            writeln!(report, "{}: not among the reference definitions", info.crd_name())?;
            continue;
        };
        let mut differences = Differences::default();
        for path in ["/spec/names/plural", "/spec/names/singular", "/spec/names/listKind", "/spec/scope"] {
            differences.value(path, ours.pointer(path), theirs.pointer(path));
        }
        let (ours, theirs) = (&ours["spec"]["versions"][0], &theirs["spec"]["versions"][0]);
        for key in ["name", "served", "storage", "subresources"] {
            differences.value(key, ours.get(key), theirs.get(key));
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        differences.node("", &schema(ours), &schema(theirs));
        writeln!(
            report,
            "{}: {} fields, {} differences",
            info.crd_name(),
            differences.fields,
            differences.lines.len()
        )?;
        for line in differences.lines {
            writeln!(report, "  {line}")?;
        }
    }
    Ok(report)
}

#[derive(Default)]
struct Differences {
    fields: usize,
    lines: Vec<String>,
}

impl Differences {
    fn value(&mut self, what: &str, ours: Option<&Value>, theirs: Option<&Value>) {
        if ours != theirs {
            let show = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
            self.lines.push(format!("{what}: ours {}, reference {}", show(ours), show(theirs)));
        }
    }

    fn node(&mut self, path: &str, ours: &Value, theirs: &Value) {
        self.fields += 1;
        let empty = Map::new();
        let keys = |schema| Value::as_object(schema).unwrap_or(&empty).keys();
        let keys: BTreeSet<&String> = keys(ours).chain(keys(theirs)).collect();
        for key in keys {
            let (our, their) = (ours.get(key), theirs.get(key));
            match key.as_str() {
                "description" => {}
                "properties" => self.properties(path, our, their),
                "items" => self.inner(&format!("{path}[]"), our, their),
                "additionalProperties" => self.inner(&format!("{path}{{}}"), our, their),
                "x-kubernetes-validations" => self.rules(path, our, their),
                "required" => self.value(&format!("{path} required"), sorted(our).as_ref(), sorted(their).as_ref()),
                _ => self.value(&format!("{path} {key}"), our, their),
            }
        }
    }

    fn inner(&mut self, path: &str, ours: Option<&Value>, theirs: Option<&Value>) {
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => self.node(path, ours, theirs),
            (ours, theirs) => self.value(path, ours, theirs),
        }
    }

    fn properties(&mut self, path: &str, ours: Option<&Value>, theirs: Option<&Value>) {
        let empty = Map::new();
        let fields = |schema: Option<&Value>| schema.and_then(Value::as_object).unwrap_or(&empty).clone();
        let (ours, theirs) = (fields(ours), fields(theirs));
        for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            self.inner(&format!("{path}.{name}"), ours.get(name), theirs.get(name));
        }
    }

    /// Rules are compared in their order; the texts that users see when one is broken count separately.
    fn rules(&mut self, path: &str, ours: Option<&Value>, theirs: Option<&Value>) {
        let column = |rules: Option<&Value>, key: &str| -> Option<Value> {
            Some(rules?.as_array()?.iter().map(|rule| rule[key].clone()).collect())
        };
        self.value(&format!("{path} rule"), column(ours, "rule").as_ref(), column(theirs, "rule").as_ref());
        self.value(&format!("{path} message"), column(ours, "message").as_ref(), column(theirs, "message").as_ref());
    }
}

fn sorted(names: Option<&Value>) -> Option<Value> {
    let mut names: Vec<String> = names?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    names.sort();
    Some(names.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_difference_is_told_once() {
        let ours = json!({"type": "object", "required": ["b", "a"], "properties": {
            "a": {"type": "string", "enum": ["X", "Y"], "description": "ours"},
            "b": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "c": {"type": "object", "additionalProperties": {"type": "string"}}
        }, "x-kubernetes-validations": [{"rule": "true", "message": "ours"}]});
        let theirs = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "enum": ["X"], "description": "theirs"},
            "b": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "d": {"type": "string"}
        }, "x-kubernetes-validations": [{"rule": "true", "message": "theirs"}]});
        let mut differences = Differences::default();
        differences.node("", &ours, &theirs);
        assert_eq!(
            differences.lines,
            [
                ".a enum: ours [\"X\",\"Y\"], reference [\"X\"]",
                ".b[] minimum: ours 0, reference 1",
                ".c: ours {\"additionalProperties\":{\"type\":\"string\"},\"type\":\"object\"}, reference absent",
                ".d: ours absent, reference {\"type\":\"string\"}",
                " message: ours [\"ours\"], reference [\"theirs\"]",
            ]
        );
        let mut same = Differences::default();
        same.node("", &ours, &ours);
        assert_eq!(same.lines, [] as [String; 0]);
    }
}
