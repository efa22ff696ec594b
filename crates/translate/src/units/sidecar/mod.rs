//! What sidecars know: without anything said, every destination of their cluster; trimmed, those that they may need.

mod known;
mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::istio::Sidecar;
use meshrelay_api::istio::shared::WorkloadSelector;
use meshrelay_api::istio::sidecar::EgressListener;
use meshrelay_api::resilience::TrimProxyConfigPolicySpec;
use meshrelay_api::selectors::WorkloadKind;
use meshrelay_snapshot::{ContentHash, Name};

use self::known::{Fleet, Hosts, Known};
use self::served::Served;
use crate::engine::{Round, Stage, Step};
use crate::fingerprint::{Shared, fingerprint};
use crate::hostname;
use crate::input::kube::{WorkloadSpec, selects};
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{Model, Workspace};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::{Book, Policy, Subject};
use crate::reads::Taken;
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::external_service::ExternalService;
use crate::units::http_filters::HttpFilters;
use crate::units::mesh_host::MeshHosts;
use crate::units::route_table::RouteTable;
use crate::{ContextId, ResourceRef};

type Workload = Arc<Input<Theirs<WorkloadSpec>>>;

/// Tells a sidecar of nothing: Istio wants a host in every list.
const NOTHING: &str = "~/*";

/// All sidecars that are trimmed.
#[derive(Debug)]
pub(crate) struct Sidecars {
    book: Book<TrimProxyConfigPolicySpec>,
    known: Step<Known>,
    served: Step<Served>,
    workloads: Stage<TrimmedWorkload>,
}

impl Default for Sidecars {
    fn default() -> Self {
        let workloads = Stage::new(UnitKind::Sidecar, "trimmed workloads");
        Self { book: Book::default(), known: Step::new(known::NAME), served: Step::new(served::NAME), workloads }
    }
}

impl Sidecars {
    pub(crate) fn update(
        &mut self,
        round: &mut Round<'_>,
        hosts: &MeshHosts,
        externals: &Stage<ExternalService>,
        filters: &HttpFilters,
        tables: &Stage<RouteTable>,
    ) {
        let Self { book, known, served, workloads } = self;
        let model = round.model;
        book.update(round, |cluster| cluster.trim_proxy_config_policies(), &["numSelectedWorkloads"]);
        let fleet = Fleet { model, hosts, externals, filters, book };
        known.update(round, |notes| fleet.resolve(notes), Known::compare);
        let is_trimmed = |workspace: &Name| {
            let settings = model.workspaces.get(workspace).map(|workspace| &workspace.settings);
            let by_settings = settings.is_some_and(|settings| settings.trims_to_visible() || settings.trims_all);
            by_settings || !book.of(workspace).is_empty()
        };
        served.update(round, |notes| Served::resolve(model, tables, is_trimmed, notes), Served::compare);
        let Some((known, served)) = known.get().zip(served.get()) else { return };
        let trims = Trims { model, known, served, book };
        workloads.update(round, |cluster| trims.list(cluster), |parent, notes| trims.resolve(parent, notes));
    }
}

/// A workload whose sidecars are told of some hosts only.
#[derive(Debug, Hash)]
struct TrimmedWorkload {
    parent: ResourceRef,
    context: ContextId,
    /// Labels of the pods.
    labels: BTreeMap<Name, Name>,
    /// Many workloads have the same.
    hosts: Vec<Shared<Hosts>>,
    /// Tables with hosts that are no destinations.
    routes: BTreeMap<ResourceRef, BTreeSet<String>>,
    sources: Vec<ResourceRef>,
    /// What told of the tables.
    taken: Vec<Taken>,
}

/// What sidecars are to be told.
struct Trims<'a> {
    model: &'a Model,
    known: &'a Known,
    served: &'a Served,
    book: &'a Book<TrimProxyConfigPolicySpec>,
}

/// What is said about one workload.
struct Said<'a> {
    hosts: Vec<Shared<Hosts>>,
    routes: BTreeMap<ResourceRef, BTreeSet<String>>,
    policies: Vec<&'a ResourceRef>,
    taken: Vec<Taken>,
}

impl<'a> Trims<'a> {
    fn list(&self, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
        let mut all = BTreeSet::new();
        for workspace in self.model.workspaces.values() {
            let settings = &workspace.settings;
            if settings.trims_to_visible() || settings.trims_all || !self.book.of(&workspace.name).is_empty() {
                let namespaces = workspace.contexts.get(&cluster.name).into_iter().flatten();
                let workloads = namespaces.flat_map(|namespace| cluster.workloads_in(namespace));
                all.extend(workloads.map(|workload| workload.reference(&cluster.name)));
            }
        }
        all
    }

    fn resolve(&self, parent: &ResourceRef, notes: &mut Notes) -> Option<TrimmedWorkload> {
        let namespace = &parent.key.namespace;
        let cluster = self.model.clusters.get(&parent.cluster)?;
        let context = self.model.context(&parent.cluster, namespace)?;
        let workspace = self.model.workspaces.get(&context.workspace)?;
        let all = cluster.workloads_in(namespace);
        let own = all.iter().find(|workload| workload.object.key() == &parent.key)?;
        if !has_sidecar(cluster, own) {
            return None;
        }
        let labels = own.spec.pod_labels();
        for policy in self.selecting(workspace, cluster, own) {
            notes.count(&policy.source, "numSelectedWorkloads", 1);
        }
        let mut said = self.said(workspace, cluster, own)?;
        let mut is_first = true;
        let others = all.iter().filter(|other| other.object.key() != own.object.key() && has_sidecar(cluster, other));
        // Istio finds pods by labels, and so the pods of these too.
        for other in others.filter(|other| selects(labels, other.spec.pod_labels())) {
            let Some(of_other) = self.said(workspace, cluster, other) else {
                let text = format!(
                    "{parent} stays as it is: its labels also match the pods of {}, which is not to be trimmed: give \
                     it a label of its own, or select both",
                    other.reference(&cluster.name)
                );
                for policy in &said.policies {
                    notes.say(policy, Severity::Warning, Code::TrimOverlap, text.clone());
                }
                return None;
            };
            said.hosts.extend(of_other.hosts);
            said.routes.extend(of_other.routes);
            said.policies.extend(of_other.policies);
            said.taken.extend(of_other.taken);
            is_first &= other.spec.pod_labels() != labels || own.object.key() < other.object.key();
        }
        // One Sidecar for all workloads that Istio cannot tell apart.
        if !is_first {
            return None;
        }
        let sources = self.model.sources(&workspace.name).chain(said.policies).cloned().collect();
        let Said { hosts, routes, taken, .. } = said;
        let (parent, labels) = (parent.clone(), labels.clone());
        Some(TrimmedWorkload { parent, context, labels, hosts, routes, sources, taken })
    }

    /// The policies that select a workload.
    fn selecting(
        &self,
        workspace: &'a Workspace,
        cluster: &'a ClusterInput,
        workload: &'a Workload,
    ) -> impl Iterator<Item = &'a Arc<Policy<TrimProxyConfigPolicySpec>>> {
        let subject = Subject {
            cluster: &cluster.name,
            namespace: workload.namespace(),
            name: workload.name(),
            workspace: &workspace.name,
            labels: workload.spec.pod_labels(),
        };
        self.book.of(&workspace.name).iter().filter(move |policy| {
            let selectors = &policy.input.spec.apply_to_workloads;
            let is_selected = || {
                selectors.iter().any(|one| {
                    one.kind == WorkloadKind::Kube && one.selector.as_ref().is_none_or(|one| subject.is_selected(one))
                })
            };
            selectors.is_empty() || is_selected()
        })
    }

    /// What the sidecars of a workload are to be told of, whatever is said of others; `None` for everything.
    fn said(&self, workspace: &'a Workspace, cluster: &'a ClusterInput, workload: &'a Workload) -> Option<Said<'a>> {
        let site = self.known.get(&workspace.name, &cluster.name)?;
        let mut said = Said { hosts: Vec::new(), routes: BTreeMap::new(), policies: Vec::new(), taken: Vec::new() };
        if workspace.settings.trims_to_visible() {
            said.hosts.push(site.visible.clone());
        }
        for policy in self.selecting(workspace, cluster, workload) {
            if let Some(hosts) = site.by_policy.get(&policy.source) {
                said.hosts.push(hosts.clone());
                said.policies.push(&policy.source);
            }
        }
        if said.hosts.is_empty() && !workspace.settings.trims_all {
            return None;
        }
        said.hosts.push(site.asked.clone());
        // Destinations can be included by policies. What is none is known by its routes alone.
        for served in self.served.at(&cluster.name, workload.namespace(), workload.spec.pod_labels()) {
            let hosts: BTreeSet<String> = served.hosts.difference(&site.visible.names).cloned().collect();
            let known = served.hosts.intersection(&site.visible.names);
            said.taken.extend(known.filter_map(|host| site.told.get(host)).cloned());
            if !hosts.is_empty() {
                said.taken.push(Arc::clone(&served.taken));
                said.routes.insert(served.table.clone(), hosts);
            }
        }
        Some(said)
    }
}

/// Whether the pods of a workload may have a sidecar.
fn has_sidecar(cluster: &ClusterInput, workload: &Workload) -> bool {
    let (namespace, labels) = (workload.namespace(), workload.spec.pod_labels());
    // A Sidecar without labels would be one for the whole namespace.
    cluster.trust_domain(namespace).is_some()
        && !labels.is_empty()
        && !workload.spec.is_kept_out_of_the_mesh()
        && !cluster.is_gateway(namespace, labels)
}

impl ParentInput for TrimmedWorkload {
    fn id(&self) -> BatchId {
        (UnitKind::Sidecar, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::Sidecar, &self.parent);
        let names = self.hosts.iter().flat_map(|hosts| &hosts.names);
        let names: BTreeSet<String> = names.map(|name| hostname::importable(name)).collect();
        let mut hosts: Vec<String> = names.into_iter().map(|name| format!("*/{name}")).collect();
        // The VirtualService is beside the workload: what has the host elsewhere stays unknown.
        let served: BTreeSet<String> = self.routes.values().flatten().map(|host| hostname::importable(host)).collect();
        hosts.extend(served.into_iter().map(|host| format!("./{host}")));
        if hosts.is_empty() {
            hosts.push(NOTHING.to_owned());
        }
        let labels = self.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let spec = Sidecar {
            egress: vec![EgressListener { hosts, ..EgressListener::default() }],
            workload_selector: Some(WorkloadSelector { labels: labels.collect() }),
            ..Sidecar::default()
        };
        let shapers: Shapers = self.sources.iter().chain(self.routes.keys()).chain([&self.parent]).collect();
        let body = Body::new(&spec, shapers).reading(self.hosts.iter().map(|hosts| &hosts.reads).chain(&self.taken));
        let ResourceRef { cluster, key } = &self.parent;
        let (kind, name, namespace) = (key.gvk.kind.as_str(), &key.name, &key.namespace);
        let name = if kind == "Deployment" {
            names::sanitize(&format!("Sidecar-{name}-{namespace}-{cluster}-{}", self.context.workspace))
        } else {
            names::identified(&format!("sidecar-{name}"), &["Sidecar", kind, name, namespace, cluster])
        };
        emission.emit(&self.context, &name, &body, Extra::default());
        emission.finish()
    }
}
