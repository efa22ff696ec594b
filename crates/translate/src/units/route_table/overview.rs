//! What there is to say about tables when all are seen together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::RouteTable;
use super::placement::MESH;
use super::tree::Parents;
use crate::engine::Stage;
use crate::report::{Code, Notes, Severity};
use crate::{ContextId, ResourceRef};

/// The counter of the tables that delegate to one.
pub(super) const PARENTS: &str = "numParentRouteTables";

/// How many tables a message names before it only counts them.
const NAMED: usize = 5;

/// Says what there is to say about all root tables together.
pub(crate) fn note_all(tables: &Stage<RouteTable>, notes: &mut Notes) {
    let mut parents = Parents::new();
    for (child, of_child) in tables.values().flat_map(|table| table.parents.iter()) {
        parents.entry(child.clone()).or_default().extend(of_child.iter().cloned());
    }
    for (child, parents) in &parents {
        notes.count(child, PARENTS, parents.len());
    }
    note_shared_hosts(tables, notes);
}

/// Tells tables that proxies serve for the same host: which of their routes are tried first depends on when Istio saw
/// them, and sidecars take one table alone.
fn note_shared_hosts(tables: &Stage<RouteTable>, notes: &mut Notes) {
    let mut by_name: BTreeMap<&str, Vec<&Arc<RouteTable>>> = BTreeMap::new();
    for table in tables.values() {
        let names: BTreeSet<&String> = table.placements.iter().flat_map(|placement| &placement.hosts).collect();
        names.into_iter().for_each(|host| by_name.entry(host).or_default().push(table));
    }
    let mut by_host: BTreeMap<(&ContextId, &str, &str), BTreeSet<&ResourceRef>> = BTreeMap::new();
    // Few hosts have several tables, while tables may be served in very many places.
    for (host, tables) in by_name.into_iter().filter(|(_, tables)| tables.len() > 1) {
        for table in tables {
            for placement in table.placements.iter().filter(|placement| placement.hosts.iter().any(|one| one == host)) {
                for gateway in placement.served_by.iter().flat_map(|served| &served.gateways) {
                    by_host.entry((&placement.context, gateway, host)).or_default().insert(&table.parent);
                }
            }
        }
    }
    for ((context, gateway, host), all) in by_host.into_iter().filter(|(_, all)| all.len() > 1) {
        for table in &all {
            let others: Vec<String> = all.iter().filter(|other| *other != table).map(ToString::to_string).collect();
            let mut list = others.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if others.len() > NAMED {
                list.push_str(&format!(" and {} more", others.len() - NAMED));
            }
            let effect = if gateway == MESH {
                "sidecars take one of the tables only"
            } else {
                "their routes are tried table by table, in the order in which Istio saw them"
            };
            let text = format!("spec.hosts: {host} is served for {list} too: {effect}: let one delegate to the other");
            notes.say_in(table, context, Severity::Warning, Code::HostShared, text);
        }
    }
}
