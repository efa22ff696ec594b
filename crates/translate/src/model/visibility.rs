//! Who owns and sees what, as people and the user interface look at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{Name, Object};
use serde::Serialize;

use super::{Model, Shareable, Workspace};
use crate::ResourceRef;
use crate::input::{ClusterInput, Input};
use crate::report::Notes;

/// What each workspace owns, gives and gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Visibility {
    /// The views by name of the workspace.
    pub workspaces: BTreeMap<Name, WorkspaceView>,
}

/// What one workspace owns, gives and gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceView {
    /// Its namespaces by cluster.
    pub namespaces: BTreeMap<Name, Vec<OwnedNamespace>>,
    /// What it gets from other workspaces, ordered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imported: Vec<ImportedResource>,
    /// What it gives to other workspaces, ordered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exported: Vec<ExportedResource>,
    /// Number of resources that could be shared and are not, by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub private: BTreeMap<&'static str, usize>,
}

/// A namespace of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnedNamespace {
    /// Its name.
    pub name: Name,
    /// Whether configuration is read from it.
    pub config: bool,
}

/// A resource of another workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedResource {
    /// The resource, such as `Service cluster1/shop/cart`.
    pub resource: String,
    /// The workspace that owns it.
    pub owner: Name,
}

/// A resource that other workspaces see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedResource {
    /// The resource.
    pub resource: String,
    /// The workspaces that it is shared with, by name.
    pub importers: Vec<Name>,
}

/// A resource that could be shared, with its owner and those that it is shared with.
struct Sharable<'a> {
    kind: Shareable,
    cluster: &'a Name,
    object: &'a Object,
    owner: &'a Workspace,
    importers: Vec<&'a Workspace>,
}

/// Everything in a cluster that could be shared.
fn each<'a>(model: &'a Model, input: &'a ClusterInput, mut found: impl FnMut(Sharable<'a>)) {
    fn visit<'a, T: 'a>(
        model: &'a Model,
        input: &'a ClusterInput,
        kind: Shareable,
        objects: impl Iterator<Item = &'a Arc<Input<T>>>,
        found: &mut impl FnMut(Sharable<'a>),
    ) {
        let cluster = &input.name;
        for object in objects {
            let object = &*object.object;
            let namespace = &object.key().namespace;
            let owner = match kind {
                Shareable::Service => model.owner(cluster, namespace),
                _ => model.config_owner(cluster, namespace),
            };
            let Some(owner) = owner else { continue };
            let importers = model.sharing.importers(kind, cluster, object, &owner.name);
            let importers = importers.filter_map(|name| model.workspaces.get(name)).collect();
            found(Sharable { kind, cluster, object, owner, importers });
        }
    }
    visit(model, input, Shareable::Service, input.services().values(), &mut found);
    visit(model, input, Shareable::VirtualDestination, input.virtual_destinations().values(), &mut found);
    visit(model, input, Shareable::ExternalService, input.external_services().values(), &mut found);
    visit(model, input, Shareable::RouteTable, input.route_tables().values(), &mut found);
}

/// Names of the counters of a kind in the status of a Workspace: imported, exported, private.
fn counters(kind: Shareable) -> [&'static str; 3] {
    match kind {
        Shareable::Service => [
            "numResources|/v1, Kind=Service|imported",
            "numResources|/v1, Kind=Service|exported",
            "numResources|/v1, Kind=Service|private",
        ],
        Shareable::VirtualDestination => [
            "numResources|networking.gloo.solo.io/v2, Kind=VirtualDestination|imported",
            "numResources|networking.gloo.solo.io/v2, Kind=VirtualDestination|exported",
            "numResources|networking.gloo.solo.io/v2, Kind=VirtualDestination|private",
        ],
        Shareable::ExternalService => [
            "numResources|networking.gloo.solo.io/v2, Kind=ExternalService|imported",
            "numResources|networking.gloo.solo.io/v2, Kind=ExternalService|exported",
            "numResources|networking.gloo.solo.io/v2, Kind=ExternalService|private",
        ],
        Shareable::RouteTable => [
            "numResources|networking.gloo.solo.io/v2, Kind=RouteTable|imported",
            "numResources|networking.gloo.solo.io/v2, Kind=RouteTable|exported",
            "numResources|networking.gloo.solo.io/v2, Kind=RouteTable|private",
        ],
    }
}

fn kind_name(kind: Shareable) -> &'static str {
    match kind {
        Shareable::Service => "Service",
        Shareable::VirtualDestination => "VirtualDestination",
        Shareable::ExternalService => "ExternalService",
        Shareable::RouteTable => "RouteTable",
    }
}

/// Counts for the status of each Workspace what of a cluster it gives and gets.
pub(crate) fn count(model: &Model, input: &ClusterInput, notes: &mut Notes) {
    each(model, input, |Sharable { kind, owner, importers, .. }| {
        let [imported, exported, private] = counters(kind);
        notes.count(&owner.source, if importers.is_empty() { private } else { exported }, 1);
        for importer in importers {
            notes.count(&importer.source, imported, 1);
        }
    });
}

impl Visibility {
    pub(crate) fn of(model: &Model) -> Self {
        let mut workspaces: BTreeMap<Name, WorkspaceView> =
            model.workspaces.keys().map(|name| (name.clone(), WorkspaceView::default())).collect();
        for (cluster, namespaces) in &model.owners {
            for (namespace, owner) in namespaces {
                let view = workspaces.entry(owner.workspace.clone()).or_default();
                let owned = OwnedNamespace { name: namespace.clone(), config: owner.config };
                view.namespaces.entry(cluster.clone()).or_default().push(owned);
            }
        }
        for input in model.clusters.values() {
            each(model, input, |Sharable { kind, cluster, object, owner, importers }| {
                if importers.is_empty() {
                    let view = workspaces.entry(owner.name.clone()).or_default();
                    *view.private.entry(kind_name(kind)).or_default() += 1;
                    return;
                }
                let resource = ResourceRef::new(cluster, object.key()).to_string();
                for importer in &importers {
                    let imported = ImportedResource { resource: resource.clone(), owner: owner.name.clone() };
                    workspaces.entry(importer.name.clone()).or_default().imported.push(imported);
                }
                let importers = importers.iter().map(|importer| importer.name.clone()).collect();
                let view = workspaces.entry(owner.name.clone()).or_default();
                view.exported.push(ExportedResource { resource, importers });
            });
        }
        for view in workspaces.values_mut() {
            view.imported.sort_unstable();
            view.exported.sort_unstable();
        }
        Self { workspaces }
    }
}
