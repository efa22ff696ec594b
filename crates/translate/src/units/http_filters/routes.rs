//! What the routes of a table say to the filters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_snapshot::ContentHash;
use serde::{Deserialize, Serialize};

use super::chain::{AllChains, Listener};
use super::effect::Effect;
use super::patch::{self, Routes};
use super::{Caller, Effects, on_route};
use crate::fingerprint::{Shared, fingerprint};
use crate::model::Model;
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::routes::RouteBooks;
use crate::reads::{Taken, taking, together};
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::mesh_host::MeshHosts;
use crate::units::route_table::{Placement, RouteTable};
use crate::{ContextId, ResourceRef};

/// What access logs say about routes of a frozen tree whose policy is gone.
const WHY_CLOSED: &str = "policy-of-frozen-route-gone";

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
    /// The policies that say it, by route.
    policies: Vec<(String, BTreeSet<ResourceRef>)>,
    /// What told that.
    taken: Taken,
}

/// Routes of a tree of tables with the policies that guard them, as long as the tree is frozen. What the policies do
/// follows from what they are now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Guard {
    pub(crate) context: ContextId,
    listeners: BTreeSet<Listener>,
    labels: Option<BTreeMap<String, String>>,
    policies: Vec<(String, BTreeSet<ResourceRef>)>,
}

/// What the routes of a table say to the filters; `None` if they have nothing to say.
pub(super) fn resolve(
    model: &Model,
    hosts: &MeshHosts,
    books: &RouteBooks,
    table: &RouteTable,
    notes: &mut Notes,
) -> Option<RouteFilters> {
    let mut resolution = Resolution { model, hosts, books, table, known: Effects::default(), notes };
    let places = match table.frozen() {
        Some(accepted) => accepted.guards().iter().map(|guard| resolution.guarded(guard)).collect(),
        None => table.placements.iter().filter_map(|placement| resolution.place(placement)).collect::<Vec<_>>(),
    };
    (!places.is_empty()).then(|| RouteFilters { parent: table.parent.clone(), places })
}

struct Resolution<'a> {
    model: &'a Model,
    hosts: &'a MeshHosts,
    books: &'a RouteBooks,
    table: &'a RouteTable,
    known: Effects,
    notes: &'a mut Notes,
}

impl Resolution<'_> {
    fn place(&mut self, placement: &Placement) -> Option<RoutesInPlace> {
        let caller = Caller { model: self.model, hosts: self.hosts, context: &placement.context };
        let (mut routes, mut policies) = (Vec::new(), Vec::new());
        let ((), taken) = taking(|| {
            for (route, of_route) in self.table.routes.iter().zip(&placement.targets.policies) {
                let effects = on_route(&caller, of_route, &mut self.known, self.notes);
                if !effects.is_empty() {
                    routes.push((route.name.clone(), effects));
                    policies.push((route.name.clone(), of_route.filters().cloned().collect()));
                }
            }
        });
        if routes.is_empty() {
            return None;
        }
        let (listeners, labels) = served_at(placement);
        let taken = together([&taken, &self.table.taken_at(placement)]);
        Some(RoutesInPlace { context: placement.context.clone(), listeners, labels, routes, policies, taken })
    }

    /// What is said in a place where a frozen tree keeps its routes, whatever routes and places its tables speak of now.
    /// A policy that is gone leaves its routes closed: whether they may be open is not known before the tree is right.
    fn guarded(&mut self, guard: &Guard) -> RoutesInPlace {
        let Guard { context, mut listeners, mut labels, policies } = guard.clone();
        let now = self.table.placements.iter().find(|placement| placement.context == context);
        if let Some((more, labels_now)) = now.map(served_at) {
            listeners.extend(more);
            labels = labels.filter(|labels| labels_now.as_ref() == Some(labels));
        }
        let caller = Caller { model: self.model, hosts: self.hosts, context: &context };
        let mut routes = Vec::new();
        let mut taken = Arc::clone(self.table.of_tree());
        for (name, wanted) in &policies {
            let found = self.books.named(self.model, wanted);
            let (mut effects, of_route) = taking(|| on_route(&caller, &found, &mut self.known, self.notes));
            taken = together([&taken, &of_route]);
            let gone = wanted.iter().filter(|policy| !found.filters().any(|found| found == *policy));
            let gone: Vec<String> = gone.map(ToString::to_string).collect();
            if !gone.is_empty() {
                let parent = &self.table.parent;
                let text = format!(
                    "{} held for route {name} of the frozen tree and is gone: its requests are answered with status \
                     403 until the tree is right",
                    gone.join(", ")
                );
                self.notes.say_in(parent, &context, Severity::Warning, Code::Frozen, text);
                effects.push(Shared::new(Effect::closed(WHY_CLOSED, vec![parent.clone()])));
            }
            routes.push((name.clone(), effects));
        }
        RoutesInPlace { context, listeners, labels, routes, policies, taken }
    }
}

/// The listeners that serve a table in a context, and the labels of the proxies if they are the same for all.
fn served_at(placement: &Placement) -> (BTreeSet<Listener>, Option<BTreeMap<String, String>>) {
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
    (listeners, labels)
}

impl RouteFilters {
    /// What must hold still if the tree is frozen.
    pub(super) fn guards(&self) -> Vec<Guard> {
        let guard = |place: &RoutesInPlace| Guard {
            context: place.context.clone(),
            listeners: place.listeners.clone(),
            labels: place.labels.clone(),
            policies: place.policies.clone(),
        };
        self.places.iter().map(guard).collect()
    }

    /// All that the routes say, with where it holds.
    pub(super) fn effects_in_place(&self) -> impl Iterator<Item = (&ContextId, &Effect, &Taken)> {
        self.places.iter().flat_map(|place| {
            let effects = place.routes.iter().flat_map(|(_, effects)| effects);
            effects.map(move |effect| (&place.context, &**effect, &place.taken))
        })
    }

    /// Asks for the filters wherever the table is served.
    pub(super) fn need(&self, chains: &mut AllChains) {
        for place in &self.places {
            for listener in &place.listeners {
                let effects = place.routes.iter().flat_map(|(_, effects)| effects);
                chains.need(&place.context, listener.clone(), (&self.parent, &place.taken), effects);
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
            let body = Body::new(&spec, shapers).reading([&place.taken]);
            emission.emit(&place.context, &name, &body, Extra::default());
        }
        emission.finish()
    }
}
