use std::path::PathBuf;

use meshrelay_agent::AgentError;
use meshrelay_cluster::FleetError;
use meshrelay_pki::PkiError;
use meshrelay_process::logging::LoggingError;
use meshrelay_server::ServerError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The fleet folder.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// There is no such folder.
    #[error(
        "expected a fleet folder, found no folder {}; give the folder of a fleet, or run `meshctl sandbox` without one \
         to get an example (MR0804)",
        path.display()
    )]
    NoFleet {
        /// What was given.
        path: PathBuf,
    },
    /// The server of a sandbox.
    #[error("the management server: {0}")]
    Server(#[from] ServerError),
    /// An agent of a sandbox.
    #[error("the agent of {cluster}: {source}")]
    Agent {
        /// Its cluster.
        cluster: String,
        /// Why.
        source: AgentError,
    },
    /// Certificates of a sandbox.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Logging.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A file or folder that the command writes or reads.
    #[error("cannot use {}: {source} (MR0800)", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Objects that could not be written.
    #[error("{count} of the generated objects could not be written, the first: {first} (MR0801)")]
    Write {
        /// How many.
        count: usize,
        /// The first of them with the reason.
        first: String,
    },
    /// A server or agent that does not answer.
    #[error("cannot read the status at {url}: {reason}; give the health address of a program that runs (MR0805)")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Why there is no answer.
        reason: String,
    },
    /// What is held is not what was looked at.
    #[error(
        "expected held deletions of {cluster} with the digest {wanted}, found {found}: they have changed; look at them \
         again with --dry-run (MR0806)"
    )]
    OtherDeletions {
        /// The cluster.
        cluster: String,
        /// What was to be approved.
        wanted: String,
        /// What is held.
        found: String,
    },
    /// Standard output or the terminal.
    #[error("cannot write the output: {0} (MR0802)")]
    Output(#[from] std::io::Error),
    /// The output cannot be expressed in the format that was asked for.
    #[error("cannot express the output: {0} (MR0803)")]
    Format(#[from] serde_json::Error),
}
