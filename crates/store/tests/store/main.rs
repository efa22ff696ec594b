//! One conformance suite for every adapter, and what each of them has to bear beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, also in its helpers, a failure is a panic"
)]

mod conformance;
mod docs;
mod memory;
mod redis;
mod sample;
