//! Documents as users write them, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use meshrelay_api::{AnyResource, Decoded, decode_any};
use serde_json::Value;

fn read(yaml: &str) -> Result<Decoded<AnyResource>, String> {
    let document: Value = serde_saphyr::from_str(yaml).unwrap();
    decode_any(&document).expect("one of our kinds").map_err(|error| error.to_string())
}

fn warnings(yaml: &str) -> Vec<String> {
    read(yaml).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_catch_all_workspace() {
    let yaml = "
apiVersion: admin.gloo.solo.io/v2
kind: Workspace
metadata: {name: everything, namespace: gloo-mesh}
spec:
  workloadClusters:
    - name: '*'
      namespaces:
        - name: '*'
";
    let AnyResource::Workspace(workspace) = read(yaml).unwrap().value else { panic!("another kind") };
    assert_eq!(workspace.spec.workload_clusters[0].namespaces[0].name, "*");
    assert_eq!(warnings(yaml), [] as [String; 0]);
}

#[test]
fn a_gateway_with_tls_and_a_list_of_hosts() {
    let yaml = "
apiVersion: networking.gloo.solo.io/v2
kind: VirtualGateway
metadata: {name: north-south, namespace: gateways}
spec:
  workloads:
    - selector: {labels: {istio: ingressgateway}, cluster: cluster1}
  listeners:
    - http: {}
      port: {number: 80}
      httpsRedirect: true
    - http: {}
      port: {name: https}
      tls: {mode: SIMPLE, secretName: tls-secret, parameters: {minimumProtocolVersion: TLSv1_3}}
      allowedRouteTables:
        - host: '*'
";
    let AnyResource::VirtualGateway(gateway) = read(yaml).unwrap().value else { panic!("another kind") };
    assert_eq!(gateway.spec.listeners[0].https_redirect, Some(true));
    assert_eq!(gateway.spec.listeners[1].tls.as_ref().unwrap().mode.as_str(), "SIMPLE");
    assert_eq!(warnings(yaml), [] as [String; 0]);
}

#[test]
fn rules_that_kubernetes_would_enforce_are_told() {
    let yaml = "
apiVersion: networking.gloo.solo.io/v2
kind: VirtualGateway
metadata: {name: gw}
spec:
  listeners:
    - http: {}
      tcp: {}
      port: {number: 0}
      appProtocol: HTTP-WITH-DETAILS
      tls: {mode: simple}
";
    let mut told = warnings(yaml);
    told.sort();
    assert_eq!(
        told,
        [
            "MR0103: spec.listeners[0].tls.mode: expected one of PASSTHROUGH, SIMPLE, MUTUAL, AUTO_PASSTHROUGH, \
             ISTIO_MUTUAL, found \"simple\": did you mean SIMPLE?",
            "MR0104: expected at most one of http, tcp, found http and tcp together: keep one (at spec.listeners[0])",
            "MR0105: spec.listeners[0].appProtocol: expected at most 10 characters, found 17",
            "MR0105: spec.listeners[0].port.number: expected at least 1, found 0",
        ]
    );
}

#[test]
fn secrets_as_base64_and_open_fields() {
    let yaml = "
apiVersion: admin.gloo.solo.io/v2
kind: RootTrustPolicy
metadata: {name: root}
spec:
  config:
    agentCa: {vault: {caPath: pki/ca, server: 'https://vault', caBundle: aGVsbG8=, kubernetesAuth: {role: r}}}
    intermediateCertOptions: {secretRotationGracePeriodRatio: 0.1}
";
    let AnyResource::RootTrustPolicy(policy) = read(yaml).unwrap().value else { panic!("another kind") };
    let config = policy.spec.config.unwrap();
    let vault = config.agent_ca.unwrap().vault.unwrap();
    assert_eq!(vault.ca_bundle.unwrap().0, b"hello");
    let options = serde_json::to_value(config.intermediate_cert_options).unwrap();
    assert_eq!(options.to_string(), r#"{"secretRotationGracePeriodRatio":0.1}"#);
}

#[test]
fn a_map_where_a_list_belongs_is_refused_with_its_path() {
    let yaml = "
apiVersion: admin.gloo.solo.io/v2
kind: WorkspaceSettings
metadata: {name: web}
spec:
  exportTo: {}
";
    assert_eq!(read(yaml).unwrap_err(), "MR0101: spec.exportTo: expected a list, found a map");
}
