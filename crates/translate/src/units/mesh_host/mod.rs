//! Host names that work in every cluster: those of VirtualDestinations and of federated Services.
//!
//! In the namespace of a Service behind the host, a ServiceEntry selects the Service's pods and WorkloadEntries add the
//! east-west gateways of the other clusters. In clusters without such a Service, every namespace that sees the host
//! gets a ServiceEntry with the gateways of the clusters that have one.

mod federation;
mod virtual_destination;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use meshrelay_api::istio::service_entry::{Location, Resolution, ServicePort, WorkloadSelector};
use meshrelay_api::istio::{ServiceEntry, WorkloadEntry};
use meshrelay_snapshot::{ContentHash, Name};

use crate::fingerprint::{Shared, fingerprint};
use crate::input::kube::ServiceSpec;
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{EntryAddress, EntryPoint, Model, Viewer, Workspace};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::vip::Allocations;
use crate::{ContextId, ResourceRef};

/// Tells Istio that an endpoint speaks mutual TLS.
const TLS_MODE: (&str, &str) = ("security.istio.io/tlsMode", "istio");

/// A parent's host names with everything that their entries are made of.
#[derive(Clone, Debug, Hash)]
pub(crate) struct MeshHost {
    pub(crate) parent: ResourceRef,
    /// Host names and their virtual addresses.
    pub(crate) hosts: BTreeMap<Name, Ipv4Addr>,
    /// The host that routes use: the first that is written.
    pub(crate) main_host: Name,
    pub(crate) ports: Vec<HostPort>,
    /// The Service behind the host in each cluster.
    pub(crate) backings: BTreeMap<Name, Backing>,
    pub(crate) viewers: Vec<Viewer>,
    /// Settings that had a part.
    pub(crate) sources: Vec<ResourceRef>,
}

/// A port that clients use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) number: u32,
    /// In capital letters, as Istio wants it.
    pub(crate) protocol: String,
}

impl HostPort {
    fn name(&self) -> String {
        format!("{}-{}", self.protocol.to_lowercase(), self.number)
    }
}

/// The Service behind a host in one cluster.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Backing {
    pub(crate) service: ResourceRef,
    /// Where the Service lives.
    pub(crate) home: ContextId,
    pub(crate) selector: BTreeMap<Name, Name>,
    /// For each port of the host the Service's and the pods' port.
    pub(crate) ports: Vec<BackingPort>,
    pub(crate) identities: BTreeSet<String>,
    pub(crate) workloads: BTreeSet<ResourceRef>,
    /// Where traffic from other clusters enters.
    pub(crate) entry_points: Option<Shared<Vec<EntryPoint>>>,
    /// Host name of the Service within its cluster.
    pub(crate) local_host: String,
}

/// A port of a Service behind a host.
#[derive(Clone, Debug, Hash)]
pub(crate) struct BackingPort {
    pub(crate) service_port: u32,
    pub(crate) target_port: u32,
}

/// All hosts of the fleet.
#[derive(Debug, Default)]
pub(crate) struct MeshHosts {
    pub(crate) by_parent: BTreeMap<ResourceRef, MeshHost>,
}

impl MeshHosts {
    /// Resolves all hosts. Of two parents with the same host the older one keeps it.
    pub(crate) fn resolve(model: &Model, notes: &mut Notes) -> Self {
        let mut claims = Claims::default();
        virtual_destination::claim(model, &mut claims);
        let federated = federation::claim(model, &mut claims);
        let winners = claims.decide(notes);
        let mut by_parent = BTreeMap::new();
        virtual_destination::resolve(model, &winners, notes, &mut by_parent);
        federation::resolve(model, federated, &winners, notes, &mut by_parent);
        Self { by_parent }
    }

    /// Gives all hosts their virtual addresses.
    pub(crate) fn allocate(&mut self, allocations: &mut Allocations) {
        let hosts = self.by_parent.values().flat_map(|parent| parent.hosts.keys().cloned()).collect();
        allocations.allocate(&hosts);
        for (host, address) in self.by_parent.values_mut().flat_map(|parent| &mut parent.hosts) {
            if let Some(allocated) = allocations.get(host) {
                *address = allocated;
            }
        }
    }
}

/// Which parents want which host names, with their age.
#[derive(Debug, Default)]
struct Claims(BTreeMap<Name, Vec<(AgeKey, ResourceRef)>>);

/// Creation time and place, see [`Input::age`](crate::input::Input::age).
type AgeKey = (bool, Option<jiff::Timestamp>, Name, Name, Name);

impl Claims {
    fn add<T>(&mut self, host: &str, cluster: &Name, input: &Input<T>) {
        let created = input.object.created();
        let age = (created.is_none(), created, cluster.clone(), input.namespace().clone(), input.name().clone());
        self.0.entry(Name::from(host)).or_default().push((age, input.reference(cluster)));
    }

    /// The winner of each host.
    fn decide(self, notes: &mut Notes) -> BTreeMap<Name, ResourceRef> {
        let mut winners = BTreeMap::new();
        for (host, mut claims) in self.0 {
            claims.sort_unstable();
            claims.dedup();
            let mut claims = claims.into_iter().map(|(_, parent)| parent);
            let Some(winner) = claims.next() else { continue };
            for loser in claims {
                let text = format!("host {host} is taken by the older {winner}: choose another name");
                notes.say(&loser, Severity::Warning, Code::HostTaken, text);
            }
            winners.insert(host, winner);
        }
        winners
    }
}

impl ParentInput for MeshHost {
    fn id(&self) -> BatchId {
        (UnitKind::MeshHost, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::MeshHost, &self.parent);
        let all: Shapers = [&self.parent].into_iter().chain(&self.sources).collect();
        let shapers = all.with(self.backings.values().flat_map(Backing::sources));
        for (host, address) in &self.hosts {
            self.emit_remote(host, *address, &shapers, &mut emission);
            for (cluster, backing) in &self.backings {
                self.emit_home(host, *address, cluster, backing, &shapers, &mut emission);
            }
        }
        emission.finish()
    }
}

impl MeshHost {
    /// The part of a ServiceEntry that is the same everywhere.
    fn entry(&self, host: &str, address: Ipv4Addr, home: Option<&Backing>) -> ServiceEntry {
        let port = |(index, port): (usize, &HostPort)| ServicePort {
            name: port.name(),
            number: port.number,
            protocol: Some(port.protocol.clone()),
            target_port: home.and_then(|home| home.ports.get(index)).map(|target| target.target_port),
        };
        let mut entry = ServiceEntry {
            addresses: vec![address.to_string()],
            hosts: vec![host.to_owned()],
            location: Some(Location::MeshInternal),
            ports: self.ports.iter().enumerate().map(port).collect(),
            ..ServiceEntry::default()
        };
        // Identities of some backings alone would make clients refuse the others.
        if self.backings.values().all(|backing| !backing.identities.is_empty()) {
            let identities: BTreeSet<_> = self.backings.values().flat_map(|backing| &backing.identities).collect();
            entry.subject_alt_names = identities.into_iter().cloned().collect();
        }
        entry
    }

    fn emit_remote(&self, host: &str, address: Ipv4Addr, shapers: &Shapers, emission: &mut Emission<'_>) {
        let reachable = self.backings.values();
        let mut endpoints: Vec<WorkloadEntry> =
            reachable.flat_map(|backing| backing.remote_endpoints(&self.ports, &BTreeMap::new())).collect();
        if endpoints.is_empty() {
            return;
        }
        endpoints.sort_by(|a, b| (&a.address, &a.locality, &a.labels).cmp(&(&b.address, &b.locality, &b.labels)));
        let mut spec = self.entry(host, address, None);
        spec.export_to = vec![".".to_owned()];
        spec.resolution = Some(resolution(endpoints.iter()));
        spec.endpoints = endpoints;
        let body = Body::new(&spec, shapers.clone());
        for viewer in &self.viewers {
            let name = entry_name(host, &viewer.workspace);
            let remote = viewer.contexts.iter().filter(|(cluster, _)| !self.backings.contains_key(*cluster));
            for (cluster, namespaces) in remote {
                for namespace in namespaces {
                    let context = ContextId {
                        cluster: cluster.clone(),
                        namespace: namespace.clone(),
                        workspace: viewer.workspace.clone(),
                    };
                    emission.emit(&context, &name, &body, Extra::default());
                }
            }
        }
    }

    fn emit_home(
        &self,
        host: &str,
        address: Ipv4Addr,
        cluster: &Name,
        home: &Backing,
        shapers: &Shapers,
        emission: &mut Emission<'_>,
    ) {
        let export_to = self.home_namespaces(cluster, home);
        if export_to.is_empty() {
            return;
        }
        let mut others: Vec<(&Name, WorkloadEntry)> = Vec::new();
        for (other, backing) in self.backings.iter().filter(|(other, _)| *other != cluster) {
            let endpoints = backing.remote_endpoints(&self.ports, &home.selector);
            others.extend(endpoints.into_iter().map(|endpoint| (other, endpoint)));
        }
        let mut spec = self.entry(host, address, Some(home));
        spec.export_to = export_to.into_iter().map(ToString::to_string).collect();
        spec.resolution = Some(resolution(others.iter().map(|(_, endpoint)| endpoint)));
        let labels = home.selector.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        spec.workload_selector = Some(WorkloadSelector { labels: labels.collect() });
        let workspace = &home.home.workspace;
        let body = Body::new(&spec, shapers.clone());
        emission.emit(&home.home, &entry_name(host, workspace), &body, Extra::default());
        for (other, endpoint) in others {
            let address = endpoint.address.as_deref().unwrap_or_default();
            let identity = ["WorkloadEntry", host, workspace, other, address];
            let name = names::identified(&format!("vd-{host}-{workspace}"), &identity);
            let body = Body::new(&endpoint, shapers.clone());
            emission.emit(&home.home, &name, &body, Extra { labels: Some(&endpoint.labels), ..Extra::default() });
        }
    }
}

impl Backing {
    pub(crate) fn entry_points(&self) -> &[EntryPoint] {
        self.entry_points.as_ref().map(|points| points.as_slice()).unwrap_or_default()
    }

    fn sources(&self) -> impl Iterator<Item = &ResourceRef> {
        let gateways = self.entry_points().iter().map(|point| &point.gateway);
        [&self.service].into_iter().chain(&self.workloads).chain(gateways)
    }

    /// How other clusters reach the Service: one endpoint per address of its east-west gateways. The labels are those
    /// that the Service selects its pods by, and those that `joined` demands.
    fn remote_endpoints(&self, ports: &[HostPort], joined: &BTreeMap<Name, Name>) -> Vec<WorkloadEntry> {
        let selector = self.selector.iter().chain(joined);
        let mut labels: BTreeMap<String, String> =
            selector.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        labels.insert(TLS_MODE.0.to_owned(), TLS_MODE.1.to_owned());
        let addresses: BTreeSet<_> = self.entry_points().iter().flat_map(|point| &point.addresses).collect();
        let endpoint = |address: &EntryAddress| WorkloadEntry {
            address: Some(address.address.clone()),
            labels: labels.clone(),
            locality: Some(address.region.clone()).filter(|region| !region.is_empty()),
            ports: ports.iter().map(|port| (port.name(), address.port)).collect(),
            ..WorkloadEntry::default()
        };
        addresses.into_iter().map(endpoint).collect()
    }
}

/// Istio resolves names of endpoints only where it is told to.
fn resolution<'a>(mut endpoints: impl Iterator<Item = &'a WorkloadEntry>) -> Resolution {
    let is_ip =
        |endpoint: &WorkloadEntry| endpoint.address.as_ref().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    if endpoints.all(is_ip) { Resolution::Static } else { Resolution::Dns }
}

fn entry_name(host: &str, workspace: &str) -> String {
    names::sanitize(&format!("vd-{host}-{workspace}"))
}

/// A backing out of a Service whose ports are known.
#[expect(clippy::too_many_arguments, reason = "the parts of one value, from two callers")]
fn new_backing(
    model: &Model,
    owner: &Workspace,
    cluster: &ClusterInput,
    service: &Input<Theirs<ServiceSpec>>,
    home: ContextId,
    ports: Vec<BackingPort>,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Backing {
    let (identities, workloads) = cluster.identities(service);
    let reference = service.reference(&cluster.name);
    if identities.is_empty() {
        let text = format!("no workload behind {reference} is known: clients do not check who answers for the host");
        notes.say(parent, Severity::Warning, Code::NoIdentity, text);
    }
    Backing {
        service: reference,
        home,
        selector: service.spec.selector.clone(),
        ports,
        identities,
        workloads,
        entry_points: model.entry_points(owner, &cluster.name).cloned(),
        local_host: format!("{}.{}.svc.{}", service.name(), service.namespace(), model.domain(&cluster.name)),
    }
}

/// Says which clusters cannot be reached from where the host is seen.
fn note_reachability(host: &MeshHost, notes: &mut Notes) {
    for (cluster, _) in host.backings.iter().filter(|(_, backing)| backing.entry_points().is_empty()) {
        let seen_elsewhere = host.viewers.iter().any(|viewer| viewer.contexts.keys().any(|other| other != cluster));
        if seen_elsewhere {
            let text = format!(
                "cluster {cluster} has no east-west gateway with an external address and a port for other clusters: \
                 its Service is reached from within only"
            );
            notes.say(&host.parent, Severity::Warning, Code::Unreachable, text);
        }
    }
}

impl MeshHost {
    /// The namespaces of a cluster that use the host at its home there.
    pub(crate) fn home_namespaces<'a>(&'a self, cluster: &Name, home: &'a Backing) -> BTreeSet<&'a Name> {
        let seeing = self.viewers.iter().filter_map(|viewer| viewer.contexts.get(cluster)).flatten();
        // The gateways must know the host to let it in, whoever owns their namespace.
        let gateways = home.entry_points().iter().map(|point| &point.namespace);
        seeing.chain(gateways).collect()
    }

    /// Whether traffic for the host leads somewhere from a cluster.
    pub(crate) fn is_reachable_in(&self, cluster: &Name) -> bool {
        self.backings.contains_key(cluster) || self.backings.values().any(|backing| !backing.entry_points().is_empty())
    }
}
