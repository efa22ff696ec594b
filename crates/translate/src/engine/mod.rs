//! The memory of translation.

mod outputs;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Name, Object, ObjectKey, Snapshot};

use self::outputs::Outputs;
use self::reports::ReportBook;
use crate::input::{Cache, ClusterInput};
use crate::model::Model;
use crate::report::Notes;
use crate::unit::{Batch, BatchId};
use crate::vip::Allocations;
use crate::{Inputs, Options, ResourceRef, Stats, Translation, Unit, units};

/// Translates, and remembers what it did.
#[derive(Debug, Default)]
pub struct Translator {
    options: Options,
    cache: Cache,
    clusters: BTreeMap<Name, (Arc<Snapshot>, Arc<ClusterInput>)>,
    allocations: Allocations,
    memo: BTreeMap<BatchId, Remembered>,
    outputs: Outputs,
    reports: ReportBook,
}

#[derive(Debug)]
struct Remembered {
    fingerprint: ContentHash,
    units: Vec<Unit>,
    /// The resources that something was said about.
    noted: Vec<ResourceRef>,
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

    /// The virtual addresses in use after the last translation. Persist them before its outputs are published.
    pub fn allocations(&self) -> &Allocations {
        &self.allocations
    }

    /// All units of the last translation that have output, in the order of parents.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.memo.values().flat_map(|remembered| &remembered.units)
    }

    /// Translates the fleet. Only what depends on a change since the last call is translated again.
    pub fn translate(&mut self, inputs: &Inputs) -> Translation {
        let changed_clusters = self.read(inputs);
        let mut notes = Notes::default();
        let clusters = self.clusters.iter().map(|(name, (_, input))| (name.clone(), Arc::clone(input))).collect();
        let model = Model::resolve(&self.options, &inputs.management_cluster, clusters, &mut notes);
        let parents = units::resolve(&model, &mut self.allocations, &mut notes);
        self.reports.resolved(notes);
        let mut recomputed = 0;
        let mut living: BTreeSet<BatchId> = BTreeSet::new();
        for parent in &parents {
            let (id, fingerprint) = (parent.id(), parent.fingerprint());
            if self.memo.get(&id).is_none_or(|known| known.fingerprint != fingerprint) {
                let batch = parent.translate();
                recomputed += batch.units.len();
                self.remember(id.clone(), fingerprint, batch);
            }
            living.insert(id);
        }
        let gone: Vec<BatchId> = self.memo.keys().filter(|id| !living.contains(*id)).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
        let (outputs, contested) = self.outputs.publish(self.clusters.keys());
        for remembered in contested.iter().filter_map(|id| self.memo.get(id)) {
            self.reports.touch(&remembered.noted);
        }
        let stats = Stats {
            parents: parents.len(),
            units: self.units().count(),
            recomputed,
            objects: outputs.values().map(|snapshot| snapshot.len()).sum(),
            changed_clusters,
        };
        Translation { outputs, reports: self.reports.publish(&self.outputs), stats }
    }

    /// Reads the clusters whose snapshot is another one than last time; returns how many.
    fn read(&mut self, inputs: &Inputs) -> usize {
        self.clusters.retain(|name, _| inputs.clusters.contains_key(name));
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
            self.clusters.insert(name.clone(), (Arc::clone(snapshot), input));
            changed += 1;
        }
        self.cache.sweep();
        changed
    }

    fn remember(&mut self, id: BatchId, fingerprint: ContentHash, batch: Batch) {
        let Batch { mut units, notes } = batch;
        let before = self.memo.remove(&id);
        let (units_before, noted_before) =
            before.as_ref().map_or((&[][..], &[][..]), |before| (&before.units, &before.noted));
        share(&mut units, units_before);
        self.outputs.replace(units_before, &units);
        let noted = notes.0.keys().cloned().collect();
        self.reports.replace(&id, noted_before, notes);
        self.memo.insert(id, Remembered { fingerprint, units, noted });
    }

    fn forget(&mut self, id: &BatchId) {
        if let Some(before) = self.memo.remove(id) {
            self.outputs.replace(&before.units, &[]);
            self.reports.replace(id, &before.noted, Notes::default());
        }
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
