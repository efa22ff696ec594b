//! The relay between the agents and the management server.
//!
//! A stream carries one snapshot in one direction and keeps the receiver's copy equal to it. [`Sender`] and [`Receiver`]
//! are its ends, as state machines without sockets, clock or randomness; [`grpc`] puts them on the wire.
//!
//! What a receiver makes visible moves from one committed version to another, each verified by digest and count, and
//! never through anything between.

mod backoff;
mod end;
pub mod generated;
pub mod grpc;
mod limits;
mod nack;
mod presence;
mod refusal;
mod report;
mod session;
#[cfg(test)]
mod simulation;
mod version;
pub mod wire;

pub use backoff::Backoff;
pub use end::{End, ProtocolError};
pub use limits::{Limits, Timing};
pub use nack::NackReason;
pub use presence::{Direction, Presence};
pub use refusal::{Refusal, RefusalReason};
pub use report::{ApplyReport, ObjectResult, Outcome};
pub use session::{Held, Memory, Received, Receiver, Sender, Sent, Session, Setup, TransferKind, Versions};
pub use version::{PROTOCOL, check_software, negotiate};
