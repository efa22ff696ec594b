use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message as _;

use super::proto;

/// Bytes before each message: one for compression, four for its length.
const PREFIX: u64 = 5;

/// Counts of what passed, as it travels: messages with compressed payloads, without the framing of HTTP/2 and TLS.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
}

impl Traffic {
    /// Bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes sent.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Frames received.
    pub fn frames_in(&self) -> u64 {
        self.frames_in.load(Ordering::Relaxed)
    }

    /// Frames sent.
    pub fn frames_out(&self) -> u64 {
        self.frames_out.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self, frame: &proto::Frame) {
        self.bytes_in.fetch_add(frame.encoded_len() as u64 + PREFIX, Ordering::Relaxed);
        self.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, frame: &proto::Frame) {
        self.bytes_out.fetch_add(frame.encoded_len() as u64 + PREFIX, Ordering::Relaxed);
        self.frames_out.fetch_add(1, Ordering::Relaxed);
    }
}
