use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::security::ClientTlsPolicySpec;
use meshrelay_snapshot::Name;

use super::chosen::{ByDestination, Chosen, choose, filled};
use super::{DestinationRules, Exits, Home, HostRules, Seen, Subsets, Tls};
use crate::engine::Stage;
use crate::fingerprint::Shared;
use crate::model::{Model, Viewer};
use crate::names;
use crate::policies::destinations::{ByPort, DestinationPolicies, Idle, IdlePolicies};
use crate::reads::{Taken, take_all, taking, together};
use crate::report::{Code, Notes, Severity};
use crate::units::egress::Egress;
use crate::units::external_service::ExternalService;
use crate::units::mesh_host::{MeshHost, MeshHosts};
use crate::units::route_table::{RouteTable, subset_name};
use crate::{ContextId, ResourceRef};

/// What rules are gathered from.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) model: &'a Model,
    pub(crate) hosts: &'a MeshHosts,
    pub(crate) external: &'a Stage<ExternalService>,
    pub(crate) egress: &'a Stage<Egress>,
    pub(crate) tables: &'a Stage<RouteTable>,
    pub(crate) policies: &'a DestinationPolicies,
}

/// The rules that policies, ExternalServices, ways out of the mesh and routes ask for.
pub(crate) fn gather(surroundings: Surroundings<'_>, notes: &mut Notes) -> Vec<DestinationRules> {
    let Surroundings { model, hosts, external, egress, tables, policies } = surroundings;
    let mut idle = IdlePolicies::default();
    let chosen = choose(model, hosts, external, policies, &mut idle, notes);
    let of_contested = if policies.is_empty() { Taken::default() } else { hosts.of_contested() };
    let mut gathered = Gathered {
        model,
        idle,
        rules: BTreeMap::new(),
        nothing: Shared::default(),
        no_exits: Shared::default(),
        of_contested,
    };
    let mut wanted = wanted_subsets(tables);
    let hosts = if policies.is_empty() { Vec::new() } else { hosts.values().collect() };
    let mut behind = gathered.mesh_hosts(&hosts, &chosen, &mut wanted);
    gathered.services(&hosts, &chosen, &mut behind, wanted, leaving(egress));
    gathered.external_services(external, &chosen, notes);
    gathered.tell_apart(external);
    gathered.idle.say(notes);
    let rules = gathered.rules.into_iter();
    rules.map(|(parent, hosts)| DestinationRules { parent, hosts: hosts.into_values().collect() }).collect()
}

/// What routes ask for at one destination, by host and context.
type WantedSubsets = BTreeMap<ResourceRef, BTreeMap<(Name, ContextId), Wanted>>;

#[derive(Default)]
struct Wanted {
    labels: BTreeMap<String, BTreeMap<String, String>>,
    tables: BTreeSet<ResourceRef>,
    taken: Vec<Taken>,
}

fn wanted_subsets(tables: &Stage<RouteTable>) -> WantedSubsets {
    let mut all = WantedSubsets::new();
    for table in tables.values() {
        for placement in &table.placements {
            let taken = LazyCell::new(|| table.taken_at(placement));
            for target in placement.targets.all().filter(|target| !target.subset.is_empty()) {
                let of_destination = all.entry(target.destination.clone()).or_default();
                let place = (Name::from(&target.host), placement.context.clone());
                let wanted = of_destination.entry(place).or_default();
                wanted.labels.insert(subset_name(&target.subset), target.subset.clone());
                wanted.tables.insert(table.parent.clone());
                if !wanted.taken.iter().any(|known| Arc::ptr_eq(known, &taken)) {
                    wanted.taken.push(Arc::clone(&taken));
                }
            }
        }
    }
    all
}

impl Wanted {
    /// With the ports that hold, and what told these.
    fn with(self, ports: Shared<ByPort>, of_ports: &Taken) -> Subsets {
        let taken = together(self.taken.iter().chain([of_ports]));
        Subsets { ports, labels: self.labels, tables: self.tables, taken }
    }
}

/// The gateways' Services by which traffic leaves the mesh, with the workspaces whose traffic does.
type Leaving = BTreeMap<ResourceRef, BTreeMap<Name, (Viewer, Exits)>>;

fn leaving(egress: &Stage<Egress>) -> Leaving {
    let mut all = Leaving::new();
    for egress in egress.values() {
        for (host, door) in egress.doors() {
            let of_service = all.entry(door.service.clone()).or_default();
            let here = |viewer: &&Viewer| viewer.contexts.contains_key(&door.service.cluster);
            for viewer in egress.viewers.iter().filter(here) {
                let (_, exits) =
                    of_service.entry(viewer.workspace.clone()).or_insert_with(|| (viewer.clone(), Exits::default()));
                exits.server_names.insert(door.subset(host), door.is_mutual.then(|| Name::from(host)));
                exits.taken.extend([egress.taken_by(door), Arc::clone(&viewer.reads)]);
                exits.sources.extend(egress.sources.iter().cloned());
                exits.sources.extend([&egress.parent, &door.gateway].map(ResourceRef::clone));
            }
        }
    }
    all
}

/// What a host that is backed by a Service says about the Service's own host name: the gateways that let in what comes
/// from other clusters send it there.
struct Behind<'a> {
    host: &'a MeshHost,
    ports: ByPort,
    namespaces: BTreeSet<Name>,
    /// What told that.
    taken: Taken,
}

type BehindServices<'a> = BTreeMap<ResourceRef, Vec<Behind<'a>>>;

struct Gathered<'a> {
    model: &'a Model,
    idle: IdlePolicies,
    rules: BTreeMap<ResourceRef, BTreeMap<Name, HostRules>>,
    nothing: Shared<ByPort>,
    no_exits: Shared<Exits>,
    /// What keeps others from hosts: without it, there could be more of them in front of a Service.
    of_contested: Taken,
}

impl Gathered<'_> {
    fn rules(&mut self, parent: &ResourceRef, host: &Name) -> &mut HostRules {
        let of_parent = self.rules.entry(parent.clone()).or_default();
        of_parent.entry(host.clone()).or_insert_with(|| HostRules::new(host))
    }

    fn sources(&self, cluster: &str, namespace: &str) -> BTreeSet<ResourceRef> {
        let owner = self.model.owner(cluster, namespace);
        owner.into_iter().flat_map(|owner| self.model.sources(&owner.name)).cloned().collect()
    }

    /// Rules for the hosts that work in every cluster. Returns what they say about the Services behind them.
    fn mesh_hosts<'h>(
        &mut self,
        hosts: &[&'h Arc<MeshHost>],
        chosen: &ByDestination,
        wanted: &mut WantedSubsets,
    ) -> BehindServices<'h> {
        let mut behind = BehindServices::new();
        for host in hosts {
            let parent = &host.parent;
            let is_port = |number: &u32| host.ports.iter().any(|port| port.number == *number);
            let of_host = |ports: &ByPort| {
                let ports = ports.iter().filter(|(number, _)| is_port(number));
                ports.map(|(number, policies)| (*number, policies.clone())).collect()
            };
            let chosen = chosen.get(parent).map(|chosen| chosen.map(of_host));
            if let Some(chosen) = &chosen {
                self.mesh_host(parent, host, chosen);
                for (service, of_host) in behind_services(host, chosen) {
                    behind.entry(service).or_default().push(of_host);
                }
            }
        }
        // Routes use subsets of VirtualDestinations by the hosts of these; those of Services come with these.
        let is_virtual = |destination: &ResourceRef, _: &mut BTreeMap<_, _>| destination.key.gvk.kind != "Service";
        for (parent, wanted) in wanted.extract_if(.., is_virtual) {
            for ((name, context), wanted) in wanted {
                let own = chosen.get(&parent);
                let ports = own.map_or(&self.nothing, |chosen| chosen.of(&context.workspace)).clone();
                let taken = own.map(|chosen| chosen.taken(Some(&context.workspace))).unwrap_or_default();
                self.rules(&parent, &name).subsets.insert(context, wanted.with(ports, &taken));
            }
        }
        behind
    }

    fn mesh_host(&mut self, parent: &ResourceRef, host: &MeshHost, chosen: &Chosen) {
        let clusters = host.viewers.iter().flat_map(|viewer| viewer.contexts.keys()).chain(host.backings.keys());
        let (outward, inner): (BTreeSet<&Name>, BTreeSet<&Name>) =
            clusters.partition(|cluster| host.leads_out_of(cluster));
        if !outward.is_empty() {
            for policy in chosen.all().flat_map(foreign_tls) {
                self.idle.add(policy, Idle::AcrossClusters, parent);
            }
        }
        let inner: BTreeSet<Name> = inner.into_iter().cloned().collect();
        let (sources, exits) = (&host.sources, self.no_exits.clone());
        for name in host.hosts.keys() {
            let rules = self.rules(parent, name);
            rules.tls = Tls::In(inner.clone());
            rules.sources.extend(sources.iter().cloned());
            rules.taken = Arc::clone(host.reads());
            if !chosen.base().is_empty() {
                for (cluster, backing) in &host.backings {
                    let export_to = host.home_namespaces(cluster, backing).into_iter().cloned().collect();
                    let of_base = chosen.taken(None);
                    let taken = host.viewers_in(cluster).map(|viewer| &viewer.reads).chain([&of_base]);
                    let home = Home { export_to, ports: chosen.base().clone(), taken: together(taken) };
                    rules.homes.insert(backing.home.clone(), home);
                }
            }
            // Where nothing leads to the host there is no entry that a rule could be for.
            let is_known =
                host.is_bare || !host.externals.is_empty() || !outward.is_empty() || !host.backings.is_empty();
            for viewer in &host.viewers {
                let ports = chosen.of(&viewer.workspace).clone();
                if is_known && !ports.is_empty() {
                    let is_special = chosen.is_special(&viewer.workspace);
                    let taken = together([&viewer.reads, &chosen.taken(Some(&viewer.workspace))]);
                    let (viewer, exits) = (viewer.clone(), exits.clone());
                    rules.seen.push(Seen { viewer, ports, is_special, exits, taken });
                }
            }
        }
    }

    /// Rules for the own hosts of Services.
    fn services(
        &mut self,
        hosts: &[&Arc<MeshHost>],
        chosen: &ByDestination,
        behind: &mut BehindServices<'_>,
        mut wanted: WantedSubsets,
        mut leaving: Leaving,
    ) {
        let is_service = |service: &&ResourceRef| service.key.gvk.kind == "Service";
        let services = chosen.keys().chain(behind.keys()).chain(wanted.keys()).chain(leaving.keys());
        let services: BTreeSet<ResourceRef> = services.filter(is_service).cloned().collect();
        let gateways = gateway_namespaces(hosts, chosen);
        for service in services {
            let ResourceRef { cluster, key } = &service;
            let host = Name::from(format!("{}.{}.svc.{}", key.name, key.namespace, self.model.domain(cluster)));
            let own = chosen.get(&service);
            let behind = behind.remove(&service).unwrap_or_default();
            let wanted = wanted.remove(&service).unwrap_or_default();
            let mut leaving = leaving.remove(&service).unwrap_or_default();
            let with_behind = |ports: &ByPort| {
                let ports = ports.clone();
                behind.iter().fold(ports, |ports, behind| filled(ports, &behind.ports))
            };
            let base = Shared::new(with_behind(own.map_or(&self.nothing, |own| own.base())));
            let merged = own.map(|own| own.map(with_behind));
            let owner = self.model.owner(cluster, &key.namespace).map(|owner| &owner.reads);
            let taken_behind = behind.iter().map(|behind| &behind.taken).chain(owner).chain([&self.of_contested]);
            let taken_behind = together(taken_behind);
            let taken = |workspace: Option<&Name>| {
                let own = own.map(|own| own.taken(workspace));
                together(own.iter().chain([&taken_behind]))
            };
            let home = self.model.context(cluster, &key.namespace);
            let is_left_by = |home: &ContextId| leaving.contains_key(&home.workspace);
            let is_wanted_at_home = wanted.keys().any(|(_, context)| Some(context) == home.as_ref())
                || home.as_ref().is_some_and(is_left_by);
            if let Some(home) = home.filter(|_| !base.is_empty()) {
                let mut export_to: BTreeSet<Name> =
                    behind.iter().flat_map(|behind| &behind.namespaces).cloned().collect();
                let mut told = vec![taken(None)];
                if let Some(own) = own {
                    let seeing = own.viewers.iter().filter_map(|viewer| Some((viewer, viewer.contexts.get(cluster)?)));
                    for (viewer, namespaces) in seeing {
                        export_to.extend(namespaces.iter().cloned());
                        told.push(Arc::clone(&viewer.reads));
                    }
                    for (namespace, taken) in gateways.get(&service).into_iter().flatten() {
                        export_to.insert(Name::clone(namespace));
                        told.push(Arc::clone(taken));
                    }
                }
                let export_to = export_to.into_iter().collect();
                let parent = match behind.first() {
                    Some(first) if own.is_none() && !is_wanted_at_home => &first.host.parent,
                    _ => &service,
                };
                let sources = self.sources(cluster, &key.namespace);
                let rules = self.rules(parent, &host);
                rules.behind = behind.first().filter(|_| parent != &service).map(|first| first.host.main_host.clone());
                rules.homes.insert(home, Home { export_to, ports: base.clone(), taken: together(&told) });
                rules.sources.extend(sources);
                rules.sources.extend(behind.iter().map(|behind| behind.host.parent.clone()));
                rules.sources.insert(service.clone());
            }
            let of = |workspace: &Name| merged.as_ref().map_or(&base, |merged| merged.of(workspace)).clone();
            for viewer in merged.iter().flat_map(|merged| &merged.viewers) {
                let exits = leaving.remove(&viewer.workspace).map(|(_, exits)| Shared::new(exits));
                let exits = exits.unwrap_or_else(|| self.no_exits.clone());
                let is_special = merged.as_ref().is_some_and(|merged| merged.is_special(&viewer.workspace));
                let taken = together([&viewer.reads, &taken(Some(&viewer.workspace))]);
                let seen = Seen { viewer: viewer.clone(), ports: of(&viewer.workspace), is_special, exits, taken };
                if viewer.contexts.contains_key(cluster) && !seen.is_empty() {
                    let rules = self.rules(&service, &host);
                    rules.within = Some(cluster.clone());
                    rules.seen.push(seen);
                }
            }
            // Who leaves by a gateway need not see its Service: what holds for all holds there.
            for (workspace, (viewer, exits)) in leaving {
                let ports = of(&workspace);
                let rules = self.rules(&service, &host);
                rules.within = Some(cluster.clone());
                // Without the way out nothing would be said there at all.
                let taken = together(exits.taken.iter().chain([&taken(Some(&workspace))]));
                rules.seen.push(Seen { viewer, ports, is_special: false, exits: Shared::new(exits), taken });
            }
            for ((name, context), wanted) in wanted {
                let ports = of(&context.workspace);
                let wanted = wanted.with(ports, &taken(Some(&context.workspace)));
                self.rules(&service, &name).subsets.insert(context, wanted);
            }
        }
    }

    /// Rules for the hosts of ExternalServices. Several of a workspace may have one host, each with its own ports.
    fn external_services(&mut self, external: &Stage<ExternalService>, chosen: &ByDestination, notes: &mut Notes) {
        let taken: BTreeMap<Name, ResourceRef> = self
            .rules
            .iter()
            .flat_map(|(parent, hosts)| hosts.keys().map(move |host| (host.clone(), parent.clone())))
            .collect();
        let mut by_host: BTreeMap<(Name, Name), Vec<(&ExternalService, &Chosen)>> = BTreeMap::new();
        let mut oldest_first: Vec<&Arc<ExternalService>> = external.values().collect();
        oldest_first.sort_by_key(|service| service.service.age(&service.parent.cluster));
        for service in oldest_first {
            let Some(chosen) = chosen.get(&service.parent) else { continue };
            for host in ExternalService::hosts(&service.service.spec, &service.parent) {
                if let Some(winner) = taken.get(host.as_str()) {
                    let text = format!("host {host} is also that of {winner}, whose policies hold for it");
                    notes.say(&service.parent, Severity::Warning, Code::HostTaken, text);
                    continue;
                }
                // One with nothing to say to a workspace has no part in what others say to it.
                for viewer in service.viewers.iter().filter(|viewer| !chosen.of(&viewer.workspace).is_empty()) {
                    let place = (viewer.workspace.clone(), Name::from(&host));
                    by_host.entry(place).or_default().push((service, chosen));
                }
            }
        }
        for ((workspace, host), services) in by_host {
            let ports = services.iter().map(|(_, chosen)| &**chosen.of(&workspace));
            let Some(ports) = ports.cloned().reduce(|ports, others| filled(ports, &others)) else { continue };
            let Some((first, _)) = services.first() else { continue };
            let viewer = first.viewers.iter().find(|viewer| viewer.workspace == workspace);
            let exits = self.no_exits.clone();
            let rules = self.rules(&first.parent, &host);
            let sources = services.iter().flat_map(|(service, _)| service.sources.iter().chain([&service.parent]));
            rules.sources_of.entry(workspace.clone()).or_default().extend(sources.cloned());
            let ports = Shared::new(ports);
            let told: Vec<Taken> = services.iter().map(|(_, chosen)| chosen.taken(Some(&workspace))).collect();
            let seen = viewer.map(|viewer| {
                let taken = together(told.iter().chain([&viewer.reads]));
                Seen { viewer: viewer.clone(), ports, is_special: false, exits, taken }
            });
            rules.seen.extend(seen);
        }
    }

    /// Finds the hosts of ExternalServices that would have one name. Which of them has it follows from the ExternalService
    /// alone, and not from what there is to say about them.
    fn tell_apart(&mut self, external: &Stage<ExternalService>) {
        for (parent, rules) in &mut self.rules {
            let Some(service) = external.get(parent) else { continue };
            let hosts: BTreeSet<String> = ExternalService::hosts(&service.service.spec, parent).into_iter().collect();
            let mut first = BTreeMap::new();
            for host in &hosts {
                first.entry(names::sanitize(host)).or_insert(host);
            }
            for (host, rules) in rules {
                rules.has_namesake = first.get(&names::sanitize(host)).is_some_and(|first| first.as_str() != &**host);
            }
        }
    }
}

/// What a host says about the Services behind it. TLS is between clients and the host, not the Service.
fn behind_services<'h>(host: &'h MeshHost, chosen: &Chosen) -> impl Iterator<Item = (ResourceRef, Behind<'h>)> {
    let (ports, of_ports) = (chosen.base(), chosen.taken(None));
    let of_backing = move |cluster: &Name, backing: &'h crate::units::mesh_host::Backing| {
        let mut of_service = ByPort::new();
        for (port, backing) in host.ports.iter().zip(&backing.ports) {
            if let Some(policies) = ports.get(&port.number) {
                let mut policies = policies.clone();
                (policies.client_tls, policies.own_tls) = (None, None);
                if !policies.is_empty() {
                    of_service.entry(backing.service_port).or_default().fill(&policies);
                }
            }
        }
        let gateways = backing.entries().map(|(point, _)| &point.namespace);
        let namespaces = host.home_namespaces(cluster, backing).into_iter().chain(gateways).cloned().collect();
        let ((), taken) = taking(|| {
            host.take();
            backing.take();
            take_all(&of_ports);
            host.viewers_in(cluster).for_each(|viewer| take_all(&viewer.reads));
        });
        (backing.service.clone(), Behind { host, ports: of_service, namespaces, taken })
    };
    let all: Vec<_> = host.backings.iter().map(|(cluster, backing)| of_backing(cluster, backing)).collect();
    all.into_iter().filter(move |(service, behind)| !behind.ports.is_empty() && *service != host.parent)
}

/// Where the gateways stand that send traffic to Services for which policies hold, with what told that. One host is enough
/// to tell it.
fn gateway_namespaces<'h>(
    hosts: &[&'h Arc<MeshHost>],
    chosen: &ByDestination,
) -> BTreeMap<&'h ResourceRef, BTreeMap<&'h Name, Taken>> {
    let mut namespaces: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    if !chosen.keys().any(|destination| destination.key.gvk.kind == "Service") {
        return namespaces;
    }
    for (host, backing) in hosts.iter().flat_map(|host| host.backings.values().map(move |backing| (host, backing))) {
        if chosen.contains_key(&backing.service) {
            let of_service = namespaces.entry(&backing.service).or_default();
            for (point, _) in backing.entries() {
                of_service.entry(&point.namespace).or_insert_with(|| {
                    let take = || {
                        host.take();
                        backing.take();
                    };
                    taking(take).1
                });
            }
        }
    }
    namespaces
}

/// The policies that ask for other TLS than the mesh's.
fn foreign_tls(ports: &ByPort) -> impl Iterator<Item = &ResourceRef> {
    let is_foreign = |spec: &ClientTlsPolicySpec| spec.istio_mutual.is_none();
    let policies = ports.values().filter_map(|port| port.client_tls.as_ref());
    policies.filter(move |policy| is_foreign(&policy.input.spec)).map(|policy| &policy.source)
}
