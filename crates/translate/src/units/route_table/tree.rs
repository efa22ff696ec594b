//! The routes of a root table and of all that it delegates to, in one list.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::networking::{DelegateAction, HttpAction, HttpRoute, SortMethod};

use super::conditions::Conditions;
use super::delegation::{Children, Picked, Table};
use super::{Reached, route_names};
use crate::ResourceRef;
use crate::model::Model;
use crate::report::{Code, Finding, Notes, Severity};

/// Tables that may stand between a root and a route. Nobody nests so deep on purpose.
const MOST_LEVELS: usize = 32;

/// Tables, routes and conditions that one tree may have. Matchers multiply, and a table may be reached in many ways: a
/// few tables could otherwise ask for more than Kubernetes stores in one object.
const MOST_PARTS: usize = 10_000;

/// Labels of pods, any of which is enough; none at all allows every pod.
pub(super) type Workloads = Vec<BTreeMap<String, String>>;

/// An HTTP route of a tree.
#[derive(Debug, Hash)]
pub(crate) struct Route {
    /// Its name in VirtualServices, which no other route of the tree has.
    pub(crate) name: String,
    /// The table that it is written in, and where in `spec.http`.
    pub(crate) table: Arc<Table>,
    pub(crate) index: usize,
    /// Its own labels, those of its table, and those of the routes and tables that delegate to it.
    pub(crate) labels: BTreeMap<String, String>,
    /// Conditions, any of which is enough; none at all allows everything.
    pub(super) conditions: Vec<Conditions>,
    /// Labels of the pods whose sidecars have the route, beyond what the root table demands.
    pub(super) workloads: Workloads,
    /// Whether it stands for tables that could not be delegated to: the requests that they would have had are refused.
    pub(crate) replaced: bool,
}

impl Route {
    /// What is written.
    pub(crate) fn written(&self) -> Option<&HttpRoute> {
        self.table.input.spec.http.get(self.index)
    }
}

/// All routes that come from one root table.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) routes: Vec<Route>,
    /// The root, then the others in the order in which they are met.
    pub(super) tables: Vec<Reached>,
    pub(super) parents: Parents,
}

/// By table, those that delegate to it.
pub(super) type Parents = BTreeMap<ResourceRef, BTreeSet<ResourceRef>>;

/// What a table gets from the route that delegates to it.
#[derive(Clone, Default)]
struct Above {
    labels: BTreeMap<String, String>,
    conditions: Vec<Conditions>,
    workloads: Workloads,
}

/// Flattens the tree below a root table; what is wrong with it is told.
pub(super) fn flatten(model: &Model, children: &Children, root: &Arc<Table>, notes: &mut Notes) -> Tree {
    let workloads = labels_of_workloads(root, notes).unwrap_or_default();
    let mut walk = Walk {
        model,
        children,
        notes,
        workloads,
        parents: Parents::new(),
        path: Vec::new(),
        tables: Vec::new(),
        reached: BTreeSet::new(),
        parts: 0,
    };
    let (mut routes, _) = walk.table(root, &Above::default());
    route_names::assign(&mut routes, walk.notes);
    Tree { routes, tables: walk.tables, parents: walk.parents }
}

struct Walk<'a> {
    model: &'a Model,
    children: &'a Children,
    notes: &'a mut Notes,
    /// What the root demands of workloads.
    workloads: Workloads,
    parents: Parents,
    /// The tables from the root to where the walk is.
    path: Vec<Arc<Table>>,
    tables: Vec<Reached>,
    reached: BTreeSet<ResourceRef>,
    parts: usize,
}

impl Walk<'_> {
    /// The routes of a table, and whether some of it cannot be below what stands above.
    fn table(&mut self, table: &Arc<Table>, above: &Above) -> (Vec<Route>, bool) {
        if self.reached.insert(table.source.clone()) {
            self.tables.push(Reached { table: Arc::clone(table), workloads: above.workloads.clone() });
        }
        self.path.push(Arc::clone(table));
        let mut routes = Vec::new();
        let mut broken = false;
        for (index, route) in table.input.spec.http.iter().enumerate() {
            let Some(own) = self.conditions(table, index, route) else { continue };
            let conditions = match product(&above.conditions, &own) {
                Ok(conditions) => conditions,
                Err((code, problem)) => {
                    broken = true;
                    let text = format!("spec.http[{index}].matchers: {problem}");
                    self.tell(table, Severity::Invalid, code, format!("{text}: the route is left out"));
                    self.tell_above(1, code, &format!("{}: {text}", table.source));
                    continue;
                }
            };
            self.parts += 1 + conditions.len();
            let mut labels = above.labels.clone();
            let of_table = table.input.object.labels().iter();
            labels.extend(of_table.map(|(key, value)| (key.to_string(), value.to_string())));
            labels.extend(route.labels.clone());
            let above = Above { labels, conditions, workloads: above.workloads.clone() };
            match route.action_type() {
                Ok(Some(HttpAction::Delegate(delegate))) => {
                    routes.extend(self.delegate(table, index, delegate, &above))
                }
                _ => routes.push(leaf(table, index, above, false)),
            }
        }
        self.path.pop();
        (routes, broken)
    }

    /// The conditions of a route itself; `None` if those that were meant are lost, without which it would take requests
    /// that are not its own.
    fn conditions(&mut self, table: &Table, index: usize, route: &HttpRoute) -> Option<Vec<Conditions>> {
        let mut all = Vec::new();
        for (position, matcher) in route.matchers.iter().enumerate() {
            match Conditions::read(matcher) {
                // Bad expressions are told where the routes are translated, as long as nothing else depends on them.
                Ok(conditions) if route.delegate.is_some() && conditions.check().is_err() => {}
                Ok(conditions) => all.push(conditions),
                Err(problem) => {
                    let text = format!("spec.http[{index}].matchers[{position}].{problem}: the matcher is left out");
                    self.tell(table, Severity::Invalid, Code::BadValue, text);
                }
            }
        }
        (route.matchers.is_empty() || !all.is_empty()).then_some(all)
    }

    /// The routes of all tables that a route delegates to. If something is wrong with one of them, what the others do
    /// not take is refused.
    fn delegate(&mut self, table: &Arc<Table>, index: usize, delegate: &DelegateAction, above: &Above) -> Vec<Route> {
        let place = format!("spec.http[{index}].delegate");
        let mut routes = Vec::new();
        let Some(workspace) = self.model.workspaces.get(&table.workspace) else { return routes };
        let picked = self.children.pick(self.model, workspace, delegate);
        self.tell_picked(table, &place, delegate, &picked);
        let mut broken = picked.tables.is_empty() || !picked.unreadable.is_empty();
        for child in &picked.tables {
            if let Some(start) = self.path.iter().position(|known| known.source == child.source) {
                self.tell_cycle(start, child);
                broken = true;
                continue;
            }
            if self.path.len() >= MOST_LEVELS || self.parts >= MOST_PARTS {
                let text = format!(
                    "{place}: expected a tree of at most {MOST_LEVELS} levels and {MOST_PARTS} tables, routes and \
                     conditions: what is beyond is left out, its requests are answered with status 500"
                );
                self.tell(table, Severity::Invalid, Code::TooManyRoutes, text);
                broken = true;
                break;
            }
            self.parts += 1;
            self.parents.entry(child.source.clone()).or_default().insert(table.source.clone());
            let Some(above) = self.narrowed(child, above) else {
                broken = true;
                continue;
            };
            let (more, contradicts) = self.table(child, &above);
            routes.extend(more);
            broken |= contradicts;
        }
        if delegate.sort_method == SortMethod::RouteSpecificity {
            let rank = |route: &Route| route.conditions.iter().map(Conditions::specificity).max().unwrap_or_default();
            routes.sort_by_cached_key(|route| Reverse(rank(route)));
        }
        if broken {
            routes.push(leaf(table, index, above.clone(), true));
        }
        routes
    }

    /// What a child gets with the workloads that it selects itself; `None` if no workload can be selected by all.
    fn narrowed(&mut self, child: &Table, above: &Above) -> Option<Above> {
        let mut above = above.clone();
        let Some(own) = labels_of_workloads(child, self.notes) else { return Some(above) };
        let anything = [BTreeMap::new()];
        let or_anything =
            |workloads: &Workloads| if workloads.is_empty() { anything.to_vec() } else { workloads.clone() };
        let (of_root, above_it) = (or_anything(&self.workloads), or_anything(&above.workloads));
        let pairs = above_it.iter().flat_map(|one| own.iter().filter_map(|other| both_labels(one, other)));
        let possible = |both: &BTreeMap<_, _>| of_root.iter().any(|root| both_labels(root, both).is_some());
        let workloads: BTreeSet<_> = pairs.filter(possible).collect();
        if workloads.is_empty() {
            let text =
                "spec.workloadSelectors: no workload can have these labels and those that the tables above demand";
            self.tell(child, Severity::Invalid, Code::Contradiction, format!("{text}: its routes are left out"));
            self.tell_above(0, Code::Contradiction, &format!("{}: {text}", child.source));
            return None;
        }
        above.workloads = workloads.into_iter().collect();
        Some(above)
    }

    fn tell(&mut self, table: &Table, severity: Severity, code: Code, text: impl Into<String>) {
        self.notes.say(&table.source, severity, code, text);
    }

    /// Tells the table `levels` above the one where the walk is.
    fn tell_above(&mut self, levels: usize, code: Code, problem: &str) {
        if let Some(above) = self.path.iter().rev().nth(levels) {
            let text = format!("{problem}: requests that no other delegated route takes are answered with status 500");
            self.notes.say(&above.source, Severity::Warning, code, text);
        }
    }

    fn tell_picked(&mut self, table: &Table, place: &str, delegate: &DelegateAction, picked: &Picked) {
        let hint = if picked.hidden.is_empty() {
            String::new()
        } else {
            let hidden: Vec<String> = picked.hidden.iter().map(ToString::to_string).collect();
            format!(", while workspace {} does not see {}", table.workspace, hidden.join(", "))
        };
        for unreadable in &picked.unreadable {
            let text = format!(
                "{place}.routeTables: {unreadable} cannot be read: requests that no other delegated route takes are \
                 answered with status 500"
            );
            self.tell(table, Severity::Invalid, Code::NoDelegate, text);
        }
        if picked.tables.is_empty() && picked.unreadable.is_empty() {
            let text = format!(
                "{place}.routeTables: expected tables without hosts that workspace {} owns or imports, but none is \
                 selected{hint}: requests are answered with status 500",
                table.workspace
            );
            self.tell(table, Severity::Invalid, Code::NoDelegate, text);
            return;
        }
        for position in &picked.empty {
            let name = delegate.route_tables.get(*position).map(|selector| selector.name.as_str()).unwrap_or_default();
            let text = format!("{place}.routeTables[{position}]: no table {name} is selected{hint}");
            self.tell(table, Severity::Warning, Code::NoDelegate, text);
        }
    }

    /// All tables of the cycle are told.
    fn tell_cycle(&mut self, start: usize, child: &Table) {
        let cycle: Vec<Arc<Table>> = self.path.iter().skip(start).cloned().collect();
        let names: Vec<String> = cycle.iter().map(|table| table.source.to_string()).collect();
        let text = format!(
            "the tables delegate in a circle: {}, {}: requests are answered with status 500 where it closes",
            names.join(", "),
            child.source
        );
        for table in &cycle {
            self.notes.say(&table.source, Severity::Invalid, Code::DelegationCycle, text.clone());
        }
    }
}

fn leaf(table: &Arc<Table>, index: usize, above: Above, replaced: bool) -> Route {
    let Above { labels, conditions, workloads } = above;
    Route { name: String::new(), table: Arc::clone(table), index, labels, conditions, workloads, replaced }
}

/// Each condition of one list with each of the other.
///
/// # Errors
/// With the first reason if no two can hold together, and when there are too many.
fn product(above: &[Conditions], own: &[Conditions]) -> Result<Vec<Conditions>, Finding> {
    if above.is_empty() || own.is_empty() {
        return Ok(if above.is_empty() { own.to_vec() } else { above.to_vec() });
    }
    if above.len() * own.len() > MOST_PARTS {
        let text = format!("{} above with {} here are more than {MOST_PARTS}", above.len(), own.len());
        return Err((Code::TooManyRoutes, text));
    }
    let pairs = own.iter().flat_map(|own| above.iter().map(move |above| above.with(own)));
    let (possible, impossible): (Vec<_>, Vec<_>) = pairs.partition(Result::is_ok);
    match impossible.into_iter().find_map(Result::err) {
        Some(problem) if possible.is_empty() => Err((Code::Contradiction, problem)),
        _ => Ok(possible.into_iter().flatten().collect()),
    }
}

/// Labels that a table demands of workloads; `None` if it demands none.
fn labels_of_workloads(table: &Table, notes: &mut Notes) -> Option<Workloads> {
    let mut all = Workloads::new();
    for (index, selector) in table.input.spec.workload_selectors.iter().enumerate() {
        let selector = selector.selector.clone().unwrap_or_default();
        let is_place = [&selector.name, &selector.namespace, &selector.cluster, &selector.workspace];
        if table.input.spec.hosts.is_empty() && is_place.iter().any(|text| !text.is_empty()) {
            let text = format!(
                "spec.workloadSelectors[{index}]: of a table without hosts only labels count: name, namespace, cluster \
                 and workspace have no effect"
            );
            notes.say(&table.source, Severity::Warning, Code::BadValue, text);
        }
        if selector.labels.is_empty() {
            return None;
        }
        all.push(selector.labels);
    }
    Some(all).filter(|all| !all.is_empty())
}

/// Labels of pods that have both; `None` if none can.
pub(super) fn both_labels(
    one: &BTreeMap<String, String>,
    other: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    let mut both = one.clone();
    for (key, value) in other {
        if both.insert(key.clone(), value.clone()).is_some_and(|known| known != *value) {
            return None;
        }
    }
    Some(both)
}
