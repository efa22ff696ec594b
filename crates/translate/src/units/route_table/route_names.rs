//! Names of routes in a VirtualService.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_snapshot::ObjectKey;

use super::tree::Route;
use crate::names;
use crate::report::{Code, Notes, Severity};

/// Prefix that names of HTTP routes have in the original's output; written by users, it is dropped.
const PREFIX: &str = "insecure-";

/// Gives every route of a tree a name of its own.
pub(super) fn assign(routes: &mut [Route], notes: &mut Notes) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut written: BTreeSet<(_, String)> = BTreeSet::new();
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    let mut met: BTreeSet<(_, usize)> = BTreeSet::new();
    for route in routes {
        let name = route.written().map(|route| route.name.as_str()).unwrap_or_default();
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let name = if name.is_empty() { route.index.to_string() } else { name.to_owned() };
        let mut unique = name.clone();
        route.name = full(&unique, route);
        let count = next.entry(route.name.clone()).or_insert(0);
        while !taken.insert(route.name.clone()) {
            *count += 1;
            unique = format!("duplicate-{name}-{count}");
            route.name = full(&unique, route);
        }
        let source = &route.table.source;
        // Delegated to twice, a table has its routes twice: that is no fault of the names.
        if met.insert((source.clone(), route.index)) && !written.insert((source.clone(), name.clone())) {
            let text = format!("spec.http[{}].name: {name} is used before: the route is called {unique}", route.index);
            notes.say(source, Severity::Warning, Code::DuplicateRoute, text);
        }
    }
}

fn full(name: &str, route: &Route) -> String {
    let ObjectKey { namespace, name: table, .. } = &route.table.source.key;
    names::sanitize(&format!("{PREFIX}{name}-{table}-{namespace}-{}", route.table.source.cluster))
}
