use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::admin::{KubernetesClusterSpec, WorkspaceSettingsSpec, WorkspaceSpec};
use meshrelay_api::internal::{DiscoveredGatewaySpec, MeshSpec};
use meshrelay_api::networking::{
    ExternalEndpointSpec, ExternalServiceSpec, RouteTableSpec, VirtualDestinationSpec, VirtualGatewaySpec,
};
use meshrelay_api::resilience::RetryTimeoutPolicySpec;
use meshrelay_api::security::CorsPolicySpec;
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_api::traffic_control::MirrorPolicySpec;
use meshrelay_snapshot::{Name, Object, Snapshot};

use super::kube::{ServiceSpec, WorkloadSpec};
use super::{Cache, Decode, Input, Ours, Theirs};
use crate::report::Finding;

/// Label of nodes with the region that they are in, and its older name.
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];

/// Decoded objects of one kind by namespace and name.
pub(crate) type ByName<T> = BTreeMap<(Name, Name), Arc<Input<T>>>;

type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// Everything that translation reads of one cluster. A pure function of its snapshot.
#[derive(Debug, Default)]
pub(crate) struct ClusterInput {
    pub(crate) name: Name,
    /// Labels of each namespace that exists.
    pub(crate) namespaces: BTreeMap<Name, Arc<Object>>,
    pub(crate) services: ByName<Theirs<ServiceSpec>>,
    services_by_label: BTreeMap<(Name, Name), Vec<Service>>,
    pub(crate) workloads: BTreeMap<Name, Vec<Arc<Input<Theirs<WorkloadSpec>>>>>,
    /// The region that most nodes are in, empty when none says so.
    pub(crate) region: Name,
    pub(crate) meshes: ByName<Ours<MeshSpec>>,
    pub(crate) gateways: ByName<Ours<DiscoveredGatewaySpec>>,
    pub(crate) clusters: ByName<Ours<KubernetesClusterSpec>>,
    pub(crate) workspaces: ByName<Ours<WorkspaceSpec>>,
    pub(crate) settings: ByName<Ours<WorkspaceSettingsSpec>>,
    pub(crate) virtual_gateways: ByName<Ours<VirtualGatewaySpec>>,
    pub(crate) route_tables: ByName<Ours<RouteTableSpec>>,
    pub(crate) virtual_destinations: ByName<Ours<VirtualDestinationSpec>>,
    pub(crate) external_services: ByName<Ours<ExternalServiceSpec>>,
    pub(crate) external_endpoints: ByName<Ours<ExternalEndpointSpec>>,
    pub(crate) retry_timeout_policies: ByName<Ours<RetryTimeoutPolicySpec>>,
    pub(crate) cors_policies: ByName<Ours<CorsPolicySpec>>,
    pub(crate) mirror_policies: ByName<Ours<MirrorPolicySpec>>,
    /// Every resource that users wrote for us, translated or not.
    pub(crate) written: Vec<(Arc<Object>, Problem)>,
    /// Other objects that cannot be read.
    pub(crate) unreadable: Vec<(Arc<Object>, Problem)>,
}

/// What is wrong with an object as such.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problem {
    /// What decoding found.
    pub(crate) warnings: Vec<Finding>,
    /// Why the object cannot be read at all.
    pub(crate) unreadable: Option<Finding>,
    /// Whether its kind is one that this version does not translate.
    pub(crate) unknown_kind: bool,
}

impl ClusterInput {
    pub(crate) fn new(name: &Name, snapshot: &Snapshot, cache: &mut Cache) -> Self {
        let mut input = Self { name: name.clone(), ..Self::default() };
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
                ("", "Service") => read(object, cache, &mut input.services),
                ("apps", "Deployment" | "StatefulSet" | "DaemonSet") => {
                    let mut workloads = BTreeMap::new();
                    let problem = read(object, cache, &mut workloads);
                    input.workloads.entry(object.key().namespace.clone()).or_default().extend(workloads.into_values());
                    problem
                }
                ("internal.gloo.solo.io", "Mesh") => read(object, cache, &mut input.meshes),
                ("internal.gloo.solo.io", "DiscoveredGateway") => read(object, cache, &mut input.gateways),
                (group, kind) if group.ends_with(".gloo.solo.io") && group != "internal.gloo.solo.io" => {
                    let problem = input.read_written(kind, object, cache);
                    input.written.push((Arc::clone(object), problem));
                    continue;
                }
                _ => continue,
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
        for service in input.services.values() {
            for (key, value) in service.object.labels() {
                let with_label = input.services_by_label.entry((key.clone(), value.clone())).or_default();
                with_label.push(Arc::clone(service));
            }
        }
        input.written.sort_unstable_by(|a, b| a.0.key().cmp(b.0.key()));
        input.unreadable.sort_unstable_by(|a, b| a.0.key().cmp(b.0.key()));
        input
    }

    fn read_written(&mut self, kind: &str, object: &Arc<Object>, cache: &mut Cache) -> Problem {
        match kind {
            "KubernetesCluster" => read(object, cache, &mut self.clusters),
            "Workspace" => read(object, cache, &mut self.workspaces),
            "WorkspaceSettings" => read(object, cache, &mut self.settings),
            "VirtualGateway" => read(object, cache, &mut self.virtual_gateways),
            "RouteTable" => read(object, cache, &mut self.route_tables),
            "VirtualDestination" => read(object, cache, &mut self.virtual_destinations),
            "ExternalService" => read(object, cache, &mut self.external_services),
            "ExternalEndpoint" => read(object, cache, &mut self.external_endpoints),
            "RetryTimeoutPolicy" => read(object, cache, &mut self.retry_timeout_policies),
            "CORSPolicy" => read(object, cache, &mut self.cors_policies),
            "MirrorPolicy" => read(object, cache, &mut self.mirror_policies),
            _ => Problem { unknown_kind: true, ..Problem::default() },
        }
    }

    /// The Services of a namespace.
    pub(crate) fn services_in(&self, namespace: &Name) -> impl Iterator<Item = &Service> {
        let from = (namespace.clone(), Name::default());
        let of_namespace = self.services.range(from..).take_while(move |((other, _), _)| other == namespace);
        of_namespace.map(|(_, service)| service)
    }

    /// The Services that a selector may pick, narrowed down by an index; the caller checks the rest.
    pub(crate) fn service_candidates(&self, selector: &ObjectSelector) -> Vec<&Service> {
        if !selector.namespace.is_empty() {
            return self.services_in(&Name::from(&selector.namespace)).collect();
        }
        let listed = selector.labels.iter().map(|(key, value)| self.services_by_label.get(&(key.into(), value.into())));
        match listed.min_by_key(|services| services.map_or(0, Vec::len)) {
            Some(services) => services.into_iter().flatten().collect(),
            None => self.services.values().collect(),
        }
    }
}

fn read<T: Decode>(object: &Arc<Object>, cache: &mut Cache, into: &mut ByName<T>) -> Problem {
    match cache.get(object) {
        Ok(input) => {
            let warnings = input.warnings.clone();
            into.insert((object.key().namespace.clone(), object.key().name.clone()), input);
            Problem { warnings, ..Problem::default() }
        }
        Err(error) => Problem { unreadable: Some(error), ..Problem::default() },
    }
}
