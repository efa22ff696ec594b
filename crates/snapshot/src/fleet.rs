use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Name, Snapshot};

/// A fleet: several clusters and what is known of each, one of them being the management cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// What `fleet.yaml` says.
    pub settings: FleetSettings,
    /// Snapshot of each cluster by name.
    pub clusters: BTreeMap<Name, Arc<Snapshot>>,
}

/// `fleet.yaml` of a fleet folder. Unknown keys are rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FleetSettings {
    /// Name of the management cluster, which is also the name of its sub-folder. Default `mgmt`.
    pub management_cluster: Name,
    /// Creation time of objects that do not state one (`metadata.creationTimestamp`), RFC 3339. A folder has no API
    /// server that would set it, and "the oldest wins" needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Timestamp>,
    /// What a folder cannot know of its cluster, by name of the cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<Name, ClusterSettings>,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self { management_cluster: "mgmt".into(), clock: None, clusters: BTreeMap::new() }
    }
}

/// What a real cluster would tell by itself and a folder has to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// External addresses (IP or host name) of gateway Services by `namespace/name`, as a cloud's load balancer would
    /// write them into `status.loadBalancer`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<String>>,
    /// Trust domain of the cluster's meshes; default is the name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<Name>,
    /// Region of the cluster where no Node states one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Kubernetes version to report, such as `1.33`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Istio version of the mesh where no istiod Deployment states one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio_version: Option<String>,
}
