//! Who may call what: isolation of workspaces, and AccessPolicies.
//!
//! Istio allows what any AuthorizationPolicy of a pod allows, so each policy has objects of its own. Of
//! PeerAuthentications that select the same pods it applies one only: there is one for each set of labels, with
//! everything that concerns these pods.

mod cni;
mod context;
mod effect;
mod gateway;
mod namespace;
mod overlap;
mod policy;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::internal::CniProvider;
use meshrelay_snapshot::Name;

use self::context::Place;
use self::effect::{Client, Doors, Effect, Grant, Layers, Tls, Who};
use self::gateway::GatewayAccess;
use self::namespace::NamespaceAccess;
use self::policy::{Access, Targets};
use self::service::ServiceAccess;
use crate::ResourceRef;
use crate::fingerprint::Shared;
use crate::input::ClusterInput;
use crate::input::kube::selects;
use crate::model::{Model, Principals, Workspace};
use crate::policies::Book;
use crate::report::{Code, Notes, Severity};
use crate::units::mesh_host::MeshHosts;

/// Everything that is said about callers, by what it is said of.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    pub(crate) services: Vec<ServiceAccess>,
    pub(crate) namespaces: Vec<NamespaceAccess>,
    pub(crate) gateways: Vec<GatewayAccess>,
}

/// How much a policy applies to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    ports: usize,
    namespaces: usize,
}

pub(crate) fn resolve(model: &Model, hosts: &MeshHosts, notes: &mut Notes) -> Accesses {
    let book = Book::resolve(model, |cluster| cluster.access_policies());
    let mut isolation = Isolation { model, principals: BTreeMap::new(), effects: BTreeMap::new() };
    let mut all = Accesses::default();
    let concerned: BTreeSet<&Name> = model
        .workspaces
        .values()
        .filter(|workspace| workspace.settings.isolation().is_some() || !book.of(&workspace.name).is_empty())
        .map(|workspace| &workspace.name)
        .collect();
    let reach = reach(model, hosts, &concerned);
    for workspace in concerned.iter().filter_map(|name| model.workspaces.get(*name)) {
        let policies = book.of(&workspace.name).iter().enumerate();
        let policies: Vec<Access> =
            policies.map(|(rank, policy)| Access::resolve(model, workspace, rank, policy, notes)).collect();
        let mut tallies = vec![Tally::default(); policies.len()];
        note_layers(workspace, notes);
        for (cluster, namespaces) in workspace.contexts.iter() {
            let Some(cluster) = model.clusters.get(cluster) else { continue };
            let has_cilium = cluster.cnis().values().any(|cni| cni.spec.provider == CniProvider::Cilium);
            let doors = doors(model, workspace, cluster);
            for namespace in namespaces {
                let gateways = gateways(cluster, namespace);
                let place = Place {
                    model,
                    workspace,
                    cluster,
                    namespace,
                    has_cilium,
                    doors: &doors,
                    gateways: &gateways,
                    policies: &policies,
                    reach: &reach,
                };
                place.resolve(&mut isolation, &mut tallies, &mut all, notes);
            }
        }
        for (access, tally) in policies.iter().zip(tallies) {
            note_targets(access, tally, workspace, notes);
        }
    }
    all
}

fn note_layers(workspace: &Workspace, notes: &mut Notes) {
    let layers = workspace.settings.isolation().and_then(|isolation| isolation.enforcement_layers.as_ref());
    if layers.is_some() && Layers::chosen(layers).is_none() {
        let text = "spec.options.serviceIsolation.enforcementLayers: expected cni or mesh to be true, found neither: \
                    everything available enforces isolation";
        for source in &workspace.settings.sources {
            notes.say(source, Severity::Warning, Code::BadValue, text);
        }
    }
}

fn note_targets(access: &Access, tally: Tally, workspace: &Workspace, notes: &mut Notes) {
    let source = &access.policy.source;
    notes.count(source, "numSelectedDestinationPorts", tally.ports);
    notes.count(source, "numSelectedNamespaces", tally.namespaces);
    let what = match &access.targets {
        Targets::Workloads(_) => "namespaces",
        // Why none is left has been said.
        Targets::Destinations(selectors) if selectors.is_empty() => return,
        Targets::Destinations(_) => "Services with pods",
    };
    if tally.ports == 0 && tally.namespaces == 0 {
        let text = format!(
            "expected {what} that workspace {} owns in clusters with a mesh, but none is selected: the policy protects \
             nothing",
            workspace.name
        );
        notes.say(source, Severity::Warning, Code::PolicyUnused, text);
    }
}

/// What isolation says, made once for all Services that the same workspaces see.
#[derive(Debug)]
struct Isolation<'a> {
    model: &'a Model,
    principals: BTreeMap<&'a Name, Principals>,
    effects: BTreeMap<Vec<&'a Name>, Isolated>,
}

/// An effect with the resources that it comes from.
type Isolated = (Shared<Effect>, Shared<Vec<ResourceRef>>);

impl<'a> Isolation<'a> {
    /// For the Services of a workspace that some others see too.
    fn of(&mut self, owner: &'a Workspace, importers: &BTreeSet<&'a Name>) -> Isolated {
        let callers: Vec<&Name> =
            [&owner.name].into_iter().chain(importers.iter().copied().filter(|name| **name != owner.name)).collect();
        if let Some(known) = self.effects.get(&callers) {
            return known.clone();
        }
        let model = self.model;
        let workspaces = || callers.iter().filter_map(|name| model.workspaces.get(*name));
        let mut clients = Vec::new();
        for workspace in workspaces() {
            let principals =
                self.principals.entry(&workspace.name).or_insert_with(|| model.principals_of(workspace)).clone();
            // A source without identities would be everybody.
            if !principals.identities.is_empty() {
                clients.push(Client { who: Some(Who::These(principals)), ..Client::default() });
            }
        }
        let layers = owner.settings.isolation().and_then(|isolation| isolation.enforcement_layers.as_ref());
        let effect = Effect {
            grants: Some(vec![Grant { clients: Some(clients), ..Grant::default() }]),
            tls: Some(Tls::Strict),
            layers: Layers::chosen(layers),
        };
        let sources = workspaces().flat_map(|workspace| model.sources(&workspace.name)).cloned().collect();
        let made = (Shared::new(effect), Shared::new(sources));
        self.effects.insert(callers, made.clone());
        made
    }
}

/// By which hosts of all clusters Services can be called.
type Reach<'a> = BTreeMap<&'a ResourceRef, Reached<'a>>;

#[derive(Debug, Default)]
struct Reached<'a> {
    /// Workspaces that see a host of the Service's own workspace.
    viewers: BTreeSet<&'a Name>,
    /// Whether there is one at all.
    from_other_clusters: bool,
}

fn reach<'a>(model: &'a Model, hosts: &'a MeshHosts, concerned: &BTreeSet<&Name>) -> Reach<'a> {
    let mut reach = Reach::new();
    for host in hosts.by_parent.values() {
        let parent = &host.parent;
        let owner = model.owner(&parent.cluster, &parent.key.namespace).map(|owner| &owner.name);
        for backing in host.backings.values().filter(|backing| concerned.contains(&backing.home.workspace)) {
            let reached = reach.entry(&backing.service).or_default();
            reached.from_other_clusters = true;
            // Another workspace cannot give away what it has imported.
            if owner == Some(&backing.home.workspace) {
                let viewers = host.viewers.iter().filter_map(|viewer| model.workspaces.get(&viewer.workspace));
                reached.viewers.extend(viewers.map(|workspace| &workspace.name));
            }
        }
    }
    reach
}

/// The east-west gateways of a workspace in a cluster, by what their pods run as.
fn doors(model: &Model, workspace: &Workspace, cluster: &ClusterInput) -> Doors {
    let mut doors = Doors::new();
    for point in model.entry_points(workspace, &cluster.name).into_iter().flat_map(|points| points.iter()) {
        let gateway = &point.gateway.key;
        let gateway = cluster.gateways().get(&(gateway.namespace.clone(), gateway.name.clone()));
        let told = gateway.iter().flat_map(|gateway| &gateway.spec.service_account_refs);
        let workloads = cluster.workloads_in(&point.namespace).iter();
        let behind = workloads
            .filter(|workload| !point.selector.is_empty() && selects(&point.selector, workload.spec.pod_labels()));
        let accounts = told.map(|account| Name::from(&account.name));
        let accounts: BTreeSet<Name> =
            accounts.chain(behind.map(|workload| Name::from(workload.spec.service_account()))).collect();
        if accounts.is_empty() {
            doors.insert((point.namespace.clone(), None));
        }
        doors.extend(accounts.into_iter().map(|account| (point.namespace.clone(), Some(account))));
    }
    doors
}

/// A gateway of a namespace.
#[derive(Debug)]
struct Gateway {
    source: ResourceRef,
    service: Name,
    labels: BTreeMap<Name, Name>,
}

fn gateways(cluster: &ClusterInput, namespace: &Name) -> Vec<Gateway> {
    let here = cluster.gateways().values().filter_map(|gateway| {
        let (found, service) = crate::model::service_of(gateway)?;
        let labels = gateway.spec.workload_labels.iter();
        let labels: BTreeMap<Name, Name> = labels.map(|(key, value)| (key.into(), value.into())).collect();
        let is_here = found == *namespace && !labels.is_empty();
        is_here.then(|| Gateway { source: gateway.reference(&cluster.name), service, labels })
    });
    here.collect()
}
