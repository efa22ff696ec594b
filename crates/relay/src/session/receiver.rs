use std::collections::VecDeque;
use std::time::Duration;

use meshrelay_snapshot::{BUCKETS, Snapshot};

use super::held::Held;
use super::link::Link;
use super::staging::{Rejection, Staging};
use super::{Session, Setup};
use crate::wire::{Ack, Begin, Chunk, Commit, Frame, Hello, Nack};
use crate::{ApplyReport, End, NackReason};

/// Most answers that wait to be written. A sender waits for each, so one that causes more does not follow the protocol.
const MAX_ANSWERS: usize = 8;

/// What a [`Receiver`] tells its owner.
#[derive(Clone, Debug)]
pub enum Received {
    /// The peer is there and understands us.
    Opened(Hello),
    /// A version was committed: this is what is held now.
    Committed(Held),
    /// A transfer was refused; what was held before still is.
    Rejected {
        /// Why.
        reason: NackReason,
        /// What was expected and what was found.
        message: String,
    },
}

/// The end of a stream that holds what its peer sends. The server in `Push`, the agent in `Pull`.
///
/// Sends hello, held, buckets, ack, nack, report; takes hello, compare, begin, chunk, commit. A transfer is staged and
/// becomes visible only by its commit, after its digest and count were verified.
#[derive(Debug)]
pub struct Receiver {
    link: Link,
    held: Option<Held>,
    staging: Option<Staging>,
    /// The transfer that was refused last; the rest of it may still arrive.
    rejected: Option<u64>,
    report: Option<ApplyReport>,
    events: VecDeque<Received>,
    /// Makes the mistake that the simulation must be able to find.
    #[cfg(test)]
    pub(crate) applies_before_commit: bool,
}

impl Receiver {
    /// A session that goes on from what is `held`.
    pub fn new(setup: Setup, held: Option<Held>) -> Self {
        let peer = setup.peer.clone();
        let mut link = Link::new(setup);
        if link.end().is_none() {
            link.send(Frame::Held(Held::claim(held.as_ref())));
        }
        let events = peer.filter(|_| link.peer().is_some()).map(Received::Opened).into_iter().collect();
        Self {
            link,
            held,
            staging: None,
            rejected: None,
            report: None,
            events,
            #[cfg(test)]
            applies_before_commit: false,
        }
    }

    /// What is held now.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Decoded bytes of the transfer that is under way.
    pub fn staged_bytes(&self) -> usize {
        self.staging.as_ref().map_or(0, Staging::bytes)
    }

    /// Tells the peer what came of applying a version. A report that was not written yet is replaced.
    pub fn report(&mut self, report: ApplyReport) {
        self.report = Some(report);
    }

    fn begin(&mut self, now: Duration, begin: Begin) {
        let nonce = begin.nonce;
        self.rejected = None;
        self.staging = None;
        match Staging::begin(now, begin, self.held.as_ref()) {
            Ok(staging) => self.staging = Some(staging),
            Err(rejection) => self.reject(nonce, rejection),
        }
    }

    fn chunk(&mut self, now: Duration, chunk: Chunk) {
        if self.rejected == Some(chunk.nonce) {
            return;
        }
        let Some(staging) = self.staging.as_mut().filter(|staging| staging.nonce == chunk.nonce) else {
            self.link.unexpected("a transfer to begin first", &Frame::Chunk(chunk));
            return;
        };
        let added = staging.add(now, &chunk, &self.link.limits);
        #[cfg(test)]
        if self.applies_before_commit && added.is_ok() {
            self.held = Some(staging.premature(self.held.as_ref()));
            self.events.extend(self.held.clone().map(Received::Committed));
        }
        if let Err(rejection) = added {
            self.staging = None;
            self.reject(chunk.nonce, rejection);
        }
    }

    fn commit(&mut self, commit: &Commit) {
        if self.rejected == Some(commit.nonce) {
            return;
        }
        let Some(staging) = self.staging.take_if(|staging| staging.nonce == commit.nonce) else {
            self.link.unexpected("a transfer to begin first", &Frame::Commit(commit.clone()));
            return;
        };
        match staging.commit(commit, self.held.as_ref()) {
            Ok(held) => {
                let (version, digest) = (held.version(), held.digest());
                self.link.send(Frame::Ack(Ack { nonce: commit.nonce, version, digest }));
                self.events.push_back(Received::Committed(held.clone()));
                self.held = Some(held);
            }
            Err(rejection) => self.reject(commit.nonce, rejection),
        }
    }

    fn reject(&mut self, nonce: u64, (reason, message, refused): Rejection) {
        self.rejected = Some(nonce);
        self.events.push_back(Received::Rejected { reason, message: message.clone() });
        let held = Held::claim(self.held.as_ref());
        self.link.send(Frame::Nack(Nack { nonce, reason, message, held, refused }));
    }
}

impl Session for Receiver {
    type Event = Received;

    fn receive(&mut self, now: Duration, frame: Frame) {
        let Some(frame) = self.link.receive(now, frame) else { return };
        match frame {
            Frame::Hello(hello) => self.events.push_back(Received::Opened(hello)),
            Frame::Compare => {
                let digests = match &self.held {
                    Some(held) => held.sent().bucket_digests(),
                    None => Snapshot::new().bucket_digests(),
                };
                debug_assert_eq!(digests.len(), BUCKETS);
                self.link.send(Frame::Buckets(digests));
            }
            Frame::Begin(begin) => self.begin(now, begin),
            Frame::Chunk(chunk) => self.chunk(now, chunk),
            Frame::Commit(commit) => self.commit(&commit),
            frame => self.link.unexpected("a frame of a sender", &frame),
        }
        if self.link.queued() > MAX_ANSWERS {
            self.link.unexpected("a peer that reads answers before it asks again", &Frame::Compare);
        }
    }

    fn transmit(&mut self, now: Duration) -> Option<Frame> {
        let report = &mut self.report;
        self.link.transmit(now, |_| report.take().map(Frame::Report))
    }

    fn wants_transmit(&self) -> bool {
        self.link.wants_transmit(self.report.is_some())
    }

    fn tick(&mut self, now: Duration) {
        self.link.tick(now, self.report.is_some());
        if let Some(staging) = &self.staging
            && now >= staging.progress + self.link.timing.answer_deadline
        {
            self.staging = None;
            self.link.overdue("the rest of a transfer");
        }
    }

    fn wake_at(&self) -> Duration {
        let wake = self.link.wake_at(self.report.is_some());
        match &self.staging {
            Some(staging) => wake.min(staging.progress + self.link.timing.answer_deadline),
            None => wake,
        }
    }

    fn event(&mut self) -> Option<Received> {
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
