use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::admin::{KubernetesClusterSpec, WorkspaceSettingsSpec, WorkspaceSpec};
use meshrelay_api::internal::{DiscoveredGatewaySpec, MeshSpec};
use meshrelay_api::networking::{
    ExternalEndpointSpec, ExternalServiceSpec, RouteTableSpec, VirtualDestinationSpec, VirtualGatewaySpec,
};
use meshrelay_api::resilience::{
    ConnectionPolicySpec, FailoverPolicySpec, OutlierDetectionPolicySpec, RetryTimeoutPolicySpec,
};
use meshrelay_api::security::{ClientTlsPolicySpec, CorsPolicySpec};
use meshrelay_api::traffic_control::{LoadBalancerPolicySpec, MirrorPolicySpec};
use meshrelay_snapshot::{Name, Object};

use super::cluster::Problem;
use super::kube::ServiceSpec;
use super::{Cache, ClusterInput, Decode, Input, Ours, Theirs};

/// Decoded objects of one kind by namespace and name.
pub(crate) type ByName<T> = BTreeMap<(Name, Name), Arc<Input<T>>>;

/// One line per kind that translation reads whole: its table, and group and kind of the objects in it.
macro_rules! tables {
    ($( $table:ident: $group:literal $kind:literal $spec:ty; )+) => {
        /// Decoded objects by kind.
        #[derive(Debug, Default)]
        pub(super) struct Tables {
            $( $table: ByName<$spec>, )+
        }

        impl Tables {
            /// Takes an object in; `None` if its kind has no table.
            pub(super) fn read(&mut self, object: &Arc<Object>, cache: &mut Cache) -> Option<Problem> {
                let gvk = &object.key().gvk;
                Some(match (gvk.group.as_str(), gvk.kind.as_str()) {
                    $( ($group, $kind) => read(object, cache, &mut self.$table), )+
                    _ => return None,
                })
            }
        }

        impl ClusterInput {
            $(
                pub(crate) fn $table(&self) -> &ByName<$spec> {
                    &self.tables.$table
                }
            )+
        }
    };
}

#[rustfmt::skip]
tables! {
    services: "" "Service" Theirs<ServiceSpec>;
    meshes: "internal.gloo.solo.io" "Mesh" Ours<MeshSpec>;
    gateways: "internal.gloo.solo.io" "DiscoveredGateway" Ours<DiscoveredGatewaySpec>;
    clusters: "admin.gloo.solo.io" "KubernetesCluster" Ours<KubernetesClusterSpec>;
    workspaces: "admin.gloo.solo.io" "Workspace" Ours<WorkspaceSpec>;
    settings: "admin.gloo.solo.io" "WorkspaceSettings" Ours<WorkspaceSettingsSpec>;
    virtual_gateways: "networking.gloo.solo.io" "VirtualGateway" Ours<VirtualGatewaySpec>;
    route_tables: "networking.gloo.solo.io" "RouteTable" Ours<RouteTableSpec>;
    virtual_destinations: "networking.gloo.solo.io" "VirtualDestination" Ours<VirtualDestinationSpec>;
    external_services: "networking.gloo.solo.io" "ExternalService" Ours<ExternalServiceSpec>;
    external_endpoints: "networking.gloo.solo.io" "ExternalEndpoint" Ours<ExternalEndpointSpec>;
    retry_timeout_policies: "resilience.policy.gloo.solo.io" "RetryTimeoutPolicy" Ours<RetryTimeoutPolicySpec>;
    failover_policies: "resilience.policy.gloo.solo.io" "FailoverPolicy" Ours<FailoverPolicySpec>;
    outlier_detection_policies: "resilience.policy.gloo.solo.io" "OutlierDetectionPolicy" Ours<OutlierDetectionPolicySpec>;
    connection_policies: "resilience.policy.gloo.solo.io" "ConnectionPolicy" Ours<ConnectionPolicySpec>;
    client_tls_policies: "security.policy.gloo.solo.io" "ClientTLSPolicy" Ours<ClientTlsPolicySpec>;
    load_balancer_policies: "trafficcontrol.policy.gloo.solo.io" "LoadBalancerPolicy" Ours<LoadBalancerPolicySpec>;
    cors_policies: "security.policy.gloo.solo.io" "CORSPolicy" Ours<CorsPolicySpec>;
    mirror_policies: "trafficcontrol.policy.gloo.solo.io" "MirrorPolicy" Ours<MirrorPolicySpec>;
}

pub(super) fn read<T: Decode>(object: &Arc<Object>, cache: &mut Cache, into: &mut ByName<T>) -> Problem {
    match cache.get(object) {
        Ok(input) => {
            let warnings = input.warnings.clone();
            into.insert((object.key().namespace.clone(), object.key().name.clone()), input);
            Problem { warnings, ..Problem::default() }
        }
        Err(error) => Problem { unreadable: Some(error), ..Problem::default() },
    }
}
