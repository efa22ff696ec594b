//! Server and clients over real sockets on the loopback interface.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::large_futures, reason = "both sides and the checks of a test are joined into one future")]

mod connections;
mod damage;
mod fixture;
mod proxy;
mod refusals;
mod transfers;
