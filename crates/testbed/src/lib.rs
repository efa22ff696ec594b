//! A plane of real processes on one machine: what tests of several crates start, break and watch.
//!
//! Nothing of it is in a product: others use it as a development dependency only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking, and says why")]

mod fleet;
mod installation;
mod process;
mod proxy;
mod redis_server;
mod wait;
mod watcher;

pub use fleet::{Files, Fleet, TOKEN_FILE, WORKLOAD_CLUSTERS, copy, difference, yaml_files};
pub use installation::{Agent, Endpoints, Server, get, install};
pub use process::{Answer, Process, Programs, SURVIVES_FULL_DISK, command, run, with_clock};
pub use proxy::Proxy;
pub use redis_server::{Redis, free_port};
pub use wait::{STEP, wait_for};
pub use watcher::Watcher;
