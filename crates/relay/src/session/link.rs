use std::collections::VecDeque;
use std::time::Duration;

use super::Setup;
use crate::end::{End, ProtocolError};
use crate::refusal::shortened;
use crate::wire::{Frame, Hello};
use crate::{Limits, Refusal, Timing, negotiate};

/// Longest reason that a close frame carries, bytes.
const MAX_REASON: usize = 512;

/// What both ends have in common: hello, heartbeats, deadlines, the end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) limits: Limits,
    pub(super) timing: Timing,
    hello: Hello,
    peer: Option<Hello>,
    out: VecDeque<Frame>,
    heard: Duration,
    spoken: Duration,
    blocked: Option<Duration>,
    drain_until: Option<Duration>,
    heartbeat_due: bool,
    end: Option<End>,
}

impl Link {
    pub(super) fn new(setup: Setup) -> Self {
        let Setup { hello, peer, limits, timing, now } = setup;
        let mut link = Self {
            limits,
            timing,
            out: VecDeque::from([Frame::Hello(hello.clone())]),
            hello,
            peer: None,
            heard: now,
            spoken: now,
            blocked: None,
            drain_until: None,
            heartbeat_due: false,
            end: None,
        };
        if let Some(peer) = peer {
            link.meet(peer);
        }
        link
    }

    fn meet(&mut self, peer: Hello) {
        let met = negotiate(&self.hello, &peer).and_then(|_| {
            if peer.cluster == self.hello.cluster {
                return Ok(());
            }
            let message = format!("expected a peer for cluster {}, found {:?}", self.hello.cluster, peer.cluster);
            Err(Refusal::new(crate::RefusalReason::Handshake, message))
        });
        match met {
            Ok(()) => self.peer = Some(peer),
            Err(refusal) => self.close(End::Refused(refusal)),
        }
    }

    /// The peer's hello, once it is known and the session runs.
    pub(super) fn peer(&self) -> Option<&Hello> {
        if self.end.is_some() { None } else { self.peer.as_ref() }
    }

    /// Takes what concerns the link; gives back what concerns the end above it.
    pub(super) fn receive(&mut self, now: Duration, frame: Frame) -> Option<Frame> {
        if self.end.is_some() {
            return None;
        }
        self.heard = now;
        match frame {
            Frame::Close { code, message } => self.end = Some(End::told(code, message)),
            Frame::Hello(peer) if self.peer.is_none() => {
                self.meet(peer.clone());
                return self.peer().is_some().then_some(Frame::Hello(peer));
            }
            Frame::Hello(_) => {
                self.violation(ProtocolError::Unexpected { expected: "one hello at the beginning", found: "hello" });
            }
            frame if self.peer.is_none() => {
                let error = ProtocolError::Unexpected { expected: "a hello at the beginning", found: frame.name() };
                self.violation(error);
            }
            Frame::Heartbeat => {}
            Frame::Drain { message } => self.end = Some(End::Drained(message)),
            frame => return Some(frame),
        }
        None
    }

    pub(super) fn violation(&mut self, error: ProtocolError) {
        self.close(End::Violation(error));
    }

    pub(super) fn unexpected(&mut self, expected: &'static str, frame: &Frame) {
        self.violation(ProtocolError::Unexpected { expected, found: frame.name() });
    }

    pub(super) fn overdue(&mut self, what: &'static str) {
        self.close(End::AnswerOverdue { what, deadline: self.timing.answer_deadline });
    }

    /// Ends the session and tells the peer why; the first end stays.
    pub(super) fn close(&mut self, end: End) {
        if self.end.is_some() {
            return;
        }
        let message = match &end {
            End::Refused(refusal) => refusal.message.clone(),
            other => other.to_string(),
        };
        let told = Frame::Close { code: end.code().to_owned(), message: shortened(message, MAX_REASON) };
        self.out.retain(|frame| matches!(frame, Frame::Hello(_)));
        self.out.push_back(told);
        self.end = Some(end);
    }

    pub(super) fn drain(&mut self, now: Duration, message: String) {
        if self.end.is_none() && self.drain_until.is_none() {
            self.drain_until = Some(now + self.timing.drain_grace);
            self.out.push_back(Frame::Drain { message });
        }
    }

    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Puts a frame of the end above into the queue.
    pub(super) fn send(&mut self, frame: Frame) {
        self.out.push_back(frame);
    }

    /// Frames that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.out.len()
    }

    /// The next frame of the link; `more` is asked when it has none and the session runs.
    pub(super) fn transmit(&mut self, now: Duration, more: impl FnOnce(&Limits) -> Option<Frame>) -> Option<Frame> {
        let frame = match self.out.pop_front() {
            Some(frame) => Some(frame),
            None if self.peer().is_some() => {
                more(&self.limits).or_else(|| self.heartbeat_due.then_some(Frame::Heartbeat))
            }
            None => None,
        };
        if frame.is_some() {
            self.spoken = now;
            self.heartbeat_due = false;
            self.blocked = None;
        }
        frame
    }

    pub(super) fn wants_transmit(&self, more: bool) -> bool {
        !self.out.is_empty() || (self.peer().is_some() && (more || self.heartbeat_due))
    }

    /// Checks the deadlines. `more` says whether the end above has something to write.
    pub(super) fn tick(&mut self, now: Duration, more: bool) {
        if self.end.is_some() {
            return;
        }
        if now >= self.spoken + self.timing.heartbeat {
            self.heartbeat_due = true;
        }
        if self.wants_transmit(more) {
            self.blocked.get_or_insert(now);
        } else {
            self.blocked = None;
        }
        if now >= self.heard + self.timing.peer_deadline {
            self.close(End::PeerSilent(self.timing.peer_deadline));
        } else if self.blocked.is_some_and(|since| now >= since + self.timing.write_stall) {
            self.close(End::WriteStalled(self.timing.write_stall));
        } else if self.drain_until.is_some_and(|until| now >= until) {
            self.close(End::Drained("the peer did not leave in time".to_owned()));
        }
    }

    pub(super) fn wake_at(&self, more: bool) -> Duration {
        let mut wake = self.heard + self.timing.peer_deadline;
        if !self.heartbeat_due {
            wake = wake.min(self.spoken + self.timing.heartbeat);
        }
        match self.blocked {
            Some(since) => wake = wake.min(since + self.timing.write_stall),
            // The wait for room begins when it is first seen, which is at once.
            None if self.wants_transmit(more) => wake = Duration::ZERO,
            None => {}
        }
        wake.min(self.drain_until.unwrap_or(wake))
    }
}
