//! The `meshctl` command line.

pub mod cli;
mod commands;
mod endpoint;
mod error;
pub mod sandbox;

pub use error::Failure;
