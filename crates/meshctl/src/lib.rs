//! The `meshctl` command line.

pub mod cli;
mod commands;
mod error;
pub mod sandbox;

pub use error::Failure;
