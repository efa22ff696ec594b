//! What the routes of a table say to the filters.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_snapshot::ContentHash;

use super::effect::Effect;
use super::patch::{self, Routes};
use crate::fingerprint::{Shared, fingerprint};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A table with what its routes say to the filters, wherever it is served.
#[derive(Debug, Hash)]
pub(crate) struct RouteFilters {
    pub(super) parent: ResourceRef,
    pub(super) places: Vec<RoutesInPlace>,
}

/// Routes of a table in one context.
#[derive(Debug, Hash)]
pub(super) struct RoutesInPlace {
    pub(super) context: ContextId,
    /// Labels of the proxies that serve the table, if they are the same for all.
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) at_gateways: bool,
    pub(super) at_sidecars: bool,
    /// Names of routes, each with what it says.
    pub(super) routes: Vec<(String, Vec<Shared<Effect>>)>,
}

impl ParentInput for RouteFilters {
    fn id(&self) -> BatchId {
        (UnitKind::HttpFilters, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::HttpFilters, &self.parent);
        let ResourceRef { cluster, key } = &self.parent;
        for place in &self.places {
            let contexts = [
                place.at_gateways.then_some(PatchContext::Gateway),
                place.at_sidecars.then_some(PatchContext::SidecarOutbound),
            ];
            let mut patches = Vec::new();
            let mut sources: BTreeSet<&ResourceRef> = BTreeSet::from([&self.parent]);
            for (name, effects) in &place.routes {
                for context in contexts.iter().flatten() {
                    patches.push(patch::configure(*context, &Routes::Named(name), effects, ""));
                }
                sources.extend(effects.iter().flat_map(|effect| &effect.sources));
            }
            let spec = patch::envoy_filter(place.labels.as_ref(), patches);
            let shapers: Shapers = sources.into_iter().collect();
            let readable = format!("RouteTable-{}-{}-{cluster}", key.name, key.namespace);
            let ContextId { cluster: context_cluster, namespace, .. } = &place.context;
            let identity = ["HttpFilters", &key.name, &key.namespace, cluster, context_cluster, namespace];
            let name = names::identified(&readable, &identity);
            emission.emit(&place.context, &name, &Body::new(&spec, shapers), Extra::default());
        }
        emission.finish()
    }
}
