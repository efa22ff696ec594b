//! Who sees what.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use meshrelay_api::admin::{ObjectKind, TypedObjectSelector, WorkspaceObjectSelector};
use meshrelay_api::selectors::WorkspaceSelector;
use meshrelay_snapshot::{Name, Object};

use super::glob;
use super::workspaces::{Contexts, Workspace};
use crate::fingerprint::Shared;
use crate::input::kube::selects;
use crate::reads::Taken;
use crate::report::Notes;

/// Kinds that workspaces share, as far as they are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shareable {
    Service,
    VirtualDestination,
    ExternalService,
    RouteTable,
}

/// A workspace that sees something, with where that has an effect.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub(crate) workspace: Name,
    pub(crate) contexts: Shared<Contexts>,
    /// Where it is written what the workspace imports.
    pub(crate) reads: Taken,
}

impl Viewer {
    pub(super) fn new(workspace: &Workspace) -> Self {
        Self {
            workspace: workspace.name.clone(),
            contexts: workspace.contexts.clone(),
            reads: Arc::clone(&workspace.reads),
        }
    }
}

impl Hash for Viewer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.workspace.hash(state);
        self.contexts.hash(state);
        self.reads.hash(state);
    }
}

/// What an owner gives to an importer, who takes it: both must agree. Sharing is not transitive.
#[derive(Debug, PartialEq)]
struct Share {
    exports: Vec<Vec<TypedObjectSelector>>,
    imports: Vec<Vec<TypedObjectSelector>>,
}

/// All pairs of workspaces that share something, by owner and importer.
#[derive(Debug, PartialEq)]
pub(crate) struct Sharing(BTreeMap<Name, BTreeMap<Name, Share>>);

impl Sharing {
    pub(super) fn resolve(workspaces: &BTreeMap<Name, Workspace>, notes: &mut Notes) -> Self {
        let mut sharing: BTreeMap<Name, BTreeMap<Name, Share>> = BTreeMap::new();
        let mut imported: BTreeMap<&Name, usize> = BTreeMap::new();
        for owner in workspaces.values().filter(|owner| !owner.settings.export_to.is_empty()) {
            for importer in workspaces.values().filter(|importer| importer.name != owner.name) {
                let exports = rules(&owner.settings.export_to, importer);
                let imports = rules(&importer.settings.import_from, owner);
                if !exports.is_empty() && !imports.is_empty() {
                    let of_owner = sharing.entry(owner.name.clone()).or_default();
                    of_owner.insert(importer.name.clone(), Share { exports, imports });
                    *imported.entry(&importer.name).or_default() += 1;
                }
            }
        }
        for workspace in workspaces.values() {
            let number = imported.get(&workspace.name).copied().unwrap_or_default();
            notes.count(&workspace.source, "numImportedWorkspaces", number);
        }
        Self(sharing)
    }

    /// The workspaces that an object is shared with.
    pub(super) fn importers<'a>(
        &'a self,
        kind: Shareable,
        cluster: &'a Name,
        object: &'a Object,
        owner: &Name,
    ) -> impl Iterator<Item = &'a Name> {
        let pairs = self.0.get(owner).into_iter().flatten();
        pairs.filter(move |(_, share)| share.covers(kind, cluster, object)).map(|(importer, _)| importer)
    }

    /// Whether an object of one workspace is shared with another.
    pub(super) fn is_shared(
        &self,
        kind: Shareable,
        cluster: &Name,
        object: &Object,
        owner: &Name,
        importer: &Name,
    ) -> bool {
        let share = self.0.get(owner).and_then(|importers| importers.get(importer));
        share.is_some_and(|share| share.covers(kind, cluster, object))
    }
}

impl Share {
    fn covers(&self, kind: Shareable, cluster: &Name, object: &Object) -> bool {
        let covered = |rules: &[Vec<TypedObjectSelector>]| {
            rules.iter().any(|resources| {
                resources.is_empty() || resources.iter().any(|resource| covers(resource, kind, cluster, object))
            })
        };
        covered(&self.exports) && covered(&self.imports)
    }
}

fn covers(resource: &TypedObjectSelector, kind: Shareable, cluster: &Name, object: &Object) -> bool {
    let is_kind = match &resource.kind {
        ObjectKind::All => true,
        ObjectKind::Service => kind == Shareable::Service,
        ObjectKind::VirtualDestination => kind == Shareable::VirtualDestination,
        ObjectKind::ExternalService => kind == Shareable::ExternalService,
        ObjectKind::RouteTable => kind == Shareable::RouteTable,
        _ => false,
    };
    let is = |wanted: &str, found: &Name| wanted.is_empty() || found == wanted;
    is_kind
        && is(&resource.name, &object.key().name)
        && is(&resource.namespace, &object.key().namespace)
        && is(&resource.cluster, cluster)
        && selects(&resource.labels, object.labels())
}

/// The resources of all rules that concern `partner`.
fn rules(rules: &[WorkspaceObjectSelector], partner: &Workspace) -> Vec<Vec<TypedObjectSelector>> {
    let concern = |selector: &WorkspaceSelector| {
        let named = selector.name.is_empty() || glob::matches(&selector.name, &partner.name);
        named && selects(&selector.selector, &partner.labels)
    };
    let matching = rules.iter().filter(|rule| rule.workspaces.iter().any(concern));
    matching.map(|rule| rule.resources.clone()).collect()
}
