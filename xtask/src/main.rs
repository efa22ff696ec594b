//! Development tasks: `cargo xtask --help`.

mod codegen;
mod corpus;
mod debian;
mod faketime;
mod istioctl;
mod prometheus;
mod redis;
mod run;
mod schemas;
mod setup;
mod test;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of Meshrelay.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what a fresh machine lacks; does nothing when all is there
    Setup,
    /// Write everything that is generated and committed
    Codegen {
        /// Change nothing, and fail when a committed file is not what would be generated
        #[arg(long)]
        check: bool,
    },
    /// Tell how our custom resource definitions differ from others for the same kinds
    CompareCrds {
        /// Directory of the other definitions
        directory: PathBuf,
    },
    /// Decode every resource of our kinds below a directory and tell what does not fit
    DecodeCorpus {
        /// Directory of YAML files
        directory: PathBuf,
    },
    /// Translate what real people wrote, and tell what came of it
    Corpus(corpus::Arguments),
    /// Hold every expected object of the golden fleets against its custom resource definition
    ValidateFleets {
        /// Directory of definitions; default: Istio's own, from its Go module
        #[arg(long)]
        crds: Option<PathBuf>,
    },
    /// Ask istioctl and the API server's own code about generated objects: those of the golden fleets, and more
    Istioctl {
        /// Directories that `cargo xtask corpus -o` wrote
        directories: Vec<PathBuf>,
    },
    /// Everything that has to pass before a change is accepted; the same as continuous integration
    Test {
        /// Go on after a step that failed
        #[arg(long)]
        keep_going: bool,
        /// Run these steps alone
        #[arg(value_parser = test::step_names())]
        steps: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = repository();
    let done = match Arguments::parse().task {
        Task::Setup => setup::set_up(&root).map(|_| true),
        Task::Codegen { check } => codegen::run(&root, check),
        Task::CompareCrds { directory } => codegen::compare_crds::report(&directory).map(|text| told(&text)),
        Task::DecodeCorpus { directory } => codegen::decode_corpus::report(&directory).map(|text| told(&text)),
        Task::Corpus(arguments) => corpus::run(&arguments),
        Task::ValidateFleets { crds } => schemas::validate_fleets(&root, crds.as_deref()),
        Task::Istioctl { directories } => istioctl::check(&root, &directories),
        Task::Test { keep_going, steps } => Ok(test::run(&root, &steps, keep_going)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Root of the repository.
fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Writes to stdout at once, so that it stays in order with what the commands that are run write. A reader that has gone
/// away is no reason to stop.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn told(text: &str) -> bool {
    say(text);
    true
}
