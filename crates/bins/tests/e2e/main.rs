//! The three programs as processes, over real sockets, with real files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking, and says why")]

use meshrelay_testbed::{Programs, programs};

mod certificates;
mod deletions;
mod failover;
mod freeze;
mod limits;
mod meshctl;
mod modes;
mod monitoring;
mod operations;
mod prometheus;
mod rebalancing;
mod registration;
mod replicas;
mod restarts;
mod safe_mode;
mod sandbox;

/// The programs under test.
const PROGRAMS: Programs = programs!();
