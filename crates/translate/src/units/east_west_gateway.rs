//! Gateways that let in what comes from other clusters, opened for exactly the hosts that live in their cluster.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::envoy_filter::{
    ApplyTo, ConfigObjectMatch, ConfigPatch, FilterChainMatch, FilterMatch, ListenerMatch, Patch, PatchContext,
    PatchOperation, WorkloadSelector,
};
use meshrelay_api::istio::gateway::{Port, ServerTlsSettings, ServerTlsSettingsMode};
use meshrelay_api::istio::{EnvoyFilter, Gateway, gateway};
use meshrelay_snapshot::{ContentHash, Name};
use serde_json::json;

use super::mesh_host::MeshHosts;
use crate::fingerprint::fingerprint;
use crate::model::{EntryPoint, Model};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A gateway with all hosts that it lets in.
#[derive(Debug, Hash)]
pub(crate) struct EastWestGateway {
    parent: ResourceRef,
    context: ContextId,
    /// By name of the port; settings of different workspaces may choose different ports.
    servers: BTreeMap<String, Server>,
}

#[derive(Debug, Hash)]
struct Server {
    point: EntryPoint,
    hosts: BTreeMap<Name, OpenHost>,
    sources: BTreeSet<ResourceRef>,
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
}

/// The gateways of the fleet that let anything in.
pub(crate) fn gather(model: &Model, hosts: &MeshHosts) -> Vec<EastWestGateway> {
    let mut gateways: BTreeMap<ResourceRef, EastWestGateway> = BTreeMap::new();
    for host in hosts.values() {
        for backing in host.backings.values() {
            for point in backing.entry_points() {
                let gateway = gateways.entry(point.gateway.clone()).or_insert_with(|| EastWestGateway {
                    parent: point.gateway.clone(),
                    context: context(model, point),
                    servers: BTreeMap::new(),
                });
                let server = gateway.servers.entry(point.port_name.clone()).or_insert_with(|| Server {
                    point: point.clone(),
                    hosts: BTreeMap::new(),
                    sources: BTreeSet::new(),
                });
                server.sources.extend(host.sources.iter().cloned());
                let ports = host.ports.iter().zip(&backing.ports);
                let open = OpenHost {
                    parent: host.parent.clone(),
                    service: backing.service.clone(),
                    local_host: backing.local_host.clone(),
                    ports: ports.map(|(port, backing)| (port.number, backing.service_port)).collect(),
                };
                server.hosts.extend(host.hosts.keys().map(|name| (name.clone(), open.clone())));
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
        let discovered: Shapers = [&self.parent].into_iter().collect();
        for (port_name, server) in &self.servers {
            let point = &server.point;
            let cluster = &self.parent.cluster;
            let place = format!("{}-{cluster}", point.namespace);
            let mode = Some(ServerTlsSettingsMode::AutoPassthrough);
            let spec = Gateway {
                selector: point.selector.clone(),
                servers: vec![gateway::Server {
                    name: Some(format!("eastwest-{}-{place}", point.service)),
                    hosts: server.hosts.keys().map(ToString::to_string).collect(),
                    port: Port {
                        name: port_name.clone(),
                        number: point.gateway_port,
                        protocol: "TLS".to_owned(),
                        target_port: None,
                    },
                    tls: Some(ServerTlsSettings { mode, ..ServerTlsSettings::default() }),
                    ..gateway::Server::default()
                }],
            };
            let parents = server.hosts.values().map(|host| &host.parent);
            let shapers = discovered.with([&point.service_ref()]).with(parents).with(&server.sources);
            let body = Body::new(&spec, shapers);
            let name = format!("EastWestGateway-Passthrough-{}-{port_name}-{place}", point.service);
            emission.emit(&self.context, &names::sanitize(&name), &body, Extra::default());
            for (host, open) in &server.hosts {
                let shapers = discovered.with([&open.parent, &open.service, &point.service_ref()]);
                let body = Body::new(&to_local_service(host, open, point), shapers);
                let identity = ["EastWestGateway", host, &point.service, port_name, &point.namespace, cluster];
                let name = names::identified(&format!("EastWestGateway-{host}"), &identity);
                emission.emit(&self.context, &name, &body, Extra::default());
            }
        }
        emission.finish()
    }
}

/// Sends what is let in to the Service in this cluster. The endpoints of the host itself include the gateways of other
/// clusters, to which traffic would be sent on, and back again.
fn to_local_service(host: &Name, open: &OpenHost, point: &EntryPoint) -> EnvoyFilter {
    const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
    let patch = |(port, service_port): &(u32, u32)| {
        let chain = FilterChainMatch {
            sni: Some(format!("outbound_.{port}_._.{host}")),
            filter: Some(FilterMatch { name: Some(TCP_PROXY.to_owned()), sub_filter: None }),
            ..FilterChainMatch::default()
        };
        let listener =
            ListenerMatch { port_number: Some(point.bind_port), filter_chain: Some(chain), ..ListenerMatch::default() };
        let value = json!({
            "name": TCP_PROXY,
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "cluster": format!("outbound_.{service_port}_._.{}", open.local_host),
            },
        });
        ConfigPatch {
            apply_to: Some(ApplyTo::NetworkFilter),
            r#match: Some(ConfigObjectMatch {
                context: Some(PatchContext::Gateway),
                listener: Some(listener),
                ..ConfigObjectMatch::default()
            }),
            patch: Some(Patch { operation: Some(PatchOperation::Merge), value: Some(value), filter_class: None }),
        }
    };
    EnvoyFilter {
        config_patches: open.ports.iter().map(patch).collect(),
        workload_selector: Some(WorkloadSelector { labels: point.selector.clone() }),
        ..EnvoyFilter::default()
    }
}
