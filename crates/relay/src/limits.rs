use std::time::Duration;

/// Room in a chunk for what surrounds objects: lengths, removes, the meta data of a snapshot.
const CHUNK_SLACK: usize = 256 * 1024;

/// How much of anything one session may hold or send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest object, in bytes of its canonical JSON. The default is above what etcd takes (1.5 MiB).
    pub object_bytes: usize,
    /// Budget of one chunk before compression, bytes. One object may be larger than it and then travels alone.
    pub chunk_bytes: usize,
    /// Entries (objects, removes, withheld objects) of one chunk.
    pub chunk_entries: usize,
    /// How many times larger a chunk may become by decompression. Senders send plain what compresses better.
    pub chunk_ratio: usize,
    /// Decoded bytes of one transfer, which a receiver stages before it is committed.
    pub staged_bytes: usize,
    /// Entries of one transfer.
    pub staged_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object_bytes: 2 * 1024 * 1024,
            chunk_bytes: 1024 * 1024,
            chunk_entries: 16 * 1024,
            chunk_ratio: 500,
            staged_bytes: 1024 * 1024 * 1024,
            staged_entries: 2_000_000,
        }
    }
}

impl Limits {
    /// Largest decoded chunk that a receiver accepts, bytes.
    pub fn decoded_chunk_bytes(&self) -> usize {
        self.chunk_bytes.max(self.object_bytes).saturating_add(CHUNK_SLACK)
    }

    /// Largest message on the wire, bytes: a chunk that did not compress, and its envelope.
    pub fn message_bytes(&self) -> usize {
        self.decoded_chunk_bytes().saturating_add(CHUNK_SLACK)
    }
}

/// When a session speaks and how long it waits. Both sides should run with the same values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A side that said nothing for this long sends a heartbeat: often enough for the usual idle time-out of proxies
    /// (60 s).
    pub heartbeat: Duration,
    /// A peer that said nothing for this long is gone: three heartbeats.
    pub peer_deadline: Duration,
    /// A peer that does not read what is ready for it for this long is cut off.
    pub write_stall: Duration,
    /// A peer that owes an answer (to a commit, to a question) or the rest of a transfer for this long is cut off.
    pub answer_deadline: Duration,
    /// How long a drained peer may take to leave by itself.
    pub drain_grace: Duration,
    /// First wait before a transfer that was refused as a whole is tried again; doubles up to 64 times that.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            peer_deadline: Duration::from_secs(30),
            write_stall: Duration::from_secs(20),
            answer_deadline: Duration::from_secs(60),
            drain_grace: Duration::from_secs(5),
            retry: Duration::from_secs(5),
        }
    }
}
