use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::{Name, Object, Snapshot};

use super::kube::{ServiceSpec, WorkloadSpec};
use super::tables::{Tables, read};
use super::{Cache, Input, Theirs};
use crate::reads::{Changes, Place, Thing, record};
use crate::report::Finding;

/// Label of nodes with the region that they are in, and its older name.
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];

type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// Kinds by which reads are recorded. Workloads of all kinds are one.
const SERVICE: &str = "Service";
const NAMESPACE: &str = "Namespace";
const NODE: &str = "Node";
const WORKLOAD: &str = "Workload";
const ANYTHING: &str = "";

/// Everything that translation reads of one cluster. A pure function of its snapshot.
#[derive(Debug)]
pub(crate) struct ClusterInput {
    pub(crate) name: Name,
    pub(super) place: Place,
    namespaces: BTreeMap<Name, Arc<Object>>,
    pub(super) tables: Tables,
    services_by_label: BTreeMap<(Name, Name), Vec<Service>>,
    workloads: BTreeMap<Name, Vec<Arc<Input<Theirs<WorkloadSpec>>>>>,
    region: Name,
    written: Vec<(Arc<Object>, Problem)>,
    unreadable: Vec<(Arc<Object>, Problem)>,
}

/// What is wrong with an object as such.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problem {
    /// What decoding found.
    pub(crate) warnings: Vec<Finding>,
    /// Why the object, or more of it than what it selects, cannot be read.
    pub(crate) unreadable: Option<Finding>,
    /// Whether its kind is one that this version does not translate.
    pub(crate) unknown_kind: bool,
}

impl ClusterInput {
    pub(crate) fn new(name: &Name, snapshot: &Snapshot, cache: &mut Cache) -> Self {
        let mut input = Self {
            name: name.clone(),
            place: Place::cluster(name),
            namespaces: BTreeMap::new(),
            tables: Tables::default(),
            services_by_label: BTreeMap::new(),
            workloads: BTreeMap::new(),
            region: Name::default(),
            written: Vec::new(),
            unreadable: Vec::new(),
        };
        let mut regions: BTreeMap<Name, usize> = BTreeMap::new();
        for object in snapshot.iter() {
            let gvk = &object.key().gvk;
            let problem = match (gvk.group.as_str(), gvk.kind.as_str()) {
                ("", "Namespace") => {
                    input.namespaces.insert(object.key().name.clone(), Arc::clone(object));
                    continue;
                }
                ("", "Node") => {
                    if let Some(region) = REGION.iter().find_map(|key| object.labels().get(*key)) {
                        *regions.entry(region.clone()).or_default() += 1;
                    }
                    continue;
                }
                ("apps", "Deployment" | "StatefulSet" | "DaemonSet") => {
                    let mut workloads = BTreeMap::new();
                    let problem = read(object, cache, &mut workloads);
                    input.workloads.entry(object.key().namespace.clone()).or_default().extend(workloads.into_values());
                    problem
                }
                (group, _) if group.ends_with(".gloo.solo.io") && group != "internal.gloo.solo.io" => {
                    let unknown = || Problem { unknown_kind: true, ..Problem::default() };
                    let problem = input.tables.read(object, cache).unwrap_or_else(unknown);
                    input.written.push((Arc::clone(object), problem));
                    continue;
                }
                _ => match input.tables.read(object, cache) {
                    Some(problem) => problem,
                    None => continue,
                },
            };
            if problem.unreadable.is_some() {
                input.unreadable.push((Arc::clone(object), problem));
            }
        }
        // Of two regions with as many nodes the first by name, so that the order of arrival does not matter.
        let most = regions.into_iter().rev().max_by_key(|(_, nodes)| *nodes);
        input.region = most.map(|(region, _)| region).unwrap_or_default();
        for workloads in input.workloads.values_mut() {
            workloads.sort_unstable_by(|a, b| a.object.key().cmp(b.object.key()));
        }
        let mut by_label: BTreeMap<(Name, Name), Vec<Service>> = BTreeMap::new();
        for service in input.services().values() {
            for (key, value) in service.object.labels() {
                by_label.entry((key.clone(), value.clone())).or_default().push(Arc::clone(service));
            }
        }
        input.services_by_label = by_label;
        input.written.sort_unstable_by(|a, b| a.0.key().cmp(b.0.key()));
        input.unreadable.sort_unstable_by(|a, b| a.0.key().cmp(b.0.key()));
        input
    }

    /// Says what is another than in `before`, which holds the objects of `snapshot_before`.
    pub(crate) fn changes(name: &Name, before: &Snapshot, after: &Snapshot, changes: &mut Changes) {
        let place = Place::cluster(name);
        let delta = after.diff(before);
        let keys = delta.upserts.iter().map(|object| object.key()).chain(&delta.removes);
        for key in keys {
            let kind = match (key.gvk.group.as_str(), key.gvk.kind.as_str()) {
                ("apps", "Deployment" | "StatefulSet" | "DaemonSet") => WORKLOAD,
                (_, kind) => kind,
            };
            let labels = [before.get(key), after.get(key)].into_iter().flatten().flat_map(|object| object.labels());
            // Services alone are looked up by label.
            let labels = labels.filter(|_| kind == SERVICE);
            changes.add(place, Thing::Kind(ANYTHING));
            changes.add_object(place, kind, (&key.namespace, &key.name), labels);
        }
    }

    /// Each namespace that exists.
    pub(crate) fn namespaces(&self) -> &BTreeMap<Name, Arc<Object>> {
        record(self.place, Thing::Kind(NAMESPACE));
        &self.namespaces
    }

    /// Deployments, StatefulSets and DaemonSets of a namespace.
    pub(crate) fn workloads_in(&self, namespace: &Name) -> &[Arc<Input<Theirs<WorkloadSpec>>>] {
        record(self.place, Thing::Namespace(WORKLOAD, namespace));
        self.workloads.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// The region that most nodes are in, empty when none says so.
    pub(crate) fn region(&self) -> &Name {
        record(self.place, Thing::Kind(NODE));
        &self.region
    }

    /// Every resource that users wrote for us, translated or not.
    pub(crate) fn written(&self) -> &[(Arc<Object>, Problem)] {
        record(self.place, Thing::Kind(ANYTHING));
        &self.written
    }

    /// Those of one kind that cannot be read.
    pub(crate) fn unreadable_of(&self, kind: &'static str) -> impl Iterator<Item = &Arc<Object>> {
        record(self.place, Thing::Kind(kind));
        let unreadable = self.written.iter().filter(|(_, problem)| problem.unreadable.is_some());
        unreadable.map(|(object, _)| object).filter(move |object| object.key().gvk.kind == kind)
    }

    /// Other objects that cannot be read.
    pub(crate) fn unreadable(&self) -> &[(Arc<Object>, Problem)] {
        record(self.place, Thing::Kind(ANYTHING));
        &self.unreadable
    }

    /// The Services of a namespace.
    pub(crate) fn services_in(&self, namespace: &Name) -> impl Iterator<Item = &Service> {
        self.services().in_namespace(namespace)
    }

    /// The Services that a selector may pick, narrowed down by an index; the caller checks the rest.
    pub(crate) fn service_candidates(&self, selector: &ObjectSelector) -> Vec<&Service> {
        if !selector.namespace.is_empty() {
            return self.services_in(&Name::from(&selector.namespace)).collect();
        }
        let listed = selector.labels.iter().map(|(key, value)| {
            let services = self.services_by_label.get(&(key.into(), value.into()));
            (key, value, services.map(Vec::as_slice).unwrap_or_default())
        });
        match listed.min_by_key(|(_, _, services)| services.len()) {
            Some((key, value, services)) => {
                record(self.place, Thing::Label(SERVICE, key, value));
                services.iter().collect()
            }
            None => self.services().values().collect(),
        }
    }
}
