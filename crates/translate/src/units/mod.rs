//! The units of translation, one module per kind of parent.
//!
//! Each module resolves its parents into inputs that hold everything its units read, and translates an input into
//! objects. A new kind of parent is a module here and a line in [`resolve`].

pub(crate) mod destination_rule;
pub(crate) mod east_west_gateway;
pub(crate) mod external_service;
pub(crate) mod mesh_host;
mod protocol;
pub(crate) mod route_table;
pub(crate) mod virtual_gateway;

use crate::model::Model;
use crate::report::Notes;
use crate::unit::ParentInput;
use crate::vip::Allocations;

/// Resolves every parent of the fleet. Parents that gather what others need come after those.
pub(crate) fn resolve(model: &Model, allocations: &mut Allocations, notes: &mut Notes) -> Vec<Box<dyn ParentInput>> {
    let mut hosts = mesh_host::MeshHosts::resolve(model, notes);
    hosts.allocate(allocations);
    let east_west = east_west_gateway::resolve(model, &hosts);
    let external = external_service::resolve(model, notes);
    let gateways = virtual_gateway::resolve(model, notes);
    let tables = route_table::resolve(model, &hosts, &gateways, notes);
    let rules = destination_rule::resolve(model, &hosts, &external, &tables, notes);
    let mut inputs: Vec<Box<dyn ParentInput>> = Vec::new();
    inputs.extend(boxed(gateways.into_values()));
    inputs.extend(boxed(east_west));
    inputs.extend(boxed(hosts.by_parent.into_values()));
    inputs.extend(boxed(external));
    inputs.extend(boxed(tables));
    inputs.extend(boxed(rules));
    inputs
}

fn boxed<T: ParentInput + 'static>(inputs: impl IntoIterator<Item = T>) -> impl Iterator<Item = Box<dyn ParentInput>> {
    inputs.into_iter().map(|input| Box::new(input) as Box<dyn ParentInput>)
}
