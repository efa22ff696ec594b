//! A whole fleet in one process: the management server and an agent per cluster, over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshrelay_agent::{Agent, discovery};
use meshrelay_cluster::{OUTPUT_FOLDER, load_fleet, output_folder};
use meshrelay_pki::AgentState;
use meshrelay_server::Server;
use meshrelay_snapshot::{Fleet, FleetSettings, Name, Snapshot};
use meshrelay_translate::Inputs;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// File below the output folder with what there is to say about each resource.
pub const REPORTS_FILE: &str = "reports.yaml";

/// A running sandbox.
#[derive(Debug)]
pub struct Sandbox {
    /// The fleet folder.
    pub fleet: PathBuf,
    /// The server.
    pub server: Server,
    /// The agents by cluster.
    pub agents: BTreeMap<Name, Agent>,
    stop_server: CancellationToken,
    stop_agents: CancellationToken,
}

impl Sandbox {
    /// Starts a fleet. Certificates and tokens are made in `FLEET/.meshrelay/state` and kept for the next start.
    ///
    /// # Errors
    /// [`Failure`] for a folder that is no fleet, and whatever keeps the server or an agent from starting.
    pub async fn start(fleet: &Path, relay_address: SocketAddr) -> Result<Self, Failure> {
        let loaded = load_fleet(fleet)?.fleet;
        let settings = &loaded.settings;
        let (stop_server, stop_agents) = (CancellationToken::new(), CancellationToken::new());
        let server = Server::start(server_settings(fleet, settings, relay_address), stop_server.clone()).await?;
        let mut agents = BTreeMap::new();
        for cluster in loaded.clusters.keys() {
            let settings = agent_settings(fleet, settings, cluster, server.relay_address);
            AgentState::open(&settings.state_directory)?.bootstrap(server.root_ca_pem(), server.token())?;
            let agent = Agent::start(settings, stop_agents.clone())
                .await
                .map_err(|source| Failure::Agent { cluster: cluster.to_string(), source })?;
            agents.insert(cluster.clone(), agent);
        }
        Ok(Self { fleet: fleet.to_owned(), server, agents, stop_server, stop_agents })
    }

    /// True when every agent is connected and has applied the newest output.
    pub fn is_settled(&self) -> bool {
        let status = self.server.status();
        let status = status.borrow();
        status.waiting_for.is_empty()
            && status.translations > 0
            && self.agents.keys().all(|name| status.clusters.get(name).is_some_and(|cluster| cluster.applied))
    }

    /// Stops the agents, then the server, and waits for both.
    pub async fn stop(self) {
        self.stop_agents.cancel();
        for agent in self.agents.values() {
            agent.finished().await;
        }
        self.stop_server.cancel();
        self.server.finished().await;
    }
}

/// Folder below the fleet for everything that a sandbox writes.
pub fn work_folder(fleet: &Path) -> PathBuf {
    fleet.join(OUTPUT_FOLDER)
}

/// Folder in which the agent of a cluster of a sandbox keeps its state.
pub fn agent_state_folder(fleet: &Path, cluster: &str) -> PathBuf {
    work_folder(fleet).join("state").join(cluster)
}

/// Settings of the server of a fleet on this machine.
pub fn server_settings(
    fleet: &Path,
    settings: &FleetSettings,
    relay_address: SocketAddr,
) -> meshrelay_server::Settings {
    let management = settings.management_cluster.as_str();
    meshrelay_server::Settings {
        management_cluster: management.to_owned(),
        management_directory: Some(fleet.join(management)),
        state_directory: work_folder(fleet).join("state/server"),
        relay_address,
        health_address: any_port(),
        stats_address: any_port(),
        reports_file: Some(work_folder(fleet).join(REPORTS_FILE)),
        clock: settings.clock,
        ..meshrelay_server::Settings::default()
    }
}

/// Settings of the agent of one cluster of a fleet on this machine.
pub fn agent_settings(
    fleet: &Path,
    settings: &FleetSettings,
    cluster: &Name,
    server: SocketAddr,
) -> meshrelay_agent::Settings {
    let own = settings.clusters.get(cluster).cloned().unwrap_or_default();
    meshrelay_agent::Settings {
        cluster: cluster.to_string(),
        server_address: server.into(),
        directory: Some(fleet.join(cluster.as_str())),
        output_directory: Some(output_folder(fleet, cluster)),
        state_directory: agent_state_folder(fleet, cluster),
        health_address: any_port(),
        stats_address: any_port(),
        trust_domain: Some(own.trust_domain.as_ref().unwrap_or(cluster).to_string()),
        assumed_istio_version: own.istio_version,
        kubernetes_version: own.kubernetes_version,
        region: own.region.map(|region| region.to_string()),
        addresses: own.addresses,
        clock: settings.clock,
        ..meshrelay_agent::Settings::default()
    }
}

/// What the agents of a fleet would send to its server, each once.
pub fn inputs(fleet: &Fleet) -> Inputs {
    let input = |(name, snapshot): (&Name, &Arc<Snapshot>)| {
        (name.clone(), discovery::Input::new(name.clone(), discovery_settings(fleet, name)).update(snapshot))
    };
    let management_cluster = fleet.settings.management_cluster.clone();
    Inputs { management_cluster, clusters: fleet.clusters.iter().map(input).collect() }
}

/// What discovery is told about a cluster of a fleet.
fn discovery_settings(fleet: &Fleet, cluster: &Name) -> discovery::Settings {
    agent_settings(Path::new(""), &fleet.settings, cluster, any_port()).discovery()
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
