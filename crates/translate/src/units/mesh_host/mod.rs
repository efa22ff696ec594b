//! Host names that work in every cluster: those of VirtualDestinations and of federated Services.
//!
//! In the namespace of a Service behind the host, a ServiceEntry selects the Service's pods and WorkloadEntries add the
//! east-west gateways of the other clusters. In clusters without such a Service, every namespace that sees the host
//! gets a ServiceEntry with the gateways of the clusters that have one. Services outside of the mesh are endpoints in
//! every cluster. A host without anything behind it is known to proxies only, so that routes can serve it.

mod external;
mod federation;
mod hosts;
mod virtual_destination;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use external::External;
pub(crate) use hosts::MeshHosts;
use meshrelay_api::istio::service_entry::{Location, Resolution, ServicePort, WorkloadSelector};
use meshrelay_api::istio::{ServiceEntry, WorkloadEntry};
use meshrelay_snapshot::{ContentHash, Gvk, Name};

use crate::fingerprint::{Derived, Shared, fingerprint};
use crate::input::kube::ServiceSpec;
use crate::input::{ClusterInput, Input, Theirs};
use crate::model::{Entry, EntryAddress, EntryPoint, EntryPort, Model, Viewer, Workspace};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::{Taken, kinds, take, take_all, together};
use crate::report::{Code, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
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
    /// Services outside of the mesh behind the host.
    pub(crate) externals: Vec<External>,
    /// Whether the host is meant for routes alone.
    pub(crate) is_bare: bool,
    pub(crate) viewers: Vec<Viewer>,
    /// Settings that had a part.
    pub(crate) sources: Vec<ResourceRef>,
    /// What else told that there is such a host, and what it is.
    pub(crate) taken: Taken,
    /// See [`MeshHost::reads`].
    pub(crate) reads: Derived<Arc<BTreeSet<(Name, Gvk)>>>,
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
    entry_points: Option<Shared<Vec<EntryPoint>>>,
    /// What becomes of its TLS there.
    pub(crate) entry: Entry,
    /// Host name of the Service within its cluster.
    pub(crate) local_host: String,
    /// What told that the Service stands behind the host.
    pub(crate) taken: Taken,
}

/// A port of a Service behind a host.
#[derive(Clone, Debug, Hash)]
pub(crate) struct BackingPort {
    pub(crate) service_port: u32,
    pub(crate) target_port: u32,
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
        let externals = self.externals.iter().flat_map(External::sources);
        let shapers = all.with(self.backings.values().flat_map(Backing::sources)).with(externals);
        let reads = together(self.backings.values().map(|backing| &backing.taken).chain([&self.taken]));
        let shaping = (&shapers, &reads);
        for (host, address) in &self.hosts {
            self.emit_remote(host, *address, shaping, &mut emission);
            for (cluster, backing) in &self.backings {
                self.emit_home(host, *address, (cluster, backing), shaping, &mut emission);
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
            location: Some(self.location()),
            ports: self.ports.iter().enumerate().map(port).collect(),
            ..ServiceEntry::default()
        };
        entry.subject_alt_names = self.identities(home);
        entry
    }

    /// Who may answer for the host. Identities of some backings alone would make clients refuse the others, so it is
    /// all or none.
    fn identities(&self, home: Option<&Backing>) -> Vec<String> {
        let of_backing = |backing: &Backing| -> BTreeSet<String> {
            let is_home = home.is_some_and(|home| home.service == backing.service);
            match backing.entry {
                Entry::Ended if !is_home => {
                    backing.entries().flat_map(|(point, _)| &point.identities).cloned().collect()
                }
                _ => backing.identities.clone(),
            }
        };
        let counts = |backing: &&Backing| {
            backing.entry == Entry::PassedOn
                || backing.entries().next().is_some()
                || home.is_some_and(|home| home.service == backing.service)
        };
        let all: Vec<BTreeSet<String>> = self.backings.values().filter(counts).map(of_backing).collect();
        if all.iter().any(BTreeSet::is_empty) {
            return Vec::new();
        }
        all.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn emit_remote(
        &self,
        host: &str,
        address: Ipv4Addr,
        (shapers, reads): (&Shapers, &Taken),
        emission: &mut Emission<'_>,
    ) {
        let reachable = self.backings.values();
        let mut endpoints: Vec<WorkloadEntry> =
            reachable.flat_map(|backing| backing.remote_endpoints(&self.ports, &BTreeMap::new())).collect();
        for external in &self.externals {
            endpoints.extend(external.endpoints(&self.ports, &BTreeMap::new()).map(|(_, endpoint)| endpoint));
        }
        if endpoints.is_empty() && !self.is_bare {
            return;
        }
        endpoints.sort_by(|a, b| (&a.address, &a.locality, &a.labels).cmp(&(&b.address, &b.locality, &b.labels)));
        let mut spec = self.entry(host, address, None);
        spec.export_to = vec![".".to_owned()];
        spec.resolution = Some(resolution(endpoints.iter()));
        spec.endpoints = endpoints;
        let body = Body::new(&spec, shapers.clone()).reading([reads]);
        for viewer in &self.viewers {
            let body = body.clone().reading([&viewer.reads]);
            let name = self.entry_name(host, &viewer.workspace);
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
        (cluster, home): (&Name, &Backing),
        (shapers, reads): (&Shapers, &Taken),
        emission: &mut Emission<'_>,
    ) {
        let export_to = self.home_namespaces(cluster, home);
        if export_to.is_empty() {
            return;
        }
        let mut others: Vec<(String, WorkloadEntry)> = Vec::new();
        for external in &self.externals {
            others.extend(external.endpoints(&self.ports, &home.selector));
        }
        for (other, backing) in self.backings.iter().filter(|(other, _)| *other != cluster) {
            let endpoints = backing.remote_endpoints(&self.ports, &home.selector);
            others.extend(endpoints.into_iter().map(|endpoint| (other.to_string(), endpoint)));
        }
        let mut spec = self.entry(host, address, Some(home));
        spec.export_to = export_to.into_iter().map(ToString::to_string).collect();
        spec.resolution = Some(resolution(others.iter().map(|(_, endpoint)| endpoint)));
        let labels = home.selector.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        spec.workload_selector = Some(WorkloadSelector { labels: labels.collect() });
        let workspace = &home.home.workspace;
        let reads = || self.viewers_in(cluster).map(|viewer| &viewer.reads).chain([reads]);
        let body = Body::new(&spec, shapers.clone()).reading(reads());
        emission.emit(&home.home, &self.entry_name(host, workspace), &body, Extra::default());
        let mut places: BTreeSet<(String, Option<String>)> = BTreeSet::new();
        for (other, endpoint) in others {
            let address = endpoint.address.as_deref().unwrap_or_default();
            let is_first = places.insert((other.clone(), endpoint.address.clone()));
            // Several gateways may share an address, at ports of nodes for example.
            let port = endpoint.ports.values().next().filter(|_| !is_first).map(ToString::to_string);
            let mut identity = vec!["WorkloadEntry", host, workspace, &other, address];
            identity.extend(port.as_deref());
            let name = names::identified(&format!("vd-{host}-{workspace}"), &identity);
            let body = Body::new(&endpoint, shapers.clone()).reading(reads());
            emission.emit(&home.home, &name, &body, Extra { labels: Some(&endpoint.labels), ..Extra::default() });
        }
    }
}

impl Backing {
    /// Gateways and their ports by which traffic from other clusters enters; none if it cannot.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&EntryPoint, &EntryPort)> {
        let points = self.entry_points.iter().flat_map(|points| points.iter());
        points.filter_map(|point| Some((point, point.ports.get(&self.entry)?)))
    }

    /// The gateways by any of whose ports it may enter.
    pub(crate) fn points(&self) -> impl Iterator<Item = &EntryPoint> {
        self.entry_points.iter().flat_map(|points| points.iter())
    }

    /// Notes that something is made of what stands behind the host here.
    pub(crate) fn take(&self) {
        self.sources().for_each(take);
        take_all(&self.taken);
    }

    fn sources(&self) -> impl Iterator<Item = &ResourceRef> {
        let gateways = self.entries().map(|(point, _)| &point.gateway);
        [&self.service].into_iter().chain(&self.workloads).chain(gateways)
    }

    /// How other clusters reach the Service: one endpoint per address of its east-west gateways. The labels are those
    /// that the Service selects its pods by, and those that `joined` demands.
    fn remote_endpoints(&self, ports: &[HostPort], joined: &BTreeMap<Name, Name>) -> Vec<WorkloadEntry> {
        let selector = self.selector.iter().chain(joined);
        let mut labels: BTreeMap<String, String> =
            selector.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        labels.insert(TLS_MODE.0.to_owned(), TLS_MODE.1.to_owned());
        let addresses: BTreeSet<_> = self.entries().flat_map(|(_, port)| &port.addresses).collect();
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

/// A backing out of a Service whose ports are known.
#[expect(clippy::too_many_arguments, reason = "the parts of one value, from two callers")]
fn new_backing(
    model: &Model,
    owner: &Workspace,
    cluster: &ClusterInput,
    service: &Input<Theirs<ServiceSpec>>,
    home: ContextId,
    ports: Vec<BackingPort>,
    entry: Entry,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Backing {
    let (identities, workloads) = cluster.identities(service);
    let reference = service.reference(&cluster.name);
    if identities.is_empty() {
        let text = format!("no workload behind {reference} is known: clients do not check who answers for the host");
        notes.say(parent, Severity::Warning, Code::NoIdentity, text);
    }
    let backing = Backing {
        service: reference,
        home,
        selector: service.spec.selector.clone(),
        ports,
        identities,
        workloads,
        entry_points: model.entry_points(owner, &cluster.name).cloned(),
        entry,
        local_host: format!("{}.{}.svc.{}", service.name(), service.namespace(), model.domain(&cluster.name)),
        taken: Taken::default(),
    };
    let unknown = backing.entries().find(|(point, _)| entry == Entry::Ended && point.identities.is_empty());
    if let Some((point, _)) = unknown {
        let text = format!(
            "no service account of the gateway {} is known: clients do not check who answers for the host",
            point.service_ref()
        );
        notes.say(parent, Severity::Warning, Code::NoIdentity, text);
    }
    backing
}

/// Says which clusters cannot be reached from where the host is seen.
fn note_reachability(host: &MeshHost, notes: &mut Notes) {
    for (cluster, backing) in host.backings.iter().filter(|(_, backing)| backing.entries().next().is_none()) {
        let seen_elsewhere = host.viewers.iter().any(|viewer| viewer.contexts.keys().any(|other| other != cluster));
        if seen_elsewhere {
            let port = match backing.entry {
                Entry::PassedOn => "a port for other clusters",
                Entry::Ended => "a port at which TLS from other clusters ends (tlsTerminationPort, https by default)",
            };
            let text = format!(
                "cluster {cluster} has no east-west gateway with an external address and {port}: its Service is \
                 reached from within only"
            );
            notes.say(&host.parent, Severity::Warning, Code::Unreachable, text);
        }
    }
}

impl MeshHost {
    /// Of several hosts that the recipe takes for each other the first has its name.
    fn entry_name(&self, host: &str, workspace: &str) -> String {
        let name = |host: &str| names::sanitize(&format!("vd-{host}-{workspace}"));
        let is_taken =
            self.hosts.keys().take_while(|other| other.as_str() != host).any(|other| name(other) == name(host));
        if is_taken { names::identified(&name(host), &["ServiceEntry", host, workspace]) } else { name(host) }
    }

    /// Hosts outside of the mesh prove nothing by the mesh's certificates.
    fn location(&self) -> Location {
        let is_outside = self.backings.is_empty() && !self.externals.is_empty();
        if is_outside { Location::MeshExternal } else { Location::MeshInternal }
    }

    /// The namespaces of a cluster that use the host at its home there.
    pub(crate) fn home_namespaces<'a>(&'a self, cluster: &Name, home: &'a Backing) -> BTreeSet<&'a Name> {
        let seeing = self.viewers_in(cluster).filter_map(|viewer| viewer.contexts.get(cluster)).flatten();
        // The gateways must know the host to pass it on, whoever owns their namespace.
        let gateways = home.entries().filter(|_| home.entry == Entry::PassedOn).map(|(point, _)| &point.namespace);
        seeing.chain(gateways).collect()
    }

    /// The workspaces that see the host and have namespaces in a cluster.
    pub(crate) fn viewers_in(&self, cluster: &Name) -> impl Iterator<Item = &Viewer> {
        self.viewers.iter().filter(move |viewer| viewer.contexts.contains_key(cluster))
    }

    /// Notes that something is made of the host, whatever stands behind it.
    pub(crate) fn take(&self) {
        take(&self.parent);
        self.sources.iter().for_each(take);
        take_all(&self.taken);
    }

    /// Whether clients in a cluster reach the host, or part of it, through gateways of other clusters.
    pub(crate) fn leads_out_of(&self, cluster: &Name) -> bool {
        self.backings.iter().any(|(other, backing)| other != cluster && backing.entries().next().is_some())
    }

    /// The kinds of which clusters tell that there is the host, what is behind it, and how it is reached.
    pub(crate) fn reads(&self) -> &Arc<BTreeSet<(Name, Gvk)>> {
        self.reads.get(|| {
            let externals = self.externals.iter().flat_map(External::sources);
            let behind = self.backings.values().flat_map(Backing::sources).chain(externals);
            let own = kinds(behind.chain(&self.sources).chain([&self.parent]));
            together(self.backings.values().map(|backing| &backing.taken).chain([&own, &self.taken]))
        })
    }

    /// Whether anything stands behind the host.
    pub(crate) fn has_backing(&self) -> bool {
        !(self.backings.is_empty() && self.externals.is_empty())
    }

    /// Whether traffic for the host leads somewhere from a cluster.
    pub(crate) fn is_reachable_in(&self, cluster: &Name) -> bool {
        !self.externals.is_empty()
            || self.backings.contains_key(cluster)
            || self.backings.values().any(|backing| backing.entries().next().is_some())
    }
}
