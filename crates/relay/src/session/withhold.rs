use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{Completeness, ContentHash, Gvk, Object, ObjectKey, Snapshot};

use crate::refusal::shortened;
use crate::wire::Withheld;

/// How many withheld objects the reason of an incomplete kind names.
const NAMED: usize = 3;
/// Longest reason of an incomplete kind, bytes.
const MAX_REASON: usize = 1024;

/// Objects that a receiver refused, with the hash of the refused content: other content is tried again.
pub(crate) type RefusedObjects = BTreeMap<ObjectKey, (ContentHash, String)>;

/// A snapshot as it travels: without what must not, and with the kinds of that marked as incomplete.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) digest: ContentHash,
    pub(crate) withheld: Arc<[Withheld]>,
    source: Arc<Snapshot>,
}

impl Outgoing {
    /// Prepares `source`. With the `previous` outgoing snapshot the cost follows the size of the change; it must
    /// have been made with the same limit and the same refusals.
    pub(crate) fn new(source: &Arc<Snapshot>, previous: Option<&Self>, limit: usize, refused: &RefusedObjects) -> Self {
        let mut withheld: BTreeMap<ObjectKey, Withheld> = BTreeMap::new();
        let mut judge = |object: &Object| {
            if let Some(verdict) = verdict(object, limit, refused) {
                withheld.insert(object.key().clone(), verdict);
            }
        };
        match previous {
            Some(previous) => {
                let delta = source.diff(&previous.source);
                let changed = |key: &ObjectKey| delta.upserts.binary_search_by(|object| object.key().cmp(key)).is_ok();
                delta.upserts.iter().for_each(|object| judge(object));
                for old in &*previous.withheld {
                    if delta.removes.binary_search(&old.key).is_err() && !changed(&old.key) {
                        withheld.insert(old.key.clone(), old.clone());
                    }
                }
            }
            None => source.iter().for_each(|object| judge(object)),
        }
        let snapshot = if withheld.is_empty() { Arc::clone(source) } else { Arc::new(without(source, &withheld)) };
        let withheld = withheld.into_values().collect();
        Self { digest: snapshot.digest(), snapshot, withheld, source: Arc::clone(source) }
    }

    /// True if this was made from that very snapshot.
    pub(crate) fn is_of(&self, source: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.source, source)
    }
}

fn verdict(object: &Object, limit: usize, refused: &RefusedObjects) -> Option<Withheld> {
    let bytes = object.pieces().len();
    let key = || object.key().clone();
    if bytes > limit {
        return Some(Withheld { key: key(), bytes: bytes as u64, limit: limit as u64, message: String::new() });
    }
    let (hash, message) = refused.get(object.key())?;
    (*hash == object.hash()).then(|| Withheld { key: key(), bytes: bytes as u64, limit: 0, message: message.clone() })
}

fn without(source: &Snapshot, withheld: &BTreeMap<ObjectKey, Withheld>) -> Snapshot {
    let mut snapshot = source.clone();
    let mut kinds: BTreeMap<&Gvk, Vec<&Withheld>> = BTreeMap::new();
    for (key, withheld) in withheld {
        snapshot.remove(key);
        kinds.entry(&key.gvk).or_default().push(withheld);
    }
    let mut meta = source.meta().clone();
    for (gvk, withheld) in kinds {
        let before = match source.meta().completeness.get(gvk) {
            Some(Completeness::Incomplete(reason)) => Some(reason.clone()),
            _ => None,
        };
        let named = withheld.iter().take(NAMED).map(|withheld| withheld.reason());
        let more = (withheld.len() > NAMED).then(|| format!("and {} more", withheld.len() - NAMED));
        let reason = before.into_iter().chain(named).chain(more).collect::<Vec<_>>().join("; ");
        meta.completeness.insert(gvk.clone(), Completeness::Incomplete(shortened(reason, MAX_REASON)));
    }
    snapshot.set_meta(meta);
    snapshot
}
