//! Cilium's network policies, as far as translation emits them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::OutputKind;

/// The `spec` of a CiliumNetworkPolicy: who may connect to some pods of its namespace. Whoever is not named may not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CiliumNetworkPolicy {
    /// The pods.
    pub endpoint_selector: EndpointSelector,
    /// Who may connect, any of the rules. A rule without anything in it allows nobody.
    pub ingress: Vec<IngressRule>,
}

/// Pods by their labels, with a prefix for where a label comes from (`any:`, `k8s:`); empty selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSelector {
    /// Labels that the pods must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// Who may connect, and where. One of the sources, and one of the ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressRule {
    /// Pods that may connect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_endpoints: Vec<EndpointSelector>,
    /// Groups of callers that Cilium knows, such as `cluster`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_entities: Vec<String>,
    /// Addresses outside the cluster.
    #[serde(rename = "fromCIDR", skip_serializing_if = "Vec::is_empty")]
    pub from_cidr: Vec<String>,
    /// Where to; empty means every port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to_ports: Vec<PortRule>,
}

/// Some ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortRule {
    /// The ports.
    pub ports: Vec<PortProtocol>,
}

/// A port of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct PortProtocol {
    /// Its number, or its name.
    pub port: String,
    /// `TCP`, `UDP`, `SCTP` or `ANY`.
    pub protocol: String,
}

impl OutputKind for CiliumNetworkPolicy {
    const GROUP: &'static str = "cilium.io";
    const VERSION: &'static str = "v2";
    const KIND: &'static str = "CiliumNetworkPolicy";
    const PLURAL: &'static str = "ciliumnetworkpolicies";
}
