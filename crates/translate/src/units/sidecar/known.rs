//! What the sidecars of a workspace can be told of in each cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use meshrelay_api::references::DestinationKind;
use meshrelay_api::resilience::TrimProxyConfigPolicySpec;
use meshrelay_api::selectors::DestinationSelector;
use meshrelay_snapshot::{Gvk, Name, Object};
use serde_json::Value;

use crate::ResourceRef;
use crate::engine::Stage;
use crate::fingerprint::{Shared, fingerprint};
use crate::input::ClusterInput;
use crate::model::{Model, Shareable};
use crate::policies::{Book, Destination, Policy, Subject, check_workloads};
use crate::reads::{Changes, Place, Taken, Thing, kinds, record, taking, together};
use crate::report::{Code, Notes, Severity};
use crate::units::external_service::ExternalService;
use crate::units::http_filters::HttpFilters;
use crate::units::mesh_host::MeshHosts;

/// Name of the step.
pub(super) const NAME: &str = "known hosts";

/// Hosts with the kinds of which clusters they come from.
#[derive(Debug, Default, Hash)]
pub(super) struct Hosts {
    pub(super) names: BTreeSet<String>,
    pub(super) reads: Arc<BTreeSet<(Name, Gvk)>>,
}

/// The hosts of one workspace in one cluster.
#[derive(Debug, Hash)]
pub(super) struct Site {
    /// All that it owns or imports.
    pub(super) visible: Shared<Hosts>,
    /// What told of each of these, where not all sidecars are told of all of them.
    pub(super) told: BTreeMap<String, Taken>,
    /// What each policy includes, if that is anything.
    pub(super) by_policy: BTreeMap<ResourceRef, Shared<Hosts>>,
    /// Servers that filters of its proxies ask.
    pub(super) asked: Shared<Hosts>,
}

/// The hosts of all workspaces whose sidecars are trimmed, by workspace and cluster.
#[derive(Debug)]
pub(super) struct Known(BTreeMap<(Name, Name), Site>);

/// A destination that a workspace sees.
struct Item {
    kind: DestinationKind,
    source: ResourceRef,
    owner: Name,
    labels: BTreeMap<Name, Name>,
    ports: Vec<(u32, String)>,
    hosts: Vec<String>,
    sites: Sites,
    /// The kinds of which clusters tell that.
    reads: Arc<BTreeSet<(Name, Gvk)>>,
}

/// The clusters in which the hosts of a destination exist.
enum Sites {
    All,
    Only(Name),
    These(BTreeSet<Name>),
}

impl Item {
    fn is_in(&self, cluster: &Name) -> bool {
        match &self.sites {
            Sites::All => true,
            Sites::Only(only) => only == cluster,
            Sites::These(these) => these.contains(cluster),
        }
    }

    fn is_selected(&self, selector: &DestinationSelector) -> bool {
        // A selector without any condition includes everything, whatever its kind.
        if *selector == DestinationSelector::default() {
            return true;
        }
        let object = Subject {
            cluster: &self.source.cluster,
            namespace: &self.source.key.namespace,
            name: &self.source.key.name,
            workspace: &self.owner,
            labels: &self.labels,
        };
        let ports = self.ports.iter().map(|(number, name)| (*number, name.as_str())).collect();
        Destination { kind: self.kind.clone(), object, ports }.is_selected(selector)
    }
}

impl Hosts {
    /// Of some items. Without what keeps others from hosts, or settings out of force, there could be more.
    fn of<'a>(items: impl Iterator<Item = &'a Item>, of_contested: &Taken) -> Shared<Self> {
        let mut all = Self { reads: Arc::clone(of_contested), ..Self::default() };
        for item in items {
            all.names.extend(item.hosts.iter().cloned());
            let reads = Arc::make_mut(&mut all.reads);
            reads.insert((item.source.cluster.clone(), item.source.key.gvk.clone()));
            reads.extend(item.reads.iter().cloned());
        }
        Shared::new(all)
    }
}

/// What is looked at to find the hosts.
pub(super) struct Fleet<'a> {
    pub(super) model: &'a Model,
    pub(super) hosts: &'a MeshHosts,
    pub(super) externals: &'a Stage<ExternalService>,
    pub(super) filters: &'a HttpFilters,
    pub(super) book: &'a Book<TrimProxyConfigPolicySpec>,
}

impl Fleet<'_> {
    pub(super) fn resolve(&self, notes: &mut Notes) -> Known {
        let mut items: BTreeMap<Name, Vec<Rc<Item>>> = BTreeMap::new();
        for workspace in self.model.workspaces.values() {
            let settings = &workspace.settings;
            if settings.trims_to_visible() || settings.trims_all || !self.book.of(&workspace.name).is_empty() {
                items.insert(workspace.name.clone(), Vec::new());
            }
        }
        let mut known = BTreeMap::new();
        if items.is_empty() {
            return Known(known);
        }
        self.add_services(&mut items);
        self.add_mesh_hosts(&mut items);
        self.add_external_services(&mut items);
        let of_contested = together([&self.hosts.of_contested(), self.model.of_contested()]);
        let mut asked = self.asked();
        for (workspace, items) in items {
            let policies: Vec<_> = self.book.of(&workspace).iter().filter(|policy| policy.includes(notes)).collect();
            let mut included: BTreeMap<&ResourceRef, BTreeSet<String>> = BTreeMap::new();
            let owner = self.model.workspaces.get(&workspace);
            let is_told_all = owner.is_some_and(|owner| owner.settings.trims_to_visible());
            let contexts = owner.map(|owner| owner.contexts.clone());
            for cluster in contexts.iter().flat_map(|contexts| contexts.keys()) {
                let here = || items.iter().map(Rc::as_ref).filter(|item| item.is_in(cluster));
                let mut by_policy = BTreeMap::new();
                for policy in &policies {
                    let selectors = policy.input.spec.config.iter().flat_map(|config| &config.included_destinations);
                    let selectors: Vec<_> = selectors.collect();
                    let picked = here().filter(|item| selectors.iter().any(|one| item.is_selected(one)));
                    let hosts = Hosts::of(picked, &of_contested);
                    included.entry(&policy.source).or_default().extend(hosts.names.iter().cloned());
                    if !hosts.names.is_empty() {
                        by_policy.insert(policy.source.clone(), hosts);
                    }
                }
                let place = (workspace.clone(), cluster.clone());
                let asked = Shared::new(asked.remove(&place).unwrap_or_default());
                let visible = Hosts::of(here(), &of_contested);
                let told = if is_told_all { BTreeMap::new() } else { told(here()) };
                known.insert(place, Site { visible, told, by_policy, asked });
            }
            for (policy, hosts) in included {
                notes.count(policy, "numIncludedHosts", hosts.len());
                if hosts.is_empty() {
                    let text = format!(
                        "spec.config.includedDestinations: expected destinations that workspace {workspace} owns or \
                         imports, but none is selected: the policy leaves sidecars as they are"
                    );
                    notes.say(policy, Severity::Warning, Code::PolicyUnused, text);
                }
            }
        }
        Known(known)
    }

    fn add_services(&self, items: &mut BTreeMap<Name, Vec<Rc<Item>>>) {
        let model = self.model;
        for (cluster, input) in &model.clusters {
            for service in input.services().values() {
                let Some(owner) = model.owner(cluster, service.namespace()) else { continue };
                let (viewers, taken) = taking(|| {
                    let viewers = model.importers(Shareable::Service, cluster, service, owner).chain([&owner.name]);
                    viewers.filter(|viewer| items.contains_key(*viewer)).cloned().collect::<Vec<_>>()
                });
                if viewers.is_empty() {
                    continue;
                }
                let host = format!("{}.{}.svc.{}", service.name(), service.namespace(), model.domain(cluster));
                let item = Item {
                    kind: DestinationKind::Service,
                    source: service.reference(cluster),
                    owner: owner.name.clone(),
                    labels: service.object.labels().clone(),
                    ports: service.spec.ports.iter().map(|port| (port.port, port.name.to_string())).collect(),
                    hosts: vec![host],
                    sites: Sites::Only(cluster.clone()),
                    reads: together([&owner.reads, &taken]),
                };
                share(items, &viewers, item);
            }
        }
    }

    fn add_mesh_hosts(&self, items: &mut BTreeMap<Name, Vec<Rc<Item>>>) {
        let model = self.model;
        for host in self.hosts.values() {
            let viewers = host.viewers.iter().map(|viewer| viewer.workspace.clone());
            let viewers: Vec<Name> = viewers.filter(|viewer| items.contains_key(viewer)).collect();
            let Some(input) = model.clusters.get(&host.parent.cluster).filter(|_| !viewers.is_empty()) else {
                continue;
            };
            let Some(owner) = model.owner(&host.parent.cluster, &host.parent.key.namespace) else { continue };
            let is_service = *host.parent.key.gvk.kind == *"Service";
            let Some((labels, names)) = described(input, &host.parent) else { continue };
            let name = |number: u32| names.get(&number).cloned().unwrap_or_default();
            // Where a federated Service is at home, its own name is known.
            let is_in = |cluster: &&Name| {
                let is_home = is_service && **cluster == host.parent.cluster;
                !is_home && (host.is_bare || host.is_reachable_in(cluster))
            };
            let item = Item {
                kind: if is_service { DestinationKind::Service } else { DestinationKind::VirtualDestination },
                source: host.parent.clone(),
                owner: owner.name.clone(),
                labels,
                ports: host.ports.iter().map(|port| (port.number, name(port.number))).collect(),
                hosts: host.hosts.keys().map(Name::to_string).collect(),
                sites: Sites::These(model.clusters.keys().filter(is_in).cloned().collect()),
                reads: Arc::clone(host.reads()),
            };
            share(items, &viewers, item);
        }
    }

    fn add_external_services(&self, items: &mut BTreeMap<Name, Vec<Rc<Item>>>) {
        for external in self.externals.values() {
            let viewers = external.viewers.iter().map(|viewer| viewer.workspace.clone());
            let viewers: Vec<Name> = viewers.filter(|viewer| items.contains_key(viewer)).collect();
            let ResourceRef { cluster, key } = &external.parent;
            let Some(owner) = self.model.owner(cluster, &key.namespace).filter(|_| !viewers.is_empty()) else {
                continue;
            };
            let item = Item {
                kind: DestinationKind::ExternalService,
                source: external.parent.clone(),
                owner: owner.name.clone(),
                labels: external.service.object.labels().clone(),
                ports: external.service.spec.ports.iter().map(|port| (port.number, port.name.clone())).collect(),
                hosts: ExternalService::hosts(&external.service.spec, &external.parent),
                sites: Sites::All,
                reads: together([&kinds(&external.sources), &external.taken]),
            };
            share(items, &viewers, item);
        }
    }

    /// The servers that filters ask, by workspace and cluster of the proxies.
    fn asked(&self) -> BTreeMap<(Name, Name), Hosts> {
        let mut asked: BTreeMap<(Name, Name), Hosts> = BTreeMap::new();
        for (context, effect, taken) in self.filters.effects() {
            let hosts = asked.entry((context.workspace.clone(), context.cluster.clone())).or_default();
            let before = hosts.names.len();
            add_asked(&effect.config, &mut hosts.names);
            add_asked(&effect.route, &mut hosts.names);
            if hosts.names.len() > before {
                let reads = effect.sources.iter().map(|source| (source.cluster.clone(), source.key.gvk.clone()));
                Arc::make_mut(&mut hosts.reads).extend(reads.chain(taken.iter().cloned()));
            }
        }
        asked
    }
}

/// What told of each host.
fn told<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeMap<String, Taken> {
    let mut told: BTreeMap<String, Taken> = BTreeMap::new();
    for item in items {
        let of_item = together([&kinds([&item.source]), &item.reads]);
        for host in &item.hosts {
            let known = told.entry(host.clone()).or_default();
            *known = together([&*known, &of_item]);
        }
    }
    told
}

fn share(items: &mut BTreeMap<Name, Vec<Rc<Item>>>, viewers: &[Name], item: Item) {
    let item = Rc::new(item);
    for viewer in viewers {
        if let Some(items) = items.get_mut(viewer) {
            items.push(Rc::clone(&item));
        }
    }
}

/// Labels and names of ports of the Service or VirtualDestination that has a host.
fn described(input: &ClusterInput, parent: &ResourceRef) -> Option<(BTreeMap<Name, Name>, BTreeMap<u32, String>)> {
    let labels = |object: &Object| object.labels().clone();
    if *parent.key.gvk.kind == *"Service" {
        let service = input.services().get(&parent.place())?;
        let ports = service.spec.ports.iter().map(|port| (port.port, port.name.to_string()));
        return Some((labels(&service.object), ports.collect()));
    }
    let destination = input.virtual_destinations().get(&parent.place())?;
    Some((labels(&destination.object), BTreeMap::new()))
}

/// The hosts of the clusters that a filter's configuration names, in the form that Istio gives Envoy's clusters.
fn add_asked(config: &Value, hosts: &mut BTreeSet<String>) {
    match config {
        Value::String(text) => {
            let mut parts = text.split('|');
            if let (Some("outbound"), Some(_), Some(_), Some(host)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            {
                hosts.insert(host.to_owned());
            }
        }
        Value::Array(values) => values.iter().for_each(|value| add_asked(value, hosts)),
        Value::Object(fields) => fields.values().for_each(|value| add_asked(value, hosts)),
        _ => {}
    }
}

impl Policy<TrimProxyConfigPolicySpec> {
    /// Whether the policy names destinations; what of it has no effect is told.
    fn includes(&self, notes: &mut Notes) -> bool {
        check_workloads(&self.source, "spec.applyToWorkloads", &self.input.spec.apply_to_workloads, notes);
        let is_empty = self.input.spec.config.as_ref().is_none_or(|config| config.included_destinations.is_empty());
        if is_empty {
            let text = "spec.config.includedDestinations: expected at least one entry, found none: the policy leaves \
                        sidecars as they are; an entry {} includes everything that the workspace sees";
            notes.say(&self.source, Severity::Warning, Code::Missing, text);
        }
        !is_empty
    }
}

impl Known {
    pub(super) fn compare(before: Option<&Self>, after: &Self, changes: &mut Changes) {
        let places = before.into_iter().chain([after]).flat_map(|known| known.0.keys());
        for place in places.collect::<BTreeSet<_>>() {
            let of = |known: &Self| fingerprint(&known.0.get(place));
            if before.is_none_or(|before| of(before) != of(after)) {
                changes.add(Place::results(NAME), Thing::Namespace(&place.0, &place.1));
            }
        }
    }

    /// The hosts of a workspace in a cluster.
    pub(super) fn get(&self, workspace: &Name, cluster: &Name) -> Option<&Site> {
        record(Place::results(NAME), Thing::Namespace(workspace, cluster));
        self.0.get(&(workspace.clone(), cluster.clone()))
    }
}
