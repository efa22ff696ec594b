use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use meshrelay_relay::generated::frame::Body;
use meshrelay_relay::grpc::Notice;
use meshrelay_relay::wire::{Frame, HeldClaim, Hello, codec};
use meshrelay_relay::{Direction, End, Memory, NackReason, Sent, generated as proto};
use meshrelay_snapshot::{ContentHash, Snapshot};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Status, Streaming};

use crate::fixture::*;

/// A push stream whose frames the test writes itself.
struct RawPush {
    out: mpsc::Sender<proto::Frame>,
    incoming: Streaming<proto::Frame>,
    held: HeldClaim,
}

impl RawPush {
    async fn open(server: &TestServer) -> Self {
        let (out, frames) = mpsc::channel(64);
        let hello = Hello {
            cluster: "east".into(),
            instance: "raw".to_owned(),
            software_version: "1.4.0".to_owned(),
            ..Hello::default()
        };
        out.send(codec::encode(Frame::Hello(hello))).await.unwrap();
        let mut client = proto::relay_client::RelayClient::new(channel(server.address));
        let mut incoming = client.push(ReceiverStream::new(frames)).await.unwrap().into_inner();
        let mut next = async || codec::decode(incoming.message().await.unwrap().unwrap()).unwrap();
        assert!(matches!(next().await, Frame::Hello(_)));
        let Frame::Held(held) = next().await else { panic!("expected what the server holds") };
        Self { out, incoming, held }
    }

    async fn send(&self, body: Body) {
        self.out.send(proto::Frame { body: Some(body) }).await.unwrap();
    }

    async fn begin(&self, nonce: u64) {
        let kind = proto::TransferKind::Full.into();
        self.send(Body::Begin(proto::Begin { nonce, version: 9, kind, base: None, buckets: Vec::new() })).await;
    }

    async fn chunk(&self, nonce: u64, encoding: proto::Encoding, decoded_bytes: usize, payload: Vec<u8>) {
        let chunk = proto::Chunk {
            nonce,
            index: 0,
            encoding: encoding.into(),
            decoded_bytes: u32::try_from(decoded_bytes).unwrap(),
            payload: payload.into(),
        };
        self.send(Body::Chunk(chunk)).await;
    }

    async fn commit(&self, nonce: u64, snapshot: &Snapshot) {
        let digest = snapshot.digest().as_bytes().to_vec();
        let withheld_digest = ContentHash::of_parts([]).as_bytes().to_vec();
        let objects = snapshot.len() as u64;
        self.send(Body::Commit(proto::Commit { nonce, version: 9, digest, objects, withheld_digest })).await;
    }

    async fn next(&mut self) -> Result<Option<Frame>, Status> {
        let message = patient("an answer", self.incoming.message()).await?;
        Ok(message.map(|message| codec::decode(message).unwrap()))
    }

    async fn nack(&mut self) -> meshrelay_relay::wire::Nack {
        match self.next().await {
            Ok(Some(Frame::Nack(nack))) => nack,
            other => panic!("expected a nack, found {other:?}"),
        }
    }
}

fn body(snapshot: &Snapshot) -> Vec<u8> {
    let upserts = snapshot.iter().map(|object| object.body().to_vec()).collect();
    let meta = Some(serde_json::to_vec(snapshot.meta()).unwrap());
    prost::Message::encode_to_vec(&proto::ChunkBody { upserts, removes: Vec::new(), meta, withheld: Vec::new() })
}

/// A server that holds a first version of the input of `east`.
async fn server_with_input() -> (TestServer, Arc<Snapshot>) {
    let server = serve(settings()).await;
    let input = Arc::new(snapshot(100, 100));
    push(&server, &input).await;
    (server, input)
}

async fn push(server: &TestServer, input: &Arc<Snapshot>) {
    let agent = client("east", "raw");
    let (_inputs, mut inputs) = watch::channel(Some(Arc::clone(input)));
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let on_event = |event| {
        if matches!(event, Sent::Acknowledged { .. }) {
            stop.cancel();
        }
    };
    let end = patient("a push", agent.push(channel(server.address), &mut inputs, &mut memory, &stop, on_event)).await;
    assert_eq!(end, End::Finished);
    server.hub.wait_input("east", input).await;
}

#[tokio::test]
async fn a_transfer_that_is_cut_off_is_never_visible() {
    let (server, input) = server_with_input().await;
    let other = snapshot(40, 200);
    let raw = RawPush::open(&server).await;
    assert_eq!(raw.held.digest, Some(input.digest()));
    raw.begin(1).await;
    let plain = body(&other);
    raw.chunk(1, proto::Encoding::Plain, plain.len(), plain).await;
    drop(raw);
    server.hub.wait_end(Direction::Push, |end| matches!(end, End::Lost(_))).await;
    assert_eq!(server.hub.input("east").unwrap().visible(), &input);
    push(&server, &Arc::new(other)).await;
}

#[tokio::test]
async fn bad_chunks_are_refused_and_the_stream_goes_on() {
    let (server, input) = server_with_input().await;
    let good = snapshot(10, 100);
    let plain = body(&good);
    let packed = zstd::bulk::compress(&plain, 3).unwrap();
    let bomb = zstd::bulk::compress(&vec![b' '; 200 << 20], 3).unwrap();
    let small_bomb = zstd::bulk::compress(&vec![b' '; 1 << 20], 19).unwrap();
    let many = [0x0a_u8, 0].repeat(20_000);
    let zstd = proto::Encoding::Zstd;
    let cases: Vec<(&str, NackReason, proto::Encoding, usize, Vec<u8>)> = vec![
        ("not zstd", NackReason::MalformedChunk, zstd, plain.len(), plain.clone()),
        ("truncated", NackReason::MalformedChunk, zstd, plain.len(), packed[..packed.len() / 2].to_vec()),
        ("empty", NackReason::MalformedChunk, zstd, plain.len(), Vec::new()),
        ("larger than it says", NackReason::MalformedChunk, zstd, 100, packed.clone()),
        ("smaller than it says", NackReason::MalformedChunk, zstd, plain.len() + 1, packed.clone()),
        ("a bomb", NackReason::OversizeChunk, zstd, 200 << 20, bomb.clone()),
        ("a bomb that lies", NackReason::MalformedChunk, zstd, bomb.len() * 10, bomb),
        ("too good a ratio", NackReason::OversizeChunk, zstd, 1 << 20, small_bomb),
        ("cut entries", NackReason::MalformedChunk, proto::Encoding::Plain, 99, plain[..99].to_vec()),
        ("not entries", NackReason::MalformedChunk, proto::Encoding::Plain, 5, b"hello".to_vec()),
        ("too many entries", NackReason::OversizeChunk, proto::Encoding::Plain, many.len(), many),
    ];
    let mut raw = RawPush::open(&server).await;
    for (nonce, (what, reason, encoding, decoded_bytes, payload)) in (1..).zip(cases) {
        raw.begin(nonce).await;
        raw.chunk(nonce, encoding, decoded_bytes, payload).await;
        let nack = raw.nack().await;
        assert_eq!((nack.nonce, nack.reason), (nonce, reason), "{what}: {}", nack.message);
        assert_eq!(nack.held.digest, Some(input.digest()), "{what}");
        raw.commit(nonce, &good).await;
    }
    assert_eq!(server.hub.input("east").unwrap().visible(), &input, "what was accepted stays");
    // An object that is none is refused by its hash; a commit that does not fit is refused as a whole.
    raw.begin(50).await;
    let bad = prost::Message::encode_to_vec(&proto::ChunkBody { upserts: vec![b"{}".to_vec()], ..Default::default() });
    raw.chunk(50, proto::Encoding::Plain, bad.len(), bad).await;
    raw.commit(50, &good).await;
    let nack = raw.nack().await;
    assert_eq!(nack.reason, NackReason::RefusedObjects);
    assert_eq!(nack.refused[0].0, ContentHash::of(b"{}"));
    raw.begin(51).await;
    raw.chunk(51, proto::Encoding::Zstd, plain.len(), packed.clone()).await;
    raw.commit(51, &input).await;
    assert_eq!(raw.nack().await.reason, NackReason::DigestMismatch);
    raw.begin(52).await;
    raw.chunk(52, proto::Encoding::Zstd, plain.len(), packed).await;
    raw.commit(52, &good).await;
    assert!(matches!(raw.next().await, Ok(Some(Frame::Ack(ack))) if ack.digest == good.digest()));
    server.hub.wait_input("east", &good).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_costs_nothing_that_was_held() {
    let (server, input) = server_with_input().await;
    let digest = input.digest().as_bytes().to_vec();
    let cases: Vec<(&str, &str, Option<Body>)> = vec![
        ("a frame without a body", "MR0220", None),
        ("a digest of a wrong size", "MR0220", Some(Body::Ack(proto::Ack { digest: vec![1], ..Default::default() }))),
        ("a transfer of no kind", "MR0220", Some(Body::Begin(proto::Begin::default()))),
        (
            "a commit without a transfer",
            "MR0221",
            Some(Body::Commit(proto::Commit {
                digest: digest.clone(),
                withheld_digest: digest.clone(),
                ..Default::default()
            })),
        ),
        ("an ack from a sender", "MR0221", Some(Body::Ack(proto::Ack { digest, ..Default::default() }))),
    ];
    for (what, code, body) in cases {
        let mut raw = RawPush::open(&server).await;
        raw.out.send(proto::Frame { body }).await.unwrap();
        let Ok(Some(Frame::Close { code: told, message })) = raw.next().await else { panic!("{what}: no close") };
        assert_eq!(told, code, "{what}: {message}");
        let status = raw.next().await.unwrap_err();
        assert_eq!(status.metadata().get("meshrelay-code").unwrap(), code, "{what}");
        server.hub.wait_end(Direction::Push, |end| end.code() == code).await;
    }
    assert_eq!(server.hub.input("east").unwrap().visible(), &input);
}

/// Sends bytes as messages, whether they are frames or not.
#[derive(Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

#[tokio::test]
async fn bytes_that_are_no_frame_and_messages_over_the_limit_end_the_stream_and_nothing_else() {
    let (server, input) = server_with_input().await;
    let hello = Hello {
        cluster: "east".into(),
        instance: "raw".to_owned(),
        software_version: "1.4.0".to_owned(),
        ..Hello::default()
    };
    let hello = prost::Message::encode_to_vec(&codec::encode(Frame::Hello(hello)));
    for (count, bytes) in [(1, vec![0xff; 20]), (2, vec![0; settings().limits.message_bytes() + 1])] {
        let mut grpc = tonic::client::Grpc::new(channel(server.address));
        grpc.ready().await.unwrap();
        let (out, messages) = mpsc::channel(4);
        out.send(hello.clone()).await.unwrap();
        out.send(bytes).await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/meshrelay.relay.v1.Relay/Push");
        let request = tonic::Request::new(ReceiverStream::new(messages));
        let mut incoming = grpc.streaming(request, path, Bytes).await.unwrap().into_inner();
        let status = loop {
            match patient("the end", incoming.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("expected a status that says why"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.metadata().get("meshrelay-code").unwrap(), "MR0220", "{status:?}");
        let mut notices = server.hub.notices.subscribe();
        let violations = |all: &Vec<(_, _, Notice)>| {
            let violation = |notice: &Notice| matches!(notice, Notice::Disconnected(End::Violation(_)));
            all.iter().filter(|(_, _, notice)| violation(notice)).count() == count
        };
        patient("the server's account", notices.wait_for(violations)).await.unwrap();
    }
    assert_eq!(server.hub.input("east").unwrap().visible(), &input);
}
