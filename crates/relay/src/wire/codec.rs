//! Frames to protobuf messages and back. Decoding checks everything that can be checked without knowing the session.

use meshrelay_snapshot::{BUCKETS, ContentHash, Gvk, ObjectKey};
use prost::Message as _;

use super::{Ack, Basis, Begin, Chunk, Commit, Frame, HeldClaim, Hello, Nack, Payload, Withheld};
use crate::end::ProtocolError;
use crate::generated as proto;
use crate::nack::NackReason;
use crate::refusal::shortened;
use crate::report::{ApplyReport, ObjectResult, Outcome};
use proto::frame::Body;

/// Longest text of a frame that is meant for people or names a process, bytes.
const MAX_TEXT: usize = 1024;

/// Turns a hello into its message.
pub fn encode_hello(hello: Hello) -> proto::Hello {
    proto::Hello {
        cluster: hello.cluster.to_string(),
        instance: hello.instance,
        software_version: hello.software_version,
        protocol_min: *hello.protocol.start(),
        protocol_max: *hello.protocol.end(),
        max_object_bytes: hello.max_object_bytes,
        max_chunk_bytes: hello.max_chunk_bytes,
    }
}

/// Turns a frame into its message.
pub fn encode(frame: Frame) -> proto::Frame {
    let body = match frame {
        Frame::Hello(hello) => Body::Hello(encode_hello(hello)),
        Frame::Held(held) => Body::Held(encode_held(&held)),
        Frame::Compare => Body::Compare(proto::Compare {}),
        Frame::Buckets(digests) => {
            Body::Buckets(proto::Buckets { digests: digests.iter().flat_map(|digest| *digest.as_bytes()).collect() })
        }
        Frame::Begin(begin) => {
            let (kind, base, buckets) = match begin.basis {
                Basis::Full => (proto::TransferKind::Full, None, Vec::new()),
                Basis::Delta(base) => (proto::TransferKind::Delta, Some(base), Vec::new()),
                Basis::Buckets(base, buckets) => (proto::TransferKind::Buckets, Some(base), buckets),
            };
            Body::Begin(proto::Begin {
                nonce: begin.nonce,
                version: begin.version,
                kind: kind.into(),
                base: base.map(bytes),
                buckets,
            })
        }
        Frame::Chunk(Chunk { nonce, index, payload }) => {
            let encoding = if payload.compressed { proto::Encoding::Zstd } else { proto::Encoding::Plain };
            Body::Chunk(proto::Chunk {
                nonce,
                index,
                encoding: encoding.into(),
                decoded_bytes: payload.decoded_bytes,
                payload: payload.bytes,
            })
        }
        Frame::Commit(commit) => Body::Commit(proto::Commit {
            nonce: commit.nonce,
            version: commit.version,
            digest: bytes(commit.digest),
            objects: commit.objects,
            withheld_digest: bytes(commit.withheld_digest),
        }),
        Frame::Ack(ack) => Body::Ack(proto::Ack { nonce: ack.nonce, version: ack.version, digest: bytes(ack.digest) }),
        Frame::Nack(nack) => Body::Nack(proto::Nack {
            nonce: nack.nonce,
            code: nack.reason.code().to_owned(),
            message: nack.message,
            held: Some(encode_held(&nack.held)),
            refused: nack
                .refused
                .into_iter()
                .map(|(hash, message)| proto::Refused { hash: bytes(hash), message })
                .collect(),
        }),
        Frame::Report(report) => Body::Report(encode_report(report)),
        Frame::Heartbeat => Body::Heartbeat(proto::Heartbeat {}),
        Frame::Drain { message } => Body::Drain(proto::Drain { message }),
        Frame::Close { code, message } => Body::Close(proto::Close { code, message }),
    };
    proto::Frame { body: Some(body) }
}

/// Reads a message as a frame.
///
/// # Errors
/// [`ProtocolError::Malformed`] when something is missing, unknown, or has another size than it must have.
pub fn decode(frame: proto::Frame) -> Result<Frame, ProtocolError> {
    let body = frame.body.ok_or_else(|| ProtocolError::malformed("any", "it has no body that this version knows"))?;
    Ok(match body {
        Body::Hello(hello) => Frame::Hello(Hello {
            cluster: text("hello", hello.cluster)?.into(),
            instance: text("hello", hello.instance)?,
            software_version: text("hello", hello.software_version)?,
            protocol: hello.protocol_min..=hello.protocol_max,
            max_object_bytes: hello.max_object_bytes,
            max_chunk_bytes: hello.max_chunk_bytes,
        }),
        Body::Held(held) => Frame::Held(decode_held("held", held)?),
        Body::Compare(_) => Frame::Compare,
        Body::Buckets(buckets) => {
            let (digests, rest) = buckets.digests.as_chunks::<32>();
            if digests.len() != BUCKETS || !rest.is_empty() {
                let problem =
                    format!("it has {} bytes and {BUCKETS} digests have {}", buckets.digests.len(), BUCKETS * 32);
                return Err(ProtocolError::malformed("buckets", problem));
            }
            Frame::Buckets(digests.iter().filter_map(|digest| ContentHash::from_slice(digest)).collect())
        }
        Body::Begin(begin) => Frame::Begin(decode_begin(begin)?),
        Body::Chunk(chunk) => {
            let compressed = match chunk.encoding() {
                proto::Encoding::Plain => false,
                proto::Encoding::Zstd => true,
                proto::Encoding::Unspecified => {
                    return Err(ProtocolError::malformed("chunk", "its encoding is not known"));
                }
            };
            let payload = Payload { compressed, decoded_bytes: chunk.decoded_bytes, bytes: chunk.payload };
            Frame::Chunk(Chunk { nonce: chunk.nonce, index: chunk.index, payload })
        }
        Body::Commit(commit) => Frame::Commit(Commit {
            nonce: commit.nonce,
            version: commit.version,
            digest: hash("commit", &commit.digest)?,
            objects: commit.objects,
            withheld_digest: hash("commit", &commit.withheld_digest)?,
        }),
        Body::Ack(ack) => Frame::Ack(Ack { nonce: ack.nonce, version: ack.version, digest: hash("ack", &ack.digest)? }),
        Body::Nack(nack) => Frame::Nack(Nack {
            nonce: nack.nonce,
            reason: NackReason::from_code(&nack.code),
            message: shortened(nack.message, MAX_TEXT),
            held: decode_held("nack", nack.held.unwrap_or_default())?,
            refused: nack
                .refused
                .into_iter()
                .map(|refused| Ok((hash("nack", &refused.hash)?, shortened(refused.message, MAX_TEXT))))
                .collect::<Result<_, ProtocolError>>()?,
        }),
        Body::Report(report) => Frame::Report(decode_report(report)?),
        Body::Heartbeat(_) => Frame::Heartbeat,
        Body::Drain(drain) => Frame::Drain { message: shortened(drain.message, MAX_TEXT) },
        Body::Close(close) => {
            Frame::Close { code: shortened(close.code, 16), message: shortened(close.message, MAX_TEXT) }
        }
    })
}

fn decode_begin(begin: proto::Begin) -> Result<Begin, ProtocolError> {
    let malformed = |problem: &str| ProtocolError::malformed("begin", problem);
    let base = || hash("begin", begin.base.as_deref().unwrap_or_default());
    let basis = match begin.kind() {
        proto::TransferKind::Full => Basis::Full,
        proto::TransferKind::Delta => Basis::Delta(base()?),
        proto::TransferKind::Buckets => {
            if begin.buckets.iter().any(|&bucket| bucket as usize >= BUCKETS) || begin.buckets.len() > BUCKETS {
                return Err(malformed("it names a bucket that does not exist"));
            }
            Basis::Buckets(base()?, begin.buckets)
        }
        proto::TransferKind::Unspecified => return Err(malformed("its kind of transfer is not known")),
    };
    Ok(Begin { nonce: begin.nonce, version: begin.version, basis })
}

fn encode_report(report: ApplyReport) -> proto::ApplyReport {
    let result = |result: ObjectResult| proto::ObjectResult {
        key: Some(encode_key(&result.key)),
        outcome: match result.outcome {
            Outcome::Failed => proto::Outcome::Failed.into(),
            Outcome::Held => proto::Outcome::Held.into(),
        },
        message: result.message,
    };
    proto::ApplyReport {
        version: report.version,
        digest: bytes(report.digest),
        applied: report.applied,
        results: report.results.into_iter().map(result).collect(),
        omitted: report.omitted,
    }
}

fn decode_report(report: proto::ApplyReport) -> Result<ApplyReport, ProtocolError> {
    let result = |result: proto::ObjectResult| {
        let outcome = match result.outcome() {
            proto::Outcome::Failed => Outcome::Failed,
            proto::Outcome::Held => Outcome::Held,
            proto::Outcome::Unspecified => return Err(ProtocolError::malformed("report", "an outcome is not known")),
        };
        let key = result.key.ok_or_else(|| ProtocolError::malformed("report", "a result names no object"))?;
        Ok(ObjectResult { key: decode_key(key), outcome, message: result.message })
    };
    let (results, omitted) = (report.results.into_iter().map(result).collect::<Result<_, _>>()?, report.omitted);
    let mut decoded = ApplyReport::new(report.version, hash("report", &report.digest)?, report.applied, results);
    decoded.omitted = decoded.omitted.saturating_add(omitted);
    Ok(decoded)
}

fn encode_held(held: &HeldClaim) -> proto::Held {
    proto::Held { version: held.version, digest: held.digest.map(bytes) }
}

fn decode_held(frame: &'static str, held: proto::Held) -> Result<HeldClaim, ProtocolError> {
    Ok(HeldClaim { version: held.version, digest: held.digest.map(|digest| hash(frame, &digest)).transpose()? })
}

/// An object's name as it travels.
pub(crate) fn encode_key(key: &ObjectKey) -> proto::ObjectKey {
    proto::ObjectKey {
        group: key.gvk.group.to_string(),
        version: key.gvk.version.to_string(),
        kind: key.gvk.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

pub(crate) fn decode_key(key: proto::ObjectKey) -> ObjectKey {
    ObjectKey::new(Gvk::new(&key.group, &key.version, &key.kind), key.namespace, key.name)
}

pub(crate) fn withheld_message(withheld: &Withheld) -> proto::Withheld {
    proto::Withheld {
        key: Some(encode_key(&withheld.key)),
        bytes: withheld.bytes,
        limit: withheld.limit,
        message: withheld.message.clone(),
    }
}

pub(crate) fn encode_withheld(withheld: &Withheld) -> Vec<u8> {
    withheld_message(withheld).encode_to_vec()
}

fn bytes(hash: ContentHash) -> Vec<u8> {
    hash.as_bytes().to_vec()
}

fn hash(frame: &'static str, bytes: &[u8]) -> Result<ContentHash, ProtocolError> {
    ContentHash::from_slice(bytes).ok_or_else(|| {
        ProtocolError::malformed(frame, format_args!("a digest has {} bytes instead of 32", bytes.len()))
    })
}

fn text(frame: &'static str, text: String) -> Result<String, ProtocolError> {
    if text.len() > MAX_TEXT {
        return Err(ProtocolError::malformed(frame, format_args!("a text has {} bytes", text.len())));
    }
    Ok(text)
}
