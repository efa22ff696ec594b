//! Rules for the clients of a destination: the policies that hold for it, and the subsets that routes use.
//!
//! Istio reads one rule per host, the one in the client's namespace before the one beside the destination, and never
//! adds them up. So a rule always says everything, and each host has one rule per namespace, whoever wants it.

mod chosen;
mod gather;
mod traffic_policy;

use meshrelay_api::istio::DestinationRule;
use meshrelay_api::istio::destination_rule::{Subset, TrafficPolicy};
use meshrelay_snapshot::{ContentHash, Name};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use gather::{Surroundings, gather};

use crate::fingerprint::{Shared, fingerprint};
use crate::model::Viewer;
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::destinations::ByPort;
use crate::reads::Taken;
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// Port policies of a host, and where the rules with them go.
#[derive(Debug, Hash)]
pub(crate) struct DestinationRules {
    parent: ResourceRef,
    hosts: Vec<HostRules>,
}

/// The rules for one host.
#[derive(Debug, Hash)]
struct HostRules {
    host: Name,
    /// Host of the VirtualDestination, if these are the rules for a Service behind it.
    behind: Option<Name>,
    /// Whether the recipe of names takes it for another host of the parent, which has the name.
    has_namesake: bool,
    /// Beside what is behind the host.
    homes: BTreeMap<ContextId, Home>,
    /// The workspaces that see the host.
    seen: Vec<Seen>,
    /// The only cluster that knows the host; every one if there is none.
    within: Option<Name>,
    /// Where clients may be told to use other TLS than the mesh's.
    tls: Tls,
    /// What routes ask for, by where they are.
    subsets: BTreeMap<ContextId, Subsets>,
    /// What else had a part.
    sources: BTreeSet<ResourceRef>,
    /// What else had a part in the namespaces of workspaces.
    sources_of: BTreeMap<Name, BTreeSet<ResourceRef>>,
    /// What told that there is the host, and whether and where there is anything behind it.
    taken: Taken,
}

/// A rule that other namespaces read, too.
#[derive(Debug, Hash)]
struct Home {
    export_to: Vec<Name>,
    ports: Shared<ByPort>,
    /// What told that.
    taken: Taken,
}

/// What a workspace sees of a host.
#[derive(Debug, Hash)]
struct Seen {
    viewer: Viewer,
    ports: Shared<ByPort>,
    /// Whether its namespaces have rules even where those of a home would do.
    is_special: bool,
    /// If the host is that of a gateway.
    exits: Shared<Exits>,
    /// What told that.
    taken: Taken,
}

/// The subsets of a gateway's Service by which clients of a workspace leave the mesh.
#[derive(Debug, Default, Hash)]
struct Exits {
    /// By name of the subset the server name that is asked for in mutual TLS; `None` stands for plain text.
    server_names: BTreeMap<String, Option<Name>>,
    /// What asks for them.
    sources: BTreeSet<ResourceRef>,
    /// What told that.
    taken: Vec<Taken>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.exits.server_names.is_empty()
    }
}

/// The subsets of a host that routes of a namespace use.
#[derive(Debug, Hash)]
struct Subsets {
    ports: Shared<ByPort>,
    /// Labels by name.
    labels: BTreeMap<String, BTreeMap<String, String>>,
    tables: BTreeSet<ResourceRef>,
    /// What told that.
    taken: Taken,
}

/// Where TLS other than the mesh's works.
#[derive(Debug, Hash)]
enum Tls {
    Everywhere,
    /// In clusters in which nothing leads to other clusters.
    In(BTreeSet<Name>),
}

impl Tls {
    fn works_in(&self, cluster: &Name) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(clusters) => clusters.contains(cluster),
        }
    }
}

impl HostRules {
    fn new(host: &Name) -> Self {
        Self {
            host: host.clone(),
            behind: None,
            has_namesake: false,
            homes: BTreeMap::new(),
            seen: Vec::new(),
            within: None,
            tls: Tls::Everywhere,
            subsets: BTreeMap::new(),
            sources: BTreeSet::new(),
            sources_of: BTreeMap::new(),
            taken: Taken::default(),
        }
    }

    /// What had a part in rules for a workspace.
    fn shapers(&self, parent: &ResourceRef, workspace: &Name) -> Shapers {
        self.sources.iter().chain(self.sources_of.get(workspace).into_iter().flatten()).chain([parent]).collect()
    }
}

impl ParentInput for DestinationRules {
    fn id(&self) -> BatchId {
        (UnitKind::DestinationRule, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::DestinationRule, &self.parent);
        for host in &self.hosts {
            host.emit(&self.parent, &mut emission);
        }
        emission.finish()
    }
}

/// One rule.
struct Place<'a> {
    export_to: Vec<String>,
    ports: &'a Shared<ByPort>,
    subsets: Option<&'a Subsets>,
    exits: Option<&'a Exits>,
    taken: &'a Taken,
    /// By what an equal rule is known: the workspace that sees the host, and whether TLS works there.
    known_by: Option<(usize, bool)>,
}

impl HostRules {
    fn emit(&self, parent: &ResourceRef, emission: &mut Emission<'_>) {
        let mut bodies: BTreeMap<(usize, bool), Option<Body>> = BTreeMap::new();
        for (context, place) in self.places() {
            let render = || self.render(parent, &context, &place);
            let body = match place.known_by {
                Some(known_by) => bodies.entry(known_by).or_insert_with(render).clone(),
                None => render(),
            };
            if let Some(body) = body {
                emission.emit(&context, &self.name(parent, &context), &body, Extra::default());
            }
        }
        for (index, seen) in self.seen.iter().enumerate() {
            let Some(filter) = traffic_policy::cluster_filter(&self.host, &seen.ports) else { continue };
            let shapers = self.shapers(parent, &seen.viewer.workspace);
            let body = Body::new(&filter, shapers.with(policies(&seen.ports))).reading([&self.taken, &seen.taken]);
            for context in self.contexts(index) {
                let name = self.identified(&format!("clusters-{}", self.host), parent);
                emission.emit(&context, &name, &body, Extra::default());
            }
        }
    }

    /// Where a workspace that sees the host has clients.
    fn contexts(&self, index: usize) -> impl Iterator<Item = ContextId> {
        let viewer = self.seen.get(index).map(|seen| &seen.viewer);
        viewer.into_iter().flat_map(move |viewer| {
            let clusters = viewer.contexts.iter();
            let clusters = clusters.filter(|(cluster, _)| self.within.as_ref().is_none_or(|within| within == *cluster));
            clusters.flat_map(move |(cluster, namespaces)| {
                namespaces.iter().map(move |namespace| ContextId {
                    cluster: cluster.clone(),
                    namespace: namespace.clone(),
                    workspace: viewer.workspace.clone(),
                })
            })
        })
    }

    fn places(&self) -> BTreeMap<ContextId, Place<'_>> {
        let own = || vec![".".to_owned()];
        let mut places = BTreeMap::new();
        for (context, home) in &self.homes {
            let export_to = home.export_to.iter().map(ToString::to_string).collect();
            let (ports, taken) = (&home.ports, &home.taken);
            let place = Place { export_to, ports, subsets: None, exits: None, taken, known_by: None };
            places.insert(context.clone(), place);
        }
        let home_clusters: BTreeSet<&Name> = self.homes.keys().map(|context| &context.cluster).collect();
        for (index, seen) in self.seen.iter().enumerate().filter(|(_, seen)| !seen.is_empty()) {
            let exits = Some(&*seen.exits).filter(|exits| !exits.server_names.is_empty());
            for context in self.contexts(index) {
                if seen.is_special || exits.is_some() || !home_clusters.contains(&context.cluster) {
                    let known_by = Some((index, self.tls.works_in(&context.cluster)));
                    let (ports, taken) = (&seen.ports, &seen.taken);
                    let place = || Place { export_to: own(), ports, subsets: None, exits: None, taken, known_by };
                    places.entry(context).or_insert_with(place).exits = exits;
                }
            }
        }
        for (context, subsets) in &self.subsets {
            let (ports, taken) = (&subsets.ports, &subsets.taken);
            let place = || Place { export_to: own(), ports, subsets: None, exits: None, taken, known_by: None };
            let place = places.entry(context.clone()).or_insert_with(place);
            place.subsets = Some(subsets);
            place.known_by = None;
        }
        places
    }

    /// The rule, if there is anything to say.
    fn render(&self, parent: &ResourceRef, context: &ContextId, place: &Place<'_>) -> Option<Body> {
        let tls_works = self.tls.works_in(&context.cluster);
        let settings = traffic_policy::port_level_settings(&self.host, place.ports, tls_works);
        let by_labels = place.subsets.into_iter().flat_map(|subsets| &subsets.labels);
        let by_labels =
            by_labels.map(|(name, labels)| Subset { name: name.clone(), labels: labels.clone(), ..Subset::default() });
        let ways_out = place.exits.into_iter().flat_map(|exits| &exits.server_names);
        let ways_out = ways_out.map(|(name, server_name)| traffic_policy::way_out(name, server_name.as_deref()));
        let subsets: Vec<Subset> = by_labels.chain(ways_out).collect();
        if settings.is_empty() && subsets.is_empty() {
            return None;
        }
        let tables = place.subsets.into_iter().flat_map(|subsets| &subsets.tables);
        let leaving = place.exits.into_iter().flat_map(|exits| &exits.sources);
        let shapers = self.shapers(parent, &context.workspace).with(tables.chain(leaving));
        let policy = TrafficPolicy { port_level_settings: settings, ..TrafficPolicy::default() };
        let spec = DestinationRule {
            export_to: place.export_to.clone(),
            host: self.host.to_string(),
            subsets,
            traffic_policy: Some(policy).filter(|policy| !policy.port_level_settings.is_empty()),
            ..DestinationRule::default()
        };
        let of_subsets = place.subsets.map(|subsets| &subsets.taken);
        let of_exits = place.exits.into_iter().flat_map(|exits| &exits.taken);
        let taken = [&self.taken, place.taken].into_iter().chain(of_subsets).chain(of_exits);
        Some(Body::new(&spec, shapers.with(policies(place.ports))).reading(taken))
    }

    fn name(&self, parent: &ResourceRef, context: &ContextId) -> String {
        let ResourceRef { cluster, key } = parent;
        let (name, namespace, workspace) = (&key.name, &key.namespace, &context.workspace);
        match (&self.behind, key.gvk.kind.as_str()) {
            (Some(host), _) => names::sanitize(&format!("vd-{host}-{workspace}")),
            (None, "ExternalService") => {
                let recipe = format!("externalservice-{name}-{namespace}-{cluster}-{}-{workspace}", self.host);
                if self.has_namesake { self.identified(&recipe, parent) } else { names::sanitize(&recipe) }
            }
            (None, "Service") => self.identified(&format!("{name}-{namespace}-svc-{cluster}"), parent),
            (None, _) => self.identified(&format!("{}-virtual-destination", self.host), parent),
        }
    }

    /// A name that is the same in all namespaces.
    fn identified(&self, readable: &str, parent: &ResourceRef) -> String {
        let ResourceRef { cluster, key } = parent;
        let identity = ["DestinationRule", &key.gvk.kind, cluster, &key.namespace, &key.name, &self.host];
        names::identified(readable, &identity)
    }
}

fn policies(ports: &ByPort) -> impl Iterator<Item = &ResourceRef> {
    ports.values().flat_map(|port| port.sources())
}
