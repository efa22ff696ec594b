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
mod monitoring;
mod operations;
mod process;
mod prometheus;
mod proxy;
mod redis;
mod registration;
mod replicas;
mod restarts;
mod safe_mode;
mod sandbox;
mod wait;
mod watcher;
