use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshrelay_pki::ServerOptions;
use meshrelay_pki::tls::{FilePair, ServerFiles, TlsMode};
use meshrelay_store::RedisSettings;
use meshrelay_translate::GateSettings;
use serde::{Deserialize, Serialize};

use crate::doubts::SafeModeScope;
use crate::{RebalanceSettings, ServerError};

/// Settings of the management server. Unknown keys of a settings file are rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Name of the management cluster.
    pub management_cluster: String,
    /// Folder with the management cluster's manifests: KubernetesClusters, Workspaces, and so on.
    pub management_directory: Option<PathBuf>,
    /// Folder that keeps certificates, tokens, allocations and which clusters are warm over restarts.
    pub state_directory: PathBuf,
    /// Namespace of the management plane: names in the server's certificate and where admin resources are read.
    pub namespace: String,
    /// Where agents connect (9900 in the original).
    pub relay_address: SocketAddr,
    /// Where health is served.
    pub health_address: SocketAddr,
    /// Where metrics are served.
    pub stats_address: SocketAddr,
    /// How connections are secured.
    pub tls_mode: TlsMode,
    /// Further names and addresses in the server's certificate (`relay.additionalSans`).
    pub additional_sans: Vec<String>,
    /// Token that agents register with; default is the one in the state folder, which is made if there is none.
    #[serde(skip_serializing)]
    pub token: Option<String>,
    /// Own server certificate, PEM (`tlsMode: own-certificates`).
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Authorities that sign the agents' certificates, PEM.
    pub client_ca: Option<PathBuf>,
    /// Halt translation while the input of any warm cluster is missing.
    pub safe_mode: bool,
    /// Without safe mode: seconds after the start for which translation waits for the inputs of warm clusters.
    pub safe_start_window: u64,
    /// What is held still while the input of a warm cluster is missing: the whole fleet, as safe mode and the safe start
    /// window say, or only what depends on that cluster.
    pub safe_mode_scope: SafeModeScope,
    /// Redis that the replicas of the management server share, and that keeps inputs over their restarts; without it there
    /// can be one server only.
    pub redis: Option<RedisSettings>,
    /// Name by which other replicas and people know this one, such as that of its pod; a random part is added to it. Default
    /// is the number of the process.
    pub replica_name: Option<String>,
    /// How agents spread over replicas.
    pub rebalance: RebalanceSettings,
    /// Largest object that is taken from an agent, bytes.
    pub max_object_bytes: usize,
    /// File into which reports on resources are written after each translation.
    pub reports_file: Option<PathBuf>,
    /// Creation time of objects that state none, RFC 3339, for a directory.
    pub clock: Option<jiff::Timestamp>,
    /// Log filter, such as `info` or `meshrelay_relay=debug,info`.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            management_cluster: "mgmt".to_owned(),
            management_directory: None,
            state_directory: PathBuf::from("gloo-mesh-mgmt-server-state"),
            namespace: "gloo-mesh".to_owned(),
            relay_address: any(9900),
            health_address: any(8090),
            stats_address: any(9091),
            tls_mode: TlsMode::default(),
            additional_sans: Vec::new(),
            token: None,
            tls_certificate: None,
            tls_key: None,
            client_ca: None,
            safe_mode: false,
            safe_start_window: 180,
            safe_mode_scope: SafeModeScope::Fleet,
            redis: None,
            replica_name: None,
            rebalance: RebalanceSettings::default(),
            max_object_bytes: 2 * 1024 * 1024,
            reports_file: None,
            clock: None,
            log_level: "info".to_owned(),
        }
    }
}

impl Settings {
    pub(crate) fn gate(&self) -> GateSettings {
        // With the other scope nothing halts, whatever they say.
        let halts = self.safe_mode_scope == SafeModeScope::Fleet;
        GateSettings {
            safe_mode: halts && self.safe_mode,
            safe_start_window: Duration::from_secs(if halts { self.safe_start_window } else { 0 }),
        }
    }

    pub(crate) fn pki(&self) -> ServerOptions {
        let mut options = ServerOptions::new(&self.namespace);
        options.names.additional.clone_from(&self.additional_sans);
        options
    }

    /// The files of own certificates.
    pub(crate) fn own_files(&self) -> Result<ServerFiles, ServerError> {
        let hint = "own certificates need tlsCertificate, tlsKey and clientCa";
        let path = |setting, path: &Option<PathBuf>| path.clone().ok_or(ServerError::Missing { setting, hint });
        Ok(ServerFiles {
            certificate: FilePair {
                certificate: path("tlsCertificate", &self.tls_certificate)?,
                key: path("tlsKey", &self.tls_key)?,
            },
            client_ca: Some(path("clientCa", &self.client_ca)?),
        })
    }
}
