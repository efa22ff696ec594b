use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::{ContentHash, Delta, Object, ObjectKey, SnapshotMeta};

/// Number of buckets that a snapshot is cut into by hash of the object's key. With 100,000 objects a bucket holds about
/// 400, so that after a long absence only the buckets that differ travel, and the list of all bucket digests stays
/// small (8 KiB).
pub const BUCKETS: usize = 256;

/// Everything known of one cluster (an input snapshot) or wanted in it (an output snapshot), as one value.
///
/// Cloning is cheap: buckets are shared and copied only when an object in them changes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    buckets: Arc<Vec<Arc<Bucket>>>,
    meta: Arc<SnapshotMeta>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    digest: OnceLock<ContentHash>,
}

impl Bucket {
    fn digest(&self) -> ContentHash {
        *self.digest.get_or_init(|| {
            let hashes: Vec<_> = self.objects.values().map(|object| object.hash()).collect();
            ContentHash::of_parts(hashes.iter().map(|hash| hash.as_bytes().as_slice()))
        })
    }
}

impl Snapshot {
    /// An empty snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bucket that an object of this key belongs to, below [`BUCKETS`].
    pub fn bucket_of(key: &ObjectKey) -> usize {
        let parts = [&key.gvk.group, &key.gvk.kind, &key.gvk.version, &key.namespace, &key.name];
        usize::from(ContentHash::of_parts(parts.map(|part| part.as_bytes())).as_bytes()[0]) % BUCKETS
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is no object.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The object of that key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.buckets.get(Self::bucket_of(key))?.objects.get(key)
    }

    /// Adds or replaces an object; returns the one that was there.
    pub fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let bucket = self.bucket_mut(Self::bucket_of(object.key()));
        let previous = bucket.objects.insert(object.key().clone(), object);
        self.len += usize::from(previous.is_none());
        previous
    }

    /// Removes an object; returns it.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.get(key)?;
        let removed = self.bucket_mut(Self::bucket_of(key)).objects.remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    fn bucket_mut(&mut self, index: usize) -> &mut Bucket {
        let buckets = Arc::make_mut(&mut self.buckets);
        if buckets.is_empty() {
            buckets.resize(BUCKETS, Arc::default());
        }
        let bucket = Arc::make_mut(&mut buckets[index]);
        bucket.digest = OnceLock::new();
        bucket
    }

    /// All objects, bucket by bucket: the same order for the same objects, but not the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.buckets.iter().flat_map(|bucket| bucket.objects.values())
    }

    /// All objects in the order of their keys.
    pub fn sorted(&self) -> Vec<&Arc<Object>> {
        let mut objects: Vec<_> = self.iter().collect();
        objects.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        objects
    }

    /// The objects of one bucket in the order of their keys; nothing for an index of [`BUCKETS`] or more.
    pub fn bucket(&self, index: usize) -> impl Iterator<Item = &Arc<Object>> {
        self.buckets.get(index).into_iter().flat_map(|bucket| bucket.objects.values())
    }

    /// What belongs to the snapshot as a whole.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Replaces the meta data.
    pub fn set_meta(&mut self, meta: SnapshotMeta) {
        if *self.meta != meta {
            self.meta = Arc::new(meta);
        }
    }

    /// Digest of the whole snapshot: equal if and only if objects and meta data are equal.
    pub fn digest(&self) -> ContentHash {
        let buckets = self.bucket_digests();
        let meta = self.meta_digest();
        ContentHash::of_parts(buckets.iter().chain([&meta]).map(|digest| digest.as_bytes().as_slice()))
    }

    /// Digest of the meta data alone.
    pub fn meta_digest(&self) -> ContentHash {
        // Maps with string keys only: serialization into memory cannot fail.
        ContentHash::of(&serde_json::to_vec(&*self.meta).unwrap_or_default())
    }

    /// Digest of each of the [`BUCKETS`] buckets, computed once per content.
    pub fn bucket_digests(&self) -> Vec<ContentHash> {
        if self.buckets.is_empty() {
            return vec![Bucket::default().digest(); BUCKETS];
        }
        self.buckets.iter().map(|bucket| bucket.digest()).collect()
    }

    /// What turns `base` into this snapshot. Shared buckets are skipped, so the cost follows the size of the change.
    pub fn diff(&self, base: &Self) -> Delta {
        let mut delta = Delta::default();
        for index in 0..BUCKETS {
            let (new, old) = (self.buckets.get(index), base.buckets.get(index));
            if let (Some(new), Some(old)) = (new, old)
                && Arc::ptr_eq(new, old)
            {
                continue;
            }
            for object in new.into_iter().flat_map(|bucket| bucket.objects.values()) {
                let before = old.and_then(|bucket| bucket.objects.get(object.key()));
                if before.is_none_or(|before| before.hash() != object.hash()) {
                    delta.upserts.push(Arc::clone(object));
                }
            }
            for key in old.into_iter().flat_map(|bucket| bucket.objects.keys()) {
                if new.is_none_or(|bucket| !bucket.objects.contains_key(key)) {
                    delta.removes.push(key.clone());
                }
            }
        }
        delta.upserts.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        delta.removes.sort_unstable();
        delta.meta = (self.meta != base.meta).then(|| SnapshotMeta::clone(&self.meta));
        delta
    }

    /// Applies a delta.
    pub fn apply(&mut self, delta: Delta) {
        for key in &delta.removes {
            self.remove(key);
        }
        for object in delta.upserts {
            self.insert(object);
        }
        if let Some(meta) = delta.meta {
            self.set_meta(meta);
        }
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.diff(other).is_empty()
    }
}

impl Eq for Snapshot {}

impl FromIterator<Arc<Object>> for Snapshot {
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        let mut snapshot = Self::new();
        for object in objects {
            snapshot.insert(object);
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Completeness, Gvk};

    fn object(name: u8, content: u8) -> Arc<Object> {
        let value = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("name-{name}"), "namespace": "n"}, "data": {"content": content.to_string()},
        });
        Arc::new(Object::from_value(&value).unwrap())
    }

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        (proptest::collection::btree_map(any::<u8>(), 0u8..3, 0..60), any::<bool>()).prop_map(|(objects, synced)| {
            let mut snapshot: Snapshot = objects.into_iter().map(|(name, content)| object(name, content)).collect();
            let mut meta = SnapshotMeta::default();
            if synced {
                meta.completeness.insert(Gvk::new("", "v1", "ConfigMap"), Completeness::Synced);
            }
            snapshot.set_meta(meta);
            snapshot
        })
    }

    proptest! {
        #[test]
        fn a_delta_turns_one_snapshot_into_the_other(from in snapshots(), to in snapshots()) {
            let delta = to.diff(&from);
            let mut result = from.clone();
            result.apply(delta.clone());
            prop_assert_eq!(&result, &to);
            prop_assert_eq!(result.digest(), to.digest());
            prop_assert_eq!(result.bucket_digests(), to.bucket_digests());
            prop_assert_eq!(result.len(), to.iter().count());
            prop_assert_eq!(delta.is_empty(), from.digest() == to.digest());
        }

        #[test]
        fn the_digest_does_not_depend_on_the_order_of_arrival(mut objects in proptest::collection::vec((any::<u8>(), 0u8..3), 0..40), seed in any::<u64>()) {
            objects.sort_unstable();
            objects.dedup_by_key(|(name, _)| *name);
            let one: Snapshot = objects.iter().map(|&(name, content)| object(name, content)).collect();
            objects.sort_by_key(|&(name, _)| (u64::from(name) + 1).wrapping_mul(seed | 1));
            let two: Snapshot = objects.iter().map(|&(name, content)| object(name, content)).collect();
            prop_assert_eq!(one.digest(), two.digest());
        }
    }

    #[test]
    fn an_empty_snapshot_equals_one_that_was_emptied() {
        let mut snapshot: Snapshot = [object(1, 1)].into_iter().collect();
        let shared = snapshot.clone();
        snapshot.remove(object(1, 1).key());
        assert_eq!(snapshot.digest(), Snapshot::new().digest());
        assert_eq!(snapshot, Snapshot::new());
        assert_eq!(shared.len(), 1, "a clone keeps what it had");
    }
}
