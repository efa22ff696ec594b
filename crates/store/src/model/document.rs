use std::sync::Arc;

use serde_json::Value;

/// A named JSON value with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Grows with every change, and is never given out again for the same name, not even after a removal.
    pub revision: u64,
    /// The value.
    pub value: Arc<Value>,
}

/// What became of a document that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentWritten {
    /// Done, under this revision.
    Stored(u64),
    /// Not done, because something else is there than was expected: this, or nothing.
    Conflict(Option<Document>),
}
