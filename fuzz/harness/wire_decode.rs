//! Feeds bytes to the ends of a stream as a peer could: used by the fuzz target and by the test that replays its corpus.
//!
//! The first byte chooses the end; then follow messages, each with its length before it (two bytes, little-endian).

use std::time::Duration;

use meshrelay_relay::wire::{Hello, codec};
use meshrelay_relay::{Limits, Memory, Received, Receiver, Sender, Sent, Session, Setup, Timing, generated};
use prost::Message as _;

/// What an input led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Frames that decoded.
    pub(crate) frames: usize,
    /// Versions that were committed, or acknowledged by the input.
    pub(crate) commits: usize,
    /// Transfers that were refused, by the end or by the input.
    pub(crate) rejected: usize,
    /// Code of the end of the session, if it ended.
    pub(crate) end: Option<String>,
}

fn limits() -> Limits {
    Limits { object_bytes: 4096, chunk_bytes: 4096, chunk_entries: 64, staged_bytes: 1 << 20, ..Limits::default() }
}

fn setup() -> Setup {
    let hello = |instance: &str| Hello {
        cluster: "east".into(),
        instance: instance.to_owned(),
        software_version: "0.1.0".to_owned(),
        ..Hello::default()
    };
    let (limits, timing) = (limits(), Timing::default());
    Setup { hello: hello("here"), peer: Some(hello("there")), limits, timing, now: Duration::ZERO }
}

/// Runs one input.
pub(crate) fn run(data: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let Some((&end, mut rest)) = data.split_first() else { return outcome };
    if end % 2 == 0 {
        let mut receiver = Receiver::new(setup(), None);
        let mut held = None;
        while let Some(message) = next(&mut rest) {
            step(&mut receiver, message, &mut outcome);
            assert!(receiver.staged_bytes() <= limits().staged_bytes, "{} bytes are staged", receiver.staged_bytes());
            while let Some(event) = receiver.event() {
                match event {
                    Received::Committed(committed) => {
                        assert_eq!(committed.digest(), committed.sent().digest());
                        held = Some(committed.digest());
                        outcome.commits += 1;
                    }
                    Received::Rejected { .. } => outcome.rejected += 1,
                    Received::Opened(_) => {}
                }
            }
            assert_eq!(receiver.held().map(|held| held.digest()), held, "only a commit changes what is held");
        }
        outcome.end = receiver.end().map(|end| end.code().to_owned());
    } else {
        let mut sender = Sender::new(setup(), Some(std::sync::Arc::default()), Memory::default());
        while let Some(message) = next(&mut rest) {
            step(&mut sender, message, &mut outcome);
            while let Some(event) = sender.event() {
                match event {
                    Sent::Acknowledged { .. } => outcome.commits += 1,
                    Sent::Nacked { .. } => outcome.rejected += 1,
                    Sent::Opened(_) | Sent::Given(_) | Sent::PeerHoldsNothing | Sent::Withheld(_) | Sent::Report(_) => {
                    }
                }
            }
        }
        outcome.end = sender.end().map(|end| end.code().to_owned());
    }
    outcome
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length)).min(tail.len());
    let (message, tail) = tail.split_at(length);
    *rest = tail;
    Some(message)
}

fn step(session: &mut impl Session, message: &[u8], outcome: &mut Outcome) {
    let now = Duration::from_millis(outcome.frames as u64);
    let Ok(message) = generated::Frame::decode(message) else { return };
    let Ok(frame) = codec::decode(message) else { return };
    outcome.frames += 1;
    // What is read can be written, and reads the same again.
    assert_eq!(codec::decode(codec::encode(frame.clone())).as_ref(), Ok(&frame));
    session.receive(now, frame);
    session.tick(now);
    while session.transmit(now).is_some() {}
}
