//! What the settings of policies become in Istio. What Istio would refuse is left out and told.

use meshrelay_api::Duration;
use meshrelay_api::istio::destination_rule::{
    ClientTlsSettings, ClientTlsSettingsMode, ConnectionPoolHttp, ConnectionPoolSettings, ConnectionPoolTcp,
    ConsistentHashLb, HttpCookie, LoadBalancerSettings, OutlierDetection, SimpleLb, TcpKeepalive,
};
use meshrelay_api::resilience::{ConnectionPolicySpec, OutlierDetectionPolicySpec};
use meshrelay_api::security::{ClientTlsConfig, ClientTlsPolicyMode, ClientTlsPolicySpec};
use meshrelay_api::traffic_control::{ConsistentHash, HashKey, LbPolicy, LoadBalancerPolicySpec, SimpleLoadBalancer};
use serde_json::{Map, Value, json};

use crate::report::{Code, Finding};

const MILLISECOND: i64 = 1_000_000;

/// Values of fields, as far as Istio takes them.
struct Reader<'a>(&'a mut Vec<Finding>);

impl Reader<'_> {
    fn refuse(&mut self, field: &str, expected: &str, found: impl std::fmt::Display) {
        let text = format!("spec.{field}: expected {expected}, found {found}: it is left out");
        self.0.push((Code::BadValue, text));
    }

    /// A duration of whole milliseconds.
    fn duration(&mut self, field: &str, duration: Option<Duration>) -> Option<String> {
        let duration = duration?;
        let nanos = duration.as_nanos();
        if nanos >= MILLISECOND && nanos % MILLISECOND == 0 {
            return Some(duration.to_string());
        }
        self.refuse(field, "a duration of at least 1ms, in whole milliseconds", duration);
        None
    }

    /// A number that 0 stands for nothing of.
    fn number(&mut self, field: &str, number: i32) -> Option<i32> {
        if number < 0 {
            self.refuse(field, "0 or more", number);
        }
        (number > 0).then_some(number)
    }
}

/// When endpoints are taken out.
pub(crate) fn outlier_detection(spec: &OutlierDetectionPolicySpec, problems: &mut Vec<Finding>) -> OutlierDetection {
    let mut read = Reader(problems);
    let config = spec.config.clone().unwrap_or_default();
    let consecutive5xx_errors = config.consecutive_errors.filter(|number| *number > 0);
    if config.consecutive_errors == Some(0) {
        read.refuse("config.consecutiveErrors", "1 or more", 0);
    }
    let max_ejection_percent = match config.max_ejection_percent {
        0 => 100,
        percent => i32::try_from(percent).ok().filter(|percent| *percent <= 100).unwrap_or_else(|| {
            read.refuse("config.maxEjectionPercent", "0 to 100", percent);
            100
        }),
    };
    OutlierDetection {
        consecutive5xx_errors,
        consecutive_gateway_errors: config.consecutive_gateway_errors,
        interval: read.duration("config.interval", config.interval),
        base_ejection_time: read.duration("config.baseEjectionTime", config.base_ejection_time),
        max_ejection_percent: Some(max_ejection_percent),
        ..OutlierDetection::default()
    }
}

/// Limits of connections and requests; `None` if nothing is limited.
pub(crate) fn connection_pool(
    spec: &ConnectionPolicySpec,
    problems: &mut Vec<Finding>,
) -> Option<ConnectionPoolSettings> {
    let mut read = Reader(problems);
    let config = spec.config.clone().unwrap_or_default();
    let is_empty = config == Default::default();
    let tcp = config.tcp.unwrap_or_default();
    let keepalive = tcp.tcp_keepalive.map(|keepalive| TcpKeepalive {
        probes: Some(keepalive.probes).filter(|probes| *probes > 0),
        time: read.duration("config.tcp.tcpKeepalive.time", keepalive.time),
        interval: read.duration("config.tcp.tcpKeepalive.interval", keepalive.interval),
    });
    let tcp = ConnectionPoolTcp {
        max_connections: read.number("config.tcp.maxConnections", tcp.max_connections),
        connect_timeout: read.duration("config.tcp.connectTimeout", tcp.connect_timeout),
        tcp_keepalive: keepalive,
        ..ConnectionPoolTcp::default()
    };
    let http = config.http.unwrap_or_default();
    let http = ConnectionPoolHttp {
        max_requests_per_connection: read
            .number("config.http.maxRequestsPerConnection", http.max_requests_per_connection),
        max_retries: read.number("config.http.maxRetries", http.max_retries),
        http2_max_requests: read.number("config.http.maxRequests", http.max_requests),
        http1_max_pending_requests: read.number("config.http.maxPendingRequests", http.max_pending_requests),
        idle_timeout: read.duration("config.http.idleTimeout", http.idle_timeout),
        ..ConnectionPoolHttp::default()
    };
    if is_empty {
        problems.push((Code::Missing, "spec.config: expected tcp or http, found neither: no effect".to_owned()));
    }
    let tcp = Some(tcp).filter(|tcp| *tcp != ConnectionPoolTcp::default());
    let http = Some(http).filter(|http| *http != ConnectionPoolHttp::default());
    (tcp.is_some() || http.is_some()).then_some(ConnectionPoolSettings { tcp, http })
}

/// Which endpoint gets which request; `None` if the mesh chooses.
pub(crate) fn load_balancer(
    spec: &LoadBalancerPolicySpec,
    problems: &mut Vec<Finding>,
) -> Option<LoadBalancerSettings> {
    let config = spec.config.as_ref()?;
    let mut settings = LoadBalancerSettings {
        warmup_duration_secs: Reader(problems).duration("config.warmupDurationSecs", config.warmup_duration_secs),
        ..LoadBalancerSettings::default()
    };
    match config.lb_policy() {
        Err(conflict) => problems.push(told("spec.config", &conflict)),
        Ok(None) => problems.push((
            Code::Missing,
            "spec.config: expected simple or consistentHash, found neither: the mesh chooses".to_owned(),
        )),
        Ok(Some(LbPolicy::Simple(simple))) => {
            settings.simple = match simple {
                SimpleLoadBalancer::Unspecified => None,
                SimpleLoadBalancer::Random => Some(SimpleLb::Random),
                SimpleLoadBalancer::Passthrough => Some(SimpleLb::Passthrough),
                SimpleLoadBalancer::RoundRobin => Some(SimpleLb::RoundRobin),
                SimpleLoadBalancer::LeastRequest => Some(SimpleLb::LeastRequest),
                SimpleLoadBalancer::Unknown(value) => {
                    problems.push((Code::UnknownValue, format!("spec.config.simple: {value} is not known")));
                    None
                }
            };
        }
        Ok(Some(LbPolicy::ConsistentHash(hash))) => settings.consistent_hash = consistent_hash(hash, problems),
    }
    Some(settings).filter(|settings| *settings != LoadBalancerSettings::default())
}

fn consistent_hash(hash: &ConsistentHash, problems: &mut Vec<Finding>) -> Option<ConsistentHashLb> {
    let field = "spec.config.consistentHash";
    let key = match hash.hash_key() {
        Ok(key) => key,
        Err(conflict) => {
            problems.push(told(field, &conflict));
            return None;
        }
    };
    let missing = |what: &str| (Code::Missing, format!("{field}: expected {what}: the mesh chooses"));
    let mut settings = ConsistentHashLb::default();
    match key {
        Some(HashKey::HttpHeaderName(name)) if !name.is_empty() => settings.http_header_name = Some(name.clone()),
        Some(HashKey::HttpQueryParameterName(name)) if !name.is_empty() => {
            settings.http_query_parameter_name = Some(name.clone());
        }
        Some(HashKey::UseSourceIp(true)) => settings.use_source_ip = Some(true),
        Some(HashKey::HttpCookie(cookie)) if !cookie.name.is_empty() => {
            settings.http_cookie = Some(HttpCookie {
                name: cookie.name.clone(),
                path: Some(cookie.path.clone()).filter(|path| !path.is_empty()),
                ttl: cookie.ttl.filter(|ttl| ttl.as_nanos() >= 0).map(|ttl| ttl.to_string()),
                ..HttpCookie::default()
            });
        }
        Some(_) => {
            problems.push(missing("a name, or true"));
            return None;
        }
        None => {
            problems.push(missing("httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName"));
            return None;
        }
    }
    Some(settings)
}

/// What a DestinationRule cannot say: the part `commonLbConfig` of Envoy's clusters, empty if there is nothing to say.
pub(crate) fn cluster_settings(spec: &LoadBalancerPolicySpec, problems: &mut Vec<Finding>) -> Map<String, Value> {
    let mut settings = Map::new();
    let Some(config) = &spec.config else { return settings };
    if let Some(threshold) = config.healthy_panic_threshold {
        if (0.0..=100.0).contains(&threshold) {
            settings.insert("healthyPanicThreshold".to_owned(), json!({"value": threshold}));
        } else {
            Reader(problems).refuse("config.healthyPanicThreshold", "0 to 100", threshold);
        }
    }
    if let Some(window) = config.update_merge_window {
        if window.as_nanos() >= 0 {
            settings.insert("updateMergeWindow".to_owned(), json!(window.to_string()));
        } else {
            Reader(problems).refuse("config.updateMergeWindow", "a duration of 0s or more", window);
        }
    }
    settings
}

/// How clients encrypt; `None` if that is not said. `host` is the name that is asked for where the policy has none;
/// empty if there is none.
pub(crate) fn client_tls(
    spec: &ClientTlsPolicySpec,
    host: &str,
    problems: &mut Vec<Finding>,
) -> Option<ClientTlsSettings> {
    let of = |mode| ClientTlsSettings { mode: Some(mode), ..ClientTlsSettings::default() };
    let with = |mode, config: Option<&ClientTlsConfig>| {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ClientTlsSettings {
            sni: config.and_then(|config| text(config.sni.as_deref()?)).or_else(|| text(host)),
            credential_name: config.and_then(|config| text(&config.credential_name)),
            ..of(mode)
        }
    };
    match spec.mode() {
        Err(conflict) => {
            problems.push(told("spec", &conflict));
            None
        }
        Ok(None) => {
            let text = "spec: expected disable, simple, mutual or istioMutual, found none: no effect";
            problems.push((Code::Missing, text.to_owned()));
            None
        }
        Ok(Some(ClientTlsPolicyMode::Disable(_))) => Some(of(ClientTlsSettingsMode::Disable)),
        Ok(Some(ClientTlsPolicyMode::IstioMutual(_))) => Some(of(ClientTlsSettingsMode::IstioMutual)),
        Ok(Some(ClientTlsPolicyMode::Simple(simple))) => {
            Some(with(ClientTlsSettingsMode::Simple, simple.config.as_ref()))
        }
        Ok(Some(ClientTlsPolicyMode::Mutual(mutual))) => {
            let settings = with(ClientTlsSettingsMode::Mutual, mutual.config.as_ref());
            if settings.credential_name.is_none() {
                let text = "spec.mutual.config.credentialName: expected a Secret, found none: no effect";
                problems.push((Code::Missing, text.to_owned()));
                return None;
            }
            Some(settings)
        }
    }
}

fn told(field: &str, conflict: &meshrelay_api::OneofConflict) -> Finding {
    let (code, text) = Code::split(conflict);
    (code, format!("{field}: {text}: none has an effect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(problems: Vec<Finding>) -> Vec<String> {
        problems.into_iter().map(|(_, text)| text).collect()
    }

    fn outlier(config: Value) -> (Value, Vec<String>) {
        let mut problems = Vec::new();
        let spec = serde_json::from_value(json!({"config": config})).unwrap();
        (serde_json::to_value(outlier_detection(&spec, &mut problems)).unwrap(), texts(problems))
    }

    fn connection(config: Value) -> (Value, Vec<String>) {
        let mut problems = Vec::new();
        let spec = serde_json::from_value(json!({"config": config})).unwrap();
        (serde_json::to_value(connection_pool(&spec, &mut problems)).unwrap(), texts(problems))
    }

    fn balancer(config: Value) -> (Value, Value, Vec<String>) {
        let mut problems = Vec::new();
        let spec = serde_json::from_value(json!({"config": config})).unwrap();
        let rule = serde_json::to_value(load_balancer(&spec, &mut problems)).unwrap();
        (rule, Value::Object(cluster_settings(&spec, &mut problems)), texts(problems))
    }

    fn tls(spec: Value) -> (Value, Vec<String>) {
        let mut problems = Vec::new();
        let spec = serde_json::from_value(spec).unwrap();
        (serde_json::to_value(client_tls(&spec, "a.example.com", &mut problems)).unwrap(), texts(problems))
    }

    #[test]
    fn outlier_detection_has_the_documented_defaults() {
        assert_eq!(outlier(json!({})), (json!({"maxEjectionPercent": 100}), vec![]));
        let all = json!({"consecutiveErrors": 2, "consecutiveGatewayErrors": 3, "interval": "1m", "maxEjectionPercent": 20,
            "baseEjectionTime": "500ms"});
        let expected = json!({"consecutive5xxErrors": 2, "consecutiveGatewayErrors": 3, "interval": "60s",
            "maxEjectionPercent": 20, "baseEjectionTime": "0.500s"});
        assert_eq!(outlier(all), (expected, vec![]));
        let (settings, problems) =
            outlier(json!({"consecutiveErrors": 0, "interval": "1us", "maxEjectionPercent": 101}));
        assert_eq!((settings, problems.len()), (json!({"maxEjectionPercent": 100}), 3));
    }

    #[test]
    fn zeros_of_connection_policies_limit_nothing() {
        let all = json!({
            "tcp": {"maxConnections": 1, "connectTimeout": "2s", "tcpKeepalive": {"probes": 3, "time": "4s",
                "interval": "5s"}},
            "http": {"maxRequestsPerConnection": 6, "maxRetries": 7, "maxRequests": 8, "maxPendingRequests": 9,
                "idleTimeout": "10s"},
        });
        let expected = json!({
            "tcp": {"maxConnections": 1, "connectTimeout": "2s", "tcpKeepalive": {"probes": 3, "time": "4s",
                "interval": "5s"}},
            "http": {"maxRequestsPerConnection": 6, "maxRetries": 7, "http2MaxRequests": 8,
                "http1MaxPendingRequests": 9, "idleTimeout": "10s"},
        });
        assert_eq!(connection(all), (expected, vec![]));
        let (settings, problems) = connection(json!({"tcp": {"maxConnections": -1}, "http": {"idleTimeout": "0s"}}));
        assert_eq!((settings, problems.len()), (Value::Null, 2));
        assert_eq!(connection(json!({})).1.len(), 1);
        assert_eq!(connection(json!({"tcp": {"tcpKeepalive": {}}})).0, json!({"tcp": {"tcpKeepalive": {}}}));
    }

    #[test]
    fn requests_are_spread_or_hashed() {
        for (config, rule, cluster, problems) in [
            (json!({"simple": "ROUND_ROBIN"}), json!({"simple": "ROUND_ROBIN"}), json!({}), 0),
            (json!({"simple": "UNSPECIFIED"}), Value::Null, json!({}), 0),
            (
                json!({"simple": "LEAST_REQUEST", "warmupDurationSecs": "1m"}),
                json!({"simple": "LEAST_REQUEST", "warmupDurationSecs": "60s"}),
                json!({}),
                0,
            ),
            (json!({"simple": "SOMEHOW"}), Value::Null, json!({}), 1),
            (
                json!({"consistentHash": {"httpHeaderName": "x-user"}}),
                json!({"consistentHash": {"httpHeaderName": "x-user"}}),
                json!({}),
                0,
            ),
            (
                json!({"consistentHash": {"httpQueryParameterName": "user"}}),
                json!({"consistentHash": {"httpQueryParameterName": "user"}}),
                json!({}),
                0,
            ),
            (
                json!({"consistentHash": {"useSourceIp": true}}),
                json!({"consistentHash": {"useSourceIp": true}}),
                json!({}),
                0,
            ),
            (
                json!({"consistentHash": {"httpCookie": {"name": "c", "path": "/", "ttl": "0s"}}}),
                json!({"consistentHash": {"httpCookie": {"name": "c", "path": "/", "ttl": "0s"}}}),
                json!({}),
                0,
            ),
            (json!({"consistentHash": {"useSourceIp": false}}), Value::Null, json!({}), 1),
            (json!({"consistentHash": {}}), Value::Null, json!({}), 1),
            (json!({"consistentHash": {"useSourceIp": true, "httpHeaderName": "a"}}), Value::Null, json!({}), 1),
            (json!({"simple": "RANDOM", "consistentHash": {"useSourceIp": true}}), Value::Null, json!({}), 1),
            (
                json!({"simple": "RANDOM", "healthyPanicThreshold": 12.5, "updateMergeWindow": "0s"}),
                json!({"simple": "RANDOM"}),
                json!({"healthyPanicThreshold": {"value": 12.5}, "updateMergeWindow": "0s"}),
                0,
            ),
            (
                json!({"simple": "RANDOM", "healthyPanicThreshold": 101, "updateMergeWindow": "-1s"}),
                json!({"simple": "RANDOM"}),
                json!({}),
                2,
            ),
        ] {
            let (found_rule, found_cluster, found) = balancer(config.clone());
            assert_eq!((found_rule, found_cluster), (rule, cluster), "{config}");
            assert_eq!(found.len(), problems, "{config}: {found:?}");
        }
    }

    #[test]
    fn tls_asks_for_the_host_unless_told_otherwise() {
        for (spec, expected, problems) in [
            (json!({"disable": {}}), json!({"mode": "DISABLE"}), 0),
            (json!({"istioMutual": {}}), json!({"mode": "ISTIO_MUTUAL"}), 0),
            (json!({"simple": {}}), json!({"mode": "SIMPLE", "sni": "a.example.com"}), 0),
            (
                json!({"simple": {"config": {"sni": "b", "credentialName": "s"}}}),
                json!({"mode": "SIMPLE", "sni": "b", "credentialName": "s"}),
                0,
            ),
            (
                json!({"mutual": {"config": {"credentialName": "s"}}}),
                json!({"mode": "MUTUAL", "sni": "a.example.com", "credentialName": "s"}),
                0,
            ),
            (json!({"mutual": {}}), Value::Null, 1),
            (json!({"simple": {}, "disable": {}}), Value::Null, 1),
            (json!({}), Value::Null, 1),
        ] {
            let (found, told) = tls(spec.clone());
            assert_eq!((found, told.len()), (expected, problems), "{spec}");
        }
    }
}
