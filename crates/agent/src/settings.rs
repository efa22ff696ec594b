use std::net::SocketAddr;
use std::path::PathBuf;

use meshrelay_pki::tls::{ClientFiles, FilePair, TlsMode};
use serde::{Deserialize, Serialize};

use crate::{AgentError, DeleteBrake, ServerAddresses, discovery};

/// Settings of an agent. Unknown keys of a settings file are rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Name of the cluster: the name of its `KubernetesCluster` resource.
    pub cluster: String,
    /// Addresses of the management servers' relays, `host:port`, the preferred one first (`relay.serverAddress`).
    pub server_address: ServerAddresses,
    /// Name in the server's certificate (`relay.authority`).
    pub authority: String,
    /// Folder with the cluster's manifests.
    pub directory: Option<PathBuf>,
    /// Folder into which outputs are applied.
    pub output_directory: Option<PathBuf>,
    /// Folder that keeps certificates and the last output over restarts.
    pub state_directory: PathBuf,
    /// Namespace of the agent, in which discovered objects are placed.
    pub namespace: String,
    /// How the connection to the server is secured.
    pub tls_mode: TlsMode,
    /// Token to register with, or to show with every stream in simple TLS; default is the one in the state folder.
    #[serde(skip_serializing)]
    pub token: Option<String>,
    /// Own certificate, PEM (`tlsMode: own-certificates`).
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Authorities that sign the server's certificate, PEM; default is what the state folder holds.
    pub server_ca: Option<PathBuf>,
    /// Share of a certificate's life that is left when it is renewed
    /// (`relay.clientTlsSecretRotationGracePeriodRatio`).
    pub client_tls_secret_rotation_grace_period_ratio: f64,
    /// Where health is served.
    pub health_address: SocketAddr,
    /// Where metrics are served.
    pub stats_address: SocketAddr,
    /// With several servers: seconds after another one took over for which nothing is deleted.
    pub takeover_window: u64,
    /// When deletions are held until somebody approves them.
    pub delete_brake: DeleteBrake,
    /// Trust domain of meshes whose configuration does not state one.
    pub trust_domain: Option<String>,
    /// Istio version to assume where there is no istiod.
    pub assumed_istio_version: Option<String>,
    /// Kubernetes version to report for a directory.
    pub kubernetes_version: Option<String>,
    /// Region of gateways in a cluster without Nodes.
    pub region: Option<String>,
    /// External addresses of gateway Services by `namespace/name`, for a directory.
    pub addresses: std::collections::BTreeMap<String, Vec<String>>,
    /// Creation time of objects that state none, RFC 3339, for a directory.
    pub clock: Option<jiff::Timestamp>,
    /// Log filter, such as `info` or `meshrelay_relay=debug,info`.
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            server_address: SocketAddr::from(([127, 0, 0, 1], 9900)).into(),
            authority: "gloo-mesh-mgmt-server.gloo-mesh".to_owned(),
            directory: None,
            output_directory: None,
            state_directory: PathBuf::from("gloo-mesh-agent-state"),
            namespace: "gloo-mesh".to_owned(),
            tls_mode: TlsMode::default(),
            token: None,
            tls_certificate: None,
            tls_key: None,
            server_ca: None,
            client_tls_secret_rotation_grace_period_ratio: 0.3,
            health_address: SocketAddr::from(([0, 0, 0, 0], 8091)),
            stats_address: SocketAddr::from(([0, 0, 0, 0], 9093)),
            // As long as the server's own window after a start.
            takeover_window: 180,
            delete_brake: DeleteBrake::default(),
            trust_domain: None,
            assumed_istio_version: None,
            kubernetes_version: None,
            region: None,
            addresses: std::collections::BTreeMap::new(),
            clock: None,
            log_level: "info".to_owned(),
        }
    }
}

impl Settings {
    /// What discovery is told.
    pub fn discovery(&self) -> discovery::Settings {
        let defaults = discovery::Settings::default();
        discovery::Settings {
            namespace: self.namespace.clone(),
            trust_domain: self.trust_domain.clone().unwrap_or(defaults.trust_domain),
            assumed_istio_version: self.assumed_istio_version.clone(),
            region: self.region.clone(),
        }
    }

    /// The files of own certificates.
    pub(crate) fn own_files(&self) -> Result<ClientFiles, AgentError> {
        let hint = "own certificates need tlsCertificate, tlsKey and serverCa";
        let path = |setting, path: &Option<PathBuf>| path.clone().ok_or(AgentError::Missing { setting, hint });
        Ok(ClientFiles {
            server_ca: vec![path("serverCa", &self.server_ca)?],
            certificate: Some(FilePair {
                certificate: path("tlsCertificate", &self.tls_certificate)?,
                key: path("tlsKey", &self.tls_key)?,
            }),
        })
    }
}
