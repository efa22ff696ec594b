//! Routes.
//!
//! A root table becomes one VirtualService in each namespace with a gateway that it names, and in each namespace with
//! workloads that it selects. The routes of the tables that it delegates to are among its own there.

mod actions;
mod conditions;
mod delegation;
mod destinations;
mod matches;
mod overview;
mod placement;
mod resolve;
mod route_names;
mod tree;
mod virtual_service;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::istio::VirtualService;
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::{ContentHash, Name};

pub(crate) use conditions::valid as valid_regex;
pub(crate) use delegation::{Children, Table};
pub(crate) use destinations::{Place, Target};
pub(crate) use overview::note_all;
pub(crate) use resolve::{Surroundings, list};
pub(crate) use tree::Route;
pub(crate) use virtual_service::{destination, subset_name};

use self::tree::Parents;
use crate::fingerprint::{Derived, Shared, fingerprint};
use crate::input::kube::selects;
use crate::last_accepted::Accepted;
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::policies::routes::RoutePolicies;
use crate::reads::{Taken, kinds, together};
use crate::report::{Code, Finding, Severity};
use crate::unit::{Batch, BatchId, ParentInput, Tree, UnitKind};
use crate::{ContextId, ResourceRef};

/// Annotations that users may not set on generated objects.
const RESERVED: [&str; 2] = [meshrelay_api::labels::CLUSTER, crate::output::SHAPED_BY];

/// A root table with everything that it delegates to, and everywhere that it is served.
#[derive(Debug, Hash)]
pub(crate) struct RouteTable {
    pub(crate) parent: ResourceRef,
    /// The root first.
    tables: Vec<Reached>,
    /// The HTTP routes of the whole tree, in the order in which proxies try them.
    pub(crate) routes: Vec<Route>,
    pub(crate) placements: Vec<Placement>,
    /// Which tables of the tree delegate to which.
    parents: Parents,
    freeze: Option<Freeze>,
    /// What told which tables there are in the tree, and who sees it.
    taken: Taken,
    sources: Vec<ResourceRef>,
    /// See [`Options::federated_host_headers`](crate::Options).
    federated_host_headers: bool,
    /// See [`RouteTable::of_tree`].
    of_tree: Derived<Taken>,
}

/// What `failureMode: FREEZE_CONFIG` comes to.
#[derive(Debug, Hash)]
enum Freeze {
    /// Nothing is wrong: the output is remembered.
    Accepted,
    /// Something is: the tree gives what it gave before.
    Frozen(Accepted),
    /// Something is, and always was.
    NeverAccepted,
}

/// A table of a tree.
#[derive(Debug, Hash)]
struct Reached {
    table: Arc<Table>,
    /// Labels of the pods whose sidecars have its routes, beyond what the root table demands; none allow every pod.
    workloads: Vec<BTreeMap<String, String>>,
}

/// A context in which a table is served.
#[derive(Debug, Hash)]
pub(crate) struct Placement {
    pub(crate) context: ContextId,
    /// The proxies that serve it.
    pub(crate) served_by: Vec<ServedBy>,
    pub(crate) hosts: Vec<String>,
    pub(crate) targets: Shared<Targets>,
    /// The gateways that had a part.
    sources: Vec<ResourceRef>,
}

/// Proxies in a context, by what they are bound to and their labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServedBy {
    /// Names of Istio Gateways, or what stands for all sidecars.
    pub(crate) gateways: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Ports of the gateway's pods by those of its Service, which users know.
    ports: BTreeMap<u32, u32>,
    /// `None` for sidecars.
    pub(crate) gateway: Option<ServingGateway>,
}

/// A gateway that serves a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServingGateway {
    /// The VirtualGateway.
    pub(crate) parent: ResourceRef,
    /// The Service of the gateway.
    pub(crate) service: ResourceRef,
    /// Ports of its pods on which the table is served.
    pub(crate) pod_ports: Vec<u32>,
}

/// Where each route leads, in the order of [`RouteTable::routes`] and of the tables; an action that leads nowhere has
/// no targets.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Targets {
    pub(crate) http: Vec<Result<Vec<Target>, Finding>>,
    pub(crate) tcp: Vec<Result<Vec<Target>, Finding>>,
    pub(crate) tls: Vec<Result<Vec<Target>, Finding>>,
    /// Targets of a frozen tree.
    kept: Vec<Target>,
    /// What told where routes lead, what is there, and which policies hold.
    taken: Taken,
    /// The policies of each HTTP route.
    pub(crate) policies: Vec<RoutePolicies>,
}

impl Targets {
    /// All targets of all routes, those of mirrors included.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Target> {
        let routes = self.http.iter().chain(&self.tcp).chain(&self.tls);
        let mirrored = self.policies.iter().filter_map(|policies| policies.mirrored.as_ref()?.as_ref().ok());
        routes.filter_map(|targets| targets.as_ref().ok()).flatten().chain(mirrored).chain(&self.kept)
    }
}

/// A table that asks a listener to be served.
pub(crate) struct Applicant<'a> {
    pub(crate) hosts: &'a [String],
    pub(crate) namespace: &'a Name,
    name: &'a Name,
    labels: &'a BTreeMap<Name, Name>,
    cluster: &'a Name,
    workspace: &'a Name,
    pub(crate) has_http: bool,
    pub(crate) has_tcp: bool,
    pub(crate) has_tls: bool,
}

impl Applicant<'_> {
    /// Whether a listener's selector picks the table; without one, every table is picked.
    pub(crate) fn is_selected(&self, selector: Option<&ObjectSelector>) -> bool {
        let is = |wanted: &str, found: &Name| wanted.is_empty() || found == wanted;
        selector.is_none_or(|selector| {
            is(&selector.name, self.name)
                && is(&selector.namespace, self.namespace)
                && is(&selector.cluster, self.cluster)
                && is(&selector.workspace, self.workspace)
                && selects(&selector.labels, self.labels)
        })
    }
}

fn of_placement(placement: &Placement) -> [Taken; 2] {
    [kinds(&placement.sources), Arc::clone(&placement.targets.taken)]
}

/// See [`RouteTable::at_sidecars`].
type AtSidecars<'a> = (&'a ContextId, BTreeMap<String, String>, Vec<String>, Option<&'a Placement>);

impl ParentInput for RouteTable {
    fn id(&self) -> BatchId {
        (UnitKind::RouteTable, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut batch = self.translate_now();
        if let Some(accepted) = self.frozen() {
            accepted.replace(&self.parent, &mut batch, self.of_tree());
        }
        batch
    }

    fn tree(&self) -> Option<Tree> {
        self.freeze.as_ref().map(|freeze| match freeze {
            Freeze::Accepted => Tree::Accepted(self.targets_with_subset()),
            Freeze::Frozen(_) | Freeze::NeverAccepted => Tree::Broken,
        })
    }
}

impl RouteTable {
    /// What the tree gives in the place of what it says, if it is frozen.
    pub(crate) fn frozen(&self) -> Option<&Accepted> {
        match &self.freeze {
            Some(Freeze::Frozen(accepted)) => Some(accepted),
            _ => None,
        }
    }

    /// What told of the tree. Whether it is frozen, what is wrong anywhere tells.
    pub(crate) fn of_tree(&self) -> &Taken {
        self.of_tree.get(|| {
            let tables = self.tables.iter().map(|reached| &reached.table.source);
            let tree = [kinds(self.sources.iter().chain(tables)), Arc::clone(&self.taken)];
            let everywhere = self.placements.iter().filter(|_| self.frozen().is_some());
            let everywhere: Vec<Taken> = everywhere.flat_map(of_placement).collect();
            together(tree.iter().chain(&everywhere))
        })
    }

    /// What told that the tree is served in a place, as it is there.
    pub(crate) fn taken_at(&self, placement: &Placement) -> Taken {
        together(of_placement(placement).iter().chain([self.of_tree()]))
    }

    /// Where sidecars serve the table: labels of their pods, the hosts, and the place unless the tree is frozen.
    pub(crate) fn at_sidecars(&self) -> Vec<AtSidecars<'_>> {
        if let Some(accepted) = self.frozen() {
            let kept = accepted.objects().filter_map(|(context, object)| {
                let spec: VirtualService = serde_json::from_value(object.value().get("spec")?.clone()).ok()?;
                // Its routes say for which pods they are.
                let is_mesh = spec.gateways.iter().any(|gateway| gateway == placement::MESH);
                is_mesh.then(|| (context, BTreeMap::new(), spec.hosts, None))
            });
            return kept.collect();
        }
        let served_by = self.placements.iter().flat_map(|place| place.served_by.iter().map(move |by| (place, by)));
        let at_sidecars = served_by.filter(|(_, by)| by.gateway.is_none());
        at_sidecars.map(|(place, by)| (&place.context, by.labels.clone(), place.hosts.clone(), Some(place))).collect()
    }

    fn targets_with_subset(&self) -> Vec<(ContextId, Target)> {
        let of = |placement: &Placement| {
            let targets = placement.targets.all().filter(|target| !target.subset.is_empty());
            targets.map(|target| (placement.context.clone(), target.clone())).collect::<Vec<_>>()
        };
        self.placements.iter().flat_map(of).collect()
    }

    fn translate_now(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::RouteTable, &self.parent);
        let routes = virtual_service::plain_routes(self, &mut emission.notes);
        let annotations = self.annotations(&mut emission);
        let tables = self.tables.iter().map(|reached| &reached.table.source);
        let parents: Shapers = self.sources.iter().chain(tables).collect();
        for placement in &self.placements {
            let Some(spec) = virtual_service::render(self, placement, &routes, &mut emission.notes) else { continue };
            let destinations = placement.targets.all().map(|target| &target.destination);
            let policies = placement.targets.policies.iter().flat_map(RoutePolicies::sources);
            let shapers = parents.with(&placement.sources).with(destinations.chain(policies));
            let body = Body::new(&spec, shapers).reading([&self.taken, &placement.targets.taken]);
            let ResourceRef { cluster, key } = &self.parent;
            let workspace = &placement.context.workspace;
            let name = names::sanitize(&format!("RouteTable-{}-{}-{cluster}-{workspace}", key.name, key.namespace));
            let extra = Extra { annotations: Some(&annotations), ..Extra::default() };
            emission.emit(&placement.context, &name, &body, extra);
        }
        emission.finish()
    }

    fn annotations(&self, emission: &mut Emission<'_>) -> BTreeMap<String, String> {
        let root = self.tables.first().map(|reached| &reached.table.input.spec);
        let mut annotations = root.map(|root| root.virtual_service_annotations.clone()).unwrap_or_default();
        for reserved in RESERVED {
            if annotations.remove(reserved).is_some() {
                let text = format!("spec.virtualServiceAnnotations: {reserved} is reserved and left out");
                emission.notes.say(&self.parent, Severity::Warning, Code::BadValue, text);
            }
        }
        annotations
    }
}
