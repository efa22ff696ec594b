//! The command line of `gloo-mesh-mgmt-server`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use meshrelay_process::{logging, program, settings, shutdown};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{Server, ServerError, Settings};

/// The management server: agents of workload clusters connect to it, it translates their resources and serves each
/// cluster its output.
///
/// Every option can also be given in the settings file, by the same name in camelCase.
#[derive(Debug, Parser, Serialize)]
#[command(name = "gloo-mesh-mgmt-server", version)]
#[serde(rename_all = "camelCase")]
pub struct Arguments {
    /// Settings file, YAML
    #[arg(long, env = "MESHRELAY_SETTINGS", value_name = "FILE")]
    #[serde(skip)]
    settings: Option<PathBuf>,
    /// Print the effective settings as YAML and exit
    #[arg(long)]
    #[serde(skip)]
    print_config: bool,
    /// Name of the management cluster [default: mgmt]
    #[arg(long, env = "MANAGEMENT_CLUSTER")]
    management_cluster: Option<String>,
    /// Folder with the management cluster's manifests
    #[arg(long, value_name = "DIR")]
    management_directory: Option<PathBuf>,
    /// Folder that keeps certificates, tokens and allocations over restarts [default: gloo-mesh-mgmt-server-state]
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
    /// Namespace of the management plane [default: gloo-mesh]
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// Where agents connect [default: 0.0.0.0:9900]
    #[arg(long)]
    relay_address: Option<SocketAddr>,
    /// Where health is served [default: 0.0.0.0:8090]
    #[arg(long)]
    health_address: Option<SocketAddr>,
    /// Where metrics are served [default: 0.0.0.0:9091]
    #[arg(long)]
    stats_address: Option<SocketAddr>,
    /// How connections are secured: mtls, simple-tls, own-certificates, insecure [default: mtls]
    #[arg(long, env = "RELAY_TLS_MODE")]
    tls_mode: Option<String>,
    /// Plain text connections, the same as --tls-mode insecure
    #[arg(long)]
    #[serde(skip)]
    insecure: bool,
    /// Further name or address in the server's certificate; can be repeated
    #[arg(long = "additional-san", value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additional_sans: Vec<String>,
    /// Token that agents register with
    #[arg(long, env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Own server certificate, PEM
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Authorities that sign the agents' certificates, PEM
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Halt translation while the input of any warm cluster is missing [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    safe_mode: Option<bool>,
    /// Without safe mode: seconds after the start for which translation waits for warm clusters [default: 180]
    #[arg(long, value_name = "SECONDS")]
    safe_start_window: Option<u64>,
    /// What is held still while the input of a warm cluster is missing: fleet, as safe mode and the safe start window say,
    /// or dependents, only what depends on that cluster [default: fleet]
    #[arg(long, value_name = "SCOPE")]
    safe_mode_scope: Option<String>,
    /// Redis that the replicas of the server share, HOST:PORT [default: none, for a single server]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip)]
    redis_address: Option<String>,
    /// Name by which other replicas and people know this one, such as that of its pod [default: number of the process]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    replica_name: Option<String>,
    /// Largest object that is taken from an agent, bytes [default: 2097152]
    #[arg(long, value_name = "BYTES")]
    max_object_bytes: Option<usize>,
    /// File into which reports on resources are written after each translation
    #[arg(long, value_name = "FILE")]
    reports_file: Option<PathBuf>,
    /// Log filter, such as info or meshrelay_relay=debug,info [default: info]
    #[arg(long, env = "LOG_LEVEL")]
    log_level: Option<String>,
}

impl Arguments {
    /// The effective settings.
    ///
    /// # Errors
    /// When the settings file or a value is not as expected.
    pub fn into_settings(mut self) -> Result<Settings, ServerError> {
        if self.insecure {
            self.tls_mode = Some("insecure".to_owned());
        }
        let mut settings: Settings = settings::load(self.settings.as_deref(), &self)?;
        if let Some(address) = self.redis_address {
            settings.redis.get_or_insert_default().address = address;
        }
        Ok(settings)
    }
}

/// The command as clap sees it, for generated documentation.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments, runs until a signal, and gives the exit code: 0 for a clean end, 1 for a failure, 2 for bad
/// arguments.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(None, run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), ServerError> {
    let print = arguments.print_config;
    let settings = arguments.into_settings()?;
    if print {
        let text = settings::print(&settings)?;
        return Ok(std::io::stdout().write_all(text.as_bytes())?);
    }
    logging::init(&settings.log_level)?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    let server = Server::start(settings, stop).await?;
    server.finished().await;
    tracing::info!("stopped");
    Ok(())
}
