//! Routes.
//!
//! A root table becomes one VirtualService in each namespace with a gateway that it names, and in each namespace with
//! workloads that it selects.

mod actions;
mod destinations;
mod matchers;
mod placement;
mod resolve;
mod virtual_service;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::networking::RouteTableSpec;
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::{ContentHash, Name};

pub(crate) use destinations::Target;
pub(crate) use resolve::{list, resolve};
pub(crate) use virtual_service::subset_name;

use crate::fingerprint::{Shared, fingerprint};
use crate::input::kube::selects;
use crate::input::{Input, Ours};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::report::{Code, Finding, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// Annotations that users may not set on generated objects.
const RESERVED: [&str; 2] = [meshrelay_api::labels::CLUSTER, crate::output::SHAPED_BY];

/// A root table with everywhere that it is served.
#[derive(Debug, Hash)]
pub(crate) struct RouteTable {
    pub(crate) parent: ResourceRef,
    table: Arc<Input<Ours<RouteTableSpec>>>,
    pub(crate) placements: Vec<Placement>,
    sources: Vec<ResourceRef>,
    /// See [`Options::federated_host_headers`](crate::Options).
    federated_host_headers: bool,
}

/// A context in which a table is served.
#[derive(Debug, Hash)]
pub(crate) struct Placement {
    pub(crate) context: ContextId,
    /// The proxies that serve it.
    served_by: Vec<ServedBy>,
    hosts: Vec<String>,
    pub(crate) targets: Shared<Targets>,
    /// The gateways that had a part.
    sources: Vec<ResourceRef>,
}

/// Proxies in a context, by what they are bound to and their labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ServedBy {
    gateways: Vec<String>,
    labels: BTreeMap<String, String>,
    /// Ports of the gateway's pods by those of its Service, which users know.
    ports: BTreeMap<u32, u32>,
}

/// Where each route leads, by position; an action that leads nowhere has no targets.
#[derive(Debug, Hash)]
pub(crate) struct Targets {
    pub(crate) http: Vec<Result<Vec<Target>, Finding>>,
    pub(crate) tcp: Vec<Result<Vec<Target>, Finding>>,
    pub(crate) tls: Vec<Result<Vec<Target>, Finding>>,
}

impl Targets {
    /// All targets of all routes.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Target> {
        let routes = self.http.iter().chain(&self.tcp).chain(&self.tls);
        routes.filter_map(|targets| targets.as_ref().ok()).flatten()
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

impl ParentInput for RouteTable {
    fn id(&self) -> BatchId {
        (UnitKind::RouteTable, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::RouteTable, &self.parent);
        let (routes, problems) = actions::http_routes(&self.table.spec, &self.parent);
        for (code, text) in problems {
            let severity = if code == Code::NotTranslated || code == Code::DuplicateRoute {
                Severity::Warning
            } else {
                Severity::Invalid
            };
            emission.notes.say(&self.parent, severity, code, text);
        }
        let annotations = self.annotations(&mut emission);
        let parents: Shapers = self.sources.iter().chain([&self.parent]).collect();
        for placement in &self.placements {
            let Some(spec) = virtual_service::render(self, placement, &routes, &mut emission.notes) else { continue };
            let destinations = placement.targets.all().map(|target| &target.destination);
            let shapers = parents.with(&placement.sources).with(destinations);
            let body = Body::new(&spec, shapers);
            let ResourceRef { cluster, key } = &self.parent;
            let workspace = &placement.context.workspace;
            let name = names::sanitize(&format!("RouteTable-{}-{}-{cluster}-{workspace}", key.name, key.namespace));
            let extra = Extra { annotations: Some(&annotations), ..Extra::default() };
            emission.emit(&placement.context, &name, &body, extra);
        }
        emission.finish()
    }
}

impl RouteTable {
    fn annotations(&self, emission: &mut Emission<'_>) -> BTreeMap<String, String> {
        let mut annotations = self.table.spec.virtual_service_annotations.clone();
        for reserved in RESERVED {
            if annotations.remove(reserved).is_some() {
                let text = format!("spec.virtualServiceAnnotations: {reserved} is reserved and left out");
                emission.notes.say(&self.parent, Severity::Warning, Code::BadValue, text);
            }
        }
        annotations
    }
}
