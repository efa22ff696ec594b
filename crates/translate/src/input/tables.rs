use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::admin::{
    ExtAuthServerSpec, KubernetesClusterSpec, RateLimitServerConfigSpec, RateLimitServerSettingsSpec,
    WorkspaceSettingsSpec, WorkspaceSpec,
};
use meshrelay_api::internal::{DiscoveredGatewaySpec, MeshSpec};
use meshrelay_api::networking::{
    ExternalEndpointSpec, ExternalServiceSpec, RouteTableSpec, VirtualDestinationSpec, VirtualGatewaySpec,
};
use meshrelay_api::resilience::{
    ConnectionPolicySpec, FailoverPolicySpec, FaultInjectionPolicySpec, OutlierDetectionPolicySpec,
    RetryTimeoutPolicySpec,
};
use meshrelay_api::security::{ClientTlsPolicySpec, CorsPolicySpec, ExtAuthPolicySpec, JwtPolicySpec};
use meshrelay_api::traffic_control::{
    HeaderManipulationPolicySpec, LoadBalancerPolicySpec, MirrorPolicySpec, RateLimitClientConfigSpec,
    RateLimitPolicySpec,
};
use meshrelay_api::{resilience, security};
use meshrelay_snapshot::{Name, Object};

use super::cluster::Problem;
use super::kube::{ServiceAccountSpec, ServiceSpec};
use super::{Cache, ClusterInput, Decode, Input, Ours, Theirs};
use crate::reads::{Place, Thing, record, take_kind};

/// Decoded objects of one kind by namespace and name.
pub(super) type ByName<T> = BTreeMap<(Name, Name), Arc<Input<T>>>;

/// The objects of one kind in a cluster. What is looked at is recorded, see [`crate::reads`].
#[derive(Debug)]
pub(crate) struct Table<'a, T> {
    cluster: &'a Name,
    place: Place,
    kind: &'static str,
    rows: &'a ByName<T>,
}

impl<T> Clone for Table<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Table<'_, T> {}

impl<'a, T> Table<'a, T> {
    /// One object by namespace and name. Whoever finds it has taken it; of those below, what is taken is told by others.
    pub(crate) fn get(self, key: &(Name, Name)) -> Option<&'a Arc<Input<T>>> {
        record(self.place, Thing::Object(self.kind, &key.0, &key.1));
        let found = self.rows.get(key)?;
        take_kind(self.cluster, &found.object.key().gvk);
        Some(found)
    }

    /// All objects, in the order of namespaces and names.
    pub(crate) fn values(self) -> impl Iterator<Item = &'a Arc<Input<T>>> {
        record(self.place, Thing::Kind(self.kind));
        self.rows.values()
    }

    /// The objects of a namespace, in the order of names.
    pub(crate) fn in_namespace(self, namespace: &Name) -> impl Iterator<Item = &'a Arc<Input<T>>> {
        record(self.place, Thing::Namespace(self.kind, namespace));
        let from = (namespace.clone(), Name::default());
        let namespace = namespace.clone();
        self.rows.range(from..).take_while(move |((other, _), _)| *other == namespace).map(|(_, input)| input)
    }

    pub(crate) fn is_empty(self) -> bool {
        record(self.place, Thing::Kind(self.kind));
        self.rows.is_empty()
    }
}

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
                pub(crate) fn $table(&self) -> Table<'_, $spec> {
                    Table { cluster: &self.name, place: self.place, kind: $kind, rows: &self.tables.$table }
                }
            )+
        }
    };
}

#[rustfmt::skip]
tables! {
    services: "" "Service" Theirs<ServiceSpec>;
    service_accounts: "" "ServiceAccount" Theirs<ServiceAccountSpec>;
    meshes: "internal.gloo.solo.io" "Mesh" Ours<MeshSpec>;
    gateways: "internal.gloo.solo.io" "DiscoveredGateway" Ours<DiscoveredGatewaySpec>;
    cnis: "internal.gloo.solo.io" "DiscoveredCNI" Ours<meshrelay_api::internal::DiscoveredCniSpec>;
    clusters: "admin.gloo.solo.io" "KubernetesCluster" Ours<KubernetesClusterSpec>;
    workspaces: "admin.gloo.solo.io" "Workspace" Ours<WorkspaceSpec>;
    settings: "admin.gloo.solo.io" "WorkspaceSettings" Ours<WorkspaceSettingsSpec>;
    virtual_gateways: "networking.gloo.solo.io" "VirtualGateway" Ours<VirtualGatewaySpec>;
    route_tables: "networking.gloo.solo.io" "RouteTable" Ours<RouteTableSpec>;
    virtual_destinations: "networking.gloo.solo.io" "VirtualDestination" Ours<VirtualDestinationSpec>;
    external_services: "networking.gloo.solo.io" "ExternalService" Ours<ExternalServiceSpec>;
    external_endpoints: "networking.gloo.solo.io" "ExternalEndpoint" Ours<ExternalEndpointSpec>;
    fault_injection_policies: "resilience.policy.gloo.solo.io" "FaultInjectionPolicy" Ours<FaultInjectionPolicySpec>;
    retry_timeout_policies: "resilience.policy.gloo.solo.io" "RetryTimeoutPolicy" Ours<RetryTimeoutPolicySpec>;
    failover_policies: "resilience.policy.gloo.solo.io" "FailoverPolicy" Ours<FailoverPolicySpec>;
    outlier_detection_policies: "resilience.policy.gloo.solo.io" "OutlierDetectionPolicy" Ours<OutlierDetectionPolicySpec>;
    connection_policies: "resilience.policy.gloo.solo.io" "ConnectionPolicy" Ours<ConnectionPolicySpec>;
    client_tls_policies: "security.policy.gloo.solo.io" "ClientTLSPolicy" Ours<ClientTlsPolicySpec>;
    load_balancer_policies: "trafficcontrol.policy.gloo.solo.io" "LoadBalancerPolicy" Ours<LoadBalancerPolicySpec>;
    trim_proxy_config_policies: "resilience.policy.gloo.solo.io" "TrimProxyConfigPolicy" Ours<resilience::TrimProxyConfigPolicySpec>;
    access_policies: "security.policy.gloo.solo.io" "AccessPolicy" Ours<security::AccessPolicySpec>;
    cors_policies: "security.policy.gloo.solo.io" "CORSPolicy" Ours<CorsPolicySpec>;
    ext_auth_servers: "admin.gloo.solo.io" "ExtAuthServer" Ours<ExtAuthServerSpec>;
    ext_auth_policies: "security.policy.gloo.solo.io" "ExtAuthPolicy" Ours<ExtAuthPolicySpec>;
    header_manipulation_policies: "trafficcontrol.policy.gloo.solo.io" "HeaderManipulationPolicy" Ours<HeaderManipulationPolicySpec>;
    jwt_policies: "security.policy.gloo.solo.io" "JWTPolicy" Ours<JwtPolicySpec>;
    mirror_policies: "trafficcontrol.policy.gloo.solo.io" "MirrorPolicy" Ours<MirrorPolicySpec>;
    rate_limit_policies: "trafficcontrol.policy.gloo.solo.io" "RateLimitPolicy" Ours<RateLimitPolicySpec>;
    rate_limit_client_configs: "trafficcontrol.policy.gloo.solo.io" "RateLimitClientConfig" Ours<RateLimitClientConfigSpec>;
    rate_limit_server_configs: "admin.gloo.solo.io" "RateLimitServerConfig" Ours<RateLimitServerConfigSpec>;
    rate_limit_server_settings: "admin.gloo.solo.io" "RateLimitServerSettings" Ours<RateLimitServerSettingsSpec>;
}

pub(super) fn read<T: Decode>(object: &Arc<Object>, cache: &mut Cache, into: &mut ByName<T>) -> Problem {
    match cache.get(object) {
        Ok(input) => {
            let (warnings, unreadable) = (input.warnings.clone(), input.flaw.clone());
            into.insert((object.key().namespace.clone(), object.key().name.clone()), input);
            Problem { warnings, unreadable, ..Problem::default() }
        }
        Err(error) => Problem { unreadable: Some(error), ..Problem::default() },
    }
}
