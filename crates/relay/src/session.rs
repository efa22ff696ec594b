//! The two ends of a stream as state machines: no sockets, no clock, no randomness.
//!
//! Time is passed in as the time since some fixed moment. Frames come in by [`Session::receive`] and go out by
//! [`Session::transmit`], which is called only when the transport has room: so a chunk is made only when it can be
//! written, and a peer that does not read is noticed by the machine itself.

pub(crate) mod held;
mod link;
mod receiver;
mod sender;
mod staging;
mod transfer;
mod versions;
pub(crate) mod withhold;

use std::time::Duration;

pub use held::Held;
pub use receiver::{Received, Receiver};
pub use sender::{Sender, Sent};
pub use transfer::TransferKind;
pub use versions::{Memory, Versions};

use crate::wire::{Frame, Hello};
use crate::{End, Limits, Timing};

/// How a session was set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What this side says of itself.
    pub hello: Hello,
    /// The peer's hello, if it was received before the session was made, as a server does to know who calls. A
    /// client passes `None`: its hello goes out first.
    pub peer: Option<Hello>,
    /// What may be held and sent.
    pub limits: Limits,
    /// Deadlines.
    pub timing: Timing,
    /// Present time.
    pub now: Duration,
}

/// What a driver (a socket, a simulator) needs of either end.
pub trait Session {
    /// What the end tells its owner.
    type Event;

    /// Takes a frame of the peer.
    fn receive(&mut self, now: Duration, frame: Frame);

    /// The next frame to write, if there is one. Call only when it can be written.
    fn transmit(&mut self, now: Duration) -> Option<Frame>;

    /// True if [`Session::transmit`] would give a frame.
    fn wants_transmit(&self) -> bool;

    /// Lets time pass.
    fn tick(&mut self, now: Duration);

    /// When to call [`Session::tick`] at the latest.
    fn wake_at(&self) -> Duration;

    /// The next event for the owner.
    fn event(&mut self) -> Option<Self::Event>;

    /// Ends the session; frames that tell the peer why may still be taken with [`Session::transmit`].
    fn close(&mut self, end: End);

    /// Asks the peer to connect elsewhere and gives it [`Timing::drain_grace`] to go.
    fn drain(&mut self, now: Duration, message: String);

    /// Why the session ended, once it has.
    fn end(&self) -> Option<&End>;
}
