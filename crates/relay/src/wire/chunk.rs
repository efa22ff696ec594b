//! The payload of chunks: entries, encoded as a `ChunkBody` and compressed.
//!
//! Decoding counts on nothing: sizes are bounded before anything is allocated for them.

use bytes::Bytes;
use meshrelay_snapshot::{ContentHash, Object, ObjectKey, SnapshotMeta};
use prost::Message as _;

use super::{Payload, Withheld, codec};
use crate::generated as proto;
use crate::limits::Limits;
use crate::nack::NackReason;

/// Level 3 is where zstd is meant to run: about four times smaller at hundreds of MB per second.
const LEVEL: i32 = 3;

/// Below this many bytes the ratio of compression says nothing.
const RATIO_FROM: usize = 64 * 1024;

/// Tags of the fields of `ChunkBody`, all of them length-delimited.
mod tag {
    pub(super) const UPSERTS: u64 = 0x0a;
    pub(super) const REMOVES: u64 = 0x12;
    pub(super) const META: u64 = 0x1a;
    pub(super) const WITHHELD: u64 = 0x22;
}

/// What one chunk holds, on its way out.
#[derive(Debug, Default)]
pub struct Entries {
    body: proto::ChunkBody,
    bytes: usize,
    count: usize,
}

impl Entries {
    /// Adds an object that is new or changed.
    pub fn upsert(&mut self, object: &Object) {
        self.count(object.pieces().len());
        self.body.upserts.push(object.body().into_owned());
    }

    /// Adds an object that is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        let key = codec::encode_key(key);
        self.count(key.encoded_len());
        self.body.removes.push(key);
    }

    /// Sets the meta data of the snapshot.
    pub fn meta(&mut self, meta: &SnapshotMeta) {
        // Maps with string keys only: serialization into memory cannot fail.
        let json = serde_json::to_vec(meta).unwrap_or_default();
        self.count(json.len());
        self.body.meta = Some(json);
    }

    /// Adds an object that exists but does not travel.
    pub fn withheld(&mut self, withheld: &Withheld) {
        let message = codec::withheld_message(withheld);
        self.count(message.encoded_len());
        self.body.withheld.push(message);
    }

    fn count(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// True if `more` bytes fit as well; an empty chunk takes anything.
    pub fn fits(&self, more: usize, budget: usize, entries: usize) -> bool {
        self.count == 0 || (self.bytes.saturating_add(more) <= budget && self.count < entries)
    }

    /// True if nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Encodes and compresses.
    pub fn encode(self, ratio: usize) -> Payload {
        let plain = self.body.encode_to_vec();
        let decoded_bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        match compress(&plain) {
            Some(packed) if packed.len() < plain.len() && !suspicious(packed.len(), plain.len(), ratio) => {
                Payload { compressed: true, decoded_bytes, bytes: Bytes::from(packed) }
            }
            _ => Payload { compressed: false, decoded_bytes, bytes: Bytes::from(plain) },
        }
    }
}

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
    // Damage must not go unseen on links without TLS; it costs four bytes.
    compressor.include_checksum(true).ok()?;
    compressor.compress(plain).ok()
}

fn suspicious(packed: usize, plain: usize, ratio: usize) -> bool {
    plain >= RATIO_FROM && plain / packed.max(1) > ratio
}

/// What one chunk holds, on its way in.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Objects that are new or changed.
    pub upserts: Vec<Object>,
    /// Objects that are gone.
    pub removes: Vec<ObjectKey>,
    /// Meta data of the snapshot, if it changed.
    pub meta: Option<SnapshotMeta>,
    /// Objects that exist but do not travel.
    pub withheld: Vec<Withheld>,
    /// Objects that are not acceptable, by the hash of their bytes; the rest is.
    pub refused: Vec<(ContentHash, String)>,
    /// Decoded size.
    pub bytes: usize,
}

impl Decoded {
    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.upserts.len() + self.removes.len() + self.withheld.len() + self.refused.len()
    }
}

/// Decompresses and reads a chunk.
///
/// # Errors
/// When the chunk is over a limit or does not decode: the reason, and what was expected and found.
pub fn decode(payload: &Payload, limits: &Limits) -> Result<Decoded, (NackReason, String)> {
    let plain;
    let body: &[u8] = if payload.compressed {
        plain = decompress(payload, limits)?;
        &plain
    } else {
        &payload.bytes
    };
    let stated = payload.decoded_bytes as usize;
    if body.len() > limits.decoded_chunk_bytes() {
        return Err(oversize(body.len(), limits));
    }
    if body.len() != stated {
        let message = format!("expected a chunk of {stated} bytes as it states, found {} bytes", body.len());
        return Err((NackReason::MalformedChunk, message));
    }
    read(body, limits)
}

fn oversize(bytes: usize, limits: &Limits) -> (NackReason, String) {
    let message =
        format!("expected a chunk of at most {} bytes, found one of {bytes} bytes", limits.decoded_chunk_bytes());
    (NackReason::OversizeChunk, message)
}

fn decompress(payload: &Payload, limits: &Limits) -> Result<Vec<u8>, (NackReason, String)> {
    let (packed, stated) = (payload.bytes.len(), payload.decoded_bytes as usize);
    if stated > limits.decoded_chunk_bytes() {
        return Err(oversize(stated, limits));
    }
    if suspicious(packed, stated, limits.chunk_ratio) {
        let message = format!(
            "expected a chunk that decompresses to at most {} times its size, found {packed} bytes for {stated}",
            limits.chunk_ratio
        );
        return Err((NackReason::OversizeChunk, message));
    }
    zstd::bulk::decompress(&payload.bytes, stated).map_err(|error| {
        let message = format!("expected one zstd frame of {stated} bytes, but it does not decompress: {error}");
        (NackReason::MalformedChunk, message)
    })
}

fn read(mut body: &[u8], limits: &Limits) -> Result<Decoded, (NackReason, String)> {
    let malformed = |what: &str| (NackReason::MalformedChunk, format!("expected the entries of a chunk, but {what}"));
    let mut decoded = Decoded { bytes: body.len(), ..Decoded::default() };
    let mut count = 0;
    while !body.is_empty() {
        count += 1;
        if count > limits.chunk_entries {
            let message = format!("expected at most {} entries in a chunk, found more", limits.chunk_entries);
            return Err((NackReason::OversizeChunk, message));
        }
        let tag = varint(&mut body).ok_or_else(|| malformed("a field has no tag"))?;
        let length = varint(&mut body).ok_or_else(|| malformed("a field has no length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (field, rest) = body.split_at_checked(length).ok_or_else(|| malformed("an entry is cut off"))?;
        body = rest;
        match tag {
            tag::UPSERTS => match upsert(field, limits) {
                Ok(object) => decoded.upserts.push(object),
                Err(message) => decoded.refused.push((ContentHash::of(field), message)),
            },
            tag::REMOVES => {
                let key = proto::ObjectKey::decode(field).map_err(|_| malformed("a removed object has no name"))?;
                decoded.removes.push(codec::decode_key(key));
            }
            tag::META => {
                let meta = serde_json::from_slice(field)
                    .map_err(|error| malformed(&format!("the meta data does not read: {error}")))?;
                decoded.meta = Some(meta);
            }
            tag::WITHHELD => {
                let message =
                    proto::Withheld::decode(field).map_err(|_| malformed("a withheld object does not read"))?;
                let key = message.key.ok_or_else(|| malformed("a withheld object has no name"))?;
                decoded.withheld.push(Withheld {
                    key: codec::decode_key(key),
                    bytes: message.bytes,
                    limit: message.limit,
                    message: message.message,
                });
            }
            _ => return Err(malformed("a field is not known")),
        }
    }
    Ok(decoded)
}

fn upsert(field: &[u8], limits: &Limits) -> Result<Object, String> {
    if field.len() > limits.object_bytes {
        return Err(format!(
            "expected an object of at most {} bytes, found {} bytes",
            limits.object_bytes,
            field.len()
        ));
    }
    Object::from_canonical(field).map_err(|error| error.to_string())
}

/// Reads a variable-length integer as protobuf writes it.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshrelay_snapshot::{Gvk, Snapshot};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(name: &str, text: &str) -> Arc<Object> {
        let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"text": text}});
        Arc::new(Object::from_value(&value).unwrap())
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(texts in proptest::collection::vec("[ -~]{0,40}|x{300}", 0..40), names in proptest::collection::vec("[a-z]{1,9}", 0..9)) {
            let limits = Limits::default();
            let mut entries = Entries::default();
            let objects: Vec<_> = texts.iter().enumerate().map(|(at, text)| object(&format!("n{at}"), text)).collect();
            let keys: Vec<_> = names.iter().map(|name| ObjectKey::new(Gvk::new("g", "v1", "K"), "n", name)).collect();
            let withheld: Vec<_> = keys.iter().map(|key| Withheld { key: key.clone(), bytes: 9, limit: 8, message: String::new() }).collect();
            objects.iter().for_each(|object| entries.upsert(object));
            keys.iter().for_each(|key| entries.remove(key));
            withheld.iter().for_each(|one| entries.withheld(one));
            entries.meta(Snapshot::new().meta());
            let payload = entries.encode(limits.chunk_ratio);
            prop_assert!(payload.bytes.len() <= payload.decoded_bytes as usize);
            let decoded = decode(&payload, &limits).unwrap();
            prop_assert_eq!(decoded.upserts.iter().collect::<Vec<_>>(), objects.iter().map(|object| &**object).collect::<Vec<_>>());
            prop_assert_eq!((decoded.removes, decoded.withheld), (keys, withheld));
            prop_assert!(decoded.refused.is_empty() && decoded.meta.is_some());
        }

        #[test]
        fn any_bytes_are_a_chunk_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), compressed: bool, stated in 0u32..300) {
            let payload = Payload { compressed, decoded_bytes: stated, bytes: bytes.into() };
            if let Ok(decoded) = decode(&payload, &Limits::default()) {
                prop_assert!(decoded.bytes == stated as usize);
            }
        }
    }

    #[test]
    fn what_compresses_too_well_travels_plain() {
        let limits = Limits { chunk_ratio: 20, ..Limits::default() };
        let mut entries = Entries::default();
        entries.upsert(&object("a", &" ".repeat(500_000)));
        let payload = entries.encode(limits.chunk_ratio);
        assert!(!payload.compressed);
        assert_eq!(decode(&payload, &limits).unwrap().upserts.len(), 1);
    }
}
