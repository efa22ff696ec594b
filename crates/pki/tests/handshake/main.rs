//! Real handshakes over loopback sockets, in every mode and with every kind of wrong certificate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, also in its helpers, a failure is a panic"
)]

mod loopback;
mod modes;
mod refusals;
mod rotation;
