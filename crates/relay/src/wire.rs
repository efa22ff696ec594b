//! What travels, as domain values; [`codec`] turns them into protobuf messages and back.

pub mod chunk;
pub mod codec;

use std::ops::RangeInclusive;

use bytes::Bytes;
use meshrelay_snapshot::{ContentHash, Name, ObjectKey};

use crate::nack::NackReason;
use crate::{ApplyReport, PROTOCOL};

/// One frame of a stream. Which side may send which is written at [`crate::Sender`] and [`crate::Receiver`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the messages of the .proto, which explains them")]
pub enum Frame {
    Hello(Hello),
    Held(HeldClaim),
    Compare,
    Buckets(Vec<ContentHash>),
    Begin(Begin),
    Chunk(Chunk),
    Commit(Commit),
    Ack(Ack),
    Nack(Nack),
    Report(ApplyReport),
    Heartbeat,
    Drain { message: String },
    Close { code: String, message: String },
}

impl Frame {
    /// Name for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Held(_) => "held",
            Self::Compare => "compare",
            Self::Buckets(_) => "buckets",
            Self::Begin(_) => "begin",
            Self::Chunk(_) => "chunk",
            Self::Commit(_) => "commit",
            Self::Ack(_) => "ack",
            Self::Nack(_) => "nack",
            Self::Report(_) => "report",
            Self::Heartbeat => "heartbeat",
            Self::Drain { .. } => "drain",
            Self::Close { .. } => "close",
        }
    }
}

/// Who speaks, and what it can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Name of the agent's cluster, on both sides.
    pub cluster: Name,
    /// Identifies the process for as long as it runs.
    pub instance: String,
    /// Version of the program, such as `0.1.0`.
    pub software_version: String,
    /// Protocol versions spoken.
    pub protocol: RangeInclusive<u32>,
    /// Largest object that the speaker accepts, bytes.
    pub max_object_bytes: u64,
    /// Largest chunk with more than one object that the speaker accepts, decoded bytes.
    pub max_chunk_bytes: u64,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            cluster: Name::default(),
            instance: String::new(),
            software_version: String::new(),
            protocol: PROTOCOL,
            max_object_bytes: 0,
            max_chunk_bytes: 0,
        }
    }
}

/// What a receiver says it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldClaim {
    /// Version of the last commit, 0 if there was none.
    pub version: u64,
    /// Its digest, `None` if nothing was ever committed.
    pub digest: Option<ContentHash>,
}

/// What a transfer starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nothing.
    Full,
    /// What the receiver holds, which has this digest.
    Delta(ContentHash),
    /// What the receiver holds, which has this digest, with these buckets emptied.
    Buckets(ContentHash, Vec<u32>),
}

/// Starts a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Number of the transfer within the stream, from 1.
    pub nonce: u64,
    /// Version that the commit will give.
    pub version: u64,
    /// What the transfer starts from.
    pub basis: Basis,
}

/// A part of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Nonce of the transfer.
    pub nonce: u64,
    /// Number of the chunk within the transfer, from 0.
    pub index: u32,
    /// The entries, encoded.
    pub payload: Payload,
}

/// Encoded entries of a chunk, see [`chunk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// True if `bytes` is one zstd frame.
    pub compressed: bool,
    /// Size when decoded, as the sender states it.
    pub decoded_bytes: u32,
    /// The bytes that travel.
    pub bytes: Bytes,
}

/// Ends a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Nonce of the transfer.
    pub nonce: u64,
    /// Version of the result.
    pub version: u64,
    /// Digest of the result.
    pub digest: ContentHash,
    /// Number of objects in the result.
    pub objects: u64,
    /// [`Withheld::digest`] of the withheld objects.
    pub withheld_digest: ContentHash,
}

/// Accepts a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Nonce of the transfer.
    pub nonce: u64,
    /// Version that is held now.
    pub version: u64,
    /// Digest of what is held now.
    pub digest: ContentHash,
}

/// Refuses a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Nonce of the transfer.
    pub nonce: u64,
    /// Why.
    pub reason: NackReason,
    /// What was expected and what was found.
    pub message: String,
    /// What the receiver still holds.
    pub held: HeldClaim,
    /// Objects that the receiver does not accept, by hash, with what is wrong with each.
    pub refused: Vec<(ContentHash, String)>,
}

/// An object that exists but does not travel. The receiver keeps the version of it that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The object.
    pub key: ObjectKey,
    /// Its size, bytes.
    pub bytes: u64,
    /// The limit that it is over, bytes; 0 if the receiver refused it for another reason.
    pub limit: u64,
    /// Why the receiver refused it; empty if it is over the limit.
    pub message: String,
}

impl Withheld {
    /// Why the object does not travel, for a person.
    pub fn reason(&self) -> String {
        if self.limit == 0 {
            return format!("{} was refused by the receiver: {}", self.key, self.message);
        }
        format!("{} has {} bytes, over the limit of {} bytes", self.key, self.bytes, self.limit)
    }

    /// Digest of a list, by which both sides know that it arrived whole.
    pub fn digest<'a>(list: impl IntoIterator<Item = &'a Self>) -> ContentHash {
        let encoded: Vec<_> = list.into_iter().map(codec::encode_withheld).collect();
        ContentHash::of_parts(encoded.iter().map(Vec::as_slice))
    }
}
