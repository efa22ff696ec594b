//! What many Services need to know: the policies, who the callers are, and what leads to a Service.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::security::AccessPolicySpec;
use meshrelay_snapshot::Name;

use super::effect::Layers;
use super::policy::Access;
use crate::ResourceRef;
use crate::engine::{Event, Round};
use crate::fingerprint::{Shared, fingerprint};
use crate::model::{Model, Principals};
use crate::policies::Book;
use crate::reads::{Changes, Place, Thing, record};
use crate::report::{Code, Notes, Severity};
use crate::unit::UnitKind;
use crate::units::mesh_host::MeshHosts;

/// Name of the step.
pub(super) const NAME: &str = "access";

/// The policies of each workspace, and the callers that it stands for.
#[derive(Debug)]
pub(super) struct Ground {
    policies: BTreeMap<Name, Vec<Access>>,
    principals: BTreeMap<Name, Shared<Principals>>,
}

/// What the results are read by.
const POLICIES: &str = "policies";
const PRINCIPALS: &str = "principals";

impl Ground {
    pub(super) fn resolve(model: &Model, book: &Book<AccessPolicySpec>, notes: &mut Notes) -> Self {
        let mut policies = BTreeMap::new();
        let mut principals = BTreeMap::new();
        let some_isolated = model.workspaces.values().any(|workspace| workspace.settings.isolation().is_some());
        for workspace in model.workspaces.values() {
            let all = book.of(&workspace.name).iter().enumerate();
            let all: Vec<Access> =
                all.map(|(rank, policy)| Access::resolve(model, workspace, rank, policy, notes)).collect();
            policies.insert(workspace.name.clone(), all);
            if some_isolated {
                principals.insert(workspace.name.clone(), Shared::new(model.principals_of(workspace)));
            }
            let layers = workspace.settings.isolation().and_then(|isolation| isolation.enforcement_layers.as_ref());
            if layers.is_some() && Layers::chosen(layers).is_none() {
                let text = "spec.options.serviceIsolation.enforcementLayers: expected cni or mesh to be true, found \
                            neither: everything available enforces isolation";
                for source in &workspace.settings.sources {
                    notes.say(source, Severity::Warning, Code::BadValue, text);
                }
            }
        }
        Self { policies, principals }
    }

    pub(super) fn compare(before: Option<&Self>, after: &Self, changes: &mut Changes) {
        let place = Place::results(NAME);
        let names = before.into_iter().chain([after]).flat_map(|ground| ground.policies.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let policies = |ground: &Self| fingerprint(&ground.policies.get(name));
            if before.is_none_or(|before| policies(before) != policies(after)) {
                changes.add(place, Thing::Namespace(POLICIES, name));
            }
            let principals = |ground: &Self| fingerprint(&ground.principals.get(name));
            if before.is_none_or(|before| principals(before) != principals(after)) {
                changes.add(place, Thing::Namespace(PRINCIPALS, name));
            }
        }
    }

    /// The policies of a workspace, the oldest first.
    pub(super) fn policies(&self, workspace: &str) -> &[Access] {
        record(Place::results(NAME), Thing::Namespace(POLICIES, workspace));
        self.policies.get(workspace).map(Vec::as_slice).unwrap_or_default()
    }

    /// Everything that runs in a workspace.
    pub(super) fn principals(&self, workspace: &str) -> Option<&Shared<Principals>> {
        record(Place::results(NAME), Thing::Namespace(PRINCIPALS, workspace));
        self.principals.get(workspace)
    }
}

/// The VirtualDestinations that each Service stands behind.
#[derive(Debug, Default)]
pub(super) struct Backed {
    services: BTreeMap<ResourceRef, BTreeSet<ResourceRef>>,
    hosts: BTreeMap<ResourceRef, BTreeSet<ResourceRef>>,
}

/// Name under which it is read.
const BACKED: &str = "backed services";

impl Backed {
    /// Takes in what changed among the hosts in this round.
    pub(super) fn update(&mut self, round: &mut Round<'_>, hosts: &MeshHosts) {
        let mut touched = BTreeSet::new();
        for event in &round.events {
            let (parent, after) = match event {
                Event::Changed(parent) if parent.id().0 == UnitKind::MeshHost => {
                    let (_, parent) = parent.id();
                    let host = hosts.look(round.model, &parent);
                    let services = host.iter().flat_map(|host| host.backings.values());
                    let services = services.map(|backing| backing.service.clone()).collect();
                    (parent, services)
                }
                Event::Gone((UnitKind::MeshHost, parent)) => (parent.clone(), BTreeSet::new()),
                _ => continue,
            };
            // A federated Service is its own host.
            if parent.key.gvk.kind == *"Service" {
                continue;
            }
            let before = self.hosts.remove(&parent).unwrap_or_default();
            for service in before.difference(&after) {
                if let Some(hosts) = self.services.get_mut(service) {
                    hosts.remove(&parent);
                }
                touched.insert(service.clone());
            }
            for service in after.difference(&before) {
                self.services.entry(service.clone()).or_default().insert(parent.clone());
                touched.insert(service.clone());
            }
            if !after.is_empty() {
                self.hosts.insert(parent, after);
            }
        }
        self.services.retain(|_, hosts| !hosts.is_empty());
        for service in &touched {
            round.changes.add(Place::results(BACKED), thing(service));
        }
    }

    /// What leads to a Service, itself included if it is federated.
    pub(super) fn hosts<'a>(&'a self, service: &'a ResourceRef) -> impl Iterator<Item = &'a ResourceRef> {
        record(Place::results(BACKED), thing(service));
        self.services.get(service).into_iter().flatten().chain([service])
    }
}

fn thing(service: &ResourceRef) -> Thing<'_> {
    Thing::Result(&service.cluster, "", &service.key.namespace, &service.key.name)
}
