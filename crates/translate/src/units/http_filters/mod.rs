//! Filters of Envoy that policies put in the way of requests.
//!
//! A policy that Istio has no words for becomes [`Effect`]s: each says which filter it needs where in the chain, with
//! which configuration, and what a route adds. From them come
//!
//! - per namespace, the filters that its gateways (by port) and sidecars have, none of which acts by itself ([`Chains`]);
//! - per table, what its routes say to the filters, which wakes them ([`RouteFilters`]);
//! - per Service, the filters before its workloads, for policies that select destinations ([`InboundFilters`]).
//!
//! A new kind of policy is a module here with a function from a policy and a [`Caller`] to effects, and a line in
//! [`on_route`] and in [`inbound::gather`].

mod caller;
mod chain;
mod effect;
mod ext_auth;
mod header;
mod inbound;
mod jwt;
mod patch;
mod rate_limit;
mod routes;
mod unreferenced;

use std::collections::BTreeMap;

use caller::Caller;
use chain::{AllChains, Chains};
use effect::Effect;
use ext_auth::AuthConfigs;
use inbound::InboundFilters;
use rate_limit::RateLimitConfigs;
pub(crate) use routes::Guard;
use routes::RouteFilters;

use super::mesh_host::MeshHosts;
use super::route_table::RouteTable;
use crate::engine::{Gathering, Round, Stage, Step};
use crate::fingerprint::Shared;
use crate::policies::routes::{RouteBooks, RoutePolicies};
use crate::reads::{Taken, take_all, taking};
use crate::report::Notes;
use crate::unit::UnitKind;
use crate::{ContextId, ResourceRef};

/// All filters of the fleet, and what servers need to know for them.
#[derive(Debug)]
pub(crate) struct HttpFilters {
    routes: Stage<RouteFilters>,
    chains: Gathering<Chains>,
    inbound: Gathering<InboundFilters>,
    auth_configs: Gathering<AuthConfigs>,
    rate_limit_configs: Gathering<RateLimitConfigs>,
    unreferenced: Step<()>,
}

impl Default for HttpFilters {
    fn default() -> Self {
        Self {
            routes: Stage::new(UnitKind::HttpFilters, "filters of routes"),
            chains: Gathering::new(UnitKind::HttpFilters, "chains of filters"),
            inbound: Gathering::new(UnitKind::HttpFilters, "filters of services"),
            auth_configs: Gathering::new(UnitKind::AuthConfig, "auth configs"),
            rate_limit_configs: Gathering::new(UnitKind::RateLimitConfig, "rate limit configs"),
            unreferenced: Step::new("unreferenced servers"),
        }
    }
}

impl HttpFilters {
    /// Brings all filters up to date.
    pub(crate) fn update(
        &mut self,
        round: &mut Round<'_>,
        hosts: &MeshHosts,
        tables: &Stage<RouteTable>,
        books: &RouteBooks,
    ) {
        let model = round.model;
        self.routes.update(
            round,
            |cluster| model.counting(&cluster.name, cluster.route_tables().values()),
            |parent, notes| routes::resolve(model, hosts, books, tables.get(parent)?, notes),
        );
        let routes = &self.routes;
        self.chains.update(round, |notes| {
            let mut chains = AllChains::default();
            routes.values().for_each(|table| table.need(&mut chains));
            chains.finish(notes)
        });
        self.inbound.update(round, |notes| inbound::gather(model, hosts, books, notes));
        let inbound = &self.inbound;
        self.auth_configs.update(round, |notes| {
            let effects = effects(routes, inbound);
            let approvals =
                effects.filter_map(|(context, effect, taken)| Some((context, effect.approval.as_ref()?, taken)));
            ext_auth::gather(model, approvals, notes)
        });
        self.rate_limit_configs.update(round, |notes| rate_limit::gather(model, hosts, notes));
        self.unreferenced.update(round, |notes| unreferenced::note(model, books, notes), |_, (), _| ());
    }
}

impl HttpFilters {
    /// What guards the routes of a tree of tables.
    pub(crate) fn guards(&self, root: &ResourceRef) -> Vec<Guard> {
        self.routes.get(root).map(|routes| routes.guards()).unwrap_or_default()
    }

    /// What is done to requests, with where and what told that.
    pub(crate) fn effects(&self) -> impl Iterator<Item = (&ContextId, &Effect, &Taken)> {
        effects(&self.routes, &self.inbound)
    }
}

fn effects<'a>(
    routes: &'a Stage<RouteFilters>,
    inbound: &'a Gathering<InboundFilters>,
) -> impl Iterator<Item = (&'a ContextId, &'a Effect, &'a Taken)> {
    let of_routes = routes.values().flat_map(|table| table.effects_in_place());
    let of_services = inbound.values().flat_map(|service| {
        let effects = service.ports.values().flatten();
        effects.map(move |effect| (&service.context, &**effect, &service.taken))
    });
    of_routes.chain(of_services)
}

/// What the policies of a route do to its requests where it is served.
fn on_route(
    caller: &Caller<'_>,
    policies: &RoutePolicies,
    known: &mut Effects,
    notes: &mut Notes,
) -> Vec<Shared<Effect>> {
    let mut effects = Vec::new();
    take_all(&policies.of_filters);
    if let Some(policy) = &policies.ext_auth {
        effects.extend(known.of(&policy.source, caller, || ext_auth::effects(caller, policy, notes)));
    }
    if let Some(policy) = &policies.jwt {
        effects.extend(known.of(&policy.source, caller, || jwt::effects(caller, policy, notes)));
    }
    if let Some(policy) = &policies.rate_limit {
        effects.extend(known.of(&policy.source, caller, || rate_limit::effects(caller, policy, notes)));
    }
    effects
}

/// Effects that are known already, by policy and context: many routes have the same.
#[derive(Debug, Default)]
struct Effects(BTreeMap<(ResourceRef, ContextId), Known>);

/// Effects, and what told them.
type Known = (Vec<Shared<Effect>>, Taken);

impl Effects {
    fn of(
        &mut self,
        policy: &ResourceRef,
        caller: &Caller<'_>,
        make: impl FnOnce() -> Vec<Effect>,
    ) -> Vec<Shared<Effect>> {
        let key = (policy.clone(), caller.context.clone());
        let make = || taking(|| make().into_iter().map(Shared::new).collect());
        let (effects, taken) = self.0.entry(key).or_insert_with(make);
        take_all(taken);
        effects.clone()
    }
}
