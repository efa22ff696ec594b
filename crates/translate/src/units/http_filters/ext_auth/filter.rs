//! The filter that asks a server.

use meshrelay_api::Duration;
use meshrelay_api::admin::{ExtAuthHttpService, ExtAuthServerSpec};
use meshrelay_api::references::DestinationKind;
use serde_json::{Value, json};

use crate::policies::routes::added_problem;
use crate::report::{Code, Finding};
use crate::units::route_table::Target;

/// How long a server may take unless it says otherwise.
const TIMEOUT: Duration = Duration::from_nanos(2_000_000_000);

/// How much of a body a server gets unless it says otherwise.
const BODY_BYTES: u32 = 4096;

/// Status of what a server could not decide about, unless it says otherwise.
const STATUS_ON_ERROR: u32 = 403;

/// Where JWT filters, ours and Istio's, put the claims of tokens.
const JWT_METADATA: &str = "envoy.filters.http.jwt_authn";

/// The configuration of the filter for a server.
pub(super) fn config(spec: Option<&ExtAuthServerSpec>, target: &Target) -> Value {
    let default = ExtAuthServerSpec::default();
    let spec = spec.unwrap_or(&default);
    let timeout = spec.request_timeout.filter(|timeout| timeout.as_nanos() > 0).unwrap_or(TIMEOUT).to_string();
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transportApiVersion": "V3",
        "metadataContextNamespaces": [JWT_METADATA],
    });
    match &spec.http_service {
        None => {
            let service = json!({"clusterName": target.envoy_cluster(), "authority": target.authority()});
            config["grpcService"] = json!({"envoyGrpc": service, "timeout": timeout});
        }
        Some(service) => {
            config["httpService"] = http_service(service, target, &timeout);
            let headers = service.request.as_ref().map(|request| request.allowed_headers.as_slice());
            if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
                config["allowedHeaders"] = names(headers);
            }
        }
    }
    if spec.failure_mode_allow {
        config["failureModeAllow"] = true.into();
    }
    if let Some(body) = &spec.request_body {
        let bytes = if body.max_request_bytes == 0 { BODY_BYTES } else { body.max_request_bytes };
        config["withRequestBody"] = json!({
            "maxRequestBytes": bytes,
            "allowPartialMessage": body.allow_partial_message,
            "packAsBytes": body.pack_as_bytes,
        });
    }
    if spec.clear_route_cache {
        config["clearRouteCache"] = true.into();
    }
    if ![0, STATUS_ON_ERROR].contains(&spec.status_on_error) && is_status(spec.status_on_error) {
        config["statusOnError"] = json!({"code": spec.status_on_error});
    }
    if !spec.stat_prefix.is_empty() {
        config["statPrefix"] = spec.stat_prefix.as_str().into();
    }
    config
}

fn http_service(service: &ExtAuthHttpService, target: &Target, timeout: &str) -> Value {
    let uri = format!("http://{}:{}", target.host, target.port);
    let mut http = json!({"serverUri": {"uri": uri, "cluster": target.envoy_cluster(), "timeout": timeout}});
    if !service.path_prefix.is_empty() {
        http["pathPrefix"] = service.path_prefix.as_str().into();
    }
    let added = added(service).filter(|(name, value)| added_problem(name, value).is_none());
    let added: Vec<Value> = added.map(|(name, value)| json!({"key": name, "value": value})).collect();
    if !added.is_empty() {
        http["authorizationRequest"] = json!({"headersToAdd": added});
    }
    for (field, headers) in service.response.iter().flat_map(|response| {
        [
            ("allowedUpstreamHeaders", &response.allowed_upstream_headers),
            ("allowedClientHeaders", &response.allowed_client_headers),
        ]
    }) {
        if !headers.is_empty() {
            http["authorizationResponse"][field] = names(headers);
        }
    }
    http
}

/// Headers that the server gets beside those of the request.
fn added(service: &ExtAuthHttpService) -> impl Iterator<Item = (&String, &String)> {
    service.request.iter().flat_map(|request| &request.headers_to_add)
}

/// Names of headers, which Envoy has in small letters.
fn names(headers: &[String]) -> Value {
    let patterns: Vec<Value> = headers.iter().map(|name| json!({"exact": name.to_lowercase()})).collect();
    json!({"patterns": patterns})
}

/// Whether Envoy knows a status; it refuses the whole listener for another one.
fn is_status(code: u32) -> bool {
    matches!(code, 100 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=424 | 426 | 428 | 429 | 431
        | 500..=508 | 510 | 511)
}

/// Why a server cannot be asked at all, wherever it is.
pub(super) fn flaw(spec: &ExtAuthServerSpec) -> Option<Finding> {
    let kind = spec.destination_server.as_ref().map(|destination| &destination.kind);
    if kind == Some(&DestinationKind::ExternalService) {
        let text = "spec.destinationServer.kind: expected SERVICE or VIRTUAL_DESTINATION, found EXTERNAL_SERVICE";
        return Some((Code::BadValue, text.to_owned()));
    }
    let prefix = spec.http_service.as_ref().map(|http| &http.path_prefix)?;
    let is_bad = !prefix.is_empty() && !prefix.starts_with('/');
    is_bad.then(|| {
        let text = format!("spec.httpService.pathPrefix: expected a / at the beginning, found {prefix:?}");
        (Code::BadValue, text)
    })
}

/// What is wrong with a server's settings.
pub(super) fn problems(spec: &ExtAuthServerSpec) -> Vec<Finding> {
    let mut problems: Vec<Finding> = flaw(spec).into_iter().collect();
    for (name, value) in spec.http_service.iter().flat_map(added) {
        if let Some(problem) = added_problem(name, value) {
            let text = format!("spec.httpService.request.headersToAdd: {problem}: it is left out");
            problems.push((Code::BadValue, text));
        }
    }
    if spec.status_on_error != 0 && !is_status(spec.status_on_error) {
        let text = format!(
            "spec.statusOnError: expected a status that Envoy knows, found {}: {STATUS_ON_ERROR} takes its place",
            spec.status_on_error
        );
        problems.push((Code::BadValue, text));
    }
    if let Some(timeout) = spec.request_timeout.filter(|timeout| timeout.as_nanos() <= 0) {
        let text = format!("spec.requestTimeout: expected more than 0, found {timeout}: {TIMEOUT} takes its place");
        problems.push((Code::BadValue, text));
    }
    problems
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::ObjectKey;

    use super::*;
    use crate::ResourceRef;

    fn target() -> Target {
        Target {
            destination: ResourceRef { cluster: "c".into(), key: ObjectKey::default() },
            host: "auth.mesh".to_owned(),
            port: 8083,
            subset: Default::default(),
            weight: 0,
            is_mesh_host: true,
            way_out: None,
        }
    }

    #[test]
    fn a_server_without_settings_has_the_defaults() {
        let service = json!({"clusterName": "outbound|8083||auth.mesh", "authority": "outbound_.8083_._.auth.mesh"});
        let expected = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transportApiVersion": "V3",
            "metadataContextNamespaces": ["envoy.filters.http.jwt_authn"],
            "grpcService": {"envoyGrpc": service, "timeout": "2s"},
        });
        assert_eq!(config(None, &target()), expected);
    }

    #[test]
    fn all_settings_reach_the_filter() {
        let spec: ExtAuthServerSpec = serde_json::from_value(json!({
            "requestTimeout": "500ms", "failureModeAllow": true, "clearRouteCache": true, "statusOnError": 503,
            "statPrefix": "shop", "requestBody": {"packAsBytes": true},
            "httpService": {
                "pathPrefix": "/check",
                "request": {"allowedHeaders": ["X-User"], "headersToAdd": {"x-from": "mesh"}},
                "response": {"allowedUpstreamHeaders": ["x-a"], "allowedClientHeaders": ["x-b"]},
            },
        }))
        .unwrap();
        let config = config(Some(&spec), &target());
        let http = json!({
            "serverUri": {"uri": "http://auth.mesh:8083", "cluster": "outbound|8083||auth.mesh", "timeout": "0.500s"},
            "pathPrefix": "/check",
            "authorizationRequest": {"headersToAdd": [{"key": "x-from", "value": "mesh"}]},
            "authorizationResponse": {
                "allowedUpstreamHeaders": {"patterns": [{"exact": "x-a"}]},
                "allowedClientHeaders": {"patterns": [{"exact": "x-b"}]},
            },
        });
        assert_eq!(config["httpService"], http);
        assert_eq!(config.get("grpcService"), None);
        assert_eq!(config["allowedHeaders"], json!({"patterns": [{"exact": "x-user"}]}));
        let body = json!({"maxRequestBytes": 4096, "allowPartialMessage": false, "packAsBytes": true});
        assert_eq!(config["withRequestBody"], body);
        assert_eq!((&config["failureModeAllow"], &config["clearRouteCache"]), (&json!(true), &json!(true)));
        assert_eq!((&config["statusOnError"]["code"], &config["statPrefix"]), (&json!(503), &json!("shop")));
    }

    #[test]
    fn what_envoy_would_refuse_is_told_and_left_out() {
        let spec: ExtAuthServerSpec =
            serde_json::from_value(json!({"statusOnError": 299, "requestTimeout": "0s"})).unwrap();
        assert_eq!(problems(&spec).len(), 2);
        let grpc = config(Some(&spec), &target());
        assert_eq!(grpc.get("statusOnError"), None);
        assert_eq!(grpc["grpcService"]["timeout"], "2s");
        let headers = json!({"a": "%PROTOCOL%", "b": "%FOO%", "Host": "x", "c d": "x"});
        let spec = json!({"httpService": {"request": {"headersToAdd": headers}}});
        let spec: ExtAuthServerSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(problems(&spec).len(), 3);
        let request = &config(Some(&spec), &target())["httpService"]["authorizationRequest"];
        assert_eq!(request["headersToAdd"], json!([{"key": "a", "value": "%PROTOCOL%"}]));
        assert!(problems(&ExtAuthServerSpec::default()).is_empty());
        for spec in [
            json!({"httpService": {"pathPrefix": "check"}}),
            json!({"destinationServer": {"kind": "EXTERNAL_SERVICE"}}),
        ] {
            let spec: ExtAuthServerSpec = serde_json::from_value(spec).unwrap();
            assert!(flaw(&spec).is_some() && problems(&spec).len() == 1, "{spec:?}");
        }
    }
}
