//! Which workspace owns which namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::admin::WorkspaceSpec;
use meshrelay_api::selectors::{ClusterSelector, NamespaceSelector};
use meshrelay_snapshot::{Name, Object};

use super::glob;
use super::settings::Settings;
use crate::fingerprint::Shared;
use crate::input::kube::selects;
use crate::input::{ClusterInput, Input, Ours};
use crate::reads::Taken;
use crate::report::{Code, Notes, Severity};
use crate::{Options, ResourceRef};

/// The namespaces of a workspace that output can go to, by cluster.
pub(crate) type Contexts = BTreeMap<Name, BTreeSet<Name>>;

/// The owner of each namespace, by cluster.
pub(crate) type Owners = BTreeMap<Name, BTreeMap<Name, Owner>>;

/// How many namespaces a message names before it only counts them.
const NAMED: usize = 5;

/// Who owns a namespace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    pub(crate) workspace: Name,
    /// Whether configuration is read from the namespace.
    pub(crate) config: bool,
}

/// A tenant.
#[derive(Debug, PartialEq)]
pub(crate) struct Workspace {
    pub(crate) name: Name,
    pub(crate) source: ResourceRef,
    pub(crate) labels: BTreeMap<Name, Name>,
    pub(crate) contexts: Shared<Contexts>,
    pub(crate) settings: Settings,
    /// Where it and its settings are written.
    pub(crate) reads: Taken,
}

/// What the management cluster says about clusters and workspaces.
pub(super) struct Registry<'a> {
    pub(super) management: &'a Name,
    pub(super) admin_namespace: &'a str,
    pub(super) clusters: &'a BTreeMap<Name, Arc<ClusterInput>>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(
        management: &'a Name,
        admin_namespace: &'a str,
        clusters: &'a BTreeMap<Name, Arc<ClusterInput>>,
    ) -> Self {
        Self { management, admin_namespace, clusters }
    }

    fn admin(&self) -> Option<&'a ClusterInput> {
        self.clusters.get(self.management).map(|cluster| &**cluster)
    }

    fn registration(&self, cluster: &Name) -> Option<&'a Object> {
        let key = (Name::from(self.admin_namespace), cluster.clone());
        self.admin()?.clusters().get(&key).map(|input| &*input.object)
    }

    /// DNS suffixes of clusters that have an uncommon one.
    pub(super) fn domains(&self) -> BTreeMap<Name, String> {
        let registered = self.admin().into_iter().flat_map(|admin| admin.clusters().values());
        let registered = registered.filter(|cluster| cluster.namespace() == self.admin_namespace);
        registered
            .filter(|cluster| !cluster.spec.cluster_domain.is_empty())
            .map(|cluster| (cluster.name().clone(), cluster.spec.cluster_domain.clone()))
            .collect()
    }

    /// Workspaces, the oldest first.
    fn workspaces(&self) -> Vec<&'a Arc<Input<Ours<WorkspaceSpec>>>> {
        let all = self.admin().into_iter().flat_map(|admin| admin.workspaces().values());
        let mut all: Vec<_> = all.filter(|workspace| workspace.namespace() == self.admin_namespace).collect();
        all.sort_by_key(|workspace| workspace.age(self.management));
        all
    }
}

/// Gives every namespace that a workspace selects to the oldest one that does.
pub(super) fn resolve(
    registry: &Registry<'_>,
    options: &Options,
    notes: &mut Notes,
) -> (BTreeMap<Name, Workspace>, Owners) {
    let mut owners = Owners::new();
    let mut workspaces = BTreeMap::new();
    for input in registry.workspaces() {
        let source = input.reference(registry.management);
        let selected = select(registry, input, &source, notes);
        let mut lost: BTreeMap<Name, Vec<String>> = BTreeMap::new();
        let mut contexts = Contexts::new();
        let (mut clusters, mut namespaces) = (0, 0);
        for (cluster, selected) in selected {
            let of_cluster = owners.entry(cluster.clone()).or_default();
            let before = namespaces;
            for (namespace, config) in selected {
                if let Some(owner) = of_cluster.get(&namespace) {
                    lost.entry(owner.workspace.clone()).or_default().push(format!("{cluster}/{namespace}"));
                    continue;
                }
                of_cluster.insert(namespace.clone(), Owner { workspace: input.name().clone(), config });
                namespaces += 1;
                let has_mesh = registry.clusters.get(&cluster).is_some_and(|cluster| !cluster.meshes().is_empty());
                if has_mesh || options.contexts_without_mesh {
                    contexts.entry(cluster.clone()).or_default().insert(namespace);
                }
            }
            clusters += usize::from(namespaces > before);
        }
        for (winner, names) in lost {
            let more = names.len().saturating_sub(NAMED);
            let mut list = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
            if more > 0 {
                list.push_str(&format!(" and {more} more"));
            }
            let text = format!("expected namespaces of no other workspace, but {list} belong to the older {winner}");
            notes.say(&source, Severity::Warning, Code::NamespaceTaken, text);
        }
        if namespaces == 0 && !input.spec.workload_clusters.is_empty() {
            let text =
                "expected namespaces that exist, but none is selected: check the names of clusters and namespaces";
            notes.say(&source, Severity::Warning, Code::EmptyWorkspace, text);
        }
        notes.count(&source, "numSelectedClusters", clusters);
        notes.count(&source, "numSelectedNamespaces", namespaces);
        let workspace = Workspace {
            name: input.name().clone(),
            labels: input.object.labels().clone(),
            source,
            contexts: Shared::new(contexts),
            settings: Settings::default(),
            reads: Taken::default(),
        };
        workspaces.insert(workspace.name.clone(), workspace);
    }
    (workspaces, owners)
}

/// The namespaces that a workspace selects, each with whether configuration is read from it.
fn select(
    registry: &Registry<'_>,
    workspace: &Input<Ours<WorkspaceSpec>>,
    source: &ResourceRef,
    notes: &mut Notes,
) -> BTreeMap<Name, BTreeMap<Name, bool>> {
    let entries = &workspace.spec.workload_clusters;
    let some_clusters = entries.iter().any(|entry| entry.config_enabled);
    let mut selected: BTreeMap<Name, BTreeMap<Name, bool>> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.namespaces.is_empty() {
            let text = format!("spec.workloadClusters[{index}].namespaces: expected at least one entry, found none");
            notes.say(source, Severity::Invalid, Code::Missing, text);
        }
        let some_namespaces = entry.namespaces.iter().any(|namespace| namespace.config_enabled);
        let matching = registry.clusters.values().filter(|cluster| is_cluster(registry, entry, cluster));
        for cluster in matching {
            for (name, namespace) in cluster.namespaces() {
                let hits = entry.namespaces.iter().filter(|selector| is_namespace(selector, namespace));
                let config = hits.map(|selector| {
                    (!some_clusters || entry.config_enabled) && (!some_namespaces || selector.config_enabled)
                });
                if let Some(config) = config.reduce(|one, other| one || other) {
                    let known = selected.entry(cluster.name.clone()).or_default().entry(name.clone()).or_default();
                    *known |= config;
                }
            }
        }
    }
    selected
}

fn is_cluster(registry: &Registry<'_>, entry: &ClusterSelector, cluster: &ClusterInput) -> bool {
    let named = entry.name.is_empty() || glob::matches(&entry.name, &cluster.name);
    named
        && (entry.selector.is_empty()
            || registry.registration(&cluster.name).is_some_and(|object| selects(&entry.selector, object.labels())))
}

/// Without name and labels nothing is selected: an empty entry is no wildcard.
fn is_namespace(selector: &NamespaceSelector, namespace: &Object) -> bool {
    let named = selector.name.is_empty() || glob::matches(&selector.name, &namespace.key().name);
    named && selects(&selector.labels, namespace.labels()) && !(selector.name.is_empty() && selector.labels.is_empty())
}
