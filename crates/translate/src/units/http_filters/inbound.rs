//! Filters in front of the workloads of a Service.

use std::collections::BTreeMap;

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_snapshot::ContentHash;
use serde_json::Value;

use super::effect::{Effect, Position, merge};
use super::patch::{self, Routes};
use crate::fingerprint::{Shared, fingerprint};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A Service with what policies do to requests for it.
#[derive(Debug, Hash)]
pub(crate) struct InboundFilters {
    pub(super) parent: ResourceRef,
    pub(super) context: ContextId,
    /// Labels of the pods.
    pub(super) selector: BTreeMap<String, String>,
    /// By port of the pods.
    pub(super) ports: BTreeMap<u32, Vec<Shared<Effect>>>,
}

impl ParentInput for InboundFilters {
    fn id(&self) -> BatchId {
        (UnitKind::HttpFilters, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        const INBOUND: PatchContext = PatchContext::SidecarInbound;
        let mut emission = Emission::new(UnitKind::HttpFilters, &self.parent);
        let ResourceRef { cluster, key } = &self.parent;
        // Pods of several Services pass the filters of each: these must not be taken for one another.
        let suffix = format!("@{}", key.name);
        for (port, effects) in &self.ports {
            let mut filters: BTreeMap<&Position, Value> = BTreeMap::new();
            for effect in effects {
                merge(filters.entry(&effect.position).or_default(), &effect.config);
            }
            let mut patches: Vec<_> = filters
                .iter()
                .map(|(place, config)| {
                    let name = format!("{}{suffix}", place.name());
                    patch::install(INBOUND, Some(*port), &name, config, false)
                })
                .collect();
            patches.push(patch::configure(INBOUND, &Routes::To(*port), effects, &suffix));
            let spec = patch::envoy_filter(Some(&self.selector), patches);
            let shapers: Shapers = effects.iter().flat_map(|effect| &effect.sources).chain([&self.parent]).collect();
            let port = port.to_string();
            let identity = ["HttpFilters", "Service", &key.name, &key.namespace, cluster, &port];
            let name = names::identified(&format!("http-filters-{}-{port}", key.name), &identity);
            emission.emit(&self.context, &name, &Body::new(&spec, shapers), Extra::default());
        }
        emission.finish()
    }
}
