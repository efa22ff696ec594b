//! What fails in a relay plane, with real processes: each card of failures is a file, each failure a test. All the while
//! somebody watches that no cluster loses anything, and at the end everything is as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking, and says why")]

use meshrelay_testbed::{Programs, programs};

mod agent_disconnects;
mod everything_restarts;
mod full_disk;
mod plane;
mod quotes;
mod redis_refuses;
mod redis_unavailable;
mod replica_unavailable;
mod secrets;
mod server_is_behind;
mod unreadable_files;
mod upgrade;
mod watcher;

/// The programs under test.
const PROGRAMS: Programs = programs!();
