//! The resolved fleet: which workspace owns what, who sees what, how clusters reach each other. Translation and reports
//! both read this one model, so what is reported is what was used.

pub(crate) mod baseline;
mod entry_points;
mod glob;
mod mesh;
mod principals;
mod settings;
mod sharing;
pub(crate) mod visibility;
mod workspaces;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use meshrelay_snapshot::{Name, Object};

use entry_points::EntryPoints;
pub(crate) use entry_points::{Entry, EntryAddress, EntryPoint, EntryPort, service_of};
pub(crate) use principals::{Pods, Principals};
pub(crate) use sharing::{Shareable, Sharing, Viewer};
use workspaces::Owners;
pub(crate) use workspaces::Workspace;

use crate::fingerprint::Shared;
use crate::input::{ClusterInput, Input};
use crate::reads::{Taken, take_all, together};
use crate::report::Notes;
use crate::{ContextId, Options, ResourceRef};

/// The resolved fleet.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) clusters: BTreeMap<Name, Arc<ClusterInput>>,
    topology: Arc<Topology>,
}

impl Model {
    pub(crate) fn new(clusters: BTreeMap<Name, Arc<ClusterInput>>, topology: Arc<Topology>) -> Self {
        Self { clusters, topology }
    }
}

impl Deref for Model {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.topology
    }
}

/// Who owns and sees what, and how clusters reach each other: what nearly everything depends on, and what rarely
/// changes.
#[derive(Debug, PartialEq)]
pub(crate) struct Topology {
    pub(crate) management: Name,
    pub(crate) workspaces: BTreeMap<Name, Workspace>,
    owners: Owners,
    sharing: Sharing,
    entry_points: BTreeMap<Name, EntryPoints>,
    domains: BTreeMap<Name, String>,
    /// Where settings are that keep others out of force.
    contested: Taken,
    pub(crate) options: Options,
}

impl Topology {
    pub(crate) fn resolve(
        options: &Options,
        management: &Name,
        clusters: &BTreeMap<Name, Arc<ClusterInput>>,
        notes: &mut Notes,
    ) -> Self {
        let registry = workspaces::Registry::new(management, &options.admin_namespace, clusters);
        let (mut workspaces, owners) = workspaces::resolve(&registry, options, notes);
        settings::resolve(&registry, &owners, &mut workspaces, notes);
        let sharing = Sharing::resolve(&workspaces, notes);
        let entry_points = entry_points::resolve(clusters, &owners, &workspaces, notes);
        let domains = registry.domains();
        let (management, options) = (management.clone(), options.clone());
        let contested = together(workspaces.values().map(|workspace| &workspace.contested));
        Self { management, workspaces, owners, sharing, entry_points, domains, contested, options }
    }

    /// The workspace that owns a namespace of a cluster.
    pub(crate) fn owner(&self, cluster: &str, namespace: &str) -> Option<&Workspace> {
        let owner = self.owners.get(cluster)?.get(namespace)?;
        self.workspaces.get(&owner.workspace)
    }

    /// The workspace in force for configuration that lies in a namespace of a cluster.
    pub(crate) fn config_owner(&self, cluster: &str, namespace: &str) -> Option<&Workspace> {
        let owner = self.owners.get(cluster)?.get(namespace)?;
        if owner.config { self.workspaces.get(&owner.workspace) } else { None }
    }

    /// Those of a cluster's resources that a workspace in force reads.
    pub(crate) fn counting<'a, T: 'a>(
        &self,
        cluster: &Name,
        resources: impl Iterator<Item = &'a Arc<Input<T>>>,
    ) -> BTreeSet<ResourceRef> {
        let counts = |resource: &&Arc<Input<T>>| self.config_owner(cluster, resource.namespace()).is_some();
        resources.filter(counts).map(|resource| resource.reference(cluster)).collect()
    }

    /// The context that a namespace of a cluster is, if output can go there.
    pub(crate) fn context(&self, cluster: &Name, namespace: &Name) -> Option<ContextId> {
        let workspace = self.owner(cluster, namespace)?;
        let namespaces = workspace.contexts.get(cluster)?;
        namespaces.contains(namespace).then(|| ContextId {
            cluster: cluster.clone(),
            namespace: namespace.clone(),
            workspace: workspace.name.clone(),
        })
    }

    /// Where settings are without which others would be in force, so that anything could be seen by anybody.
    pub(crate) fn of_contested(&self) -> &Taken {
        &self.contested
    }

    /// The workspaces that see an object: its owner and those that it is shared with, by name.
    pub(crate) fn viewers<T>(
        &self,
        kind: Shareable,
        cluster: &Name,
        object: &Input<T>,
        owner: &Workspace,
    ) -> Vec<Viewer> {
        take_all(self.of_contested());
        let mut viewers = vec![Viewer::new(owner)];
        let importers = self.sharing.importers(kind, cluster, &object.object, &owner.name);
        viewers.extend(importers.filter_map(|name| self.workspaces.get(name)).map(Viewer::new));
        viewers.sort_unstable_by(|a, b| a.workspace.cmp(&b.workspace));
        viewers
    }

    /// The workspaces that an object is shared with, by name.
    pub(crate) fn importers<'a, T>(
        &'a self,
        kind: Shareable,
        cluster: &'a Name,
        object: &'a Input<T>,
        owner: &Workspace,
    ) -> impl Iterator<Item = &'a Name> {
        take_all(self.of_contested());
        self.sharing.importers(kind, cluster, &object.object, &owner.name)
    }

    /// Whether a workspace sees an object that `owner` owns.
    pub(crate) fn sees<T>(
        &self,
        workspace: &Workspace,
        kind: Shareable,
        cluster: &Name,
        object: &Input<T>,
        owner: &Workspace,
    ) -> bool {
        self.sees_object(workspace, kind, cluster, &object.object, owner)
    }

    /// As [`sees`](Self::sees), for an object that may be unreadable.
    pub(crate) fn sees_object(
        &self,
        workspace: &Workspace,
        kind: Shareable,
        cluster: &Name,
        object: &Object,
        owner: &Workspace,
    ) -> bool {
        if workspace.name == owner.name {
            return true;
        }
        let is_shared = self.sharing.is_shared(kind, cluster, object, &owner.name, &workspace.name);
        for partner in [workspace, owner] {
            // Nothing that is written makes that something is not shared, unless something else would come into force.
            take_all(if is_shared { &partner.reads } else { &partner.contested });
        }
        is_shared
    }

    /// Where traffic for the hosts of a workspace enters a cluster; `None` if it cannot.
    pub(crate) fn entry_points(&self, workspace: &Workspace, cluster: &Name) -> Option<&Shared<Vec<EntryPoint>>> {
        self.entry_points.get(&workspace.name)?.get(cluster)
    }

    /// DNS suffix of a cluster's Services.
    pub(crate) fn domain(&self, cluster: &str) -> &str {
        self.domains.get(cluster).map_or("cluster.local", String::as_str)
    }

    /// The resources that decide what a workspace is: for [`shaped_by`](crate::shaped_by).
    pub(crate) fn sources<'a>(&'a self, workspace: &'a str) -> impl Iterator<Item = &'a ResourceRef> {
        let workspace = self.workspaces.get(workspace);
        workspace.into_iter().flat_map(|workspace| [&workspace.source].into_iter().chain(&workspace.settings.sources))
    }
}
