//! The three programs as processes, over real sockets, with real files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking, and says why")]

mod certificates;
mod deletions;
mod failover;
mod fleet;
mod freeze;
mod installation;
mod limits;
mod meshctl;
mod modes;
mod operations;
mod process;
mod proxy;
mod registration;
mod restarts;
mod sandbox;
mod wait;
mod watcher;
