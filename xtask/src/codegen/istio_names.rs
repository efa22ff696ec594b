//! Names of the generated Istio types: those of Istio's own API, which its documentation uses and schemas do not tell.

/// Fields that a definition has twice, for a name that older versions misspelt.
pub(crate) const DEPRECATED_ALIAS: char = '_';

/// Names of objects and enums, by kind (`*` for all) and the end of the path to them. The first that fits counts, so
/// longer ends come first.
const NAMES: [(&str, &str, &str); 99] = [
    ("VirtualService", ".http.match", "HttpMatchRequest"),
    ("VirtualService", ".http.route", "HttpRouteDestination"),
    ("VirtualService", ".http.redirect", "HttpRedirect"),
    ("VirtualService", ".http.directResponse", "HttpDirectResponse"),
    ("VirtualService", ".directResponse.body", "HttpBody"),
    ("VirtualService", ".http.rewrite", "HttpRewrite"),
    ("VirtualService", ".rewrite.uriRegexRewrite", "RegexRewrite"),
    ("VirtualService", ".http.fault", "HttpFaultInjection"),
    ("VirtualService", ".fault.delay", "FaultDelay"),
    ("VirtualService", ".fault.abort", "FaultAbort"),
    ("VirtualService", ".http.mirrors", "HttpMirrorPolicy"),
    ("VirtualService", ".http.mirror", "Destination"),
    ("VirtualService", ".http.retries", "HttpRetry"),
    ("VirtualService", ".match.authority", "StringMatch"),
    ("VirtualService", ".match.headers", "StringMatch"),
    ("VirtualService", ".match.method", "StringMatch"),
    ("VirtualService", ".match.queryParams", "StringMatch"),
    ("VirtualService", ".match.scheme", "StringMatch"),
    ("VirtualService", ".match.uri", "StringMatch"),
    ("VirtualService", ".match.withoutHeaders", "StringMatch"),
    ("VirtualService", ".headers.request", "HeaderOperations"),
    ("VirtualService", ".headers.response", "HeaderOperations"),
    ("VirtualService", ".tcp.match", "L4MatchAttributes"),
    ("VirtualService", ".tls.match", "TlsMatchAttributes"),
    ("VirtualService", ".destination.port", "PortSelector"),
    ("VirtualService", ".mirror.port", "PortSelector"),
    ("DestinationRule", ".portLevelSettings.port", "PortSelector"),
    ("Sidecar", ".egressProxy.port", "PortSelector"),
    ("EnvoyFilter", ".configPatches.match", "ConfigObjectMatch"),
    ("EnvoyFilter", ".match.cluster", "ClusterMatch"),
    ("EnvoyFilter", ".match.listener", "ListenerMatch"),
    ("EnvoyFilter", ".match.proxy", "ProxyMatch"),
    ("EnvoyFilter", ".vhost.route", "RouteMatch"),
    ("EnvoyFilter", ".match.waypoint", "WaypointMatch"),
    ("EnvoyFilter", ".waypoint.route", "WaypointRouteMatch"),
    ("DestinationRule", ".loadBalancer.simple", "SimpleLb"),
    ("EnvoyFilter", ".match.context", "PatchContext"),
    ("VirtualService", ".http", "HttpRoute"),
    ("VirtualService", ".percentage", "Percent"),
    ("VirtualService", ".mirrorPercentage", "Percent"),
    ("VirtualService", ".allowOrigins", "StringMatch"),
    ("VirtualService", ".tcp", "TcpRoute"),
    ("VirtualService", ".tls", "TlsRoute"),
    ("VirtualService", ".route", "RouteDestination"),
    ("DestinationRule", ".subsets", "Subset"),
    ("DestinationRule", ".portLevelSettings", "PortTrafficPolicy"),
    ("*", ".connectionPool", "ConnectionPoolSettings"),
    ("*", ".inboundConnectionPool", "ConnectionPoolSettings"),
    ("*", "onnectionPool.http", "ConnectionPoolHttp"),
    ("*", "onnectionPool.tcp", "ConnectionPoolTcp"),
    ("DestinationRule", ".loadBalancer", "LoadBalancerSettings"),
    ("DestinationRule", ".consistentHash", "ConsistentHashLb"),
    ("DestinationRule", ".attributes", "CookieAttribute"),
    ("DestinationRule", ".localityLbSetting", "LocalityLoadBalancerSetting"),
    ("DestinationRule", ".warmup", "WarmupConfiguration"),
    ("DestinationRule", ".tls", "ClientTlsSettings"),
    ("DestinationRule", ".tunnel", "TunnelSettings"),
    ("DestinationRule", ".workloadSelector", "MatchLabelsSelector"),
    ("Gateway", ".servers", "Server"),
    ("*", ".tls", "ServerTlsSettings"),
    ("*", ".tlsCertificates", "TlsCertificate"),
    ("Sidecar", ".egress", "EgressListener"),
    ("Sidecar", ".ingress", "IngressListener"),
    ("Sidecar", ".egressProxy", "Destination"),
    ("ServiceEntry", ".ports", "ServicePort"),
    ("ServiceEntry", ".endpoints", "WorkloadEntry"),
    ("WorkloadGroup", ".metadata", "TemplateMetadata"),
    ("WorkloadGroup", ".template", "WorkloadEntry"),
    ("WorkloadGroup", ".probe", "ReadinessProbe"),
    ("WorkloadGroup", ".exec", "ExecHealthCheck"),
    ("WorkloadGroup", ".grpc", "GrpcHealthCheck"),
    ("WorkloadGroup", ".httpGet", "HttpHealthCheck"),
    ("WorkloadGroup", ".httpHeaders", "HttpHeader"),
    ("WorkloadGroup", ".tcpSocket", "TcpHealthCheck"),
    ("EnvoyFilter", ".configPatches", "ConfigPatch"),
    ("EnvoyFilter", ".filterChain", "FilterChainMatch"),
    ("EnvoyFilter", ".filter", "FilterMatch"),
    ("EnvoyFilter", ".subFilter", "SubFilterMatch"),
    ("EnvoyFilter", ".routeConfiguration", "RouteConfigurationMatch"),
    ("EnvoyFilter", ".vhost", "VirtualHostMatch"),
    ("*", ".targetRefs", "PolicyTargetReference"),
    ("*", ".targetRef", "PolicyTargetReference"),
    ("AuthorizationPolicy", ".rules", "Rule"),
    ("AuthorizationPolicy", ".when", "Condition"),
    ("AuthorizationPolicy", ".provider", "ExtensionProvider"),
    ("*", ".selector", "MatchLabelsSelector"),
    ("PeerAuthentication", ".mtls", "MutualTls"),
    ("PeerAuthentication", ".portLevelMtls", "MutualTls"),
    ("RequestAuthentication", ".jwtRules", "JwtRule"),
    ("RequestAuthentication", ".fromHeaders", "JwtHeader"),
    ("RequestAuthentication", ".outputClaimToHeaders", "ClaimToHeader"),
    ("*", ".maxProtocolVersion", "TlsProtocol"),
    ("*", ".minProtocolVersion", "TlsProtocol"),
    ("*", ".h2UpgradePolicy", "H2UpgradePolicy"),
    ("Sidecar", ".captureMode", "CaptureMode"),
    ("EnvoyFilter", ".applyTo", "ApplyTo"),
    ("ServiceEntry", ".location", "Location"),
    ("ServiceEntry", ".resolution", "Resolution"),
    ("AuthorizationPolicy", ".action", "Action"),
];

/// The name in Istio's API of the type at a path such as `.http.match`, where it is not that of the field.
pub(crate) fn known_name(kind: &str, path: &str) -> Option<&'static str> {
    NAMES.iter().find(|(of, end, _)| (*of == "*" || *of == kind) && path.ends_with(end)).map(|(_, _, name)| *name)
}

/// `minProtocolVersion` → `MinProtocolVersion`.
pub(crate) fn pascal_case(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// `TLS_AUTO` → `TlsAuto`; a number stays apart from a number before it (`TLSV1_0` → `Tlsv1_0`).
pub(crate) fn enum_variant(value: &str) -> String {
    let mut variant = String::new();
    for word in value.split('_') {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            variant.push('_');
        }
        variant.push_str(&pascal_case(&word.to_lowercase()));
    }
    variant
}

/// `http2MaxRequests` → `http2_max_requests`, made raw when it is a keyword.
pub(crate) fn field_name(name: &str) -> String {
    let mut field = String::new();
    for (index, c) in name.char_indices() {
        if c.is_ascii_uppercase() && index > 0 {
            field.push('_');
        }
        field.push(c.to_ascii_lowercase());
    }
    if matches!(field.as_str(), "match" | "type" | "ref") { format!("r#{field}") } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rust() {
        assert_eq!(known_name("VirtualService", ".http.match.uri"), Some("StringMatch"));
        assert_eq!(known_name("Gateway", ".servers.port"), None);
        assert_eq!(pascal_case("newField"), "NewField");
        assert_eq!(field_name("consecutive5xxErrors"), "consecutive5xx_errors");
        assert_eq!(field_name("match"), "r#match");
        assert_eq!(field_name("VirtualService"), "virtual_service");
        assert_eq!(enum_variant("AUTO_PASSTHROUGH"), "AutoPassthrough");
        assert_eq!(enum_variant("TLSV1_0"), "Tlsv1_0");
    }
}
