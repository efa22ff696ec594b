//! The filters that the proxies of a namespace have.
//!
//! They do nothing there, or are switched off: only routes that say something to a filter wake it. So what one table
//! needs never acts on the routes of another.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_snapshot::{ContentHash, Gvk, ObjectKey};
use serde_json::Value;

use super::effect::{Effect, Position, merge};
use super::patch::{self, Routes};
use crate::fingerprint::{Shared, fingerprint};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// The chains of filters in a namespace.
#[derive(Debug, Hash)]
pub(crate) struct Chains {
    /// The namespace: several gateways and tables share what is installed in it.
    parent: ResourceRef,
    context: ContextId,
    chains: BTreeMap<Listener, Chain>,
}

/// Where a chain is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Listener {
    /// A port of the pods of a gateway with these labels.
    Gateway { labels: BTreeMap<String, String>, port: u32 },
    /// Where the sidecars of the namespace take what their workloads send.
    Sidecars,
}

#[derive(Debug, Default, Hash)]
struct Chain {
    /// With their configuration, and what makes those pass requests that would act by themselves.
    filters: BTreeMap<Position, (Value, Option<Value>)>,
    sources: BTreeSet<ResourceRef>,
}

/// What all tables need, by namespace.
#[derive(Debug, Default)]
pub(super) struct AllChains(BTreeMap<ContextId, BTreeMap<Listener, Chain>>);

impl AllChains {
    /// A table in a context has routes with these effects at a listener.
    pub(super) fn need<'a>(
        &mut self,
        context: &ContextId,
        listener: Listener,
        table: &ResourceRef,
        effects: impl Iterator<Item = &'a Shared<Effect>>,
    ) {
        let chain = self.0.entry(context.clone()).or_default().entry(listener).or_default();
        chain.sources.insert(table.clone());
        for effect in effects {
            let (config, pass) = chain.filters.entry(effect.position.clone()).or_default();
            merge(config, &effect.config);
            if pass.is_none() {
                pass.clone_from(&effect.pass);
            }
            chain.sources.extend(effect.sources.iter().cloned());
        }
    }

    pub(super) fn finish(self) -> Vec<Chains> {
        let chains = |(context, chains): (ContextId, _)| {
            let key = ObjectKey::new(Gvk::new("", "v1", "Namespace"), "", context.namespace.clone());
            Chains { parent: ResourceRef { cluster: context.cluster.clone(), key }, context, chains }
        };
        self.0.into_iter().map(chains).collect()
    }
}

impl ParentInput for Chains {
    fn id(&self) -> BatchId {
        (UnitKind::HttpFilters, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::HttpFilters, &self.parent);
        for (listener, chain) in &self.chains {
            let (context, labels, port) = match listener {
                Listener::Gateway { labels, port } => (PatchContext::Gateway, Some(labels), Some(*port)),
                Listener::Sidecars => (PatchContext::SidecarOutbound, None, None),
            };
            let mut patches = Vec::new();
            let mut passes: BTreeMap<String, Value> = BTreeMap::new();
            for (place, (config, pass)) in &chain.filters {
                patches.push(patch::install(context, port, &place.name(), config, pass.is_some()));
                passes.extend(pass.clone().map(|pass| (place.name(), pass)));
            }
            if !passes.is_empty() {
                patches.push(patch::configure(context, &Routes::All, passes));
            }
            let spec = patch::envoy_filter(labels, patches);
            let shapers: Shapers = chain.sources.iter().chain([&self.parent]).collect();
            emission.emit(&self.context, &self.name(listener), &Body::new(&spec, shapers), Extra::default());
        }
        emission.finish()
    }
}

impl Chains {
    fn name(&self, listener: &Listener) -> String {
        let ContextId { cluster, namespace, .. } = &self.context;
        let mut identity = vec!["HttpFilters", cluster, namespace];
        let port;
        let readable = match listener {
            Listener::Gateway { labels, port: number } => {
                port = number.to_string();
                identity.push(&port);
                identity.extend(labels.iter().flat_map(|(key, value)| [key.as_str(), value]));
                format!("http-filters-{port}-{namespace}")
            }
            Listener::Sidecars => format!("http-filters-sidecars-{namespace}"),
        };
        names::identified(&readable, &identity)
    }
}
