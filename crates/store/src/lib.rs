//! The snapshot store: what replicas of the management plane share, so that any of them can go on where another one
//! stopped, and so that the UI sees what all of them see.
//!
//! One trait, [`SnapshotStore`], with two adapters that behave alike: [`MemoryStore`] for one process, and
//! [`RedisStore`]. Its promises:
//!
//! - A reader sees one version of a snapshot whole, never a mix, whatever writers do meanwhile.
//! - Versions only grow, and two writers of one version agree on the same one in the end.
//! - What changed can be followed without looking at everything; who was away too long is told to catch up.
//! - No call waits longer than its time-out, and a store that is away says so at once.

mod error;
#[cfg(feature = "testing")]
mod layer;
mod memory;
mod model;
mod redis;
mod settings;
mod span;
mod store;

pub use error::StoreError;
#[cfg(feature = "testing")]
pub use layer::{Call, Layer};
pub use memory::MemoryStore;
pub use model::{
    Changes, Cursor, Document, DocumentWritten, Epoch, Head, Health, Lease, ParseIdError, Reach, Role, SnapshotId,
    Stored, Subject, Written,
};
pub use redis::RedisStore;
pub use settings::{AuthSettings, CertSettings, ConnectionSettings, RedisSettings};
pub use span::{ParseSpanError, Span};
pub use store::{Answer, SnapshotStore};
