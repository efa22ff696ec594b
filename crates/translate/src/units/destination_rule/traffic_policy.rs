//! Policies of ports in Istio's words.

use meshrelay_api::istio::EnvoyFilter;
use meshrelay_api::istio::destination_rule::{
    ClientTlsSettings, ClientTlsSettingsMode, LoadBalancerSettings, PortSelector, PortTrafficPolicy, Subset,
    TrafficPolicy,
};
use meshrelay_api::istio::envoy_filter::{
    ApplyTo, ClusterMatch, ConfigObjectMatch, ConfigPatch, Patch, PatchContext, PatchOperation,
};
use meshrelay_api::networking::{ClientTlsMode, ClientsideTls};
use serde_json::json;

use crate::policies::destinations::{
    ByPort, PortPolicies, client_tls, cluster_settings, connection_pool, load_balancer, locality, outlier_detection,
};

/// What holds for each port of a host; ports for which nothing is left are left out. `tls_works` tells whether other TLS
/// than the mesh's gets through.
pub(super) fn port_level_settings(host: &str, ports: &ByPort, tls_works: bool) -> Vec<PortTrafficPolicy> {
    let settings = ports.iter().map(|(number, policies)| {
        let port = Some(PortSelector { number: Some(*number) });
        PortTrafficPolicy { port, ..settings(host, policies, tls_works) }
    });
    let is_empty = |settings: &PortTrafficPolicy| {
        settings.connection_pool.is_none()
            && settings.load_balancer.is_none()
            && settings.outlier_detection.is_none()
            && settings.tls.is_none()
    };
    settings.filter(|settings| !is_empty(settings)).collect()
}

fn settings(host: &str, policies: &PortPolicies, tls_works: bool) -> PortTrafficPolicy {
    // What is wrong with a policy was said when it was read.
    let told = &mut Vec::new();
    let mut balancer = policies.load_balancer.as_ref().and_then(|policy| load_balancer(&policy.input.spec, told));
    if let Some(policy) = &policies.failover {
        let balancer = balancer.get_or_insert_with(LoadBalancerSettings::default);
        balancer.locality_lb_setting = Some(locality(&policy.input.spec, told).settings);
    }
    let sni = if host.starts_with('*') { "" } else { host };
    let is_of_mesh = |tls: &ClientTlsSettings| tls.mode == Some(ClientTlsSettingsMode::IstioMutual);
    let wanted = policies.client_tls.as_ref().and_then(|policy| client_tls(&policy.input.spec, sni, told));
    let own = || policies.own_tls.as_ref().and_then(|tls| Some(declared_tls(tls.get()?, sni)));
    PortTrafficPolicy {
        connection_pool: policies.connection.as_ref().and_then(|policy| connection_pool(&policy.input.spec, told)),
        load_balancer: balancer,
        outlier_detection: policies
            .outlier_detection
            .as_ref()
            .map(|policy| outlier_detection(&policy.input.spec, told)),
        port: None,
        tls: wanted.filter(|tls| tls_works || is_of_mesh(tls)).or_else(own),
    }
}

/// The subset of a gateway's Service by which requests to one host outside leave. A gateway picks its listener by server
/// name; automatic mutual TLS would ask for the gateway itself. Istio adds the policies of the port to what a subset says,
/// but not to what a subset says about a port.
pub(super) fn way_out(name: &str, server_name: Option<&str>) -> Subset {
    let mode = if server_name.is_some() { ClientTlsSettingsMode::IstioMutual } else { ClientTlsSettingsMode::Disable };
    let sni = server_name.map(str::to_owned);
    let tls = Some(ClientTlsSettings { mode: Some(mode), sni, ..ClientTlsSettings::default() });
    let traffic_policy = Some(TrafficPolicy { tls, ..TrafficPolicy::default() });
    Subset { name: name.to_owned(), traffic_policy, ..Subset::default() }
}

/// TLS that an ExternalService asks for. `sni` is the name that is asked for where it names none.
fn declared_tls(tls: &ClientsideTls, sni: &str) -> ClientTlsSettings {
    let mode = match tls.mode {
        ClientTlsMode::Disable => ClientTlsSettingsMode::Disable,
        ClientTlsMode::IstioMutual => ClientTlsSettingsMode::IstioMutual,
        ClientTlsMode::Mutual => ClientTlsSettingsMode::Mutual,
        ClientTlsMode::Simple | ClientTlsMode::Unknown(_) => ClientTlsSettingsMode::Simple,
    };
    let mut settings = ClientTlsSettings { mode: Some(mode), ..ClientTlsSettings::default() };
    if matches!(mode, ClientTlsSettingsMode::Simple | ClientTlsSettingsMode::Mutual) {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        settings.sni = text(&tls.sni).or_else(|| text(sni));
        settings.client_certificate = text(&tls.client_certificate);
        settings.private_key = text(&tls.private_key);
        settings.ca_certificates = text(&tls.ca_certificates);
        settings.credential_name = text(&tls.credential_name);
        settings.insecure_skip_verify = tls.insecure_skip_verify;
    }
    settings
}

/// What a DestinationRule has no words for, said to the proxies of a namespace; `None` if there is nothing.
pub(super) fn cluster_filter(host: &str, ports: &ByPort) -> Option<EnvoyFilter> {
    let mut patches = Vec::new();
    for (number, policies) in ports {
        let Some(policy) = &policies.load_balancer else { continue };
        let settings = cluster_settings(&policy.input.spec, &mut Vec::new());
        if settings.is_empty() {
            continue;
        }
        for context in [PatchContext::SidecarOutbound, PatchContext::Gateway] {
            let cluster =
                ClusterMatch { service: Some(host.to_owned()), port_number: Some(*number), ..ClusterMatch::default() };
            let value = json!({"commonLbConfig": settings});
            patches.push(ConfigPatch {
                apply_to: Some(ApplyTo::Cluster),
                r#match: Some(ConfigObjectMatch {
                    cluster: Some(cluster),
                    context: Some(context),
                    ..ConfigObjectMatch::default()
                }),
                patch: Some(Patch { operation: Some(PatchOperation::Merge), value: Some(value), filter_class: None }),
            });
        }
    }
    (!patches.is_empty()).then(|| EnvoyFilter { config_patches: patches, ..EnvoyFilter::default() })
}
