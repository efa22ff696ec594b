//! Gateways at the edge of the mesh.
//!
//! A VirtualGateway becomes one Istio Gateway per selected gateway Service and port of its pods.

mod server;
mod site;

use std::collections::BTreeSet;
use std::sync::Arc;

use meshrelay_api::istio::Gateway;
use meshrelay_api::networking::VirtualGatewaySpec;
use meshrelay_snapshot::ContentHash;
use site::Site;

use crate::ResourceRef;
use crate::fingerprint::fingerprint;
use crate::input::{ClusterInput, Input, Ours};
use crate::model::Model;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::check_workloads;
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

/// The VirtualGateways of a cluster that count.
pub(crate) fn list(model: &Model, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
    model.counting(&cluster.name, cluster.virtual_gateways().values())
}

/// One VirtualGateway.
pub(crate) fn resolve(model: &Model, parent: &ResourceRef, notes: &mut Notes) -> Option<VirtualGateway> {
    let gateway = model.clusters.get(&parent.cluster)?.virtual_gateways().get(&parent.place())?;
    let owner = model.config_owner(&parent.cluster, gateway.namespace())?;
    check_workloads(parent, "spec.workloads", &gateway.spec.workloads, notes);
    let sites = site::resolve(model, owner, gateway, parent, notes);
    notes.count(parent, "selectedWorkloadsCount", sites.len());
    if sites.is_empty() {
        let text = format!(
            "expected gateways of workspace {} (Services of gateway pods in its namespaces, in clusters with a mesh), \
             but spec.workloads selects none",
            owner.name
        );
        notes.say(parent, Severity::Warning, Code::NoGateway, text);
    }
    if gateway.spec.listeners.is_empty() {
        let text = "spec.listeners: expected at least one, found none";
        notes.say(parent, Severity::Invalid, Code::Missing, text);
    }
    let sources = model.sources(&owner.name).cloned().collect();
    Some(VirtualGateway { parent: parent.clone(), gateway: Arc::clone(gateway), sites, sources })
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
                let mut servers: Vec<_> = listeners.collect();
                server::tell_apart(&mut servers);
                let spec = Gateway { selector: site.selector.clone(), servers };
                let shapers = parents.with([&site.gateway, &site.service]);
                let body = Body::new(&spec, shapers);
                emission.emit(&site.context, &port.name, &body, Extra::default());
            }
        }
        emission.finish()
    }
}
