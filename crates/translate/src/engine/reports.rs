use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::outputs::Outputs;
use super::stage::Origin;
use crate::ResourceRef;
use crate::report::{Fragment, Notes, Reports, assemble};

/// The reports, kept up to date as their parts change.
#[derive(Debug, Default)]
pub(super) struct ReportBook {
    /// What was found about each resource, by what found it.
    fragments: BTreeMap<ResourceRef, BTreeMap<Origin, Fragment>>,
    /// The resources that each said something about.
    noted: BTreeMap<Origin, Vec<ResourceRef>>,
    dirty: BTreeSet<ResourceRef>,
    reports: Arc<Reports>,
}

impl ReportBook {
    /// Replaces everything that one origin says.
    pub(super) fn replace(&mut self, origin: Origin, mut notes: Notes) {
        let before = self.noted.remove(&origin).unwrap_or_default();
        let noted: Vec<ResourceRef> = notes.0.keys().cloned().collect();
        for resource in before {
            let Some(fragments) = self.fragments.get_mut(&resource) else { continue };
            match notes.0.remove(&resource) {
                Some(after) => {
                    let fragment = fragments.entry(origin.clone()).or_default();
                    if *fragment != after {
                        *fragment = after;
                        self.dirty.insert(resource);
                    }
                }
                None => {
                    fragments.remove(&origin);
                    if fragments.is_empty() {
                        self.fragments.remove(&resource);
                    }
                    self.dirty.insert(resource);
                }
            }
        }
        for (resource, fragment) in notes.0 {
            self.dirty.insert(resource.clone());
            self.fragments.entry(resource).or_default().insert(origin.clone(), fragment);
        }
        if !noted.is_empty() {
            self.noted.insert(origin, noted);
        }
    }

    /// Says that objects of an origin, which resources had a part in, may have been renamed.
    pub(super) fn touch(&mut self, origin: &Origin) {
        self.dirty.extend(self.noted.get(origin).into_iter().flatten().cloned());
    }

    /// All reports. Those without a change are the ones of last time.
    pub(super) fn publish(&mut self, outputs: &Outputs) -> Arc<Reports> {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            return Arc::clone(&self.reports);
        }
        let reports = Arc::make_mut(&mut self.reports);
        for resource in dirty {
            let Some(fragments) = self.fragments.get(&resource) else {
                reports.by_resource.remove(&resource);
                continue;
            };
            let mut report = assemble(fragments.values());
            for (origin, fragment) in fragments {
                let Origin::Translated(batch) = origin else { continue };
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
