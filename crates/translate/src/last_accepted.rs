//! What trees of tables gave when nothing was wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use meshrelay_snapshot::{Gvk, Name, Object, depend_on, depends_on};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::reads::Taken;
use crate::unit::{Batch, Unit, UnitId, UnitKind, UnitReads};
use crate::units::http_filters::Guard;
use crate::units::route_table::Target;
use crate::{ContextId, ResourceRef};

/// The last output of each tree of tables with `failureMode: FREEZE_CONFIG` while nothing in the tree was wrong: what
/// it gives for as long as something is. Persist it before the outputs that follow from it are published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct LastAccepted {
    trees: BTreeMap<ResourceRef, Arc<Accepted>>,
}

/// What one tree gave, with its root table: for those who keep each tree by itself. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Entry", into = "Entry")]
pub struct AcceptedTree {
    root: ResourceRef,
    accepted: Arc<Accepted>,
}

impl AcceptedTree {
    /// The root table.
    pub fn root(&self) -> &ResourceRef {
        &self.root
    }
}

impl LastAccepted {
    /// The root tables of the trees that are remembered.
    pub fn roots(&self) -> impl Iterator<Item = &ResourceRef> {
        self.trees.keys()
    }

    /// The trees that are remembered.
    pub fn trees(&self) -> impl Iterator<Item = AcceptedTree> {
        self.trees.iter().map(|(root, accepted)| AcceptedTree { root: root.clone(), accepted: Arc::clone(accepted) })
    }

    /// What is remembered of one tree.
    pub fn tree(&self, root: &ResourceRef) -> Option<AcceptedTree> {
        self.get(root).map(|accepted| AcceptedTree { root: root.clone(), accepted: Arc::clone(accepted) })
    }

    /// Remembers what somebody else saw a tree give, in the place of what was known of it.
    pub fn adopt(&mut self, tree: AcceptedTree) {
        self.trees.insert(tree.root, tree.accepted);
    }

    pub(crate) fn get(&self, root: &ResourceRef) -> Option<&Arc<Accepted>> {
        self.trees.get(root)
    }

    /// Remembers what a tree gave and where it leads, in the place of what was known of that before.
    pub(crate) fn remember(&mut self, root: &ResourceRef, batch: &Batch, targets: Vec<(ContextId, Target)>) {
        let accepted = Arc::make_mut(self.trees.entry(root.clone()).or_default());
        accepted.units = batch.units.iter().map(|unit| AcceptedUnit::new(unit, batch)).collect();
        accepted.targets = targets;
    }

    /// Remembers what guards the routes of a tree that is remembered.
    pub(crate) fn remember_guards(&mut self, root: &ResourceRef, guards: Vec<Guard>) {
        if let Some(accepted) = self.trees.get_mut(root).filter(|accepted| accepted.guards != guards) {
            Arc::make_mut(accepted).guards = guards;
        }
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&ResourceRef) -> bool) {
        self.trees.retain(|root, _| is_kept(root));
    }
}

/// What one tree gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    units: Vec<AcceptedUnit>,
    /// The targets with a subset.
    targets: Vec<(ContextId, Target)>,
    /// Which policies guard the routes: without them, what is kept would be open to everyone.
    guards: Vec<Guard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedUnit {
    context: ContextId,
    reads: BTreeSet<(Name, Gvk)>,
    objects: Vec<AcceptedObject>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedObject {
    #[serde(serialize_with = "write", deserialize_with = "read")]
    object: Arc<Object>,
    /// The resources whose reports list it.
    shapers: BTreeSet<ResourceRef>,
}

impl Hash for AcceptedObject {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.object.hash(), &self.shapers).hash(state);
    }
}

impl Accepted {
    /// What is left of it in the contexts that still may have it.
    pub(crate) fn within(&self, is_allowed: impl Fn(&ContextId) -> bool) -> Self {
        let units = self.units.iter().filter(|unit| is_allowed(&unit.context));
        let targets = self.targets.iter().filter(|(context, _)| is_allowed(context));
        let guards = self.guards.iter().filter(|guard| is_allowed(&guard.context));
        Self { units: units.cloned().collect(), targets: targets.cloned().collect(), guards: guards.cloned().collect() }
    }

    /// What guards the routes.
    pub(crate) fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// Each object with where it is.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&ContextId, &Arc<Object>)> {
        self.units.iter().flat_map(|unit| unit.objects.iter().map(|accepted| (&unit.context, &accepted.object)))
    }

    /// The targets with a subset in one context.
    pub(crate) fn targets_in(&self, wanted: &ContextId) -> Vec<Target> {
        let here = self.targets.iter().filter(|(context, _)| context == wanted);
        here.map(|(_, target)| target.clone()).collect()
    }

    /// Puts what the tree gave in the place of what it gives now. What it says now remains. It depends on what the tree
    /// takes now, too.
    pub(crate) fn replace(&self, root: &ResourceRef, batch: &mut Batch, taken: &Taken) {
        batch.notes.forget_outputs();
        batch.units.clear();
        for unit in &self.units {
            for AcceptedObject { object, shapers } in &unit.objects {
                for shaper in shapers {
                    batch.notes.shaped(shaper, (unit.context.cluster.clone(), object.key().clone()));
                    batch.notes.effective_in(shaper, &unit.context.workspace);
                }
            }
            let objects = unit.objects.iter().map(|accepted| with_more(&accepted.object, &unit.context.cluster, taken));
            let objects = objects.collect();
            let id =
                Arc::new(UnitId { context: unit.context.clone(), kind: UnitKind::RouteTable, parent: root.clone() });
            batch.units.push(Unit { id, reads: Arc::new(UnitReads::new(unit.reads.clone()).with(taken)), objects });
        }
    }
}

/// An object that depends on more clusters.
fn with_more(object: &Arc<Object>, own: &Name, more: &Taken) -> Arc<Object> {
    let known = depends_on(object);
    let mut more =
        more.iter().map(|(cluster, _)| cluster).filter(|cluster| *cluster != own && !known.contains(*cluster));
    let Some(first) = more.next() else { return Arc::clone(object) };
    let mut value = object.value();
    depend_on(&mut value, own, [first].into_iter().chain(more));
    Object::from_value(&value).map_or_else(|_| Arc::clone(object), Arc::new)
}

impl AcceptedUnit {
    fn new(unit: &Unit, batch: &Batch) -> Self {
        let context = &unit.id.context;
        let objects = unit.objects.iter().map(|object| {
            let output = (context.cluster.clone(), object.key().clone());
            AcceptedObject { object: Arc::clone(object), shapers: batch.notes.shapers(&output) }
        });
        Self { context: context.clone(), reads: unit.reads.iter().cloned().collect(), objects: objects.collect() }
    }
}

/// A tree as it is persisted.
#[derive(Serialize, Deserialize)]
struct Entry {
    root: ResourceRef,
    #[serde(flatten)]
    accepted: Accepted,
}

impl From<Entry> for AcceptedTree {
    fn from(Entry { root, accepted }: Entry) -> Self {
        Self { root, accepted: Arc::new(accepted) }
    }
}

impl From<AcceptedTree> for Entry {
    fn from(AcceptedTree { root, accepted }: AcceptedTree) -> Self {
        Self { root, accepted: Arc::unwrap_or_clone(accepted) }
    }
}

impl From<Vec<Entry>> for LastAccepted {
    fn from(entries: Vec<Entry>) -> Self {
        Self { trees: entries.into_iter().map(|entry| (entry.root, Arc::new(entry.accepted))).collect() }
    }
}

impl From<LastAccepted> for Vec<Entry> {
    fn from(all: LastAccepted) -> Self {
        all.trees().map(Entry::from).collect()
    }
}

fn write<S: Serializer>(object: &Arc<Object>, serializer: S) -> Result<S::Ok, S::Error> {
    object.value().serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Object>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Object::from_value(&value).map(Arc::new).map_err(serde::de::Error::custom)
}
