//! The memory of translation.

mod outputs;
mod readers;
mod reports;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{Name, Object, ObjectKey, Snapshot};
use rayon::prelude::*;

use self::outputs::Outputs;
use self::reports::ReportBook;
use crate::input::{Cache, ClusterInput};
use crate::model::visibility::{self, Visibility};
use crate::model::{Model, Topology, baseline};
use crate::reads::{Changes, Reads, recorded};
use crate::report::Notes;
use crate::unit::{Batch, BatchId, ParentInput, Tree};
use crate::units::Stages;
use crate::vip::Allocations;
use crate::{Inputs, LastAccepted, Options, ResourceRef, Stats, Translation, Unit, UnitKind};
use stage::Origin;
pub(crate) use stage::{Event, Gathering, Round, Stage, Step};

/// Parents that are translated before what they give is taken in: enough for all processors, and few enough that what
/// is on its way is small.
const AT_ONCE: usize = 1024;

/// Translates, and remembers what it did.
#[derive(Debug, Default)]
pub struct Translator {
    options: Options,
    cache: Cache,
    management: Name,
    clusters: BTreeMap<Name, (Arc<Snapshot>, Arc<ClusterInput>)>,
    topology: Option<(Arc<Topology>, Reads)>,
    baseline: BTreeMap<(&'static str, Name), Reads>,
    stages: Stages,
    allocations: Allocations,
    last_accepted: LastAccepted,
    /// The root tables of which output is remembered, and whether nothing is wrong with them now.
    trees: BTreeMap<ResourceRef, bool>,
    memo: BTreeMap<BatchId, Vec<Unit>>,
    units: usize,
    outputs: Outputs,
    reports: ReportBook,
}

impl Translator {
    /// A translator without memory.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Starts from virtual addresses that were given before, so that hosts keep theirs over a restart.
    #[must_use]
    pub fn with_allocations(mut self, allocations: Allocations) -> Self {
        self.allocations = allocations;
        self
    }

    /// Starts from what trees of tables last gave before something went wrong with them, so that they give it still
    /// after a restart.
    #[must_use]
    pub fn with_last_accepted(mut self, last_accepted: LastAccepted) -> Self {
        self.last_accepted = last_accepted;
        self
    }

    /// What trees of tables last gave while nothing was wrong with them. Persist it before the outputs of the
    /// translation that it comes from are published.
    pub fn last_accepted(&self) -> &LastAccepted {
        &self.last_accepted
    }

    /// The virtual addresses in use after the last translation. Persist them before its outputs are published.
    pub fn allocations(&self) -> &Allocations {
        &self.allocations
    }

    /// The root tables of trees that freeze, and whether nothing is wrong with each as of the last translation.
    pub fn freezing_trees(&self) -> impl Iterator<Item = (&ResourceRef, bool)> {
        self.trees.iter().map(|(root, is_right)| (root, *is_right))
    }

    /// A translator of the same options that remembers these and nothing else.
    #[must_use]
    pub fn anew(&self, allocations: Allocations, last_accepted: LastAccepted) -> Self {
        Self::new(self.options.clone()).with_allocations(allocations).with_last_accepted(last_accepted)
    }

    /// All units of the last translation that have output, in the order of parents.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.memo.values().flatten()
    }

    /// Who owns and sees what in the fleet of the last translation. Made when it is asked for.
    pub fn visibility(&self) -> Visibility {
        let Some((topology, _)) = &self.topology else { return Visibility::default() };
        let clusters = self.clusters.iter().map(|(name, (_, input))| (name.clone(), Arc::clone(input))).collect();
        Visibility::of(&Model::new(clusters, Arc::clone(topology)))
    }

    /// Translates the fleet. Only what depends on a change since the last call is resolved and translated again.
    pub fn translate(&mut self, inputs: &Inputs) -> Translation {
        let (changed_clusters, changes, mut everything) = self.read(inputs);
        let clusters = self.clusters.iter().map(|(name, (_, input))| (name.clone(), Arc::clone(input))).collect();
        let (topology, same) = self.topology(&clusters, &changes, everything);
        everything |= !same;
        let model = Model::new(clusters, topology);
        let mut round = Round { model: &model, changes, everything, events: Vec::new() };
        self.note_baseline(&mut round);
        self.stages.update(&mut round, &mut self.allocations, &self.last_accepted);
        let recomputed = self.take(round.events);
        // Policies change what guards a tree without a change of the tree.
        for (root, _) in self.trees.iter().filter(|(_, is_right)| **is_right) {
            self.last_accepted.remember_guards(root, self.stages.guards(root));
        }
        // A cluster that is not there may come back, with its tables as they were.
        let (trees, clusters) = (&self.trees, &self.clusters);
        self.last_accepted.retain(|root| trees.contains_key(root) || !clusters.contains_key(&root.cluster));
        let (outputs, contested) = self.outputs.publish(self.clusters.keys());
        for id in contested {
            self.reports.touch(&Origin::Translated(id));
        }
        let stats = Stats {
            parents: self.memo.len(),
            units: self.units,
            recomputed,
            objects: outputs.values().map(|snapshot| snapshot.len()).sum(),
            changed_clusters,
        };
        Translation { outputs, reports: self.reports.publish(&self.outputs), stats }
    }

    /// Reads the clusters whose snapshot is another one than last time; returns how many, what changed in them, and
    /// whether clusters came or went.
    fn read(&mut self, inputs: &Inputs) -> (usize, Changes, bool) {
        let mut everything = self.management != inputs.management_cluster;
        self.management = inputs.management_cluster.clone();
        let before = self.clusters.len();
        self.clusters.retain(|name, _| inputs.clusters.contains_key(name));
        everything |= self.clusters.len() < before;
        let mut changes = Changes::default();
        let mut changed = 0;
        for (name, snapshot) in &inputs.clusters {
            let known = self.clusters.get(name);
            if known.is_some_and(|(known, _)| Arc::ptr_eq(known, snapshot)) {
                continue;
            }
            if let Some((_, input)) = known.filter(|(known, _)| **known == **snapshot) {
                let input = Arc::clone(input);
                self.clusters.insert(name.clone(), (Arc::clone(snapshot), input));
                continue;
            }
            let input = Arc::new(ClusterInput::new(name, snapshot, &mut self.cache));
            match self.clusters.insert(name.clone(), (Arc::clone(snapshot), input)) {
                Some((before, _)) => ClusterInput::changes(name, &before, snapshot, &mut changes),
                None => everything = true,
            }
            changed += 1;
        }
        self.cache.sweep();
        (changed, changes, everything)
    }

    /// Who owns and sees what, and whether that is as it was.
    fn topology(
        &mut self,
        clusters: &BTreeMap<Name, Arc<ClusterInput>>,
        changes: &Changes,
        everything: bool,
    ) -> (Arc<Topology>, bool) {
        if let Some((topology, reads)) = &self.topology
            && !everything
            && !reads.changed(changes)
        {
            return (Arc::clone(topology), true);
        }
        let mut notes = Notes::default();
        let (after, reads) = recorded(|| Topology::resolve(&self.options, &self.management, clusters, &mut notes));
        self.reports.replace(Origin::Step("topology"), notes);
        let same = self.topology.take().map(|(before, _)| before).filter(|before| **before == after);
        let (topology, is_same) = same.map_or_else(|| (Arc::new(after), false), |same| (same, true));
        self.topology = Some((Arc::clone(&topology), reads));
        (topology, is_same)
    }

    /// Says what there is to say about resources as such.
    fn note_baseline(&mut self, round: &mut Round<'_>) {
        type Noting = fn(&Model, &ClusterInput, &mut Notes);
        let notings: [(&'static str, Noting); 2] = [("baseline", baseline::note), ("sharing", visibility::count)];
        let clusters = &round.model.clusters;
        let is_gone = |(_, cluster): &&(&'static str, Name)| !clusters.contains_key(cluster);
        let gone: Vec<_> = self.baseline.keys().filter(is_gone).cloned().collect();
        for (name, cluster) in gone {
            self.baseline.remove(&(name, cluster.clone()));
            self.reports.replace(Origin::Cluster(name, cluster), Notes::default());
        }
        for (cluster, input) in clusters {
            for (name, note) in notings {
                let key = (name, cluster.clone());
                if self.baseline.get(&key).is_none_or(|reads| round.touches(reads)) {
                    let mut notes = Notes::default();
                    let ((), reads) = recorded(|| note(round.model, input, &mut notes));
                    self.baseline.insert(key, reads);
                    self.reports.replace(Origin::Cluster(name, cluster.clone()), notes);
                }
            }
        }
    }

    /// Takes in what the steps found; returns how many units were translated.
    fn take(&mut self, events: Vec<Event>) -> usize {
        let mut changed: Vec<Arc<dyn ParentInput>> = Vec::new();
        for event in events {
            match event {
                Event::Noted(origin, notes) => self.reports.replace(origin, notes),
                Event::Changed(parent) => changed.push(parent),
                Event::Gone(id) => {
                    if id.0 == UnitKind::RouteTable {
                        self.trees.remove(&id.1);
                    }
                    if let Some(before) = self.memo.remove(&id) {
                        self.units -= before.len();
                        self.outputs.replace(&before, &[]);
                    }
                    self.reports.replace(Origin::Translated(id), Notes::default());
                }
            }
        }
        let mut recomputed = 0;
        for parents in changed.chunks(AT_ONCE) {
            // Parents do not depend on each other; what they give is taken in in their order.
            let batches: Vec<Batch> = match parents {
                [parent] => vec![parent.translate()],
                _ => parents.par_iter().map(|parent| parent.translate()).collect(),
            };
            for (parent, batch) in parents.iter().zip(batches) {
                recomputed += batch.units.len();
                self.remember_tree(&**parent, &batch);
                self.remember(parent.id(), batch);
            }
        }
        recomputed
    }

    /// Remembers what a tree gives, if nothing is wrong with it.
    fn remember_tree(&mut self, parent: &dyn ParentInput, batch: &Batch) {
        let (kind, root) = parent.id();
        if kind != UnitKind::RouteTable {
            return;
        }
        self.trees.remove(&root);
        if let Some(tree) = parent.tree() {
            self.trees.insert(root.clone(), matches!(tree, Tree::Accepted(_)));
            if let Tree::Accepted(targets) = tree {
                self.last_accepted.remember(&root, batch, targets);
            }
        }
    }

    fn remember(&mut self, id: BatchId, batch: Batch) {
        let Batch { mut units, notes } = batch;
        let before = self.memo.remove(&id).unwrap_or_default();
        share(&mut units, &before);
        self.outputs.replace(&before, &units);
        self.units = self.units + units.len() - before.len();
        self.reports.replace(Origin::Translated(id.clone()), notes);
        self.memo.insert(id, units);
    }
}

/// Puts the objects of before in the place of equal new ones.
fn share(units: &mut [Unit], before: &[Unit]) {
    let of = |unit: &Unit| (unit.id.context.cluster.clone(), unit.id.context.namespace.clone());
    let objects = |unit: &Unit| -> BTreeMap<ObjectKey, Arc<Object>> {
        unit.objects.iter().map(|object| (object.key().clone(), Arc::clone(object))).collect()
    };
    let known: BTreeMap<(Name, Name), _> = before.iter().map(|unit| (of(unit), objects(unit))).collect();
    for unit in units {
        let Some(known) = known.get(&of(unit)) else { continue };
        for object in &mut unit.objects {
            if let Some(same) = known.get(object.key()).filter(|known| known.hash() == object.hash()) {
                *object = Arc::clone(same);
            }
        }
    }
}
