//! Filters in front of the workloads of a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::istio::envoy_filter::PatchContext;
use meshrelay_api::references::DestinationKind;
use meshrelay_api::selectors::DestinationSelector;
use meshrelay_snapshot::{ContentHash, Name};
use serde_json::Value;

use super::effect::{Effect, Position, merge};
use super::patch::{self, Routes};
use super::{Caller, Effects, ext_auth, jwt, rate_limit};
use crate::fingerprint::{Shared, fingerprint};
use crate::input::kube::{ServicePort, ServiceSpec};
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{Model, Workspace, service_of};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::routes::RouteBooks;
use crate::policies::{Book, Destination, Policy, Subject, oldest};
use crate::reads::{Taken, taking, together};
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::mesh_host::MeshHosts;
use crate::{ContextId, ResourceRef};

/// A Service with what policies do to requests for it.
#[derive(Debug, Hash)]
pub(crate) struct InboundFilters {
    pub(super) parent: ResourceRef,
    pub(super) context: ContextId,
    /// Labels of the pods.
    pub(super) selector: BTreeMap<String, String>,
    /// By port of the pods.
    pub(super) ports: BTreeMap<u32, Vec<Shared<Effect>>>,
    /// What told that.
    pub(super) taken: Taken,
}

/// A kind of policy that selects Services of its own workspace, beside routes.
pub(crate) trait ServicePolicy: meshrelay_api::Kind {
    /// What it selects; `None` means all Services.
    fn services(&self) -> Option<&[DestinationSelector]>;
}

/// The filters of all Services that policies select.
pub(super) fn gather(model: &Model, hosts: &MeshHosts, books: &RouteBooks, notes: &mut Notes) -> Vec<InboundFilters> {
    let mut all =
        Inbound { model, hosts, known: Effects::default(), services: BTreeMap::new(), taken: BTreeMap::new() };
    all.add(&books.ext_auth, notes, ext_auth::effects);
    all.add(&books.jwt, notes, jwt::effects);
    all.add(&books.rate_limit, notes, rate_limit::effects);
    for (service, filters) in &mut all.services {
        filters.taken = together(all.taken.get(service).into_iter().flatten());
    }
    all.services.into_values().collect()
}

/// The filters of Services, as they are gathered.
struct Inbound<'a> {
    model: &'a Model,
    hosts: &'a MeshHosts,
    known: Effects,
    services: BTreeMap<ResourceRef, InboundFilters>,
    /// What told of each Service whether there are any.
    taken: BTreeMap<ResourceRef, Vec<Taken>>,
}

impl Inbound<'_> {
    /// The effects of the policies of a kind: of several for one port the oldest holds.
    fn add<K: ServicePolicy>(
        &mut self,
        book: &Book<K>,
        notes: &mut Notes,
        effects: impl Fn(&Caller<'_>, &Arc<Policy<K>>, &mut Notes) -> Vec<Effect>,
    ) {
        for workspace in self.model.workspaces.values() {
            let policies = book.of(&workspace.name).iter();
            let policies: Vec<_> = policies.filter(|policy| policy.selects_services()).collect();
            if policies.is_empty() {
                continue;
            }
            policies.iter().for_each(|policy| policy.check_services(notes));
            for (cluster, namespaces) in workspace.contexts.iter() {
                let Some(input) = self.model.clusters.get(cluster) else { continue };
                for service in namespaces.iter().flat_map(|namespace| input.services_in(namespace)) {
                    let add = || self.service(input, service, workspace, &policies, notes, &effects);
                    let ((), taken) = taking(add);
                    if !taken.is_empty() {
                        self.taken.entry(service.reference(cluster)).or_default().push(taken);
                    }
                }
            }
        }
    }

    fn service<K: ServicePolicy>(
        &mut self,
        cluster: &ClusterInput,
        service: &Input<Theirs<ServiceSpec>>,
        workspace: &Workspace,
        policies: &[&Arc<Policy<K>>],
        notes: &mut Notes,
        effects: &impl Fn(&Caller<'_>, &Arc<Policy<K>>, &mut Notes) -> Vec<Effect>,
    ) {
        let ports: Vec<&ServicePort> = service.spec.ports.iter().filter(|port| port.is_tcp()).collect();
        let object = Subject {
            cluster: &cluster.name,
            namespace: service.namespace(),
            name: service.name(),
            workspace: &workspace.name,
            labels: service.object.labels(),
        };
        let numbers = ports.iter().map(|port| (port.port, port.name.as_str())).collect();
        let destination = Destination { kind: DestinationKind::Service, object, ports: numbers };
        let selected: Vec<_> = policies.iter().map(|policy| policy.selected_ports(&destination)).collect();
        if selected.iter().all(Vec::is_empty) || service.spec.selector.is_empty() || is_gateway(cluster, service) {
            return;
        }
        let Some(context) = self.model.context(&cluster.name, service.namespace()) else { return };
        let parent = service.reference(&cluster.name);
        let caller = Caller { model: self.model, hosts: self.hosts, context: &context };
        // Ports of the Service that lead to one port of the pods cannot be told apart there.
        let mut by_target: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, port) in ports.iter().enumerate() {
            if let Some(number) = cluster.target_port(service, port) {
                by_target.entry(number).or_default().push(index);
            }
        }
        for (number, indices) in by_target {
            let picks = |picked: &&Vec<usize>| indices.iter().any(|index| picked.contains(index));
            let selecting = policies.iter().zip(&selected).filter(|(_, picked)| picks(picked));
            let selecting: Vec<&Arc<Policy<K>>> = selecting.map(|(policy, _)| *policy).collect();
            for policy in &selecting {
                notes.count(&policy.source, "numSelectedDestinationPorts", indices.len());
            }
            let Some(port) = indices.first().and_then(|index| ports.get(*index)) else { continue };
            let target = format!("port {} of {parent}", port.port);
            let Some(policy) = oldest(selecting.iter().copied(), &target, notes) else { continue };
            let protocol = spoken(port);
            let is_told = policy.input.spec.services().is_some();
            if let Some(problem) = protocol.problem().filter(|_| is_told) {
                notes.say(&policy.source, Severity::Warning, Code::NotHttp, format!("{target} {problem}"));
            }
            if protocol == Spoken::Other {
                continue;
            }
            let effects = self.known.of(&policy.source, &caller, || effects(&caller, policy, notes));
            // A server would ask itself about being asked.
            let asks_itself = |effect: &Effect| {
                let approval = effect.approval.as_ref().is_some_and(|approval| approval.asks(&parent));
                approval || effect.asked.contains(&parent)
            };
            if effects.is_empty() || effects.iter().any(|effect| asks_itself(effect)) {
                continue;
            }
            let labels = service.spec.selector.iter().map(|(key, value)| (key.to_string(), value.to_string()));
            let filters = self.services.entry(parent.clone()).or_insert_with(|| InboundFilters {
                parent: parent.clone(),
                context: context.clone(),
                selector: labels.collect(),
                ports: BTreeMap::new(),
                taken: Taken::default(),
            });
            filters.ports.entry(number).or_default().extend(effects);
        }
    }
}

impl<K: ServicePolicy> Policy<K> {
    fn selects_services(&self) -> bool {
        self.input.spec.services().is_none_or(|selectors| !selectors.is_empty())
    }

    fn check_services(&self, notes: &mut Notes) {
        let selectors = self.input.spec.services().unwrap_or_default();
        for (index, selector) in selectors.iter().enumerate() {
            if selector.kind != DestinationKind::Service {
                let text = format!(
                    "spec.applyToDestinations[{index}].kind: expected SERVICE, found {}: nothing is selected",
                    selector.kind
                );
                notes.say(&self.source, Severity::Invalid, Code::BadValue, text);
            }
        }
    }

    fn selected_ports(&self, destination: &Destination<'_>) -> Vec<usize> {
        let Some(selectors) = self.input.spec.services() else { return (0..destination.ports.len()).collect() };
        selectors.iter().flat_map(|selector| destination.selected_ports(selector)).collect()
    }
}

/// Gateways have routes, and nothing comes in behind them.
fn is_gateway(cluster: &ClusterInput, service: &Input<Theirs<ServiceSpec>>) -> bool {
    let is = |(namespace, name): (Name, Name)| namespace == *service.namespace() && name == *service.name();
    cluster.gateways().values().any(|gateway| service_of(gateway).is_some_and(is))
}

/// What a port says to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http,
    Other,
    /// It does not say, and Istio guesses from the first bytes of each connection.
    Untold,
}

fn spoken(port: &ServicePort) -> Spoken {
    let told = port.app_protocol.as_deref().unwrap_or_else(|| port.name.split('-').next().unwrap_or_default());
    match told.to_ascii_lowercase().as_str() {
        "http" | "http2" | "grpc" | "kubernetes.io/h2c" | "kubernetes.io/ws" => Spoken::Http,
        "https" | "tls" | "tcp" | "mongo" | "mysql" | "redis" => Spoken::Other,
        _ => Spoken::Untold,
    }
}

impl Spoken {
    /// Why requests may pass that no filter sees.
    fn problem(self) -> Option<&'static str> {
        match self {
            Self::Http => None,
            Self::Other => Some("does not speak HTTP by its name or appProtocol: the policy cannot act there"),
            Self::Untold => Some(
                "does not say that it speaks HTTP: what is taken for something else passes unchecked: begin its name \
                 with http- or grpc-, or set appProtocol",
            ),
        }
    }
}

impl ParentInput for InboundFilters {
    fn id(&self) -> BatchId {
        (UnitKind::HttpFilters, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        const INBOUND: PatchContext = PatchContext::SidecarInbound;
        let mut emission = Emission::new(UnitKind::HttpFilters, &self.parent);
        let ResourceRef { cluster, key } = &self.parent;
        // Pods of several Services pass the filters of each: these must not be taken for one another.
        let suffix = format!("@{}", key.name);
        for (port, effects) in &self.ports {
            let mut filters: BTreeMap<&Position, Value> = BTreeMap::new();
            for effect in effects {
                merge(filters.entry(&effect.position).or_default(), &effect.config);
            }
            let mut patches: Vec<_> = filters
                .iter()
                .map(|(place, config)| {
                    let name = format!("{}{suffix}", place.name());
                    patch::install(INBOUND, Some(*port), &name, config, false)
                })
                .collect();
            patches.push(patch::configure(INBOUND, &Routes::To(*port), patch::said(effects, &suffix)));
            let spec = patch::envoy_filter(Some(&self.selector), patches);
            let shapers: Shapers = effects.iter().flat_map(|effect| &effect.sources).chain([&self.parent]).collect();
            let port = port.to_string();
            let identity = ["HttpFilters", "Service", &key.name, &key.namespace, cluster, &port];
            let name = names::identified(&format!("http-filters-{}-{port}", key.name), &identity);
            emission.emit(&self.context, &name, &Body::new(&spec, shapers).reading([&self.taken]), Extra::default());
        }
        emission.finish()
    }
}
