use std::collections::BTreeMap;

use crate::references::ClusterObjectRef;

message! {
    /// The network of a cluster's pods, as an agent found it.
    pub struct DiscoveredCniSpec {
        /// The DaemonSet that runs it on the nodes.
        pub agent: Option<ClusterObjectRef>,
        /// What it is.
        pub provider: CniProvider,
        /// Its version.
        pub version: String,
        /// Port at which it tells its metrics.
        pub metrics_port_number: u32,
        /// Settings of Cilium.
        pub cilium_config: Option<CiliumConfig>,
    }

    /// Settings of the provider.
    oneof config: CniConfig { cilium_config: Cilium(CiliumConfig), }
}

named_values! {
    /// Who makes the network of pods.
    pub enum CniProvider {
        /// Cilium.
        Cilium = "CILIUM",
        /// Calico.
        Calico = "CALICO",
    }
}

message! {
    /// Settings of Cilium.
    pub struct CiliumConfig {
        /// The entries of its ConfigMap.
        pub data: BTreeMap<String, String>,
    }
}

message! {
    /// What is told about the network.
    pub struct DiscoveredCniStatus {
        /// The generation that the rest of the status is about.
        pub observed_generation: i64,
    }
}
