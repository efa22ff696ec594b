//! Protobuf messages, server and client of the relay. Made by `cargo xtask codegen`; do not edit.
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, rust_2018_idioms)]
#![allow(clippy::all, clippy::or_fun_call, clippy::use_self)]

include!("generated/meshrelay.relay.v1.rs");
