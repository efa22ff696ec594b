//! The units of translation, one module per kind of parent.
//!
//! Each module resolves its parents into inputs that hold everything its units read, and translates an input into
//! objects. A new kind of parent is a module here, a field of [`Stages`] and a line in [`Stages::update`].

pub(crate) mod access;
pub(crate) mod destination_rule;
pub(crate) mod east_west_gateway;
pub(crate) mod egress;
pub(crate) mod external_service;
pub(crate) mod http_filters;
pub(crate) mod mesh_host;
mod protocol;
pub(crate) mod route_table;
pub(crate) mod sidecar;
pub(crate) mod virtual_gateway;

use crate::engine::{Gathering, Round, Stage, Step};
use crate::policies::destinations::DestinationPolicies;
use crate::policies::routes::RouteBooks;
use crate::unit::UnitKind;
use crate::vip::Allocations;
use crate::{LastAccepted, ResourceRef};

/// All parents of the fleet, and what they are made from. Those that others are made from come first.
#[derive(Debug)]
pub(crate) struct Stages {
    hosts: mesh_host::MeshHosts,
    east_west_gateways: Gathering<east_west_gateway::EastWestGateway>,
    external_services: Stage<external_service::ExternalService>,
    virtual_gateways: Stage<virtual_gateway::VirtualGateway>,
    egress: Stage<egress::Egress>,
    route_policies: RouteBooks,
    delegated_tables: route_table::Children,
    route_tables: Stage<route_table::RouteTable>,
    table_notes: Step<()>,
    destination_policies: DestinationPolicies,
    destination_rules: Gathering<destination_rule::DestinationRules>,
    http_filters: http_filters::HttpFilters,
    access: access::Accesses,
    sidecars: sidecar::Sidecars,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            hosts: mesh_host::MeshHosts::default(),
            east_west_gateways: Gathering::new(UnitKind::EastWestGateway, "east-west gateways"),
            external_services: Stage::new(UnitKind::ExternalService, "external services"),
            virtual_gateways: Stage::new(UnitKind::VirtualGateway, "virtual gateways"),
            egress: Stage::new(UnitKind::Egress, "egress"),
            route_policies: RouteBooks::default(),
            delegated_tables: route_table::Children::default(),
            table_notes: Step::new("notes on tables"),
            route_tables: Stage::new(UnitKind::RouteTable, "route tables"),
            destination_policies: DestinationPolicies::default(),
            destination_rules: Gathering::new(UnitKind::DestinationRule, "destination rules"),
            http_filters: http_filters::HttpFilters::default(),
            access: access::Accesses::default(),
            sidecars: sidecar::Sidecars::default(),
        }
    }
}

impl Stages {
    /// Brings all parents up to date.
    pub(crate) fn update(
        &mut self,
        round: &mut Round<'_>,
        allocations: &mut Allocations,
        last_accepted: &LastAccepted,
    ) {
        let model = round.model;
        self.hosts.update(round, allocations);
        let hosts = &self.hosts;
        self.east_west_gateways.update(round, |_| east_west_gateway::gather(model, hosts));
        self.external_services.update(
            round,
            |cluster| external_service::list(model, cluster),
            |parent, notes| external_service::resolve(model, parent, notes),
        );
        self.virtual_gateways.update(
            round,
            |cluster| virtual_gateway::list(model, cluster),
            |parent, notes| virtual_gateway::resolve(model, parent, notes),
        );
        self.delegated_tables.update(round);
        self.route_policies.update(round);
        let (gateways, children, policies) = (&self.virtual_gateways, &self.delegated_tables, &self.route_policies);
        self.egress.update(
            round,
            |cluster| egress::list(model, cluster),
            |parent, notes| egress::resolve(model, gateways, parent, notes),
        );
        let egress = &self.egress;
        let surroundings =
            route_table::Surroundings { model, hosts, gateways, children, egress, policies, last_accepted };
        self.route_tables.update(
            round,
            |cluster| route_table::list(model, cluster),
            |parent, notes| surroundings.resolve(parent, notes),
        );
        let tables = &self.route_tables;
        self.table_notes.update(round, |notes| route_table::note_all(tables, notes), |_, (), _| ());
        self.http_filters.update(round, hosts, tables, policies);
        self.access.update(round, hosts);
        self.sidecars.update(round, hosts, &self.external_services, &self.http_filters, tables);
        self.destination_policies.update(round);
        let (external, policies) = (&self.external_services, &self.destination_policies);
        let surroundings = destination_rule::Surroundings { model, hosts, external, egress, tables, policies };
        self.destination_rules.update(round, |notes| destination_rule::gather(surroundings, notes));
    }

    /// What guards the routes of a tree of tables.
    pub(crate) fn guards(&self, root: &ResourceRef) -> Vec<http_filters::Guard> {
        self.http_filters.guards(root)
    }
}
