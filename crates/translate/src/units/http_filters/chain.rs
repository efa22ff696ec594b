//! The filters that the proxies of a namespace have.
//!
//! They do nothing there, or are switched off: only routes that say something to a filter wake it. So what one table
//! needs never acts on the routes of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_snapshot::{ContentHash, Gvk, ObjectKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::effect::{Effect, Phase, Position, merge};
use super::patch::{self, Routes};
use crate::fingerprint::{Shared, fingerprint};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::Taken;
use crate::report::{Code, Notes, Severity};
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// Policies that let their filter have another route chosen.
    choosing: BTreeMap<Position, BTreeSet<ResourceRef>>,
    sources: BTreeSet<ResourceRef>,
    /// What told that it is needed.
    taken: Vec<Taken>,
}

impl Chain {
    /// A route that is chosen after external authorization could be one that demands it, where the first did not: no other
    /// route is chosen there, but by the server itself. Returns the policies that wanted one.
    fn keep_routes(&mut self) -> BTreeSet<ResourceRef> {
        let asks = self.filters.iter().any(|(_, (_, pass))| pass.is_some());
        let is_late = |position: &Position| asks && position.phase > Phase::Authz;
        let mut kept = BTreeSet::new();
        for (position, policies) in std::mem::take(&mut self.choosing).into_iter().filter(|(place, _)| is_late(place)) {
            if let Some((config, _)) = self.filters.get_mut(&position) {
                choosers(config).into_iter().for_each(|chooser| {
                    chooser.remove(CHOOSES);
                });
                kept.extend(policies);
            }
        }
        kept
    }
}

/// What lets a filter have another route chosen.
const CHOOSES: &str = "clearRouteCache";

/// The parts of a filter's configuration that let it have another route chosen: its own, and those of its providers.
fn choosers(config: &mut Value) -> Vec<&mut Map<String, Value>> {
    let Value::Object(own) = config else { return Vec::new() };
    if own.contains_key(CHOOSES) {
        return vec![own];
    }
    let providers = own.get_mut("providers").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    providers.filter_map(Value::as_object_mut).filter(|provider| provider.contains_key(CHOOSES)).collect()
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
        (table, taken): (&ResourceRef, &Taken),
        effects: impl Iterator<Item = &'a Shared<Effect>>,
    ) {
        let chain = self.0.entry(context.clone()).or_default().entry(listener).or_default();
        chain.sources.insert(table.clone());
        chain.taken.push(Arc::clone(taken));
        for effect in effects {
            let (config, pass) = chain.filters.entry(effect.position.clone()).or_default();
            merge(config, &effect.config);
            if pass.is_none() {
                pass.clone_from(&effect.pass);
            }
            if !choosers(config).is_empty() {
                chain.choosing.entry(effect.position.clone()).or_default().extend(effect.sources.first().cloned());
            }
            chain.sources.extend(effect.sources.iter().cloned());
        }
    }

    /// The chains, and what there is to say about policies.
    pub(super) fn finish(self, notes: &mut Notes) -> Vec<Chains> {
        let mut chains = |(context, mut chains): (ContextId, BTreeMap<Listener, Chain>)| {
            for policy in chains.values_mut().flat_map(Chain::keep_routes) {
                let text = "a claim cannot have another route chosen after external authorization: that route could be \
                            one that demands it";
                notes.say_in(&policy, &context, Severity::Warning, Code::RouteKept, text);
            }
            let key = ObjectKey::new(Gvk::new("", "v1", "Namespace"), "", context.namespace.clone());
            Chains { parent: ResourceRef { cluster: context.cluster.clone(), key }, context, chains }
        };
        self.0.into_iter().map(&mut chains).collect()
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
            let body = Body::new(&spec, shapers).reading(&chain.taken);
            emission.emit(&self.context, &self.name(listener), &body, Extra::default());
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
