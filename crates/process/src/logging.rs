//! Structured logs.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error("expected a log level or filter such as info or meshrelay_relay=debug,info, found {filter:?}: {source}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The log file cannot be made.
    #[error("log file {}: {source} (MR0004)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another subscriber was installed before.
    #[error("logging was set up twice in one process: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging on stderr with a filter such as `info` or `meshrelay_relay=debug,info`: text on a terminal, JSON
/// otherwise.
///
/// # Errors
/// [`LoggingError`] for a filter that does not parse, or a second call in one process.
pub fn init(filter: &str) -> Result<(), LoggingError> {
    let registry = tracing_subscriber::registry().with(parse(filter)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        registry.with(layer).try_init()?;
    } else {
        registry.with(layer.json().flatten_event(true).with_current_span(true)).try_init()?;
    }
    Ok(())
}

/// Starts logging as text into a file, which is begun anew: for programs that use the terminal otherwise.
///
/// # Errors
/// As [`init`], and when the file cannot be made.
pub fn init_file(filter: &str, path: &Path) -> Result<(), LoggingError> {
    let filter = parse(filter)?;
    let file = File::create(path).map_err(|source| LoggingError::File { path: path.to_owned(), source })?;
    let layer = tracing_subscriber::fmt::layer().with_writer(Arc::new(file)).with_ansi(false);
    Ok(tracing_subscriber::registry().with(filter).with(layer).try_init()?)
}

fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })
}
