//! How snapshots are written into Redis, and read back. What is read is not trusted: it may be damaged, or newer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use meshrelay_snapshot::{BUCKETS, ContentHash, Object, Snapshot, SnapshotMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::script::Reply;
use crate::Stored;
use crate::model::Head;

/// Level 3 is where zstd is meant to run: about four times smaller at hundreds of MB per second.
const LEVEL: i32 = 3;

/// First byte of what is packed: as it is.
const PLAIN: u8 = 0;
/// First byte of what is packed: its length in four bytes, then a zstd frame.
const ZSTD: u8 = 1;

/// Largest value after decompression, bytes; Redis takes no larger ones either.
const LARGEST: usize = 512 << 20;

/// Bytes of a digest in the index.
const DIGEST: usize = 32;

static EMPTY_BUCKET: LazyLock<ContentHash> =
    LazyLock::new(|| Snapshot::new().bucket_digests().first().copied().unwrap_or_default());

/// Compresses, if that makes it smaller.
pub(super) fn pack(plain: &[u8]) -> Vec<u8> {
    if let (Some(packed), Ok(length)) = (compress(plain), u32::try_from(plain.len()))
        && packed.len() + 4 < plain.len()
    {
        return [&[ZSTD], length.to_le_bytes().as_slice(), &packed].concat();
    }
    [&[PLAIN], plain].concat()
}

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
    compressor.include_checksum(true).ok()?;
    compressor.compress(plain).ok()
}

/// What was packed.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    match packed.split_first() {
        Some((&PLAIN, plain)) => Ok(plain.to_vec()),
        Some((&ZSTD, rest)) => {
            let (length, frame) = rest.split_first_chunk().ok_or("it is cut off")?;
            let length = u32::from_le_bytes(*length) as usize;
            if length > LARGEST {
                return Err(format!("it says to have {length} bytes, more than {LARGEST}"));
            }
            let plain = zstd::bulk::decompress(frame, length).map_err(|error| error.to_string())?;
            if plain.len() == length { Ok(plain) } else { Err("it has another length than it says".to_owned()) }
        }
        Some((format, _)) => Err(format!("its format {format} is not known; a newer version wrote it")),
        None => Err("it is empty".to_owned()),
    }
}

/// What is kept beside the objects.
#[derive(Serialize, Deserialize)]
struct Meta {
    meta: SnapshotMeta,
    extra: Value,
}

/// A snapshot's field of that bucket.
fn field(bucket: usize) -> String {
    format!("b{bucket:02x}")
}

fn bucket_of_field(field: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(field.strip_prefix(b"b")?).ok()?;
    usize::from_str_radix(digits, 16).ok().filter(|bucket| *bucket < BUCKETS)
}

/// The digests of all buckets, one after the other.
pub(super) fn index(digests: &[ContentHash]) -> Vec<u8> {
    digests.iter().flat_map(|digest| *digest.as_bytes()).collect()
}

/// What an index holds.
pub(super) fn digests(index: &[u8]) -> Result<Vec<ContentHash>, String> {
    if index.len() != BUCKETS * DIGEST {
        return Err(format!("its index has {} bytes instead of {}", index.len(), BUCKETS * DIGEST));
    }
    Ok(index.chunks(DIGEST).filter_map(ContentHash::from_slice).collect())
}

/// What of a snapshot has to be written where buckets of these digests are, if any.
pub(super) struct Difference {
    /// Fields that go.
    pub(super) gone: Vec<String>,
    /// Fields and values, in turn.
    pub(super) fields: Vec<Vec<u8>>,
}

/// What has to be written to turn buckets of these digests into a snapshot; into nothing, with `None`.
pub(super) fn difference(new: &Stored, digests: &[ContentHash], base: Option<&[u8]>) -> Difference {
    let meta = Meta { meta: new.snapshot().meta().clone(), extra: new.extra().clone() };
    // Serialization of string-keyed maps into memory cannot fail.
    let json = |value: Result<Vec<u8>, serde_json::Error>| value.unwrap_or_default();
    let mut fields = vec![
        b"head".to_vec(),
        json(serde_json::to_vec(&new.head())),
        b"index".to_vec(),
        index(digests),
        b"meta".to_vec(),
        pack(&json(serde_json::to_vec(&meta))),
    ];
    let mut gone = Vec::new();
    for (bucket, digest) in digests.iter().enumerate() {
        let before = base.and_then(|index| index.get(bucket * DIGEST..(bucket + 1) * DIGEST));
        if before == Some(digest.as_bytes().as_slice()) || (before.is_none() && digest == &*EMPTY_BUCKET) {
            continue;
        }
        if digest == &*EMPTY_BUCKET {
            gone.push(field(bucket));
        } else {
            fields.push(field(bucket).into_bytes());
            fields.push(pack(&bucket_bytes(new.snapshot(), bucket)));
        }
    }
    Difference { gone, fields }
}

/// The objects of a bucket, each with its length in front.
fn bucket_bytes(snapshot: &Snapshot, bucket: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for object in snapshot.bucket(bucket) {
        let body = object.body();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes
}

fn bodies(mut bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk().ok_or("a bucket is cut off")?;
        let (body, rest) =
            rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or("an object of a bucket is cut off")?;
        bodies.push(body);
        bytes = rest;
    }
    Ok(bodies)
}

/// Reads a head.
pub(super) fn head(json: &[u8]) -> Result<Head, String> {
    serde_json::from_slice(json).map_err(|error| format!("its head: {error}"))
}

/// Puts a snapshot together from what `load.lua` gave of it, and what the base has.
pub(super) fn assemble(mut reply: Reply, base: Option<&Stored>) -> Result<Stored, String> {
    let (rank, head) = (reply.text()?, head(&reply.bytes()?)?);
    let index = digests(&reply.bytes()?)?;
    let meta = unpack(&reply.bytes()?).map_err(|problem| format!("its meta data: {problem}"))?;
    let Meta { meta, extra } = serde_json::from_slice(&meta).map_err(|error| format!("its meta data: {error}"))?;
    let mut snapshot = base.map(|base| Snapshot::clone(base.snapshot())).unwrap_or_default();
    let before = snapshot.bucket_digests();
    let mut differing: BTreeSet<usize> =
        (0..BUCKETS).filter(|bucket| index.get(*bucket) != before.get(*bucket)).collect();
    while !reply.is_empty() {
        let bucket = bucket_of_field(&reply.bytes()?).ok_or("it has a bucket that does not exist")?;
        let bytes = unpack(&reply.bytes()?).map_err(|problem| format!("its bucket {bucket}: {problem}"))?;
        replace(&mut snapshot, bucket, bodies(&bytes)?)?;
        differing.remove(&bucket);
    }
    for bucket in differing {
        // What is not there any more is empty.
        replace(&mut snapshot, bucket, Vec::new())?;
    }
    snapshot.set_meta(meta);
    let stored = Stored::new(head.version, Arc::new(snapshot), extra, &head.writer);
    // The rank has the version, and digests of the objects and of what belongs to them.
    if stored.head() != head || stored.rank() != rank {
        return Err("its objects are not those that its head and its rank tell of".to_owned());
    }
    Ok(stored)
}

/// Makes a bucket of a snapshot hold these objects, sharing those that it has already.
fn replace(snapshot: &mut Snapshot, bucket: usize, bodies: Vec<&[u8]>) -> Result<(), String> {
    let mut before: BTreeMap<_, _> =
        snapshot.bucket(bucket).map(|object| (object.hash(), Arc::clone(object))).collect();
    let mut new = Vec::new();
    for body in bodies {
        if before.remove(&ContentHash::of(body)).is_none() {
            new.push(Arc::new(Object::from_canonical(body).map_err(|error| error.to_string())?));
        }
    }
    for object in before.into_values() {
        snapshot.remove(object.key());
    }
    for object in new {
        snapshot.insert(object);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis::Value as Raw;
    use serde_json::json;

    use super::*;

    fn snapshot(objects: &BTreeMap<u8, u8>) -> Arc<Snapshot> {
        let object = |(name, content): (&u8, &u8)| {
            let value =
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": format!("n{name}")}, "c": content});
            Arc::new(Object::from_value(&value).unwrap())
        };
        Arc::new(objects.iter().map(object).collect())
    }

    /// What Redis would hold after a difference was written, by field.
    fn written(mut there: BTreeMap<Vec<u8>, Vec<u8>>, difference: Difference) -> BTreeMap<Vec<u8>, Vec<u8>> {
        there.retain(|field, _| !difference.gone.iter().any(|gone| gone.as_bytes() == field));
        let mut fields = difference.fields.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            there.insert(field, value);
        }
        there
    }

    fn reply(rank: &str, there: &BTreeMap<Vec<u8>, Vec<u8>>, buckets: impl Fn(usize) -> bool) -> Reply {
        let mut values = vec![rank.as_bytes().to_vec()];
        values.extend(["head", "index", "meta"].iter().map(|name| there[name.as_bytes()].clone()));
        for (field, value) in there {
            if bucket_of_field(field).is_some_and(&buckets) {
                values.extend([field.clone(), value.clone()]);
            }
        }
        Reply::new(Raw::Array(values.into_iter().map(Raw::BulkString).collect())).unwrap()
    }

    proptest! {
        #[test]
        fn differences_lead_from_any_snapshot_to_any_other(
            old in proptest::collection::btree_map(any::<u8>(), 0u8..3, 0..80),
            new in proptest::collection::btree_map(any::<u8>(), 0u8..3, 0..80),
        ) {
            let stored = |version, objects| Stored::new(version, snapshot(objects), json!({"version": version}), "w");
            let (old, new) = (stored(1, &old), stored(2, &new));
            let (before, after) = (old.snapshot().bucket_digests(), new.snapshot().bucket_digests());
            let there = written(BTreeMap::new(), difference(&old, &before, None));
            let there = written(there, difference(&new, &after, Some(&index(&before))));
            prop_assert_eq!(&there, &written(BTreeMap::new(), difference(&new, &after, None)));

            let whole = assemble(reply(&new.rank(), &there, |_| true), None).unwrap();
            prop_assert_eq!((whole.head(), whole.snapshot()), (new.head(), new.snapshot()));
            let partial = assemble(reply(&new.rank(), &there, |bucket| before[bucket] != after[bucket]), Some(&old)).unwrap();
            prop_assert_eq!((partial.head(), partial.snapshot()), (new.head(), new.snapshot()));
        }

        #[test]
        fn what_was_packed_is_unpacked(plain in "[a-c]{0,300}|.{0,40}") {
            let packed = pack(plain.as_bytes());
            prop_assert!(packed.len() <= plain.len() + 1);
            prop_assert_eq!(unpack(&packed).unwrap(), plain.as_bytes());
        }

        #[test]
        fn damage_is_an_error_and_never_another_snapshot(
            objects in proptest::collection::btree_map(any::<u8>(), 0u8..3, 1..9),
            at: proptest::sample::Index, byte: proptest::sample::Index, bit in 0u8..8,
        ) {
            let put = Stored::new(1, snapshot(&objects), json!(1), "w");
            let mut there = written(BTreeMap::new(), difference(&put, &put.snapshot().bucket_digests(), None));
            let count = there.len();
            let value = there.values_mut().nth(at.index(count)).unwrap();
            let byte = byte.index(value.len());
            value[byte] ^= 1 << bit;
            if let Ok(read) = assemble(reply(&put.rank(), &there, |_| true), None) {
                // The writer's name alone is not part of the rank.
                prop_assert_eq!((read.rank(), read.snapshot(), read.extra()), (put.rank(), put.snapshot(), put.extra()));
            }
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused() {
        for packed in [&[7, 1, 2][..], &[], &[ZSTD, 1], &[ZSTD, 255, 255, 255, 255, 0], &[ZSTD, 4, 0, 0, 0, 1, 2]] {
            unpack(packed).unwrap_err();
        }
    }
}
