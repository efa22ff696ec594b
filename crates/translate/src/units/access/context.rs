//! What is said about the callers of each Service, namespace and gateway.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use meshrelay_api::internal::CniProvider;
use meshrelay_snapshot::{Gvk, Name};

use super::effect::{Client, Doors, Effect, Grant, Layers, Tls, Who};
use super::gateway::GatewayAccess;
use super::ground::{Backed, Ground};
use super::namespace::{NamespaceAccess, WorkloadRuling};
use super::overlap;
use super::picks::{has_pods, is_of_gateway, note_unknown_ports, picked};
use super::policy::port_name;
use super::service::{Peers, PodPort, Ruling, ServiceAccess};
use super::speech::{Said, Speech};
use crate::fingerprint::{Derived, Shared};
use crate::input::kube::{ServiceSpec, selects};
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{Entry, Model, Principals, Shareable, Workspace, service_of};
use crate::reads::{Taken, take, take_all, take_kind, taking};
use crate::report::{Code, Notes, Severity};
use crate::units::mesh_host::MeshHosts;
use crate::{ContextId, ResourceRef};

type Labels = BTreeMap<Name, Name>;
type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// What makes the namespaces of a cluster those of a mesh.
static MESH: LazyLock<Gvk> = LazyLock::new(|| Gvk::new("internal.gloo.solo.io", "v2", "Mesh"));

/// An effect with the resources that it comes from.
type Isolated = (Shared<Effect>, Shared<Vec<ResourceRef>>);

/// By Service the others of its namespace that select the same pods.
type Partners = BTreeMap<Name, BTreeSet<Name>>;

/// What isolation allows, by the workspaces and the gateways that may call.
type IsolatedBy<'a> = BTreeMap<(Vec<&'a Name>, Gateways), Isolated>;

/// Identities of gateways that end TLS, and so call in their own name.
type Gateways = BTreeMap<ResourceRef, BTreeSet<String>>;

/// Everything that is looked at, and what is made of it once in a round.
pub(super) struct View<'a> {
    model: &'a Model,
    hosts: &'a MeshHosts,
    ground: &'a Ground,
    backed: &'a Backed,
    isolated: RefCell<IsolatedBy<'a>>,
    partners: RefCell<BTreeMap<(&'a Name, Name), Arc<Partners>>>,
}

/// A namespace with whose it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) cluster: &'a ClusterInput,
    pub(super) namespace: &'a Name,
    has_cilium: bool,
}

/// How a Service can be called by the hosts of all clusters.
#[derive(Default)]
struct Reached<'a> {
    /// Workspaces that see a host of the Service's own workspace.
    viewers: BTreeSet<&'a Name>,
    is_called_from_outside: bool,
    gateways: Gateways,
}

impl<'a> View<'a> {
    pub(super) fn new(model: &'a Model, hosts: &'a MeshHosts, ground: &'a Ground, backed: &'a Backed) -> Self {
        Self { model, hosts, ground, backed, isolated: RefCell::default(), partners: RefCell::default() }
    }

    /// Namespaces of a cluster that something is said about.
    fn places(&self, cluster: &'a ClusterInput) -> impl Iterator<Item = (&'a Workspace, &'a Name)> {
        let workspaces = self.model.workspaces.values().filter(|workspace| {
            workspace.settings.isolation().is_some() || !self.ground.policies(&workspace.name).is_empty()
        });
        workspaces.flat_map(|workspace| {
            let namespaces = workspace.contexts.get(&cluster.name).into_iter().flatten();
            namespaces.map(move |namespace| (workspace, namespace))
        })
    }

    pub(super) fn services(&self, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
        let Some(cluster) = self.model.clusters.get(&cluster.name) else { return BTreeSet::new() };
        let services = self.places(cluster).flat_map(|(_, namespace)| cluster.services_in(namespace));
        services.filter(|service| has_pods(service)).map(|service| service.reference(&cluster.name)).collect()
    }

    pub(super) fn namespaces(&self, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
        let Some(cluster) = self.model.clusters.get(&cluster.name) else { return BTreeSet::new() };
        let picked = self.places(cluster).filter(|(workspace, namespace)| {
            let policies = self.ground.policies(&workspace.name);
            policies.iter().any(|access| access.picks(&cluster.name, namespace, &workspace.name).next().is_some())
        });
        picked.map(|(_, namespace)| NamespaceAccess::parent(&cluster.name, namespace)).collect()
    }

    pub(super) fn gateways(&self, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
        let is_isolated = |namespace: &Name| {
            let workspace = self.model.owner(&cluster.name, namespace);
            workspace.is_some_and(|workspace| workspace.settings.isolation().is_some())
        };
        let gateways = cluster.gateways().values();
        let isolated = gateways.filter(|gateway| {
            let service = service_of(gateway);
            service.is_some_and(|(namespace, _)| is_isolated(&namespace)) && !gateway.spec.workload_labels.is_empty()
        });
        isolated.map(|gateway| gateway.reference(&cluster.name)).collect()
    }

    fn place(&self, cluster: &'a Name, namespace: &'a Name) -> Option<(Place<'a>, ContextId)> {
        let context = self.model.context(cluster, namespace)?;
        let workspace = self.model.owner(cluster, namespace)?;
        let cluster = self.model.clusters.get(cluster)?;
        let has_cilium = cluster.cnis().values().any(|cni| cni.spec.provider == CniProvider::Cilium);
        Some((Place { workspace, cluster, namespace, has_cilium }, context))
    }

    /// The names of a resource as those that the model holds.
    fn names(&self, parent: &ResourceRef) -> Option<(&'a Name, &'a Name)> {
        let (cluster, input) = self.model.clusters.get_key_value(&parent.cluster)?;
        let wanted = if parent.key.namespace.is_empty() { &parent.key.name } else { &parent.key.namespace };
        let (namespace, _) = input.namespaces().get_key_value(wanted)?;
        Some((cluster, namespace))
    }

    /// Everything that is said about a Service.
    pub(super) fn service(&self, parent: &ResourceRef, notes: &mut Notes) -> Option<ServiceAccess> {
        let (access, taken) = taking(|| self.about_service(parent, notes));
        access.map(|access| ServiceAccess { taken, ..access })
    }

    fn about_service(&self, parent: &ResourceRef, notes: &mut Notes) -> Option<ServiceAccess> {
        let (cluster, namespace) = self.names(parent)?;
        let (place, context) = self.place(cluster, namespace)?;
        let key = (parent.key.namespace.clone(), parent.key.name.clone());
        let service = place.cluster.services().get(&key).filter(|service| has_pods(service))?;
        let reached = self.reached(place, parent);
        let (rulings, mut speech) = self.said(place, service, &reached, Some(&mut *notes));
        if rulings.is_empty() && speech.ports.is_empty() {
            return None;
        }
        note_unknown_ports(&rulings, parent, notes);
        if !speech.ports.is_empty() {
            self.meet(place, service, &mut speech, notes);
            self.inherit(place, service, &mut speech, notes);
        }
        let from_outside = reached.is_called_from_outside && place.has_cilium;
        let doors = if from_outside { self.doors(place) } else { Doors::new() };
        let (parent, service, taken) = (parent.clone(), Arc::clone(service), Taken::default());
        Some(ServiceAccess { parent, context, service, rulings, peers: speech.end(), doors, taken })
    }

    /// What policies and isolation say about one Service, whatever is said of others. Without `notes` nothing is
    /// reported.
    fn said(
        &self,
        place: Place<'a>,
        service: &'a Service,
        reached: &Reached<'a>,
        notes: Option<&mut Notes>,
    ) -> (Vec<Ruling>, Speech<'a>) {
        let mut silent = Notes::default();
        let notes = notes.unwrap_or(&mut silent);
        let parent = service.reference(&place.cluster.name);
        let workspace = place.workspace;
        // Isolation, or that there is none, decides which mode of TLS counts.
        take_all(&workspace.reads);
        let ports = PodPort::all(place.cluster, service);
        let mut rulings = Vec::new();
        let mut speech = Speech::default();
        // A policy replaces isolation, in whichever layer it is enforced.
        let mut claimed = BTreeSet::new();
        for access in self.ground.policies(&workspace.name) {
            let selectors: Vec<_> = access.destinations(&place.cluster.name, place.namespace).collect();
            let picked = picked(place, service, &selectors);
            if picked.is_empty() {
                continue;
            }
            let policy = &access.policy.source;
            // It may keep a port from isolation. Who the callers are tells nothing but itself.
            take(policy);
            notes.count(policy, "numSelectedDestinationPorts", picked.len());
            let layers = access.effect.layers(place.has_cilium);
            let chosen = || ports.iter().enumerate().filter(|(at, _)| picked.contains(at)).map(|(_, port)| port);
            if access.effect.is_enforced() {
                claimed.extend(picked.iter().copied());
            }
            if let Some(tls) = access.effect.tls.filter(|_| layers.mesh) {
                let said = Said { rank: access.rank + 1, tls, policy: Some(policy) };
                for port in chosen().filter(|port| port.is_tcp).filter_map(|port| port.number) {
                    speech.say(port, &said, &parent, notes);
                }
            }
            let of_layer = |holds: bool| -> Vec<PodPort> { chosen().filter(|_| holds).cloned().collect() };
            let name = |port: &PodPort| {
                (port.service_port, port_name(service.name(), port.service_port, &access.policy, &workspace.name))
            };
            rulings.push(Ruling {
                effect: access.effect.clone(),
                mesh: of_layer(layers.mesh && access.effect.grants.is_some()),
                cni: of_layer(layers.cni && access.effect.is_enforced()),
                names: chosen().map(name).collect(),
                sources: access.sources.clone(),
                settings: Some(Arc::clone(&workspace.reads)),
            });
        }
        if workspace.settings.isolation().is_some() && !is_of_gateway(place, service) {
            let (effect, sources) = self.isolation(place, service, reached);
            let layers = effect.layers(place.has_cilium);
            if layers.mesh {
                let said = Said { rank: 0, tls: Tls::Strict, policy: None };
                for port in ports.iter().filter(|port| port.is_tcp).filter_map(|port| port.number) {
                    speech.say(port, &said, &parent, notes);
                }
                speech.sources.extend(sources.iter().cloned());
            }
            let left = |holds: bool| -> Vec<PodPort> {
                let left = ports.iter().enumerate().filter(|(at, _)| holds && !claimed.contains(at));
                left.map(|(_, port)| port.clone()).collect()
            };
            let (mesh, cni) = (left(layers.mesh), left(layers.cni));
            rulings.push(Ruling { effect, mesh, cni, names: BTreeMap::new(), sources, settings: None });
        }
        rulings.retain(|ruling| !(ruling.mesh.is_empty() && ruling.cni.is_empty()));
        (rulings, speech)
    }

    /// What isolation says about a Service, made once for all that the same workspaces see.
    fn isolation(&self, place: Place<'a>, service: &'a Service, reached: &Reached<'a>) -> Isolated {
        let owner = place.workspace;
        let mut importers: BTreeSet<&Name> =
            self.model.importers(Shareable::Service, &place.cluster.name, service, owner).collect();
        importers.extend(&reached.viewers);
        importers.remove(&owner.name);
        let callers: Vec<&Name> = [&owner.name].into_iter().chain(importers).collect();
        for caller in callers.iter().filter_map(|name| self.model.workspaces.get(*name)) {
            take_all(&caller.reads);
        }
        // Read each time, so that what is remembered is recorded too.
        take_all(&self.hosts.of_contested());
        let principals: Vec<_> = callers.iter().filter_map(|name| self.ground.principals(name)).collect();
        let key = (callers, reached.gateways.clone());
        key.1.keys().for_each(take);
        if let Some(known) = self.isolated.borrow().get(&key) {
            return known.clone();
        }
        // A source without identities would be everybody.
        let known = principals.into_iter().filter(|principals| !principals.identities.is_empty()).cloned();
        let gateways: BTreeSet<String> = reached.gateways.values().flatten().cloned().collect();
        let gateways = Some(gateways).filter(|identities| !identities.is_empty());
        let gateways = gateways.map(|identities| Shared::new(Principals { identities, ..Principals::default() }));
        let client = |principals| Client { who: Some(Who::These(principals)), ..Client::default() };
        let clients = known.chain(gateways).map(client).collect();
        let layers = owner.settings.isolation().and_then(|isolation| isolation.enforcement_layers.as_ref());
        let effect = Effect {
            grants: Some(vec![Grant { clients: Some(clients), ..Grant::default() }]),
            tls: Some(Tls::Strict),
            layers: Layers::chosen(layers),
            reads: Derived::default(),
        };
        let workspaces = key.0.iter().flat_map(|name| self.model.sources(name));
        let sources = workspaces.chain(reached.gateways.keys()).cloned().collect();
        let made = (Shared::new(effect), Shared::new(sources));
        self.isolated.borrow_mut().insert(key, made.clone());
        made
    }

    fn reached(&self, place: Place<'a>, service: &ResourceRef) -> Reached<'a> {
        let mut reached = Reached::default();
        let cluster = &place.cluster.name;
        for host in self.backed.hosts(service).filter_map(|host| self.hosts.look(self.model, host)) {
            let Some(backing) = host.backings.get(cluster).filter(|backing| backing.service == *service) else {
                continue;
            };
            backing.take();
            // One that sees the host from outside is enough: as long as it is there, nothing follows from the others.
            let outside = host.viewers.iter().find_map(|viewer| {
                let other = viewer.contexts.keys().find(|other| *other != cluster)?;
                Some((viewer, other))
            });
            if let Some((viewer, other)) = outside.filter(|_| backing.entries().next().is_some()) {
                take_all(&viewer.reads);
                take_kind(other, &MESH);
            }
            for (point, _) in backing.entries().filter(|_| outside.is_some()) {
                reached.is_called_from_outside = true;
                if backing.entry == Entry::Ended {
                    let identities = point.identities.iter();
                    let identities = identities.map(|identity| identity.trim_start_matches("spiffe://").to_owned());
                    reached.gateways.entry(point.gateway.clone()).or_default().extend(identities);
                }
            }
            // Another workspace cannot give away what it has imported.
            let owner = self.model.owner(&host.parent.cluster, &host.parent.key.namespace);
            if owner.is_some_and(|owner| owner.name == place.workspace.name) {
                let viewers = host.viewers.iter().filter_map(|viewer| self.model.workspaces.get(&viewer.workspace));
                reached.viewers.extend(viewers.map(|workspace| &workspace.name));
            }
        }
        reached
    }

    /// The east-west gateways of a workspace in a cluster, by what their pods run as.
    fn doors(&self, place: Place<'_>) -> Doors {
        let points = self.model.entry_points(place.workspace, &place.cluster.name);
        let mut doors = Doors::new();
        for point in points.into_iter().flat_map(|points| points.iter()) {
            let accounts = point.identities.iter().filter_map(|identity| identity.rsplit_once("/sa/"));
            let accounts: BTreeSet<Option<Name>> = accounts.map(|(_, account)| Some(Name::from(account))).collect();
            let accounts = if accounts.is_empty() { BTreeSet::from([None]) } else { accounts };
            doors.extend(accounts.into_iter().map(|account| (point.namespace.clone(), account)));
        }
        doors
    }

    /// Adds what is said of the same pods by way of other Services.
    fn meet(&self, place: Place<'a>, service: &'a Service, speech: &mut Speech<'a>, notes: &mut Notes) {
        let parent = service.reference(&place.cluster.name);
        for partner in self.partners(place).get(service.name()).into_iter().flatten() {
            let key = (place.namespace.clone(), partner.clone());
            let Some(other) = place.cluster.services().get(&key) else { continue };
            let reference = other.reference(&place.cluster.name);
            let reached = self.reached(place, &reference);
            let (_, said) = self.said(place, other, &reached, None);
            if said.ports.is_empty() {
                continue;
            }
            for (port, said) in &said.ports {
                speech.say(*port, said, &parent, notes);
            }
            speech.sources.extend(said.sources);
            speech.sources.insert(reference);
        }
    }

    fn partners(&self, place: Place<'a>) -> Arc<Partners> {
        // Read each time, so that what is remembered is recorded too.
        let services = place.cluster.services_in(place.namespace).filter(|service| has_pods(service));
        let pods = place.cluster.workloads_in(place.namespace).iter().map(|workload| workload.spec.pod_labels());
        let key = (&place.cluster.name, place.namespace.clone());
        if let Some(known) = self.partners.borrow().get(&key) {
            return Arc::clone(known);
        }
        let services: Vec<&Service> = services.collect();
        let selectors: Vec<&Labels> = services.iter().map(|service| &service.spec.selector).collect();
        let mut partners = Partners::new();
        for group in overlap::groups(&selectors, pods) {
            for (at, other) in group.iter().flat_map(|at| group.iter().map(move |other| (at, other))) {
                if at != other {
                    partners.entry(services[*at].name().clone()).or_default().insert(services[*other].name().clone());
                }
            }
        }
        let partners = Arc::new(partners);
        self.partners.borrow_mut().insert(key, Arc::clone(&partners));
        partners
    }

    /// What is said about workloads of a namespace by their labels.
    fn speeches(&self, place: Place<'a>, notes: &mut Notes) -> BTreeMap<Labels, Speech<'a>> {
        let parent = NamespaceAccess::parent(&place.cluster.name, place.namespace);
        let mut speeches: BTreeMap<Labels, Speech<'a>> = BTreeMap::new();
        for access in self.ground.policies(&place.workspace.name) {
            let layers = access.effect.layers(place.has_cilium);
            let Some(tls) = access.effect.tls.filter(|_| layers.mesh) else { continue };
            for labels in access.picks(&place.cluster.name, place.namespace, &place.workspace.name) {
                take(&access.policy.source);
                let labels = labels.iter().map(|(key, value)| (key.into(), value.into())).collect();
                let said = Said { rank: access.rank + 1, tls, policy: Some(&access.policy.source) };
                speeches.entry(labels).or_default().say_of_all(said, &parent, notes);
            }
        }
        speeches
    }

    /// Adds what is said of all pods with some of the labels by which a Service selects its own. What is said of a
    /// whole namespace, pods inherit.
    fn inherit(&self, place: Place<'a>, service: &'a Service, speech: &mut Speech<'a>, notes: &mut Notes) {
        for (labels, said) in self.speeches(place, &mut Notes::default()) {
            let selector = &service.spec.selector;
            if labels.is_empty() || !selects(&labels, selector) {
                continue;
            }
            if labels != *selector
                && let Some(wide) = &said.wide
                && let Some(other) = speech.ports.values().find(|other| other.tls != wide.tls)
                && let Some(policy) = other.policy
            {
                let text = format!(
                    "tlsMode {} for {} meets {} for all pods with some of its labels, and Istio applies only one: \
                     select them in one way",
                    other.tls.as_str(),
                    service.reference(&place.cluster.name),
                    wide.tls.as_str(),
                );
                notes.say(policy, Severity::Warning, Code::TlsOverlap, text);
            }
            speech.wide = speech.wide.take().or(said.wide);
            speech.sources.extend(said.sources);
        }
    }

    /// Everything that is said about the workloads of a namespace.
    pub(super) fn namespace(&self, parent: &ResourceRef, notes: &mut Notes) -> Option<NamespaceAccess> {
        let (access, taken) = taking(|| self.about_namespace(parent, notes));
        access.map(|access| NamespaceAccess { taken, ..access })
    }

    fn about_namespace(&self, parent: &ResourceRef, notes: &mut Notes) -> Option<NamespaceAccess> {
        let (cluster, namespace) = self.names(parent)?;
        let (place, context) = self.place(cluster, namespace)?;
        take_all(&place.workspace.reads);
        let mut rulings = Vec::new();
        for access in self.ground.policies(&place.workspace.name) {
            let picks: BTreeSet<Labels> = access
                .picks(cluster, namespace, &place.workspace.name)
                .map(|labels| labels.iter().map(|(key, value)| (key.into(), value.into())).collect())
                .collect();
            let policy = &access.policy.source;
            if !picks.is_empty() {
                notes.count(policy, "numSelectedNamespaces", 1);
            }
            for labels in picks.into_iter().filter(|_| access.effect.grants.is_some()) {
                let layers = access.effect.layers(place.has_cilium);
                let (policy, effect) = (policy.clone(), access.effect.clone());
                rulings.push(WorkloadRuling { labels, policy, effect, layers });
            }
        }
        let mut peers: BTreeMap<Labels, Peers> = BTreeMap::new();
        for (labels, mut speech) in self.speeches(place, notes) {
            if !labels.is_empty() {
                self.join(place, &labels, &mut speech);
            }
            peers.insert(labels, speech.end());
        }
        let (parent, doors, taken) = (parent.clone(), self.doors(place), Taken::default());
        let settings = Arc::clone(&place.workspace.reads);
        let is_empty = rulings.is_empty() && peers.is_empty();
        (!is_empty).then_some(NamespaceAccess { parent, context, rulings, doors, peers, settings, taken })
    }

    /// Adds what is said of the same pods by way of Services that select them by the same labels.
    fn join(&self, place: Place<'a>, labels: &Labels, speech: &mut Speech<'a>) {
        for service in place.cluster.services_in(place.namespace).filter(|service| service.spec.selector == *labels) {
            let reference = service.reference(&place.cluster.name);
            let reached = self.reached(place, &reference);
            let (_, said) = self.said(place, service, &reached, None);
            for (port, said) in &said.ports {
                speech.say(*port, said, &reference, &mut Notes::default());
            }
            speech.sources.extend(said.sources);
        }
    }

    /// A gateway of an isolated workspace, unless a policy says who may call it.
    pub(super) fn gateway(&self, parent: &ResourceRef) -> Option<GatewayAccess> {
        let cluster = self.model.clusters.get(&parent.cluster)?;
        let gateway = cluster.gateways().get(&(parent.key.namespace.clone(), parent.key.name.clone()))?;
        let (namespace, service) = service_of(gateway)?;
        let (cluster, namespace) = (&cluster.name, cluster.namespaces().get_key_value(&namespace)?.0);
        let (place, context) = self.place(cluster, namespace)?;
        if let Some(service) = place.cluster.services().get(&(namespace.clone(), service.clone())) {
            let is_claimed = self.ground.policies(&place.workspace.name).iter().any(|access| {
                let selectors: Vec<_> = access.destinations(cluster, namespace).collect();
                access.effect.is_enforced() && !picked(place, service, &selectors).is_empty()
            });
            if is_claimed {
                return None;
            }
        }
        let labels = gateway.spec.workload_labels.iter();
        let labels = labels.map(|(key, value)| (key.into(), value.into())).collect();
        let sources = self.model.sources(&place.workspace.name).cloned().collect();
        Some(GatewayAccess { parent: parent.clone(), context, service, labels, sources })
    }
}
