//! YAML and JSON text into Kubernetes objects, one document at a time, so that a bad document costs its neighbours
//! nothing. No I/O.

mod identity;
mod locate;
mod problem;
mod split;
mod yaml;

use serde_json::Value;

pub use problem::YamlProblem;

use locate::{Step, locate};
use problem::Found;

/// Largest file that is read, in bytes. A cluster exported into one file is about this size with 10,000 objects;
/// anything larger is a mistake or an attack.
pub const MAX_FILE_BYTES: usize = 10 * 1024 * 1024;

/// Most documents in one file: beyond any real file, and enough to bound the time that separators alone can cost.
const MAX_DOCUMENTS: usize = 20_000;

/// Most problems that are reported of one file; after that a reader has seen enough.
const MAX_PROBLEMS: usize = 50;

/// One Kubernetes object of a file, or what is wrong in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// First line of the object, from 1.
    pub first_line: usize,
    /// Last line of the document that holds the object.
    pub last_line: usize,
    /// The object with `apiVersion`, `kind` and `metadata.name`, or the problem.
    pub content: Result<Value, YamlProblem>,
}

/// Notation of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// YAML documents, separated by `---`.
    Yaml,
    /// One or more JSON values, one after the other.
    Json,
}

/// Reads all objects of a file. Empty documents are skipped, `kind: List` is replaced by its items, aliases and merge
/// keys are expanded. Scalars become JSON as `kubectl` makes them: YAML 1.1 booleans and octals, dates stay strings.
pub fn parse_manifest(bytes: &[u8], notation: Notation) -> Vec<Document> {
    let whole_file = |line, problem| Document { first_line: line, last_line: line, content: Err(problem) };
    if bytes.len() > MAX_FILE_BYTES {
        let expected = format!("a file of at most {} MiB", MAX_FILE_BYTES / (1024 * 1024));
        return vec![whole_file(1, YamlProblem::limit(1, 1, expected, "more: split the file"))];
    }
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            let column = 1 + good.iter().rev().take_while(|byte| **byte != b'\n').count();
            let problem = YamlProblem::syntax(line, column, "UTF-8 text", "a byte that is not UTF-8");
            return vec![whole_file(line, problem)];
        }
    };
    let mut documents = Vec::new();
    let mut problems = 0;
    let mut take = |document: Document| {
        problems += usize::from(document.content.is_err());
        documents.push(document);
        problems < MAX_PROBLEMS
    };
    match notation {
        Notation::Json => json_documents(text, &mut take),
        Notation::Yaml => yaml_documents(text, &mut take),
    };
    documents
}

/// `None` as soon as `take` wants no more.
fn yaml_documents(text: &str, take: &mut impl FnMut(Document) -> bool) -> Option<()> {
    for (index, chunk) in split::split(text).enumerate() {
        let last_line = chunk.first_line + chunk.text.lines().count().saturating_sub(1);
        let bad = |problem| Document { first_line: chunk.first_line, last_line, content: Err(problem) };
        if index >= MAX_DOCUMENTS {
            let expected = format!("at most {MAX_DOCUMENTS} documents in a file");
            take(bad(YamlProblem::limit(chunk.first_line, 1, expected, "more: split the file")));
            return None;
        }
        let go_on = match yaml::parse(chunk.text) {
            Ok(Value::Null) => true,
            Ok(value) => expand(chunk.text, chunk.first_line - 1, last_line, value, take).is_some(),
            Err(problem) => take(bad(problem.below(chunk.first_line - 1))),
        };
        if !go_on {
            return None;
        }
    }
    Some(())
}

fn json_documents(text: &str, take: &mut impl FnMut(Document) -> bool) -> Option<()> {
    let last_line = text.lines().count().max(1);
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let go_on = match value {
            Ok(value) => expand(text, 0, last_line, yaml::whole_numbers(value), take).is_some(),
            Err(error) => {
                let line = error.line().max(1);
                let found = error.to_string();
                let found = found.split(" at line ").next().unwrap_or_default();
                let problem = YamlProblem::syntax(line, error.column().max(1), "valid JSON", found);
                take(Document { first_line: line, last_line: last_line.max(line), content: Err(problem) });
                false
            }
        };
        if !go_on {
            return None;
        }
    }
    Some(())
}

/// Hands over the object, or the items of a list; `None` as soon as `take` wants no more.
fn expand(
    text: &str,
    lines_before: usize,
    last_line: usize,
    value: Value,
    take: &mut impl FnMut(Document) -> bool,
) -> Option<()> {
    let mut give = |path: &[Step<'_>], value: Value| {
        let first_line = lines_before + locate(text, path).map_or(1, |(line, _)| line);
        let content = match identity::check(&value) {
            Ok(()) => Ok(value),
            Err(mismatch) => Err(mismatch.locate(text, path).below(lines_before)),
        };
        // A carriage return alone ends a line for YAML only.
        take(Document { first_line, last_line: last_line.max(first_line), content }).then_some(())
    };
    match value {
        Value::Object(mut fields) if is_list(&fields) => match fields.remove("items") {
            Some(Value::Array(items)) => {
                for (index, item) in items.into_iter().enumerate() {
                    give(&[Step::Key("items"), Step::Index(index)], item)?;
                }
                Some(())
            }
            None | Some(Value::Null) => Some(()),
            Some(other) => {
                let (line, column) = locate(text, &[Step::Key("items")]).unwrap_or((1, 1));
                let problem = YamlProblem::object(line, column, "a list of objects in items", Found(&other));
                let content = Err(problem.below(lines_before));
                let first_line = lines_before + line;
                take(Document { first_line, last_line: last_line.max(first_line), content }).then_some(())
            }
        },
        value => give(&[], value),
    }
}

/// `List` itself, or what an API server answers to a list request (`ServiceList`).
fn is_list(fields: &serde_json::Map<String, Value>) -> bool {
    match fields.get("kind").and_then(Value::as_str) {
        Some("List") => true,
        Some(kind) => kind.ends_with("List") && fields.get("items").is_some_and(Value::is_array),
        None => false,
    }
}
