//! Arguments, dispatch and exit codes.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::commands::agent::AgentCommand;
use crate::commands::approve::ApproveArguments;
use crate::commands::get::GetCommand;
use crate::commands::token::TokenCommand;
use crate::{Failure, commands};

/// Meshrelay: one service mesh over many clusters
///
/// Data goes to standard output, everything else to standard error.
///
/// Exit codes: 0 done; 1 failed, or with --diff there are differences; 2 wrong arguments; 3 with --strict, something
/// is not accepted.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, max_term_width = 120)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a fleet on this machine: the management server and one agent per cluster, over real connections
    ///
    /// Each sub-folder of FLEET is a cluster. Outputs appear in FLEET/.meshrelay/<cluster>/ as files change.
    Sandbox(SandboxArguments),
    /// Translate a fleet folder once, without running anything
    Translate(TranslateArguments),
    /// Show what there is
    #[command(subcommand)]
    Get(GetCommand),
    /// Ask an agent
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Approve deletions that the delete brake of an agent holds
    ///
    /// Prints what goes. An approval is for the objects that are held now, and for nothing that comes to be held later. It
    /// survives restarts of the agent until it is carried out.
    Approve(ApproveArguments),
    /// Make or withdraw a registration token for one cluster
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the version
    Version {
        /// How to print it
        #[arg(short, long, default_value = "text")]
        output: VersionFormat,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a reference page as Markdown
    #[command(hide = true)]
    Reference {
        /// The page
        page: Reference,
    },
}

/// The generated pages of `docs/`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Reference {
    /// The command lines.
    Cli,
    /// The metrics.
    Metrics,
}

/// Arguments of `meshctl sandbox`.
#[derive(Debug, clap::Args)]
pub struct SandboxArguments {
    /// Fleet folder; without it, the bookinfo example is put into ./meshrelay-bookinfo and used
    pub fleet: Option<PathBuf>,
    /// Where agents connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9900", value_name = "ADDRESS")]
    pub relay_address: std::net::SocketAddr,
    /// Stop after the first complete round: all clusters connected and their outputs applied
    #[arg(long)]
    pub once: bool,
    /// Log filter of FLEET/.meshrelay/sandbox.log
    #[arg(long, default_value = "info", env = "LOG_LEVEL")]
    pub log_level: String,
}

/// Arguments of `meshctl translate`.
#[derive(Debug, clap::Args)]
pub struct TranslateArguments {
    /// Fleet folder
    pub fleet: PathBuf,
    /// Folder for the outputs, one sub-folder per cluster; without it, YAML goes to standard output
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write nothing; show how the outputs differ from what is in DIR, and exit with 1 if they do
    #[arg(long, requires = "output")]
    pub diff: bool,
    /// Exit with 3 if a resource is not accepted or a file cannot be read
    #[arg(long)]
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VersionFormat {
    Text,
    Json,
    Yaml,
}

/// The command as clap sees it, for generated documentation.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments, runs the command, and gives the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Sandbox(arguments) => commands::sandbox::run(&arguments),
        Command::Translate(arguments) => commands::translate::run(&arguments),
        Command::Get(command) => commands::get::run(&command),
        Command::Agent(command) => commands::agent::run(&command),
        Command::Approve(arguments) => commands::approve::run(&arguments),
        Command::Token(command) => commands::token::run(&command),
        Command::Version { output } => version(output),
        Command::Completion { shell } => completion(shell),
        Command::Reference { page } => commands::reference::run(page),
    };
    match done {
        Ok(code) => code,
        // Whoever reads our output has enough of it.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let style = anstyle::AnsiColor::Red.on_default().bold();
            // Nothing can be done if even stderr is closed.
            let _ = writeln!(anstream::stderr(), "{style}error{style:#}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn version(format: VersionFormat) -> Result<ExitCode, Failure> {
    let version = serde_json::json!({ "client": { "version": meshrelay_process::VERSION } });
    let text = match format {
        VersionFormat::Text => format!("meshctl {}\n", meshrelay_process::VERSION),
        VersionFormat::Json => format!("{}\n", serde_json::to_string_pretty(&version)?),
        VersionFormat::Yaml => meshrelay_snapshot::to_yaml(&version),
    };
    anstream::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn completion(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "meshctl", &mut script);
    anstream::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_consistent() {
        super::command().debug_assert();
    }
}
