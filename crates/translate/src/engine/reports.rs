use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::outputs::Outputs;
use crate::ResourceRef;
use crate::report::{Fragment, Notes, Reports, assemble};
use crate::unit::BatchId;

/// The reports, kept up to date as their parts change.
#[derive(Debug, Default)]
pub(super) struct ReportBook {
    /// What was found while resolving the fleet.
    resolved: Notes,
    /// What was found while translating.
    translated: BTreeMap<ResourceRef, BTreeMap<BatchId, Fragment>>,
    dirty: BTreeSet<ResourceRef>,
    reports: Arc<Reports>,
}

impl ReportBook {
    /// Replaces what was found while resolving.
    pub(super) fn resolved(&mut self, notes: Notes) {
        let changed = |one: &Notes, other: &Notes| -> Vec<ResourceRef> {
            let differs = |(resource, fragment): &(&ResourceRef, &Fragment)| other.0.get(*resource) != Some(*fragment);
            one.0.iter().filter(differs).map(|(resource, _)| resource.clone()).collect()
        };
        self.dirty.extend(changed(&notes, &self.resolved));
        self.dirty.extend(changed(&self.resolved, &notes));
        self.resolved = notes;
    }

    /// Replaces what was found while translating one parent.
    pub(super) fn replace(&mut self, id: &BatchId, before: &[ResourceRef], after: Notes) {
        for resource in before {
            if let Some(fragments) = self.translated.get_mut(resource) {
                fragments.remove(id);
                if fragments.is_empty() {
                    self.translated.remove(resource);
                }
            }
            self.dirty.insert(resource.clone());
        }
        for (resource, fragment) in after.0 {
            self.dirty.insert(resource.clone());
            self.translated.entry(resource).or_default().insert(id.clone(), fragment);
        }
    }

    /// Says that objects which these resources had a part in may have been renamed.
    pub(super) fn touch(&mut self, resources: &[ResourceRef]) {
        self.dirty.extend(resources.iter().cloned());
    }

    /// All reports. Those without a change are the ones of last time.
    pub(super) fn publish(&mut self, outputs: &Outputs) -> Arc<Reports> {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            return Arc::clone(&self.reports);
        }
        let reports = Arc::make_mut(&mut self.reports);
        for resource in dirty {
            let resolved = self.resolved.0.get(&resource);
            let translated = self.translated.get(&resource);
            if resolved.is_none() && translated.is_none() {
                reports.by_resource.remove(&resource);
                continue;
            }
            let mut report = assemble(resolved.into_iter().chain(translated.into_iter().flat_map(BTreeMap::values)));
            for (batch, fragment) in translated.into_iter().flatten() {
                report.shaped.extend(fragment.shaped.iter().map(|(cluster, key)| {
                    let key = outputs.renamed(cluster, key, batch).unwrap_or(key);
                    (cluster.clone(), key.clone())
                }));
            }
            if reports.by_resource.get(&resource).is_none_or(|known| **known != report) {
                reports.by_resource.insert(resource, Arc::new(report));
            }
        }
        Arc::clone(&self.reports)
    }
}
