//! Which tables a route leaves requests to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::networking::{DelegateAction, RouteTableSpec};
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::Name;

use crate::ResourceRef;
use crate::input::{Input, Ours};
use crate::model::{Model, Shareable, Workspace};
use crate::policies::Subject;

/// A table that counts.
#[derive(Debug, Hash)]
pub(crate) struct Table {
    pub(crate) source: ResourceRef,
    /// The workspace that owns it.
    pub(crate) workspace: Name,
    pub(crate) input: Arc<Input<Ours<RouteTableSpec>>>,
}

/// The tables that others may delegate to: those without hosts.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// The oldest first.
    all: Vec<Arc<Table>>,
    /// Positions by label, as most selectors name one.
    by_label: BTreeMap<(Name, Name), Vec<usize>>,
    by_name: BTreeMap<Name, Vec<usize>>,
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
}

impl Children {
    pub(super) fn new(mut tables: Vec<Arc<Table>>) -> Self {
        tables.sort_by(|a, b| a.input.age(&a.source.cluster).cmp(&b.input.age(&b.source.cluster)));
        let mut by_label: BTreeMap<(Name, Name), Vec<usize>> = BTreeMap::new();
        let mut by_name: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (index, table) in tables.iter().enumerate() {
            by_name.entry(table.input.name().clone()).or_default().push(index);
            for (key, value) in table.input.object.labels() {
                by_label.entry((key.clone(), value.clone())).or_default().push(index);
            }
        }
        Self { all: tables, by_label, by_name }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.all.iter()
    }

    /// The tables that a route of a workspace delegates to.
    pub(super) fn pick(&self, model: &Model, workspace: &Workspace, delegate: &DelegateAction) -> Picked {
        let mut picked = Picked::default();
        let mut known: BTreeSet<usize> = BTreeSet::new();
        for (position, selector) in delegate.route_tables.iter().enumerate() {
            let mut found = false;
            for index in self.candidates(selector) {
                let Some(table) = self.all.get(index).filter(|table| is_selected(table, selector)) else { continue };
                let Some(owner) = model.workspaces.get(&table.workspace) else { continue };
                let cluster = &table.source.cluster;
                if !model.sees(workspace, Shareable::RouteTable, cluster, &table.input, owner) {
                    picked.hidden.insert(table.source.clone());
                    continue;
                }
                found = true;
                if known.insert(index) {
                    picked.tables.push(Arc::clone(table));
                }
            }
            if !found && !selector.name.is_empty() {
                picked.empty.push(position);
            }
        }
        // The order of the list, then age, remains among equals.
        picked.tables.sort_by_key(|table| Reverse(table.input.spec.weight));
        picked
    }

    /// Positions of the tables that a selector may pick, the oldest first.
    fn candidates(&self, selector: &ObjectSelector) -> Vec<usize> {
        let positions = if selector.name.is_empty() {
            let lists = selector.labels.iter().map(|(key, value)| {
                let list = self.by_label.get(&(Name::from(key), Name::from(value)));
                list.map(Vec::as_slice).unwrap_or_default()
            });
            lists.min_by_key(|list| list.len())
        } else {
            Some(self.by_name.get(selector.name.as_str()).map(Vec::as_slice).unwrap_or_default())
        };
        positions.map_or_else(|| (0..self.all.len()).collect(), <[usize]>::to_vec)
    }
}

fn is_selected(table: &Table, selector: &ObjectSelector) -> bool {
    let subject = Subject {
        cluster: &table.source.cluster,
        namespace: table.input.namespace(),
        name: table.input.name(),
        workspace: &table.workspace,
        labels: table.input.object.labels(),
    };
    subject.is_selected(selector)
}
