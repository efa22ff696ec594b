//! Filters of Envoy that policies put in the way of requests.
//!
//! A policy that Istio has no words for becomes [`Effect`]s: each says which filter it needs where in the chain, with
//! which configuration, and what a route adds. From them come
//!
//! - per namespace, the filters that its gateways (by port) and sidecars have, all switched off ([`Chains`]);
//! - per table, what its routes say to the filters, which switches them on ([`RouteFilters`]);
//! - per Service, the filters before its workloads, for policies that select destinations ([`InboundFilters`]).
//!
//! A new kind of policy is a module here with a function from a policy and a [`Caller`] to effects, and a line in
//! [`Books::on_route`] and in [`inbound::gather`].

mod caller;
mod chain;
mod effect;
mod ext_auth;
mod inbound;
mod patch;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use caller::Caller;
use chain::{AllChains, Chains};
pub(crate) use effect::{Effect, Phase, Position};
use ext_auth::AuthConfigs;
use inbound::InboundFilters;
use meshrelay_api::security::ExtAuthPolicySpec;
use routes::RouteFilters;

use super::mesh_host::MeshHosts;
use super::route_table::RouteTable;
use crate::engine::{Gathering, Round, Stage};
use crate::fingerprint::Shared;
use crate::input::ClusterInput;
use crate::policies::{Book, Policy, Route, oldest};
use crate::report::Notes;
use crate::unit::UnitKind;
use crate::{ContextId, ResourceRef};

/// All filters of the fleet, and what servers need to know for them.
#[derive(Debug)]
pub(crate) struct HttpFilters {
    books: Books,
    routes: Stage<RouteFilters>,
    chains: Gathering<Chains>,
    inbound: Gathering<InboundFilters>,
    auth_configs: Gathering<AuthConfigs>,
}

impl Default for HttpFilters {
    fn default() -> Self {
        Self {
            books: Books::default(),
            routes: Stage::new(UnitKind::HttpFilters, "filters of routes"),
            chains: Gathering::new(UnitKind::HttpFilters, "chains of filters"),
            inbound: Gathering::new(UnitKind::HttpFilters, "filters of services"),
            auth_configs: Gathering::new(UnitKind::AuthConfig, "auth configs"),
        }
    }
}

impl HttpFilters {
    /// Brings all filters up to date.
    pub(crate) fn update(&mut self, round: &mut Round<'_>, hosts: &MeshHosts, tables: &Stage<RouteTable>) {
        let model = round.model;
        self.books.ext_auth.update(round, ClusterInput::ext_auth_policies, &SELECTED);
        let books = &self.books;
        self.routes.update(
            round,
            |cluster| model.counting(&cluster.name, cluster.route_tables().values()),
            |parent, notes| routes::resolve(model, hosts, books, tables.get(parent)?, notes),
        );
        let routes = &self.routes;
        self.chains.update(round, |_| {
            let mut chains = AllChains::default();
            routes.values().for_each(|table| table.need(&mut chains));
            chains.finish()
        });
        self.inbound.update(round, |notes| inbound::gather(model, hosts, books, notes));
        let inbound = &self.inbound;
        self.auth_configs.update(round, |notes| {
            let effects = routes.values().flat_map(|table| table.effects());
            let effects = effects.chain(inbound.values().flat_map(|service| service.ports.values().flatten()));
            ext_auth::gather(model, effects.filter_map(|effect| effect.approval.as_ref()), notes)
        });
    }
}

/// The policies that need filters.
#[derive(Debug, Default)]
struct Books {
    ext_auth: Book<ExtAuthPolicySpec>,
}

/// Counters of what such policies select.
const SELECTED: [&str; 2] = ["numSelectedRoutes", "numSelectedDestinationPorts"];

impl Books {
    /// What policies do to the requests of a route where it is served.
    fn on_route(
        &self,
        route: &Route<'_>,
        target: &str,
        caller: &Caller<'_>,
        known: &mut Effects,
        notes: &mut Notes,
    ) -> Vec<Shared<Effect>> {
        let selects = |policy: &&Arc<Policy<ExtAuthPolicySpec>>| {
            policy.input.spec.apply_to_routes.iter().any(|selector| route.is_selected(selector))
        };
        let mut effects = Vec::new();
        let selecting = self.ext_auth.of(route.workspace).iter().filter(selects);
        if let Some(policy) = oldest(selecting, target, notes) {
            effects.extend(known.of(&policy.source, caller, || ext_auth::effects(caller, policy, notes)));
        }
        effects
    }
}

/// Effects that are known already, by policy and context: many routes have the same.
#[derive(Debug, Default)]
struct Effects(BTreeMap<(ResourceRef, ContextId), Vec<Shared<Effect>>>);

impl Effects {
    fn of(
        &mut self,
        policy: &ResourceRef,
        caller: &Caller<'_>,
        make: impl FnOnce() -> Vec<Effect>,
    ) -> Vec<Shared<Effect>> {
        let key = (policy.clone(), caller.context.clone());
        self.0.entry(key).or_insert_with(|| make().into_iter().map(Shared::new).collect()).clone()
    }
}
