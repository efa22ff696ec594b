//! Measurements of Meshrelay; `docs/benchmarks.md` has their results. Nothing here passes or fails.

mod cold_start;
mod enrolment;
mod fleet;
mod latency;
mod memory;
mod program;
mod relay_bytes;
mod store;
mod summary;
mod translate;
mod wait;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fleet::Size;

/// Measures Meshrelay on generated fleets. Run it in a release build.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a generated fleet folder
    Fleet {
        /// The folder
        folder: PathBuf,
        #[command(flatten)]
        size: Size,
    },
    /// Bytes on the relay for a first transfer, one changed object and reconnects
    RelayBytes {
        /// Objects in the snapshot; can be repeated
        #[arg(long = "objects", default_values_t = [1_000, 100_000])]
        objects: Vec<usize>,
    },
    /// Time from a changed file to the applied outputs, with the server and all agents in this process
    Latency(latency::LatencyArguments),
    /// Resident memory and idle load of the server and its agents as processes
    Memory(memory::MemoryArguments),
    /// Time and memory until a replica that starts with nothing has translated what is in Redis
    ColdStart(cold_start::ColdStartArguments),
    /// Bytes and times of inputs in Redis
    Store(store::StoreArguments),
    /// Time of translations, from scratch and after one change
    Translate(translate::TranslateArguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Fleet { folder, size } => fleet::write(&folder, &size),
        What::RelayBytes { objects } => relay_bytes::run(&objects),
        What::Latency(arguments) => latency::run(&arguments),
        What::Memory(arguments) => memory::run(&arguments),
        What::ColdStart(arguments) => cold_start::run(&arguments),
        What::Store(arguments) => store::run(&arguments),
        What::Translate(arguments) => translate::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if even stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
