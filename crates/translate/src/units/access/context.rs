//! What is said about the callers of one namespace of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::references::DestinationKind;
use meshrelay_snapshot::Name;

use super::effect::{Doors, Tls};
use super::gateway::GatewayAccess;
use super::namespace::{NamespaceAccess, WorkloadRuling};
use super::policy::{Access, port_name};
use super::service::{Peers, PodPort, Ruling, ServiceAccess};
use super::{Accesses, Gateway, Isolation, Reach, Tally, overlap};
use crate::input::kube::{ServiceSpec, selects};
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{Model, Shareable, Workspace};
use crate::policies::{Destination, Subject};
use crate::report::{Code, Notes, Severity};
use crate::{ContextId, ResourceRef};

type Labels = BTreeMap<Name, Name>;
type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// A namespace with what concerns all of it.
#[derive(Clone, Copy)]
pub(super) struct Place<'p, 'a> {
    pub(super) model: &'a Model,
    pub(super) workspace: &'a Workspace,
    pub(super) cluster: &'a ClusterInput,
    pub(super) namespace: &'a Name,
    pub(super) has_cilium: bool,
    pub(super) doors: &'p Doors,
    pub(super) gateways: &'p [Gateway],
    /// The policies of the workspace.
    pub(super) policies: &'p [Access],
    pub(super) reach: &'p Reach<'a>,
}

/// Who says which mode of TLS: the oldest wins. Isolation comes before all policies, whose modes it dictates.
#[derive(Clone, Debug)]
struct Said<'a> {
    rank: usize,
    tls: Tls,
    policy: Option<&'a ResourceRef>,
}

/// What is said about connections to some pods.
#[derive(Clone, Debug, Default)]
struct Speech<'a> {
    wide: Option<Said<'a>>,
    ports: BTreeMap<u32, Said<'a>>,
    sources: BTreeSet<ResourceRef>,
}

impl<'p, 'a> Place<'p, 'a> {
    pub(super) fn resolve(
        self,
        isolation: &mut Isolation<'a>,
        tallies: &mut [Tally],
        all: &mut Accesses,
        notes: &mut Notes,
    ) {
        let context = ContextId {
            cluster: self.cluster.name.clone(),
            namespace: self.namespace.clone(),
            workspace: self.workspace.name.clone(),
        };
        let mut opened: BTreeSet<&Name> = BTreeSet::new();
        let mut services: Vec<(ServiceAccess, Speech<'p>)> = Vec::new();
        let candidates: Vec<(&Access, Vec<_>)> = self
            .policies
            .iter()
            .map(|access| (access, access.destinations(&self.cluster.name, self.namespace).collect::<Vec<_>>()))
            .filter(|(_, selectors)| !selectors.is_empty())
            .collect();
        for service in self.cluster.services_in(self.namespace) {
            // Without a selector there are no pods to protect.
            if service.spec.selector.is_empty() || service.spec.kind == *"ExternalName" {
                continue;
            }
            let ports = PodPort::all(self.cluster, service);
            let parent = service.reference(&self.cluster.name);
            let mut rulings = Vec::new();
            let mut speech = Speech::default();
            // A policy replaces isolation, in whichever layer it is enforced.
            let mut claimed = BTreeSet::new();
            for (access, selectors) in &candidates {
                let picked = self.picked(service, selectors);
                if picked.is_empty() {
                    continue;
                }
                if let Some(tally) = tallies.get_mut(access.rank) {
                    tally.ports += picked.len();
                }
                let layers = access.effect.layers(self.has_cilium);
                let chosen = || ports.iter().enumerate().filter(|(index, _)| picked.contains(index));
                if access.effect.is_enforced() {
                    claimed.extend(picked.iter().copied());
                }
                if layers.mesh
                    && let Some(tls) = access.effect.tls
                {
                    let said = Said { rank: access.rank + 1, tls, policy: Some(&access.policy.source) };
                    for port in chosen().filter_map(|(_, port)| port.number.filter(|_| port.is_tcp)) {
                        speech.say(port, &said, &parent, notes);
                    }
                }
                let of_layer = |enforced: bool| -> Vec<PodPort> {
                    chosen().filter(|_| enforced).map(|(_, port)| port.clone()).collect()
                };
                let name = |port: &PodPort| {
                    let name = port_name(service.name(), port.service_port, &access.policy, &self.workspace.name);
                    (port.service_port, name)
                };
                rulings.push(Ruling {
                    effect: access.effect.clone(),
                    mesh: of_layer(layers.mesh && access.effect.grants.is_some()),
                    cni: of_layer(layers.cni && access.effect.is_enforced()),
                    names: chosen().map(|(_, port)| name(port)).collect(),
                    sources: access.sources.clone(),
                });
            }
            let gateway = self
                .gateways
                .iter()
                .find(|gateway| gateway.service == *service.name() || selects(&service.spec.selector, &gateway.labels));
            if self.workspace.settings.isolation().is_some() {
                match gateway {
                    Some(gateway) if claimed.is_empty() => {
                        opened.insert(&gateway.service);
                    }
                    Some(_) => {}
                    None => {
                        let (effect, sources) = isolation.of(self.workspace, &self.importers(service, &parent));
                        let layers = effect.layers(self.has_cilium);
                        let left = |enforced: bool| -> Vec<PodPort> {
                            let left = ports.iter().enumerate().filter(|(index, _)| !claimed.contains(index));
                            left.filter(|_| enforced).map(|(_, port)| port.clone()).collect()
                        };
                        if layers.mesh {
                            let said = Said { rank: 0, tls: Tls::Strict, policy: None };
                            for port in ports.iter().filter(|port| port.is_tcp).filter_map(|port| port.number) {
                                speech.say(port, &said, &parent, notes);
                            }
                            speech.sources.extend(sources.iter().cloned());
                        }
                        let (mesh, cni) = (left(layers.mesh), left(layers.cni));
                        rulings.push(Ruling { effect, mesh, cni, names: BTreeMap::new(), sources });
                    }
                }
            }
            rulings.retain(|ruling| !(ruling.mesh.is_empty() && ruling.cni.is_empty()));
            if rulings.is_empty() && speech.ports.is_empty() {
                continue;
            }
            note_unknown_ports(&rulings, &parent, notes);
            let is_reached = self.reach.get(&parent).is_some_and(|reached| reached.from_other_clusters);
            let doors = if is_reached { self.doors.clone() } else { Doors::new() };
            let access = ServiceAccess {
                parent,
                context: context.clone(),
                service: Arc::clone(service),
                rulings,
                peers: Peers::default(),
                doors,
            };
            services.push((access, speech));
        }
        let namespace = self.workloads(&context, tallies, &mut services, notes);
        self.meet(&mut services, notes);
        all.services
            .extend(services.into_iter().map(|(access, speech)| ServiceAccess { peers: speech.end(), ..access }));
        all.namespaces.extend(namespace);
        for gateway in self.gateways.iter().filter(|gateway| opened.contains(&gateway.service)) {
            all.gateways.push(GatewayAccess {
                parent: gateway.source.clone(),
                context: context.clone(),
                service: gateway.service.clone(),
                labels: gateway.labels.clone(),
                sources: self.model.sources(&self.workspace.name).cloned().collect(),
            });
        }
    }

    /// Positions of the ports that any of the selectors picks.
    fn picked(
        self,
        service: &Service,
        selectors: &[&meshrelay_api::selectors::DestinationSelector],
    ) -> BTreeSet<usize> {
        let object = Subject {
            cluster: &self.cluster.name,
            namespace: self.namespace,
            name: service.name(),
            workspace: &self.workspace.name,
            labels: service.object.labels(),
        };
        let ports = service.spec.ports.iter().map(|port| (port.port, port.name.as_str())).collect();
        let destination = Destination { kind: DestinationKind::Service, object, ports };
        selectors.iter().flat_map(|selector| destination.selected_ports(selector)).collect()
    }

    /// The workspaces that see a Service, or a host of all clusters behind which it stands.
    fn importers(self, service: &'a Service, parent: &ResourceRef) -> BTreeSet<&'a Name> {
        let mut importers: BTreeSet<&Name> =
            self.model.importers(Shareable::Service, &self.cluster.name, service, self.workspace).collect();
        importers.extend(self.reach.get(parent).into_iter().flat_map(|reached| reached.viewers.iter().copied()));
        importers
    }

    /// What is said about workloads by the labels of their pods.
    fn workloads(
        self,
        context: &ContextId,
        tallies: &mut [Tally],
        services: &mut [(ServiceAccess, Speech<'p>)],
        notes: &mut Notes,
    ) -> Option<NamespaceAccess> {
        let parent = NamespaceAccess::parent(&self.cluster.name, self.namespace);
        let mut rulings = Vec::new();
        let mut speeches: BTreeMap<Labels, Speech<'p>> = BTreeMap::new();
        for access in self.policies {
            let picks: BTreeSet<Labels> = access
                .picks(&self.cluster.name, self.namespace, &self.workspace.name)
                .map(|labels| labels.iter().map(|(key, value)| (key.into(), value.into())).collect())
                .collect();
            if let Some(tally) = tallies.get_mut(access.rank) {
                tally.namespaces += usize::from(!picks.is_empty());
            }
            let layers = access.effect.layers(self.has_cilium);
            let policy = &access.policy.source;
            for labels in picks {
                if layers.mesh
                    && let Some(tls) = access.effect.tls
                {
                    let said = Said { rank: access.rank + 1, tls, policy: Some(policy) };
                    speeches.entry(labels.clone()).or_default().say_of_all(said, &parent, notes);
                }
                if access.effect.grants.is_some() {
                    let (policy, effect) = (policy.clone(), access.effect.clone());
                    rulings.push(WorkloadRuling { labels, policy, effect, layers });
                }
            }
        }
        self.join(&mut speeches, services, notes);
        let peers: BTreeMap<Labels, Peers> =
            speeches.into_iter().map(|(labels, speech)| (labels, speech.end())).collect();
        let is_empty = rulings.is_empty() && peers.is_empty();
        let context = context.clone();
        (!is_empty).then(|| NamespaceAccess { parent, context, rulings, doors: self.doors.clone(), peers })
    }

    /// Puts together what is said of the same pods by their labels and by their Service.
    fn join(
        self,
        speeches: &mut BTreeMap<Labels, Speech<'p>>,
        services: &mut [(ServiceAccess, Speech<'p>)],
        notes: &mut Notes,
    ) {
        // What is said of a whole namespace, pods inherit.
        for (labels, of_labels) in speeches.iter_mut().filter(|(labels, _)| !labels.is_empty()) {
            for (access, of_service) in services.iter_mut().filter(|(_, speech)| !speech.ports.is_empty()) {
                let selector = &access.service.spec.selector;
                if !selects(labels, selector) {
                    continue;
                }
                of_service.wide = of_service.wide.take().or_else(|| of_labels.wide.clone());
                of_service.sources.extend(of_labels.sources.iter().cloned());
                if selector == labels {
                    for (port, said) in &of_service.ports {
                        of_labels.ports.entry(*port).or_insert_with(|| said.clone());
                    }
                    of_labels.sources.extend(of_service.sources.iter().cloned());
                } else if let Some(wide) = &of_labels.wide
                    && let Some(said) = of_service.ports.values().find(|said| said.tls != wide.tls)
                    && let Some(policy) = said.policy
                {
                    let text = format!(
                        "tlsMode {} for {} meets {} for all pods with some of its labels, and Istio applies only one: \
                         select them in one way",
                        said.tls.as_str(),
                        access.parent,
                        wide.tls.as_str(),
                    );
                    notes.say(policy, Severity::Warning, Code::TlsOverlap, text);
                }
            }
        }
    }

    /// Puts together what is said of pods that several Services select.
    fn meet(self, services: &mut [(ServiceAccess, Speech<'p>)], notes: &mut Notes) {
        let spoken: Vec<usize> =
            services.iter().enumerate().filter(|(_, (_, speech))| !speech.ports.is_empty()).map(|(at, _)| at).collect();
        let selectors: Vec<&Labels> = spoken.iter().map(|at| &services[*at].0.service.spec.selector).collect();
        let pods = self.cluster.workloads_in(self.namespace).iter().map(|workload| workload.spec.pod_labels());
        let groups = overlap::groups(&selectors, pods);
        let before: BTreeMap<usize, (ResourceRef, Speech<'p>)> = groups
            .iter()
            .flatten()
            .map(|at| (*at, (services[spoken[*at]].0.parent.clone(), services[spoken[*at]].1.clone())))
            .collect();
        for group in &groups {
            for at in group {
                let (access, speech) = &mut services[spoken[*at]];
                for (other, said_before) in group.iter().filter(|other| *other != at).filter_map(|at| before.get(at)) {
                    for (port, said) in &said_before.ports {
                        speech.say(*port, said, &access.parent, notes);
                    }
                    speech.sources.insert(other.clone());
                    speech.sources.extend(said_before.sources.iter().cloned());
                }
            }
        }
    }
}

impl<'a> Speech<'a> {
    /// Takes a mode for a port; of different ones the oldest holds.
    fn say(&mut self, port: u32, said: &Said<'a>, target: &ResourceRef, notes: &mut Notes) {
        self.sources.extend(said.policy.cloned());
        let known = self.ports.remove(&port);
        let place = || format!("port {port} of {target}");
        self.ports.insert(port, decide(known, said.clone(), place, notes));
    }

    /// Takes a mode for all pods.
    fn say_of_all(&mut self, said: Said<'a>, target: &ResourceRef, notes: &mut Notes) {
        self.sources.extend(said.policy.cloned());
        let place = || format!("workloads of {target}");
        self.wide = Some(decide(self.wide.take(), said, place, notes));
    }

    fn end(self) -> Peers {
        Peers {
            wide: self.wide.map(|said| said.tls),
            ports: self.ports.into_iter().map(|(port, said)| (port, said.tls)).collect(),
            sources: self.sources,
        }
    }
}

/// Of two modes the older one.
fn decide<'a>(known: Option<Said<'a>>, new: Said<'a>, place: impl Fn() -> String, notes: &mut Notes) -> Said<'a> {
    let Some(known) = known else { return new };
    let (winner, loser) = if known.rank <= new.rank { (known, new) } else { (new, known) };
    if winner.tls != loser.tls
        && let Some(policy) = loser.policy
        && let Some(older) = winner.policy
    {
        let text = format!(
            "tlsMode {} conflicts with existing policy applied to {}: {} of the older {older} holds there",
            loser.tls.as_str(),
            place(),
            winner.tls.as_str()
        );
        notes.say(policy, Severity::Failed, Code::PolicyConflict, text);
    }
    winner
}

fn note_unknown_ports(rulings: &[Ruling], parent: &ResourceRef, notes: &mut Notes) {
    let unknown = rulings.iter().flat_map(|ruling| &ruling.mesh).filter(|port| port.is_tcp && port.number.is_none());
    for port in unknown {
        let text = format!(
            "port {} leads to a port of the pods by name, {}, and no known workload has it: nobody may call it. Use its \
             number",
            port.service_port,
            port.name.as_ref().map_or("", Name::as_str)
        );
        notes.say(parent, Severity::Warning, Code::UnknownTargetPort, text);
    }
}
