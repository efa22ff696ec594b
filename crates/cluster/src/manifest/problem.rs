use std::fmt;

use serde_json::Value;

/// What is wrong at one place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlProblem {
    /// `MR0410` not YAML, `MR0411` not a Kubernetes object, `MR0412` over a limit, `MR0413` an object twice,
    /// `MR0414` a file that cannot be read, `MR0415` a version of a kind that is not the one in use.
    pub code: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl YamlProblem {
    pub(crate) fn new(
        code: &'static str,
        (line, column): (usize, usize),
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self { code, line, column, expected: expected.to_string(), found: found.to_string() }
    }

    pub(super) fn syntax(line: usize, column: usize, expected: impl ToString, found: impl ToString) -> Self {
        Self::new("MR0410", (line, column), expected, found)
    }

    pub(super) fn object(line: usize, column: usize, expected: impl ToString, found: impl ToString) -> Self {
        Self::new("MR0411", (line, column), expected, found)
    }

    pub(super) fn limit(line: usize, column: usize, expected: impl ToString, found: impl ToString) -> Self {
        Self::new("MR0412", (line, column), expected, found)
    }

    /// The same problem in a text that begins after so many lines of the file.
    pub(super) fn below(mut self, lines: usize) -> Self {
        self.line += lines;
        self
    }
}

impl fmt::Display for YamlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, line, column, expected, found } = self;
        write!(f, "{line}:{column}: expected {expected}, found {found} ({code})")
    }
}

/// A JSON value as a reader would name it.
pub(super) struct Found<'a>(pub(super) &'a Value);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("nothing"),
            Value::Bool(value) => write!(f, "the boolean {value}"),
            Value::Number(value) => write!(f, "the number {value}"),
            Value::String(value) => write!(f, "{:?}", shortened(value)),
            Value::Array(_) => f.write_str("a list"),
            Value::Object(_) => f.write_str("a mapping"),
        }
    }
}

/// At most 60 characters, so that a message stays one line.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
