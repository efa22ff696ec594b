use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::{ContentHash, Snapshot};

use super::link::Link;
use super::transfer::{Transfer, TransferKind};
use super::versions::{Memory, Versions};
use super::withhold::{Outgoing, RefusedObjects};
use super::{Session, Setup};
use crate::wire::{Ack, Frame, HeldClaim, Hello, Nack, Withheld};
use crate::{ApplyReport, End, NackReason, ProtocolError};

/// Most objects of which a sender remembers that the peer refused them; beyond that a refusal counts for the whole.
const MAX_REFUSED: usize = 10_000;

/// What a [`Sender`] tells its owner.
#[derive(Clone, Debug)]
pub enum Sent {
    /// The peer is there and understands us.
    Opened(Hello),
    /// A version was given; nothing of it has been sent yet.
    Given(u64),
    /// The peer holds this version.
    Acknowledged {
        /// The version.
        version: u64,
        /// Its digest.
        digest: ContentHash,
        /// How it travelled; `None` if the peer held it already.
        kind: Option<TransferKind>,
    },
    /// The peer said at the beginning that it holds nothing.
    PeerHoldsNothing,
    /// The objects that do not travel with the newest version; sent whenever the list changes.
    Withheld(Arc<[Withheld]>),
    /// The peer did not accept a transfer; it is tried again in another way or after a while.
    Nacked {
        /// Why.
        reason: NackReason,
        /// What the peer expected and found.
        message: String,
    },
    /// What came of applying a version.
    Report(ApplyReport),
}

/// What a sender knows of the peer's state.
#[derive(Debug)]
enum Peer {
    /// It has not said what it holds, since then.
    Unknown(Duration),
    /// It holds the version of that digest and was asked for its buckets then.
    Asked(ContentHash, Duration),
    /// It holds the version of that digest; its buckets, if it was asked for them.
    Holds(Option<ContentHash>, Option<Vec<ContentHash>>),
}

/// The end of a stream that has a snapshot and makes the peer hold it. The agent in `Push`, the server in `Pull`.
///
/// Sends hello, compare, begin, chunk, commit; takes hello, held, buckets, ack, nack, report. There is one transfer at a
/// time; what changes meanwhile coalesces into the next one.
#[derive(Debug)]
pub struct Sender {
    link: Link,
    target: Option<Arc<Snapshot>>,
    /// What a peer that holds nothing is given as long as there is no target.
    fallback: Option<Arc<Snapshot>>,
    outgoing: Option<Outgoing>,
    refused: RefusedObjects,
    /// What the peer was last known to hold, kept to make deltas from.
    base: Option<(Arc<Snapshot>, ContentHash)>,
    peer: Peer,
    /// The last digest that the owner was told the peer holds.
    announced: Option<ContentHash>,
    transfer: Option<Transfer>,
    /// The least kind of transfer that may still succeed.
    lowest: TransferKind,
    nonce: u64,
    versions: Versions,
    /// Version of what the peer holds.
    held: u64,
    failures: u32,
    retry_at: Duration,
    withheld: Arc<[Withheld]>,
    events: VecDeque<Sent>,
}

impl Sender {
    /// A session that is to make the peer hold `target`, once there is one. `memory` is what the session before left
    /// ([`Sender::memory`]).
    pub fn new(setup: Setup, target: Option<Arc<Snapshot>>, memory: Memory) -> Self {
        let (now, peer) = (setup.now, setup.peer.clone());
        let link = Link::new(setup);
        let events = peer.filter(|_| link.peer().is_some()).map(Sent::Opened).into_iter().collect();
        let Memory { base, versions } = memory;
        let base = base.map(|base| (Arc::clone(&base), base.digest()));
        Self {
            link,
            target,
            fallback: None,
            outgoing: None,
            refused: RefusedObjects::new(),
            base,
            peer: Peer::Unknown(now),
            announced: None,
            transfer: None,
            lowest: TransferKind::Delta,
            nonce: 0,
            versions,
            held: 0,
            failures: 0,
            retry_at: Duration::ZERO,
            withheld: Arc::from([]),
            events,
        }
    }

    /// Replaces the snapshot that the peer is to hold. A transfer that is under way is finished first.
    pub fn set_target(&mut self, now: Duration, target: Arc<Snapshot>) {
        self.target = Some(target);
        self.advance(now);
    }

    /// A snapshot for a peer that holds nothing, as long as there is no target. A peer that holds something keeps it.
    pub fn set_fallback(&mut self, now: Duration, fallback: Arc<Snapshot>) {
        self.fallback = Some(fallback);
        self.advance(now);
    }

    /// What the next session needs of this one.
    pub fn memory(&self) -> Memory {
        Memory { base: self.base.as_ref().map(|(base, _)| Arc::clone(base)), versions: self.versions }
    }

    /// True if the peer is known to hold the newest target.
    pub fn in_sync(&self) -> bool {
        let held = match &self.peer {
            Peer::Holds(Some(digest), _) => Some(*digest),
            _ => None,
        };
        match (&self.target, &self.outgoing) {
            (Some(target), Some(outgoing)) => outgoing.is_of(target) && self.peer_has(held, outgoing),
            _ => false,
        }
    }

    /// True if the peer holds what is to travel, as the newest version that there is.
    fn peer_has(&self, held: Option<ContentHash>, outgoing: &Outgoing) -> bool {
        held == Some(outgoing.digest) && self.versions.none_after(self.held)
    }

    /// Starts what there is to do, if nothing is under way.
    fn advance(&mut self, now: Duration) {
        let Some(peer) = self.link.peer() else { return };
        if let (None, Peer::Holds(None, _)) = (&self.target, &self.peer) {
            self.target = self.fallback.take();
        }
        let (Some(target), None) = (&self.target, &self.transfer) else { return };
        if !self.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_of(target)) {
            let limit = smaller(self.link.limits.object_bytes, peer.max_object_bytes);
            let outgoing = Outgoing::new(target, self.outgoing.as_ref(), limit, &self.refused);
            if outgoing.withheld != self.withheld {
                self.withheld = Arc::clone(&outgoing.withheld);
                self.events.push_back(Sent::Withheld(Arc::clone(&outgoing.withheld)));
            }
            self.outgoing = Some(outgoing);
        }
        let (Some(outgoing), Peer::Holds(held, buckets)) = (&self.outgoing, &self.peer) else { return };
        if self.peer_has(*held, outgoing) {
            let (version, digest) = (self.held, outgoing.digest);
            if self.announced.replace(digest) != Some(digest) {
                self.events.push_back(Sent::Acknowledged { version, digest, kind: None });
            }
            self.base = Some((Arc::clone(&outgoing.snapshot), digest));
            return;
        }
        if now < self.retry_at {
            return;
        }
        let mut versions = self.versions;
        let (nonce, version) = (self.nonce + 1, versions.give(self.held));
        let transfer = match (held, &self.base) {
            (None, _) => Transfer::full(nonce, version, outgoing.clone()),
            _ if self.lowest == TransferKind::Full => Transfer::full(nonce, version, outgoing.clone()),
            (Some(held), _) if *held == outgoing.digest && self.lowest == TransferKind::Delta => {
                // Only its version is old.
                Transfer::delta(nonce, version, outgoing.clone(), &outgoing.snapshot, *held)
            }
            (Some(held), Some((base, digest))) if digest == held && self.lowest == TransferKind::Delta => {
                Transfer::delta(nonce, version, outgoing.clone(), base, *digest)
            }
            (Some(held), _) => match buckets {
                Some(buckets) => Transfer::buckets(nonce, version, outgoing.clone(), *held, buckets),
                None => {
                    self.peer = Peer::Asked(*held, now);
                    self.link.send(Frame::Compare);
                    return;
                }
            },
        };
        self.nonce = nonce;
        self.versions = versions;
        self.transfer = Some(transfer);
        self.events.push_back(Sent::Given(version));
    }

    fn take_held(&mut self, held: &HeldClaim) {
        if held.version > Versions::MAX {
            let problem = format!("version {} is above {}", held.version, Versions::MAX);
            return self.link.violation(ProtocolError::malformed("held", problem));
        }
        self.held = held.version;
        self.peer = Peer::Holds(held.digest, None);
    }

    fn take_ack(&mut self, ack: &Ack) {
        let Some(transfer) = self.transfer.take_if(|transfer| transfer.nonce == ack.nonce) else { return };
        if ack.digest != transfer.outgoing.digest || transfer.sent_at.is_none() {
            // Not what was committed: only the peer's own word on what it holds can be built on.
            self.transfer = Some(transfer);
            self.link.unexpected("an ack of what was committed", &Frame::Ack(ack.clone()));
            return;
        }
        let (version, digest) = (transfer.version, transfer.outgoing.digest);
        self.base = Some((transfer.outgoing.snapshot, digest));
        self.held = version;
        self.peer = Peer::Holds(Some(digest), None);
        self.announced = Some(digest);
        self.lowest = TransferKind::Delta;
        self.failures = 0;
        self.events.push_back(Sent::Acknowledged { version, digest, kind: Some(transfer.kind) });
    }

    fn take_nack(&mut self, now: Duration, nack: Nack) {
        let Some(transfer) = self.transfer.take_if(|transfer| transfer.nonce == nack.nonce) else { return };
        self.take_held(&nack.held);
        let mut learned = false;
        for (hash, message) in nack.refused {
            if let Some(key) = transfer.key_of(hash)
                && self.refused.len() < MAX_REFUSED
            {
                learned |= self.refused.insert(key, (hash, message)).is_none_or(|(before, _)| before != hash);
            }
        }
        if learned {
            // The rest goes through: the next attempt leaves these out.
            self.outgoing = None;
        } else if let Some(next) = match transfer.kind {
            TransferKind::Delta => Some(TransferKind::Buckets),
            TransferKind::Buckets => Some(TransferKind::Full),
            TransferKind::Full => None,
        } {
            self.lowest = next;
        } else {
            self.retry_at = now + self.link.timing.retry.saturating_mul(1 << self.failures.min(6));
            self.failures = self.failures.saturating_add(1);
        }
        self.events.push_back(Sent::Nacked { reason: nack.reason, message: nack.message });
    }

    fn has_frame(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.sent_at.is_none())
    }

    /// Since when an answer is due, and which.
    fn awaited(&self) -> Option<(&'static str, Duration)> {
        match (&self.peer, &self.transfer) {
            (Peer::Unknown(since), _) => Some(("a frame that says what the peer holds", *since)),
            (Peer::Asked(_, since), _) => Some(("the digests of the peer's buckets", *since)),
            (_, Some(transfer)) => Some(("an answer to a commit", transfer.sent_at?)),
            _ => None,
        }
    }
}

fn smaller(ours: usize, theirs: u64) -> usize {
    // A peer that states no limit has ours.
    if theirs == 0 { ours } else { ours.min(usize::try_from(theirs).unwrap_or(usize::MAX)) }
}

impl Session for Sender {
    type Event = Sent;

    fn receive(&mut self, now: Duration, frame: Frame) {
        let Some(frame) = self.link.receive(now, frame) else { return };
        match (frame, &self.peer) {
            (Frame::Hello(hello), _) => self.events.push_back(Sent::Opened(hello)),
            (Frame::Held(held), Peer::Unknown(_)) => {
                self.take_held(&held);
                if let Peer::Holds(None, _) = self.peer {
                    self.events.push_back(Sent::PeerHoldsNothing);
                }
            }
            (Frame::Buckets(buckets), Peer::Asked(held, _)) => self.peer = Peer::Holds(Some(*held), Some(buckets)),
            (Frame::Ack(ack), _) => self.take_ack(&ack),
            (Frame::Nack(nack), _) => self.take_nack(now, nack),
            (Frame::Report(report), _) => self.events.push_back(Sent::Report(report)),
            (frame, _) => self.link.unexpected("an answer of a receiver", &frame),
        }
        self.advance(now);
    }

    fn transmit(&mut self, now: Duration) -> Option<Frame> {
        let budget = self.link.peer().map_or(0, |peer| smaller(self.link.limits.chunk_bytes, peer.max_chunk_bytes));
        let transfer = &mut self.transfer;
        self.link.transmit(now, |limits| transfer.as_mut()?.next_frame(now, limits, budget))
    }

    fn wants_transmit(&self) -> bool {
        self.link.wants_transmit(self.has_frame())
    }

    fn tick(&mut self, now: Duration) {
        self.link.tick(now, self.has_frame());
        if let Some((what, since)) = self.awaited()
            && now >= since + self.link.timing.answer_deadline
        {
            self.link.overdue(what);
        }
        self.advance(now);
    }

    fn wake_at(&self) -> Duration {
        let mut wake = self.link.wake_at(self.has_frame());
        if let Some((_, since)) = self.awaited() {
            wake = wake.min(since + self.link.timing.answer_deadline);
        } else if self.transfer.is_none() && !self.in_sync() && self.target.is_some() && self.retry_at > Duration::ZERO
        {
            wake = wake.min(self.retry_at);
        }
        wake
    }

    fn event(&mut self) -> Option<Sent> {
        self.events.pop_front()
    }

    fn close(&mut self, end: End) {
        self.link.close(end);
    }

    fn drain(&mut self, now: Duration, message: String) {
        self.link.drain(now, message);
    }

    fn end(&self) -> Option<&End> {
        self.link.end()
    }
}
