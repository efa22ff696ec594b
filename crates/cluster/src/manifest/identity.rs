use serde_json::{Map, Value};

use super::problem::Found;
use super::{Step, YamlProblem, locate};

/// A part of an object that is not what Kubernetes demands.
pub(super) struct Mismatch<'a> {
    path: Vec<Step<'a>>,
    expected: String,
    found: String,
}

impl<'a> Mismatch<'a> {
    fn new(path: &[Step<'a>], expected: impl Into<String>, found: impl ToString) -> Self {
        Self { path: path.to_vec(), expected: expected.into(), found: found.to_string() }
    }

    /// The problem with its place in the text: that of the value, or of the nearest one around it that is written out.
    pub(super) fn locate(self, text: &str, root: &[Step<'_>]) -> YamlProblem {
        let path: Vec<Step<'_>> = root.iter().copied().chain(self.path).collect();
        let place = (0..=path.len()).rev().find_map(|length| locate(text, &path[..length]));
        let (line, column) = place.unwrap_or((1, 1));
        YamlProblem::object(line, column, self.expected, self.found)
    }
}

/// Whether a value has what every Kubernetes object has, in the types that Kubernetes gives it.
pub(super) fn check(value: &Value) -> Result<(), Mismatch<'_>> {
    let Some(object) = value.as_object() else {
        return Err(Mismatch::new(&[], "a Kubernetes object (apiVersion, kind, metadata)", Found(value)));
    };
    for field in ["apiVersion", "kind"] {
        text(object, &[], field)?;
    }
    let at = [Step::Key("metadata")];
    let metadata = match object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        None | Some(Value::Null) => return Err(Mismatch::new(&at, "metadata with a name", "nothing")),
        Some(other) => return Err(Mismatch::new(&at, "a mapping in metadata", Found(other))),
    };
    let name = text(metadata, &at, "name")?;
    if name.len() > 253 || matches!(name, "." | "..") || name.contains(['/', '%']) || name.contains(char::is_control) {
        let path = [at[0], Step::Key("name")];
        let expected = "a name of at most 253 characters without \"/\" and \"%\"";
        return Err(Mismatch::new(&path, expected, Found(&metadata["name"])));
    }
    check_namespace(metadata, at[0])?;
    for field in ["labels", "annotations"] {
        check_strings(metadata, at[0], field)?;
    }
    check_created(metadata, at[0])?;
    match metadata.get("generation") {
        None | Some(Value::Null) => Ok(()),
        Some(generation) if generation.is_i64() => Ok(()),
        Some(other) => {
            Err(Mismatch::new(&[at[0], Step::Key("generation")], "an integer in metadata.generation", Found(other)))
        }
    }
}

fn text<'a>(object: &'a Map<String, Value>, around: &[Step<'a>], field: &'static str) -> Result<&'a str, Mismatch<'a>> {
    let dotted = if around.is_empty() { field.to_owned() } else { format!("metadata.{field}") };
    let path: Vec<_> = around.iter().copied().chain([Step::Key(field)]).collect();
    match object.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None | Some(Value::Null) => Err(Mismatch::new(&path, dotted, "nothing")),
        Some(other) => Err(Mismatch::new(&path, format!("text in {dotted}"), Found(other))),
    }
}

/// A namespace is a DNS label (RFC 1123): lower-case letters, digits and inner hyphens, at most 63 characters.
fn check_namespace<'a>(metadata: &'a Map<String, Value>, at: Step<'a>) -> Result<(), Mismatch<'a>> {
    let Some(value) = metadata.get("namespace").filter(|value| !value.is_null()) else { return Ok(()) };
    let is_label = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
    };
    match value {
        Value::String(text) if is_label(text) => Ok(()),
        other => {
            let expected = "a namespace of lower-case letters, digits and hyphens in metadata.namespace";
            Err(Mismatch::new(&[at, Step::Key("namespace")], expected, Found(other)))
        }
    }
}

fn check_strings<'a>(metadata: &'a Map<String, Value>, at: Step<'a>, field: &'static str) -> Result<(), Mismatch<'a>> {
    match metadata.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(entries)) => match entries.iter().find(|(_, value)| !value.is_string()) {
            None => Ok(()),
            Some((key, value)) => {
                let expected = format!("text in metadata.{field}[{key:?}] (put it in quotes)");
                Err(Mismatch::new(&[at, Step::Key(field), Step::Key(key)], expected, Found(value)))
            }
        },
        Some(other) => {
            Err(Mismatch::new(&[at, Step::Key(field)], format!("a mapping in metadata.{field}"), Found(other)))
        }
    }
}

fn check_created<'a>(metadata: &'a Map<String, Value>, at: Step<'a>) -> Result<(), Mismatch<'a>> {
    match metadata.get("creationTimestamp") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => Ok(()),
        Some(other) => {
            let expected = "a time like 2026-01-31T12:00:00Z in metadata.creationTimestamp";
            Err(Mismatch::new(&[at, Step::Key("creationTimestamp")], expected, Found(other)))
        }
    }
}
