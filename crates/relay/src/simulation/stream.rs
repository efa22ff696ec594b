use std::collections::VecDeque;
use std::time::Duration;

use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

use crate::wire::{Frame, codec};
use crate::{Direction, End, Receiver, Sender, Session, generated};

/// Frames that one direction of a connection takes before its reader has to read.
const CAPACITY: usize = 3;

/// One end of a stream.
pub(super) enum Machine {
    Sender(Box<Sender>),
    Receiver(Box<Receiver>),
}

impl Machine {
    pub(super) fn session(&mut self) -> &mut dyn Steps {
        match self {
            Self::Sender(sender) => &mut **sender,
            Self::Receiver(receiver) => &mut **receiver,
        }
    }

    pub(super) fn end(&self) -> Option<&End> {
        match self {
            Self::Sender(sender) => sender.end(),
            Self::Receiver(receiver) => receiver.end(),
        }
    }
}

/// [`Session`] without its event type.
pub(super) trait Steps {
    fn receive(&mut self, now: Duration, frame: Frame);
    fn transmit(&mut self, now: Duration) -> Option<Frame>;
    fn tick(&mut self, now: Duration);
    fn wake_at(&self) -> Duration;
    fn close(&mut self, end: End);
    fn drain(&mut self, now: Duration, message: String);
}

impl<S: Session> Steps for S {
    fn receive(&mut self, now: Duration, frame: Frame) {
        Session::receive(self, now, frame);
    }
    fn transmit(&mut self, now: Duration) -> Option<Frame> {
        Session::transmit(self, now)
    }
    fn tick(&mut self, now: Duration) {
        Session::tick(self, now);
    }
    fn wake_at(&self) -> Duration {
        Session::wake_at(self)
    }
    fn close(&mut self, end: End) {
        Session::close(self, end);
    }
    fn drain(&mut self, now: Duration, message: String) {
        Session::drain(self, now, message);
    }
}

/// One direction of a connection: ordered, delayed, of small capacity.
#[derive(Default)]
pub(super) struct Pipe {
    frames: VecDeque<(Duration, Vec<u8>)>,
    /// The reader sees the end then, after what was written before.
    pub(super) closed_at: Option<Duration>,
    /// The reader does not read before then.
    pub(super) deaf_until: Duration,
}

impl Pipe {
    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < CAPACITY && self.closed_at.is_none()
    }

    pub(super) fn write(&mut self, now: Duration, random: &mut StdRng, frame: Frame) {
        let last = self.frames.back().map_or(now, |(at, _)| *at);
        let at = last.max(now + Duration::from_millis(random.random_range(0..80)));
        self.frames.push_back((at, codec::encode(frame).encode_to_vec()));
        assert!(self.frames.len() <= CAPACITY, "a pipe holds {} frames", self.frames.len());
    }

    /// The next frame that has arrived; an error for one that no longer reads.
    pub(super) fn read(&mut self, now: Duration) -> Option<Result<Frame, String>> {
        if now < self.deaf_until {
            return None;
        }
        let (_, bytes) = self.frames.pop_front_if(|(at, _)| *at <= now)?;
        let decoded = generated::Frame::decode(bytes.as_slice()).map_err(|error| error.to_string());
        Some(decoded.and_then(|message| codec::decode(message).map_err(|error| error.to_string())))
    }

    /// True if the reader sees the end now.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        now >= self.deaf_until && self.frames.is_empty() && self.closed_at.is_some_and(|at| at <= now)
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        let next = self.frames.front().map(|(at, _)| *at).or(self.closed_at)?;
        Some(next.max(self.deaf_until))
    }

    /// Loses what is on its way; the reader sees the end after `delay`, or never.
    pub(super) fn cut(&mut self, now: Duration, delay: Option<Duration>, random: &mut StdRng) {
        self.frames.truncate(random.random_range(0..=CAPACITY));
        self.closed_at = Some(delay.map_or(Duration::MAX, |delay| now + delay));
    }

    /// Now and then damages the frame that was written last, or its place in the order, as no transport should.
    pub(super) fn damage(&mut self, enabled: bool, random: &mut StdRng) {
        if !enabled || !random.random_bool(0.06) {
            return;
        }
        let count = self.frames.len();
        let Some((_, bytes)) = self.frames.back_mut() else { return };
        let is_hello = generated::Frame::decode(bytes.as_slice())
            .is_ok_and(|frame| matches!(frame.body, Some(generated::frame::Body::Hello(_))));
        if is_hello || bytes.is_empty() {
            // A damaged hello may claim to be another process for as long as the stream lives.
            return;
        }
        match random.random_range(0..6) {
            0 if count > 1 => self.frames.swap(0, count - 1),
            1 if count < CAPACITY => {
                let copy = self.frames[count - 1].clone();
                self.frames.push_back(copy);
            }
            2 => bytes.truncate(random.random_range(0..bytes.len())),
            _ => {
                let index = random.random_range(0..bytes.len());
                bytes[index] ^= 1 << (random.next_u32() % 8);
            }
        }
        let mut before = Duration::ZERO;
        for (at, _) in &mut self.frames {
            before = before.max(*at);
            *at = before;
        }
    }
}

/// A connection between an agent and the server.
pub(super) struct Stream {
    pub(super) agent: usize,
    pub(super) direction: Direction,
    pub(super) client: Option<Machine>,
    pub(super) server: Option<(u64, Machine)>,
    /// From the agent to the server.
    pub(super) up: Pipe,
    /// From the server to the agent.
    pub(super) down: Pipe,
}

impl Stream {
    pub(super) fn is_dead(&self) -> bool {
        self.client.is_none() && self.server.is_none()
    }

    pub(super) fn wake_at(&mut self) -> Duration {
        let mut wake = Duration::MAX;
        if let Some(client) = &mut self.client {
            wake = wake.min(client.session().wake_at());
            wake = wake.min(self.down.wake_at().unwrap_or(Duration::MAX));
        }
        if let Some((_, server)) = &mut self.server {
            wake = wake.min(server.session().wake_at());
        }
        wake.min(self.up.wake_at().unwrap_or(Duration::MAX))
    }
}
