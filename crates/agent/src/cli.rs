//! The command line of `gloo-mesh-agent`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use meshrelay_process::{logging, program, settings, shutdown};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{Agent, AgentError, Settings};

/// An agent waits most of the time; two threads let it apply while it talks to the server.
const WORKER_THREADS: usize = 2;

/// The relay agent: connects one workload cluster to the management server.
///
/// Every option can also be given in the settings file, by the same name in camelCase.
#[derive(Debug, Parser, Serialize)]
#[command(name = "gloo-mesh-agent", version)]
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
    /// Name of the cluster, which is the name of its KubernetesCluster resource
    #[arg(long, env = "CLUSTER_NAME")]
    cluster: Option<String>,
    /// Addresses of the management servers' relays, host:port, with commas, the preferred one first
    /// [default: 127.0.0.1:9900]
    #[arg(long, visible_alias = "relay-address", env = "RELAY_SERVER_ADDRESS")]
    server_address: Option<String>,
    /// Name in the server's certificate [default: gloo-mesh-mgmt-server.gloo-mesh]
    #[arg(long, env = "RELAY_AUTHORITY")]
    authority: Option<String>,
    /// Folder with the cluster's manifests
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Folder into which outputs are applied [default: .meshrelay/<cluster> beside the manifests' folder]
    #[arg(long, value_name = "DIR")]
    output_directory: Option<PathBuf>,
    /// Folder that keeps certificates and the last output over restarts [default: gloo-mesh-agent-state]
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
    /// How the connection is secured: mtls, simple-tls, own-certificates, insecure [default: mtls]
    #[arg(long, env = "RELAY_TLS_MODE")]
    tls_mode: Option<String>,
    /// Plain text connection, the same as --tls-mode insecure
    #[arg(long)]
    #[serde(skip)]
    insecure: bool,
    /// Token to register with
    #[arg(long, env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Own certificate, PEM
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Authorities that sign the server's certificate, PEM
    #[arg(long, value_name = "FILE")]
    server_ca: Option<PathBuf>,
    /// Share of a certificate's life that is left when it is renewed [default: 0.3]
    #[arg(long = "relay-client-cert-rotation-grace-period-ratio")]
    client_tls_secret_rotation_grace_period_ratio: Option<f64>,
    /// Where health is served [default: 0.0.0.0:8091]
    #[arg(long)]
    health_address: Option<SocketAddr>,
    /// Where metrics are served [default: 0.0.0.0:9093]
    #[arg(long)]
    stats_address: Option<SocketAddr>,
    /// With several servers: seconds after another one took over for which nothing is deleted [default: 180]
    #[arg(long, value_name = "SECONDS")]
    takeover_window: Option<u64>,
    #[command(flatten)]
    delete_brake: DeleteBrakeArguments,
    /// Trust domain of meshes whose configuration states none [default: cluster.local]
    #[arg(long)]
    trust_domain: Option<String>,
    /// Istio version to assume where the cluster's manifests have no istiod
    #[arg(long)]
    assumed_istio_version: Option<String>,
    /// Region of gateways in a cluster without Nodes
    #[arg(long)]
    region: Option<String>,
    /// Log filter, such as info or meshrelay_relay=debug,info [default: info]
    #[arg(long, env = "LOG_LEVEL")]
    log_level: Option<String>,
}

/// Arguments about the delete brake.
#[derive(Debug, clap::Args, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeleteBrakeArguments {
    /// Hold deletions of an output that would take too much, until they are approved [default: true]
    #[arg(long = "delete-brake", value_name = "BOOL")]
    enabled: Option<bool>,
    /// Largest share of the cluster's generated objects that outputs may delete unapproved within five minutes, percent [default: 30]
    #[arg(long = "delete-brake-max-percent", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    max_percent: Option<u8>,
    /// Fewer deletions than these need no approval [default: 10]
    #[arg(long = "delete-brake-min-objects", value_name = "COUNT")]
    min_objects: Option<usize>,
}

impl Arguments {
    /// The effective settings.
    ///
    /// # Errors
    /// When the settings file or a value is not as expected.
    pub fn into_settings(mut self) -> Result<Settings, AgentError> {
        if self.insecure {
            self.tls_mode = Some("insecure".to_owned());
        }
        let mut settings: Settings = settings::load(self.settings.as_deref(), &self)?;
        if settings.output_directory.is_none()
            && let Some(directory) = &settings.directory
        {
            // Where the sandbox puts it too: beside the folder of the cluster.
            let beside = directory.parent().unwrap_or(directory);
            settings.output_directory = Some(meshrelay_cluster::output_folder(beside, &settings.cluster));
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
    program::run(Some(WORKER_THREADS), run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), AgentError> {
    let print = arguments.print_config;
    let settings = arguments.into_settings()?;
    if print {
        let text = settings::print(&settings)?;
        return Ok(std::io::stdout().write_all(text.as_bytes())?);
    }
    logging::init(&settings.log_level)?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    let agent = Agent::start(settings, stop).await?;
    agent.finished().await;
    tracing::info!("stopped");
    Ok(())
}
