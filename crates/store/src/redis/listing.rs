//! What Redis lists: the heads of all snapshots, and what changed. Nothing in it that is not understood hides the rest.

use std::collections::BTreeMap;

use super::script::Reply;
use super::{codec, session};
use crate::model::{Head, ParseIdError, SnapshotId, Subject};

/// What a list of heads says. One that cannot be read, as a newer version may have written it, hides no other.
pub(super) fn read_heads(reply: &mut Reply) -> Result<BTreeMap<SnapshotId, Head>, String> {
    let mut heads = BTreeMap::new();
    while !reply.is_empty() {
        let (id, head) = (reply.text()?, reply.bytes()?);
        let parsed = id.parse().map_err(|error: ParseIdError| error.to_string());
        match parsed.and_then(|id| Ok((id, codec::head(&head)?))) {
            Ok((id, head)) => drop(heads.insert(id, head)),
            Err(problem) => tracing::warn!(snapshot = id, problem, "passed over a snapshot that cannot be read"),
        }
    }
    Ok(heads)
}

/// What was read of the feed.
pub(super) struct Read {
    /// The store that it is of, if there is one.
    pub(super) store: Option<String>,
    /// Number of the last change.
    pub(super) number: u64,
    /// Number of the last change that was read.
    pub(super) last: u64,
    /// What was read, `None` when something is missing before it.
    pub(super) changed: Option<BTreeMap<Subject, Option<u64>>>,
}

pub(super) fn read_changes(mut reply: Reply, after: u64) -> Result<Read, String> {
    let Some(store) = reply.optional()? else {
        return Ok(Read { store: None, number: 0, last: 0, changed: None });
    };
    let store = String::from_utf8(store).map_err(|_| "its epoch is not text".to_owned())?;
    let number = reply.number()?;
    let (mut last, mut changed) = (after, BTreeMap::new());
    while !reply.is_empty() {
        let (id, subject, version) = (reply.bytes()?, reply.text()?, reply.text()?);
        let id = session::number_of(&id).ok_or("an entry has no number")?;
        if id != last.saturating_add(1) {
            return Ok(Read { store: Some(store), number, last: number, changed: None });
        }
        last = id;
        let parsed = match subject.strip_prefix("document:") {
            Some(name) => Ok(Subject::Document(name.to_owned())),
            None => subject.parse().map(Subject::Snapshot),
        };
        match parsed {
            Ok(subject) => drop(changed.insert(subject, version.parse().ok())),
            // A newer version has more to tell; what follows is for everybody.
            Err(error) => tracing::debug!(subject, %error, "passed over a change that is not understood"),
        }
    }
    // Nothing after the cursor, though there was more: the feed itself is gone, or the store went back.
    let complete = last != after || number == after;
    Ok(Read { store: Some(store), number, last, changed: complete.then_some(changed) })
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn reply(values: &[&str]) -> Reply {
        let values = values.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect();
        Reply::new(Value::Array(values)).unwrap()
    }

    #[test]
    fn a_head_that_is_not_understood_hides_no_other() {
        let head = serde_json::to_string(
            &crate::Stored::new(3, std::sync::Arc::default(), serde_json::Value::Null, "a").head(),
        )
        .unwrap();
        let listed = ["input:one", "{", "verdicts:one", &head, "input:two", &head];
        let heads = read_heads(&mut reply(&listed)).unwrap();
        assert_eq!(heads.into_keys().collect::<Vec<_>>(), [SnapshotId::input("two")]);
        assert!(read_heads(&mut reply(&["input:one"])).is_err(), "half of it is missing");
    }

    #[test]
    fn a_change_that_is_not_understood_hides_no_other() {
        let listed = ["store", "7", "6-0", "verdicts:one", "1", "7-0", "input:two", "5"];
        let read = read_changes(reply(&listed), 5).unwrap();
        assert_eq!(
            (read.last, read.changed),
            (7, Some([(Subject::Snapshot(SnapshotId::input("two")), Some(5))].into()))
        );
    }
}
