//! Policies: which of them hold for what.
//!
//! Policies have no units of their own. They change what is made of the routes, destinations and workloads that they
//! select.

pub(crate) mod destinations;
mod selectors;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use meshrelay_api::Kind;
use meshrelay_snapshot::Name;

pub(crate) use selectors::{Destination, Route, Subject};

use crate::ResourceRef;
use crate::input::{ByName, ClusterInput, Input, Ours};
use crate::model::Model;
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
pub(crate) struct Book<K>(BTreeMap<Name, Vec<Arc<Policy<K>>>>);

impl<K: Kind> Book<K> {
    /// The policies of all clusters, which `table` tells where to find.
    pub(crate) fn resolve(model: &Model, table: impl Fn(&ClusterInput) -> &ByName<Ours<K>>) -> Self {
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
        Self(book)
    }

    /// The policies of a workspace, the oldest first.
    pub(crate) fn of(&self, workspace: &str) -> &[Arc<Policy<K>>] {
        self.0.get(workspace).map(Vec::as_slice).unwrap_or_default()
    }

    /// All policies.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Policy<K>>> {
        self.0.values().flatten()
    }
}

/// Of the policies that select a target (`route x of RouteTable …`) the oldest. The others are told that they lost, and
/// hold for their other targets still.
pub(crate) fn oldest<'a, K>(
    selected: impl IntoIterator<Item = &'a Arc<Policy<K>>>,
    target: &str,
    notes: &mut Notes,
) -> Option<&'a Arc<Policy<K>>> {
    let mut selected = selected.into_iter();
    let winner = selected.next()?;
    for loser in selected {
        let text =
            format!("conflicts with existing policy applied to {target}: the older {} holds there", winner.source);
        notes.say(&loser.source, Severity::Failed, Code::PolicyConflict, text);
    }
    Some(winner)
}
