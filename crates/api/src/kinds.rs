use std::sync::OnceLock;

use serde_json::Value;

use crate::Written::{Agent, Anywhere, Management, Server};
use crate::{
    DecodeError, Decoded, Kind, KindInfo, KindSchema, Metadata, Resource, Scope, admin, decode, internal, networking,
    resilience, security, traffic_control,
};

/// One line per kind. A new kind is its file with `…Spec` and `…Status` and one line here.
macro_rules! kinds {
    ($( $group:literal $version:literal in $module:ident {
        $( $kind:ident, $plural:literal, [$($short:literal),*], $written:ident, $spec:ident, $status:ident; )+
    } )+) => {
        /// Every kind, by group and name.
        pub const KINDS: &[KindInfo] = &[ $( $( *<$module::$spec as Kind>::INFO ),+ ),+ ];

        $( $(
            #[doc = concat!("An object of kind ", stringify!($kind), ".")]
            pub type $kind = Resource<$module::$spec>;

            impl Kind for $module::$spec {
                type Status = $module::$status;

                const INFO: &'static KindInfo = &KindInfo {
                    group: $group,
                    version: $version,
                    kind: stringify!($kind),
                    plural: $plural,
                    short_names: &[$($short),*],
                    scope: Scope::Namespaced,
                    written: $written,
                    schema: || {
                        static SCHEMA: OnceLock<KindSchema> = OnceLock::new();
                        SCHEMA.get_or_init(KindSchema::of::<$module::$spec, $module::$status>)
                    },
                };
            }
        )+ )+

        /// An object of any of our kinds.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum AnyResource {
            $( $(
                #[doc = concat!("Of kind ", stringify!($kind), ".")]
                $kind(Box<$kind>),
            )+ )+
        }

        impl AnyResource {
            /// The kind of the object.
            pub fn info(&self) -> &'static KindInfo {
                match self {
                    $( $( Self::$kind(_) => <$module::$spec as Kind>::INFO, )+ )+
                }
            }

            /// Name, labels and so on.
            pub fn metadata(&self) -> &Metadata {
                match self {
                    $( $( Self::$kind(resource) => &resource.metadata, )+ )+
                }
            }
        }

        /// Reads an object of whichever of our kinds it says to be; `None` when it is none of ours.
        ///
        /// # Errors
        /// As [`decode`].
        pub fn decode_any(object: &Value) -> Option<Result<Decoded<AnyResource>, DecodeError>> {
            let (api_version, kind) = (object.get("apiVersion")?.as_str()?, object.get("kind")?.as_str()?);
            let (group, version) = api_version.split_once('/')?;
            Some(match (group, version, kind) {
                $( $(
                    ($group, $version, stringify!($kind)) => decode::<$module::$spec>(object)
                        .map(|decoded| decoded.map(|resource| AnyResource::$kind(Box::new(resource)))),
                )+ )+
                _ => return None,
            })
        }
    };
}

// Kind, name in API paths, short names, who writes it where, its spec, its status.
#[rustfmt::skip]
kinds! {
    "admin.gloo.solo.io" "v2" in admin {
        ExtAuthServer, "extauthservers", [], Anywhere, ExtAuthServerSpec, ExtAuthServerStatus;
        KubernetesCluster, "kubernetesclusters", ["kc"], Management, KubernetesClusterSpec, KubernetesClusterStatus;
        RateLimitServerConfig, "ratelimitserverconfigs", [], Anywhere, RateLimitServerConfigSpec, RateLimitServerConfigStatus;
        RateLimitServerSettings, "ratelimitserversettings", [], Anywhere, RateLimitServerSettingsSpec, RateLimitServerSettingsStatus;
        RootTrustPolicy, "roottrustpolicies", ["rtp"], Management, RootTrustPolicySpec, RootTrustPolicyStatus;
        Workspace, "workspaces", ["ws"], Management, WorkspaceSpec, WorkspaceStatus;
        WorkspaceSettings, "workspacesettings", ["wss"], Anywhere, WorkspaceSettingsSpec, WorkspaceSettingsStatus;
    }
    "internal.gloo.solo.io" "v2" in internal {
        DiscoveredCNI, "discoveredcnis", [], Agent, DiscoveredCniSpec, DiscoveredCniStatus;
        DiscoveredGateway, "discoveredgateways", ["dg"], Agent, DiscoveredGatewaySpec, DiscoveredGatewayStatus;
        IssuedCertificate, "issuedcertificates", ["ic"], Server, IssuedCertificateSpec, IssuedCertificateStatus;
        Mesh, "meshes", [], Agent, MeshSpec, MeshStatus;
    }
    "networking.gloo.solo.io" "v2" in networking {
        ExternalEndpoint, "externalendpoints", ["ep"], Anywhere, ExternalEndpointSpec, ExternalEndpointStatus;
        ExternalService, "externalservices", ["es"], Anywhere, ExternalServiceSpec, ExternalServiceStatus;
        RouteTable, "routetables", ["rt"], Anywhere, RouteTableSpec, RouteTableStatus;
        VirtualDestination, "virtualdestinations", ["vd"], Anywhere, VirtualDestinationSpec, VirtualDestinationStatus;
        VirtualGateway, "virtualgateways", ["vg"], Anywhere, VirtualGatewaySpec, VirtualGatewayStatus;
    }
    "resilience.policy.gloo.solo.io" "v2" in resilience {
        ConnectionPolicy, "connectionpolicies", [], Anywhere, ConnectionPolicySpec, ConnectionPolicyStatus;
        FailoverPolicy, "failoverpolicies", [], Anywhere, FailoverPolicySpec, FailoverPolicyStatus;
        FaultInjectionPolicy, "faultinjectionpolicies", [], Anywhere, FaultInjectionPolicySpec, FaultInjectionPolicyStatus;
        OutlierDetectionPolicy, "outlierdetectionpolicies", [], Anywhere, OutlierDetectionPolicySpec, OutlierDetectionPolicyStatus;
        RetryTimeoutPolicy, "retrytimeoutpolicies", [], Anywhere, RetryTimeoutPolicySpec, RetryTimeoutPolicyStatus;
        TrimProxyConfigPolicy, "trimproxyconfigpolicies", [], Anywhere,
            TrimProxyConfigPolicySpec, TrimProxyConfigPolicyStatus;
    }
    "security.policy.gloo.solo.io" "v2" in security {
        AccessPolicy, "accesspolicies", [], Anywhere, AccessPolicySpec, AccessPolicyStatus;
        CORSPolicy, "corspolicies", [], Anywhere, CorsPolicySpec, CorsPolicyStatus;
        ClientTLSPolicy, "clienttlspolicies", [], Anywhere, ClientTlsPolicySpec, ClientTlsPolicyStatus;
        ExtAuthPolicy, "extauthpolicies", [], Anywhere, ExtAuthPolicySpec, ExtAuthPolicyStatus;
        JWTPolicy, "jwtpolicies", [], Anywhere, JwtPolicySpec, JwtPolicyStatus;
    }
    "trafficcontrol.policy.gloo.solo.io" "v2" in traffic_control {
        HeaderManipulationPolicy, "headermanipulationpolicies", [], Anywhere, HeaderManipulationPolicySpec, HeaderManipulationPolicyStatus;
        LoadBalancerPolicy, "loadbalancerpolicies", [], Anywhere, LoadBalancerPolicySpec, LoadBalancerPolicyStatus;
        MirrorPolicy, "mirrorpolicies", [], Anywhere, MirrorPolicySpec, MirrorPolicyStatus;
        RateLimitClientConfig, "ratelimitclientconfigs", [], Anywhere, RateLimitClientConfigSpec, RateLimitClientConfigStatus;
        RateLimitPolicy, "ratelimitpolicies", [], Anywhere, RateLimitPolicySpec, RateLimitPolicyStatus;
    }
}

/// The kind of an API group with a name.
pub fn kind_info(group: &str, kind: &str) -> Option<&'static KindInfo> {
    KINDS.iter().find(|info| info.group == group && info.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_names_are_unique() {
        let names: Vec<_> = KINDS.iter().map(|info| (info.group, info.kind)).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for (index, info) in KINDS.iter().enumerate() {
            assert!(KINDS[..index].iter().all(|other| other.crd_name() != info.crd_name()), "{}", info.plural);
        }
    }

    #[test]
    fn a_kind_is_found_by_group_and_name() {
        assert_eq!(kind_info("networking.gloo.solo.io", "RouteTable").unwrap().plural, "routetables");
        assert!(kind_info("admin.gloo.solo.io", "RouteTable").is_none());
        assert!(decode_any(&serde_json::json!({"apiVersion": "v1", "kind": "Service"})).is_none());
        assert!(decode_any(&serde_json::json!({})).is_none());
    }
}
