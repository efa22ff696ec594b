//! Gateways that let in what comes from other clusters, opened for exactly the hosts that live in their cluster.

mod termination;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::envoy_filter::{
    ApplyTo, ConfigObjectMatch, ConfigPatch, FilterChainMatch, FilterMatch, ListenerMatch, Patch, PatchContext,
    PatchOperation, WorkloadSelector,
};
use meshrelay_api::istio::gateway::{Port, ServerTlsSettings, ServerTlsSettingsMode};
use meshrelay_api::istio::{EnvoyFilter, Gateway, gateway};
use meshrelay_snapshot::{ContentHash, Name};
use serde_json::{Value, json};

use super::mesh_host::MeshHosts;
use crate::fingerprint::fingerprint;
use crate::model::{Entry, EntryPoint, EntryPort, Model};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::{Taken, kinds, together};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A gateway with all hosts that it lets in.
#[derive(Debug, Hash)]
pub(crate) struct EastWestGateway {
    parent: ResourceRef,
    context: ContextId,
    /// By what becomes of TLS and name of the port; settings of different workspaces may choose different ports.
    servers: BTreeMap<(Entry, String), Server>,
    /// What told of each host by which port it is let in, if by any: with other settings it would be another one.
    taken: Vec<Taken>,
}

#[derive(Debug, Hash)]
struct Server {
    point: EntryPoint,
    port: EntryPort,
    hosts: BTreeMap<Name, OpenHost>,
    sources: BTreeSet<ResourceRef>,
    /// What keeps others out.
    of_contested: Taken,
}

/// A host that the gateway lets in.
#[derive(Clone, Debug, Hash)]
struct OpenHost {
    parent: ResourceRef,
    service: ResourceRef,
    /// Host name of the Service within the cluster.
    local_host: String,
    /// Ports of the host and of the Service.
    ports: Vec<(u32, u32)>,
    /// What told that it is let in. There can be too many settings to name them all with each host.
    taken: Taken,
}

/// The gateways of the fleet that let anything in.
pub(crate) fn gather(model: &Model, hosts: &MeshHosts) -> Vec<EastWestGateway> {
    let mut gateways: BTreeMap<ResourceRef, EastWestGateway> = BTreeMap::new();
    let of_contested = hosts.of_contested();
    for host in hosts.values() {
        for backing in host.backings.values() {
            let taken = together([&host.taken, &backing.taken, &kinds(&host.sources)]);
            for (point, port) in backing.entries() {
                let gateway = gateways.entry(point.gateway.clone()).or_insert_with(|| EastWestGateway {
                    parent: point.gateway.clone(),
                    context: context(model, point),
                    servers: BTreeMap::new(),
                    taken: Vec::new(),
                });
                let way_in = (backing.entry, port.name.clone());
                let server = gateway.servers.entry(way_in).or_insert_with(|| Server {
                    point: point.clone(),
                    port: port.clone(),
                    hosts: BTreeMap::new(),
                    sources: BTreeSet::new(),
                    of_contested: Arc::clone(&of_contested),
                });
                server.sources.extend(host.sources.iter().cloned());
                let ports = host.ports.iter().zip(&backing.ports);
                let open = OpenHost {
                    parent: host.parent.clone(),
                    service: backing.service.clone(),
                    local_host: backing.local_host.clone(),
                    ports: ports.map(|(port, backing)| (port.number, backing.service_port)).collect(),
                    taken: Arc::clone(&taken),
                };
                server.hosts.extend(host.hosts.keys().map(|name| (name.clone(), open.clone())));
            }
        }
    }
    for host in hosts.values() {
        for backing in host.backings.values() {
            let taken = together([&host.taken, &backing.taken, &kinds(host.sources.iter().chain([&host.parent]))]);
            for point in backing.points() {
                if let Some(gateway) = gateways.get_mut(&point.gateway)
                    && !gateway.taken.contains(&taken)
                {
                    gateway.taken.push(Arc::clone(&taken));
                }
            }
        }
    }
    gateways.into_values().collect()
}

/// Where the gateway runs. Its namespace need not belong to a workspace: settings chose the gateway, and without it the
/// hosts could not be reached.
fn context(model: &Model, point: &EntryPoint) -> ContextId {
    let cluster = point.gateway.cluster.clone();
    model.context(&cluster, &point.namespace).unwrap_or_else(|| ContextId {
        cluster,
        namespace: point.namespace.clone(),
        workspace: Name::default(),
    })
}

impl ParentInput for EastWestGateway {
    fn id(&self) -> BatchId {
        (UnitKind::EastWestGateway, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::EastWestGateway, &self.parent);
        for ((entry, _), server) in &self.servers {
            match entry {
                Entry::PassedOn => self.pass_on(server, &mut emission),
                Entry::Ended => self.end(server, &mut emission),
            }
        }
        emission.finish()
    }
}

impl EastWestGateway {
    /// Where the gateway is, as names tell it.
    fn place(&self, server: &Server) -> String {
        format!("{}-{}", server.point.namespace, self.parent.cluster)
    }

    /// What shapes everything at a port of the gateway.
    fn shapers(&self, server: &Server) -> Shapers {
        [&self.parent, &server.point.service_ref()].into_iter().collect()
    }

    fn pass_on(&self, server: &Server, emission: &mut Emission<'_>) {
        let Server { point, port, .. } = server;
        let (cluster, place) = (&self.parent.cluster, self.place(server));
        let mode = Some(ServerTlsSettingsMode::AutoPassthrough);
        let spec = Gateway {
            selector: point.selector.clone(),
            servers: vec![gateway::Server {
                name: Some(format!("eastwest-{}-{place}", point.service)),
                hosts: server.hosts.keys().map(ToString::to_string).collect(),
                port: Port {
                    name: port.name.clone(),
                    number: port.gateway_port,
                    protocol: "TLS".to_owned(),
                    target_port: None,
                },
                tls: Some(ServerTlsSettings { mode, ..ServerTlsSettings::default() }),
                ..gateway::Server::default()
            }],
        };
        let parents = server.hosts.values().map(|host| &host.parent);
        let shapers = self.shapers(server).with(parents).with(&server.sources);
        let name = format!("EastWestGateway-Passthrough-{}-{}-{place}", point.service, port.name);
        let body = Body::new(&spec, shapers).reading(self.taken.iter().chain([&server.of_contested]));
        emission.emit(&self.context, &names::sanitize(&name), &body, Extra::default());
        for (host, open) in &server.hosts {
            let shapers = self.shapers(server).with([&open.parent, &open.service]);
            let body = Body::new(&to_local_service(host, open, server), shapers).reading([&open.taken]);
            let identity = ["EastWestGateway", host, &point.service, &port.name, &point.namespace, cluster];
            let name = names::identified(&format!("EastWestGateway-{host}"), &identity);
            emission.emit(&self.context, &name, &body, Extra::default());
        }
    }
}

/// The server name with which sidecars ask for a port of a host.
fn server_name(host: &str, port: u32) -> String {
    format!("outbound_.{port}_._.{host}")
}

/// A patch at the gateway's listener for traffic from other clusters.
fn listener_patch(server: &Server, apply_to: ApplyTo, chain: FilterChainMatch, value: Value) -> ConfigPatch {
    let listener = ListenerMatch {
        port_number: Some(server.port.bind_port),
        filter_chain: Some(chain),
        ..ListenerMatch::default()
    };
    ConfigPatch {
        apply_to: Some(apply_to),
        r#match: Some(ConfigObjectMatch {
            context: Some(PatchContext::Gateway),
            listener: Some(listener),
            ..ConfigObjectMatch::default()
        }),
        patch: Some(Patch { operation: Some(PatchOperation::Merge), value: Some(value), filter_class: None }),
    }
}

/// An EnvoyFilter for the gateway's pods.
fn envoy_filter(server: &Server, config_patches: Vec<ConfigPatch>) -> EnvoyFilter {
    EnvoyFilter {
        config_patches,
        workload_selector: Some(WorkloadSelector { labels: server.point.selector.clone() }),
        ..EnvoyFilter::default()
    }
}

/// Sends what is let in to the Service in this cluster. The endpoints of the host itself include the gateways of other
/// clusters, to which traffic would be sent on, and back again.
fn to_local_service(host: &Name, open: &OpenHost, server: &Server) -> EnvoyFilter {
    const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
    let patch = |(port, service_port): &(u32, u32)| {
        let chain = FilterChainMatch {
            sni: Some(server_name(host, *port)),
            filter: Some(FilterMatch { name: Some(TCP_PROXY.to_owned()), sub_filter: None }),
            ..FilterChainMatch::default()
        };
        let value = json!({
            "name": TCP_PROXY,
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "cluster": server_name(&open.local_host, *service_port),
            },
        });
        listener_patch(server, ApplyTo::NetworkFilter, chain, value)
    };
    envoy_filter(server, open.ports.iter().map(patch).collect())
}
