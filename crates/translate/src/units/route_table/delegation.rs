//! Which tables a route leaves requests to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::networking::{DelegateAction, RouteTableSpec};
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::{Name, Object, ObjectKey};

use crate::ResourceRef;
use crate::engine::{Round, Step};
use crate::fingerprint::fingerprint;
use crate::input::{Input, Ours};
use crate::model::{Model, Shareable, Workspace};
use crate::policies::Subject;
use crate::reads::{Place, Thing, record, take};

/// The step that gathers the tables, and the kind of its results.
const STEP: &str = "delegated tables";
const KIND: &str = "RouteTable";
const UNREADABLE: &str = "unreadable RouteTable";

/// A table that counts.
#[derive(Debug, Hash)]
pub(crate) struct Table {
    pub(crate) source: ResourceRef,
    /// The workspace that owns it.
    pub(crate) workspace: Name,
    pub(crate) input: Arc<Input<Ours<RouteTableSpec>>>,
}

/// The tables that others may delegate to: those without hosts.
#[derive(Debug)]
pub(crate) struct Children {
    index: Step<Index>,
    place: Place,
}

#[derive(Debug, Default)]
struct Index {
    /// The oldest first.
    all: Vec<Arc<Table>>,
    /// Positions by label, as most selectors name one.
    by_label: BTreeMap<(Name, Name), Vec<usize>>,
    by_name: BTreeMap<Name, Vec<usize>>,
    /// Tables that cannot be read, with the workspaces that own them.
    unreadable: Vec<(ResourceRef, Name, Arc<Object>)>,
}

/// What the selectors of a route pick.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// In the order in which their routes are tried.
    pub(super) tables: Vec<Arc<Table>>,
    /// Positions of the selectors by name that pick nothing.
    pub(super) empty: Vec<usize>,
    /// Tables that would be picked if they were shared with the workspace.
    pub(super) hidden: BTreeSet<ResourceRef>,
    /// Tables that would be picked if they could be read.
    pub(super) unreadable: Vec<ResourceRef>,
}

impl Default for Children {
    fn default() -> Self {
        Self { index: Step::new(STEP), place: Place::results(STEP) }
    }
}

impl Children {
    /// Brings them up to date.
    pub(crate) fn update(&mut self, round: &mut Round<'_>) {
        let (model, place) = (round.model, self.place);
        self.index.update(
            round,
            |_| Index::new(model),
            |before, after, changes| {
                // Whatever a table that cannot be read may become, all that delegates must look again.
                let unreadable = |index: &Index| -> Vec<_> {
                    index.unreadable.iter().map(|(source, _, object)| (source.clone(), object.hash())).collect()
                };
                if before.map(unreadable).unwrap_or_default() != unreadable(after) {
                    changes.add(place, Thing::Kind(UNREADABLE));
                }
                let by_source = |index: &Index| -> BTreeMap<ResourceRef, Arc<Table>> {
                    index.all.iter().map(|table| (table.source.clone(), Arc::clone(table))).collect()
                };
                let (before, after) = (before.map(by_source).unwrap_or_default(), by_source(after));
                let sources: BTreeSet<&ResourceRef> = before.keys().chain(after.keys()).collect();
                for source in sources {
                    let (one, other) = (before.get(source), after.get(source));
                    if fingerprint(&one) == fingerprint(&other) {
                        continue;
                    }
                    let labels = [one, other].into_iter().flatten().flat_map(|table| table.input.object.labels());
                    changes.add_object(place, KIND, ("", &source.key.name), labels);
                }
            },
        );
    }

    /// The tables that a route of a workspace delegates to.
    pub(super) fn pick(&self, model: &Model, workspace: &Workspace, delegate: &DelegateAction) -> Picked {
        let mut picked = Picked::default();
        let mut known: BTreeSet<usize> = BTreeSet::new();
        let Some(index) = self.index.get() else { return picked };
        record(self.place, Thing::Kind(UNREADABLE));
        for (position, selector) in delegate.route_tables.iter().enumerate() {
            let mut found = false;
            for candidate in index.candidates(selector, self.place) {
                let Some(table) = index.all.get(candidate).filter(|table| is_selected(table, selector)) else {
                    continue;
                };
                let Some(owner) = model.workspaces.get(&table.workspace) else { continue };
                let cluster = &table.source.cluster;
                if !model.sees(workspace, Shareable::RouteTable, cluster, &table.input, owner) {
                    picked.hidden.insert(table.source.clone());
                    continue;
                }
                found = true;
                take(&table.source);
                if known.insert(candidate) {
                    picked.tables.push(Arc::clone(table));
                }
            }
            if !found && !selector.name.is_empty() {
                picked.empty.push(position);
            }
        }
        for (source, owner, object) in &index.unreadable {
            let Some(owner) = model.workspaces.get(owner) else { continue };
            let subject = subject(source, &owner.name, object);
            if delegate.route_tables.iter().any(|selector| subject.is_selected(selector))
                && model.sees_object(workspace, Shareable::RouteTable, &source.cluster, object, owner)
            {
                take(source);
                picked.unreadable.push(source.clone());
            }
        }
        // The order of the list, then age, remains among equals.
        picked.tables.sort_by_key(|table| Reverse(table.input.spec.weight));
        picked
    }
}

impl Index {
    fn new(model: &Model) -> Self {
        let mut all = Vec::new();
        for (cluster, input) in &model.clusters {
            for table in input.route_tables().values().filter(|table| table.spec.hosts.is_empty()) {
                let Some(owner) = model.config_owner(cluster, table.namespace()) else { continue };
                let (source, workspace) = (table.reference(cluster), owner.name.clone());
                all.push(Arc::new(Table { source, workspace, input: Arc::clone(table) }));
            }
        }
        let mut unreadable = Vec::new();
        for (cluster, input) in &model.clusters {
            for object in input.unreadable_of(KIND) {
                let is_root = object.value().pointer("/spec/hosts/0").is_some();
                if let Some(owner) = model.config_owner(cluster, &object.key().namespace).filter(|_| !is_root) {
                    let source = ResourceRef::new(cluster, object.key());
                    unreadable.push((source, owner.name.clone(), Arc::clone(object)));
                }
            }
        }
        all.sort_by(|a, b| a.input.age(&a.source.cluster).cmp(&b.input.age(&b.source.cluster)));
        let mut by_label: BTreeMap<(Name, Name), Vec<usize>> = BTreeMap::new();
        let mut by_name: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (index, table) in all.iter().enumerate() {
            by_name.entry(table.input.name().clone()).or_default().push(index);
            for (key, value) in table.input.object.labels() {
                by_label.entry((key.clone(), value.clone())).or_default().push(index);
            }
        }
        Self { all, by_label, by_name, unreadable }
    }

    /// Positions of the tables that a selector may pick, the oldest first.
    fn candidates(&self, selector: &ObjectSelector, place: Place) -> Vec<usize> {
        let list = |list: Option<&Vec<usize>>| list.cloned().unwrap_or_default();
        if !selector.name.is_empty() {
            record(place, Thing::Object(KIND, "", &selector.name));
            return list(self.by_name.get(selector.name.as_str()));
        }
        let with = |(key, value): (&String, &String)| self.by_label.get(&(Name::from(key), Name::from(value)));
        let rarest = selector.labels.iter().min_by_key(|label| with(*label).map_or(0, Vec::len));
        if let Some((key, value)) = rarest {
            record(place, Thing::Label(KIND, key, value));
            return list(with((key, value)));
        }
        record(place, Thing::Kind(KIND));
        (0..self.all.len()).collect()
    }
}

fn is_selected(table: &Table, selector: &ObjectSelector) -> bool {
    subject(&table.source, &table.workspace, &table.input.object).is_selected(selector)
}

fn subject<'a>(source: &'a ResourceRef, workspace: &'a Name, object: &'a Object) -> Subject<'a> {
    let ObjectKey { namespace, name, .. } = &source.key;
    Subject { cluster: &source.cluster, namespace, name, workspace, labels: object.labels() }
}
