//! Policies: which of them hold for what.
//!
//! Policies have no units of their own. They change what is made of the routes, destinations and workloads that they
//! select.

pub(crate) mod destinations;
pub(crate) mod routes;
mod selectors;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use meshrelay_api::Kind;
use meshrelay_snapshot::Name;

pub(crate) use selectors::{Destination, Route, Subject, check_workloads};

use crate::ResourceRef;
use crate::engine::{Round, Step};
use crate::fingerprint::fingerprint;
use crate::input::{ClusterInput, Input, Ours, Table};
use crate::model::Model;
use crate::reads::{Place, Thing, record, take};
use crate::report::{Code, Notes, Severity};

/// A policy that counts.
#[derive(Debug)]
pub(crate) struct Policy<K> {
    pub(crate) source: ResourceRef,
    /// The workspace that owns it.
    pub(crate) workspace: Name,
    pub(crate) input: Arc<Input<Ours<K>>>,
}

impl<K> Hash for Policy<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.source, &self.workspace, &self.input).hash(state);
    }
}

/// All policies of a kind that count, by the workspace that owns them, the oldest first.
#[derive(Debug)]
pub(crate) struct Book<K> {
    step: Step<BTreeMap<Name, Vec<Arc<Policy<K>>>>>,
    place: Place,
}

impl<K: Kind> Default for Book<K> {
    fn default() -> Self {
        Self { step: Step::new(K::INFO.kind), place: Place::results(K::INFO.kind) }
    }
}

impl<K: Kind> Book<K> {
    /// Brings the book up to date with the policies of all clusters, which `table` tells where to find. A policy for
    /// which none of `counters` (fields of its status) counts anything, lost targets included, is told that it selects
    /// nothing.
    pub(crate) fn update(
        &mut self,
        round: &mut Round<'_>,
        table: impl Fn(&ClusterInput) -> Table<'_, Ours<K>>,
        counters: &'static [&'static str],
    ) {
        let model = round.model;
        let place = self.place;
        self.step.update(
            round,
            |notes| {
                let book = Self::resolve(model, table);
                for policy in book.values().flatten().filter(|_| !counters.is_empty()) {
                    let text = format!("it selects nothing that workspace {} owns or imports", policy.workspace);
                    notes.unless_counted(&policy.source, counters, Severity::Warning, Code::PolicyUnused, text);
                }
                book
            },
            |before, after, changes| {
                let of = |name: &Name| (before.and_then(|before| before.get(name)), after.get(name));
                let names: BTreeSet<&Name> = before.into_iter().chain([after]).flat_map(BTreeMap::keys).collect();
                for name in names.into_iter().filter(|name| fingerprint(&of(name).0) != fingerprint(&of(name).1)) {
                    changes.add(place, Thing::Kind(name));
                    changes.add(place, ANY);
                }
            },
        );
    }

    fn resolve(
        model: &Model,
        table: impl Fn(&ClusterInput) -> Table<'_, Ours<K>>,
    ) -> BTreeMap<Name, Vec<Arc<Policy<K>>>> {
        let mut book: BTreeMap<Name, Vec<Arc<Policy<K>>>> = BTreeMap::new();
        for (cluster, input) in &model.clusters {
            for policy in table(input).values() {
                let Some(owner) = model.config_owner(cluster, policy.namespace()) else { continue };
                let (source, workspace) = (policy.reference(cluster), owner.name.clone());
                let policy = Policy { source, workspace: workspace.clone(), input: Arc::clone(policy) };
                book.entry(workspace).or_default().push(Arc::new(policy));
            }
        }
        for policies in book.values_mut() {
            policies.sort_by(|a, b| a.input.age(&a.source.cluster).cmp(&b.input.age(&b.source.cluster)));
        }
        book
    }

    /// The policies of a workspace, the oldest first.
    pub(crate) fn of(&self, workspace: &str) -> &[Arc<Policy<K>>] {
        record(self.place, Thing::Kind(workspace));
        self.step.get().and_then(|book| book.get(workspace)).map(Vec::as_slice).unwrap_or_default()
    }

    /// All policies.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Policy<K>>> {
        record(self.place, ANY);
        self.step.get().into_iter().flat_map(BTreeMap::values).flatten()
    }
}

/// Policies of any workspace, which cannot have an empty name.
const ANY: Thing<'static> = Thing::Kind("");

/// Of the policies that select a target (`route x of RouteTable …`) the oldest. The others are told that they lost, and
/// hold for their other targets still.
pub(crate) fn oldest<'a, K>(
    selected: impl IntoIterator<Item = &'a Arc<Policy<K>>>,
    target: &str,
    notes: &mut Notes,
) -> Option<&'a Arc<Policy<K>>> {
    let mut selected = selected.into_iter();
    let winner = selected.next()?;
    // A policy that keeps others from holding counts, whatever comes of it.
    take(&winner.source);
    for loser in selected {
        let text =
            format!("conflicts with existing policy applied to {target}: the older {} holds there", winner.source);
        notes.say(&loser.source, Severity::Failed, Code::PolicyConflict, text);
    }
    Some(winner)
}
