//! What is kept in a store, and what a store answers.

mod changes;
mod document;
mod health;
mod lease;
mod snapshot;

pub use changes::{Changes, Cursor, Subject};
pub use document::{Document, DocumentWritten};
pub use health::{Epoch, Health, Reach};
pub use lease::Lease;
pub use snapshot::{Head, ParseIdError, Role, SnapshotId, Stored, Written};
