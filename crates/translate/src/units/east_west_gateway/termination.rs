//! Ending TLS at the gateway, for Services whose pods have no sidecar to do it.
//!
//! The gateway proves itself and checks the client with the mesh's certificates, picks the Service by the server name
//! that sidecars ask for, and sends it the bytes as they are. It does not look at requests: the authority of a request
//! that was routed to a host is often another name, which the gateway could not tell apart by.

use meshrelay_api::istio::envoy_filter::{ApplyTo, FilterChainMatch};
use meshrelay_api::istio::gateway::{self, Port, ServerTlsSettings, ServerTlsSettingsMode};
use meshrelay_api::istio::virtual_service::{Destination, PortSelector, RouteDestination, TcpRoute};
use meshrelay_api::istio::{Gateway, VirtualService};
use serde_json::json;

use super::{EastWestGateway, OpenHost, Server, envoy_filter, listener_patch, server_name};
use crate::hostname::{self, Allowed};
use crate::names;
use crate::output::{Body, Emission, Extra};
use crate::report::{Code, Severity};

/// A port of a host that the gateway ends TLS for.
struct Opening<'a> {
    host: &'a str,
    open: &'a OpenHost,
    port: u32,
    service_port: u32,
    /// By which name a VirtualService and the gateway's server know it.
    known_as: String,
    /// Whether the host has other ports too, so that the server name must tell them apart.
    is_one_of_several: bool,
}

impl Opening<'_> {
    /// The server names of an Istio Gateway cannot have the underscores of those that sidecars ask for. For a host with
    /// one port a wildcard covers them; with several ports, an EnvoyFilter adds each to the server for its port.
    fn server_hosts(&self) -> Vec<String> {
        let mut hosts = vec![self.known_as.clone()];
        if !self.is_one_of_several {
            hosts.push(format!("*.{}", self.host));
        }
        hosts
    }
}

impl EastWestGateway {
    /// The openings at a port; those that Istio would refuse, and all others with them, are left out.
    fn openings<'a>(&self, server: &'a Server, emission: &mut Emission<'_>) -> Vec<Opening<'a>> {
        let mut openings = Vec::new();
        for (host, open) in &server.hosts {
            let is_one_of_several = open.ports.len() > 1;
            for (port, service_port) in open.ports.iter().copied() {
                let known_as = if is_one_of_several { format!("port-{port}.{host}") } else { host.to_string() };
                let opening = Opening { host, open, port, service_port, known_as, is_one_of_several };
                let mut problems =
                    opening.server_hosts().into_iter().filter_map(|host| hostname::problem(&host, Allowed::Wildcard));
                if let Some(problem) = problems.next() {
                    let text = format!("TLS cannot end at the gateway for host {host}: {problem}");
                    emission.notes.say(&open.parent, Severity::Warning, Code::Unreachable, text);
                } else {
                    openings.push(opening);
                }
            }
        }
        openings
    }

    pub(super) fn end(&self, server: &Server, emission: &mut Emission<'_>) {
        let openings = self.openings(server, emission);
        if openings.is_empty() {
            return;
        }
        let place = self.place(server);
        let gateway = names::sanitize(&format!(
            "EastWestGateway-Termination-{}-{}-{place}",
            server.point.service, server.port.name
        ));
        let spec = Gateway {
            selector: server.point.selector.clone(),
            servers: openings.iter().map(|opening| render(server, opening)).collect(),
        };
        let parents = server.hosts.values().map(|host| &host.parent);
        let shapers = self.shapers(server).with(parents).with(&server.sources);
        let body = Body::new(&spec, shapers).reading(self.taken.iter().chain([&server.of_contested]));
        emission.emit(&self.context, &gateway, &body, Extra::default());
        for opening in &openings {
            self.route(server, opening, &gateway, emission);
        }
        for (host, open) in &server.hosts {
            let several = openings.iter().filter(|opening| opening.host == host.as_str() && opening.is_one_of_several);
            let patches: Vec<_> = several
                .map(|opening| {
                    let chain = FilterChainMatch { sni: Some(opening.known_as.clone()), ..FilterChainMatch::default() };
                    let names = json!({"filterChainMatch": {"serverNames": [server_name(host, opening.port)]}});
                    listener_patch(server, ApplyTo::FilterChain, chain, names)
                })
                .collect();
            if !patches.is_empty() {
                let shapers = self.shapers(server).with([&open.parent, &open.service]);
                let name = self.object_name(server, host, "");
                let body = Body::new(&envoy_filter(server, patches), shapers).reading([&open.taken]);
                emission.emit(&self.context, &name, &body, Extra::default());
            }
        }
    }

    /// Sends what comes in by an opening to the Service in this cluster.
    fn route(&self, server: &Server, opening: &Opening<'_>, gateway: &str, emission: &mut Emission<'_>) {
        let host = opening.open.local_host.clone();
        let port = Some(PortSelector { number: Some(opening.service_port) });
        let destination = Destination { host, port, ..Destination::default() };
        let spec = VirtualService {
            export_to: vec![".".to_owned()],
            gateways: vec![gateway.to_owned()],
            hosts: vec![opening.known_as.clone()],
            tcp: vec![TcpRoute { route: vec![RouteDestination { destination, weight: None }], ..TcpRoute::default() }],
            ..VirtualService::default()
        };
        let shapers = self.shapers(server).with([&opening.open.parent, &opening.open.service]);
        let name = self.object_name(server, opening.host, &opening.port.to_string());
        let body = Body::new(&spec, shapers).reading([&opening.open.taken]);
        emission.emit(&self.context, &name, &body, Extra::default());
    }

    fn object_name(&self, server: &Server, host: &str, port: &str) -> String {
        let Server { point, port: way_in, .. } = server;
        let cluster = &self.parent.cluster;
        let identity =
            ["EastWestGateway-Termination", host, port, &point.service, &way_in.name, &point.namespace, cluster];
        names::identified(&format!("EastWestGateway-{host}"), &identity)
    }
}

fn render(server: &Server, opening: &Opening<'_>) -> gateway::Server {
    let mode = Some(ServerTlsSettingsMode::IstioMutual);
    gateway::Server {
        name: Some(format!("eastwest-{}-{}", opening.port, opening.host)),
        hosts: opening.server_hosts(),
        port: Port {
            // Istio wants another name for each server of a Gateway.
            name: format!("{}-{}-{}", server.port.name, opening.port, opening.host),
            number: server.port.gateway_port,
            protocol: "TLS".to_owned(),
            target_port: None,
        },
        tls: Some(ServerTlsSettings { mode, ..ServerTlsSettings::default() }),
        ..gateway::Server::default()
    }
}
