//! Versions of what replicas write in turn, so that each one's is above that of the one before.

use jiff::Timestamp;
use meshrelay_relay::Versions;
use meshrelay_store::{SnapshotId, SnapshotStore, StoreError, Stored, Written};

/// How often a version is raised above what others wrote meanwhile, before the write is left to the next round.
const ATTEMPTS: usize = 5;

/// What became of a snapshot that was to be the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newest {
    /// It is there, under this version.
    Version(u64),
    /// Others wrote each time in between: it is to be written again.
    Overtaken,
    /// There was none to write any more.
    Withdrawn,
}

/// Writes a snapshot as the newest one, whatever is there: above the version that this replica knows of, and near the clock
/// in microseconds, so that a store that lost everything gets no lower ones.
pub(super) async fn put_newest(
    store: &dyn SnapshotStore,
    id: &SnapshotId,
    known: u64,
    now: Timestamp,
    stored: impl Fn(u64) -> Option<Stored>,
) -> Result<Newest, StoreError> {
    let clock = u64::try_from(now.as_microsecond()).unwrap_or_default();
    let mut version = known.saturating_add(1).max(clock).min(Versions::MAX);
    for _ in 0..ATTEMPTS {
        let Some(new) = stored(version) else { return Ok(Newest::Withdrawn) };
        match store.put(id, &new).await? {
            Written::Stored | Written::Same => return Ok(Newest::Version(version)),
            Written::Newer(there) if there.digest == new.digest() => return Ok(Newest::Version(there.version)),
            Written::Newer(there) => version = there.version.saturating_add(1),
        }
    }
    Ok(Newest::Overtaken)
}
