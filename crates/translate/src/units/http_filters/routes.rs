//! What the routes of a table say to the filters.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_snapshot::ContentHash;

use super::chain::{AllChains, Listener};
use super::effect::Effect;
use super::patch::{self, Routes};
use super::{Caller, Effects, on_route};
use crate::fingerprint::{Shared, fingerprint};
use crate::model::Model;
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::report::Notes;
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::mesh_host::MeshHosts;
use crate::units::route_table::RouteTable;
use crate::{ContextId, ResourceRef};

/// A table with what its routes say to the filters, wherever it is served.
#[derive(Debug, Hash)]
pub(crate) struct RouteFilters {
    parent: ResourceRef,
    places: Vec<RoutesInPlace>,
}

/// Routes of a table in one context.
#[derive(Debug, Hash)]
struct RoutesInPlace {
    context: ContextId,
    listeners: BTreeSet<Listener>,
    /// Labels of the proxies that serve the table, if they are the same for all.
    labels: Option<BTreeMap<String, String>>,
    /// Names of routes, each with what it says.
    routes: Vec<(String, Vec<Shared<Effect>>)>,
}

/// What the routes of a table say to the filters; `None` if they have nothing to say.
pub(super) fn resolve(model: &Model, hosts: &MeshHosts, table: &RouteTable, notes: &mut Notes) -> Option<RouteFilters> {
    let mut known = Effects::default();
    let mut places = Vec::new();
    for placement in &table.placements {
        let caller = Caller { model, hosts, context: &placement.context };
        let routes = table.routes.iter().zip(&placement.targets.policies).filter_map(|(route, policies)| {
            let effects = on_route(&caller, policies, &mut known, notes);
            (!effects.is_empty()).then(|| (route.name.clone(), effects))
        });
        let routes: Vec<_> = routes.collect();
        if routes.is_empty() {
            continue;
        }
        let mut listeners = BTreeSet::new();
        for served in &placement.served_by {
            match &served.gateway {
                Some(gateway) => listeners.extend(gateway.pod_ports.iter().map(|port| {
                    let labels = served.labels.clone();
                    Listener::Gateway { labels, port: *port }
                })),
                None => {
                    listeners.insert(Listener::Sidecars);
                }
            }
        }
        let labels: BTreeSet<_> = placement.served_by.iter().map(|served| &served.labels).collect();
        let labels = labels.first().filter(|_| labels.len() == 1).map(|labels| (*labels).clone());
        places.push(RoutesInPlace { context: placement.context.clone(), listeners, labels, routes });
    }
    (!places.is_empty()).then(|| RouteFilters { parent: table.parent.clone(), places })
}

impl RouteFilters {
    /// All that the routes say.
    pub(super) fn effects(&self) -> impl Iterator<Item = &Shared<Effect>> {
        self.places.iter().flat_map(|place| &place.routes).flat_map(|(_, effects)| effects)
    }

    /// The same with where it holds.
    pub(super) fn effects_in_place(&self) -> impl Iterator<Item = (&ContextId, &Effect)> {
        self.places.iter().flat_map(|place| {
            let effects = place.routes.iter().flat_map(|(_, effects)| effects);
            effects.map(move |effect| (&place.context, &**effect))
        })
    }

    /// Asks for the filters wherever the table is served.
    pub(super) fn need(&self, chains: &mut AllChains) {
        for place in &self.places {
            for listener in &place.listeners {
                let effects = place.routes.iter().flat_map(|(_, effects)| effects);
                chains.need(&place.context, listener.clone(), &self.parent, effects);
            }
        }
    }
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
            let contexts: BTreeSet<bool> =
                place.listeners.iter().map(|listener| matches!(listener, Listener::Sidecars)).collect();
            let context = |at_sidecars| if at_sidecars { PatchContext::SidecarOutbound } else { PatchContext::Gateway };
            let mut patches = Vec::new();
            let mut sources: BTreeSet<&ResourceRef> = BTreeSet::from([&self.parent]);
            for (name, effects) in &place.routes {
                let contexts = contexts.iter().map(|at_sidecars| context(*at_sidecars));
                patches.extend(
                    contexts.map(|context| patch::configure(context, &Routes::Named(name), patch::said(effects, ""))),
                );
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
