//! What `main` of a long-running program does.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Runs a program on a runtime with this number of threads, or one per core. Exit code 0 for a clean end; 1 for a
/// failure, which is told on stderr.
pub fn run<E: Display + From<io::Error>>(
    threads: Option<usize>,
    program: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let outcome = match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if even stderr is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
