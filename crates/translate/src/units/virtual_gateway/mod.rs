//! Gateways at the edge of the mesh.
//!
//! A VirtualGateway becomes one Istio Gateway per selected gateway Service and port of its pods.

mod server;
mod site;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::istio::Gateway;
use meshrelay_api::networking::VirtualGatewaySpec;
use meshrelay_snapshot::ContentHash;
use site::Site;

use crate::ResourceRef;
use crate::fingerprint::fingerprint;
use crate::input::{Input, Ours};
use crate::model::Model;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};

/// A VirtualGateway with the gateways that it selects.
#[derive(Debug, Hash)]
pub(crate) struct VirtualGateway {
    pub(crate) parent: ResourceRef,
    pub(crate) gateway: Arc<Input<Ours<VirtualGatewaySpec>>>,
    pub(crate) sites: Vec<Site>,
    sources: Vec<ResourceRef>,
}

/// All VirtualGateways that count.
pub(crate) fn resolve(model: &Model, notes: &mut Notes) -> BTreeMap<ResourceRef, VirtualGateway> {
    let mut all = BTreeMap::new();
    for (cluster, input) in &model.clusters {
        for gateway in input.virtual_gateways().values() {
            let Some(owner) = model.config_owner(cluster, gateway.namespace()) else { continue };
            let parent = gateway.reference(cluster);
            let sites = site::resolve(model, owner, gateway, &parent, notes);
            notes.count(&parent, "selectedWorkloadsCount", sites.len());
            if sites.is_empty() {
                let text = format!(
                    "expected gateways of workspace {} (Services of gateway pods in its namespaces, in clusters with a \
                     mesh), but spec.workloads selects none",
                    owner.name
                );
                notes.say(&parent, Severity::Warning, Code::NoGateway, text);
            }
            if gateway.spec.listeners.is_empty() {
                notes.say(
                    &parent,
                    Severity::Invalid,
                    Code::Missing,
                    "spec.listeners: expected at least one, found none",
                );
            }
            let sources = model.sources(&owner.name).cloned().collect();
            let gateway = Arc::clone(gateway);
            all.insert(parent.clone(), VirtualGateway { parent, gateway, sites, sources });
        }
    }
    all
}

impl ParentInput for VirtualGateway {
    fn id(&self) -> BatchId {
        (UnitKind::VirtualGateway, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::VirtualGateway, &self.parent);
        let parents: Shapers = self.sources.iter().chain([&self.parent]).collect();
        for site in &self.sites {
            for port in &site.ports {
                let listeners = port.listeners.iter().filter_map(|(index, hosts)| {
                    Some(server::render(self.gateway.spec.listeners.get(*index)?, port.number, hosts))
                });
                let spec = Gateway { selector: site.selector.clone(), servers: listeners.collect() };
                let shapers = parents.with([&site.gateway, &site.service]);
                let body = Body::new(&spec, shapers);
                emission.emit(&site.context, &port.name, &body, Extra::default());
            }
        }
        emission.finish()
    }
}
