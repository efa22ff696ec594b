use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use meshrelay_pki::ClusterName;
use meshrelay_pki::token_file::TokenFile;

use crate::Failure;

/// Commands about registration tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which the agent of one cluster can register once
    ///
    /// Prints the token, which is kept nowhere else. Put it into the agent's relay-identity-token-secret/token, or into
    /// RELAY_TOKEN. A running server knows it at once.
    Create {
        /// Name of the cluster
        cluster: ClusterName,
        /// State folder of the management server
        #[arg(long, value_name = "DIR")]
        state_directory: PathBuf,
        /// How long it can be used, such as 24h or 30m
        #[arg(long, default_value = "24h", value_name = "DURATION")]
        valid_for: SignedDuration,
    },
    /// Withdraw a token that was not used yet, by the name that `create` told
    Revoke {
        /// Name of the token
        name: String,
        /// State folder of the management server
        #[arg(long, value_name = "DIR")]
        state_directory: PathBuf,
    },
}

pub(crate) fn run(command: &TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create { cluster, state_directory, valid_for } => {
            existing(state_directory)?;
            let now = Timestamp::now();
            let (name, token) = TokenFile::new(state_directory).issue(cluster, now, *valid_for)?;
            writeln!(anstream::stderr(), "token {name} for cluster {cluster}, for one use within {valid_for:#}")?;
            writeln!(anstream::stdout(), "{}", token.reveal())?;
            Ok(ExitCode::SUCCESS)
        }
        TokenCommand::Revoke { name, state_directory } => {
            existing(state_directory)?;
            if TokenFile::new(state_directory).revoke(name)? {
                writeln!(anstream::stderr(), "token {name} is withdrawn")?;
                return Ok(ExitCode::SUCCESS);
            }
            writeln!(anstream::stderr(), "there is no token {name}, or it was used")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A folder that does not exist is a mistyped one: the server makes its own.
fn existing(state_directory: &Path) -> Result<(), Failure> {
    if state_directory.is_dir() {
        return Ok(());
    }
    Err(Failure::File { path: state_directory.to_owned(), source: std::io::ErrorKind::NotFound.into() })
}
