//! Which policies hold for which destination, as each workspace sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_api::references::DestinationKind;
use meshrelay_snapshot::{Name, Object};

use crate::ResourceRef;
use crate::engine::Stage;
use crate::fingerprint::Shared;
use crate::input::kube::ServiceSpec;
use crate::input::{Input, Theirs};
use crate::model::{Model, Shareable, Viewer};
use crate::policies::destinations::{ByPort, DestinationPolicies, Idle, IdlePolicies, OwnTls, PortPolicies, locality};
use crate::policies::{Destination, Subject};
use crate::reads::{Taken, taking, together};
use crate::report::Notes;
use crate::units::external_service::ExternalService;
use crate::units::mesh_host::MeshHosts;

/// The policies of a destination.
#[derive(Debug)]
pub(super) struct Chosen {
    /// For its owner and all who have none of their own.
    base: Shared<ByPort>,
    /// For workspaces that have some of their own for it.
    special: BTreeMap<Name, Shared<ByPort>>,
    pub(super) viewers: Vec<Viewer>,
    /// What told the policies of the owner, and those of others.
    of_base: Taken,
    of_special: BTreeMap<Name, Taken>,
}

impl Chosen {
    pub(super) fn base(&self) -> &Shared<ByPort> {
        &self.base
    }

    /// What holds in the namespaces of a workspace.
    pub(super) fn of(&self, workspace: &Name) -> &Shared<ByPort> {
        self.special.get(workspace).unwrap_or(&self.base)
    }

    /// What told that any policy holds, and which do in the namespaces of a workspace, or for all who have none of their own.
    pub(super) fn taken(&self, workspace: Option<&Name>) -> Taken {
        let special = workspace.and_then(|workspace| self.of_special.get(workspace));
        // If the owner has none, there are any because of others; one of these is enough.
        let any = || self.of_special.values().next().filter(|_| self.base.is_empty());
        together([&self.of_base].into_iter().chain(special.or_else(any)))
    }

    pub(super) fn is_special(&self, workspace: &Name) -> bool {
        self.special.contains_key(workspace)
    }

    /// The same with every set of policies changed.
    pub(super) fn map(&self, change: impl Fn(&ByPort) -> ByPort) -> Self {
        let special = self.special.iter();
        Self {
            base: Shared::new(change(&self.base)),
            special: special.map(|(workspace, ports)| (workspace.clone(), Shared::new(change(ports)))).collect(),
            viewers: self.viewers.clone(),
            of_base: Arc::clone(&self.of_base),
            of_special: self.of_special.clone(),
        }
    }

    /// Every set of policies.
    pub(super) fn all(&self) -> impl Iterator<Item = &ByPort> {
        [&self.base].into_iter().chain(self.special.values()).map(|ports| &**ports)
    }
}

/// All destinations for which any policy holds.
pub(super) type ByDestination = BTreeMap<ResourceRef, Chosen>;

/// Chooses for every destination of the fleet.
pub(super) fn choose(
    model: &Model,
    hosts: &MeshHosts,
    external: &Stage<ExternalService>,
    policies: &DestinationPolicies,
    idle: &mut IdlePolicies,
    notes: &mut Notes,
) -> ByDestination {
    let mut chooser = Chooser { policies, idle, notes, chosen: ByDestination::new() };
    let has_policies = !policies.is_empty();
    // Without policies nothing is asked about the hosts, so that this need not be done again when they change.
    let hosts = has_policies.then(|| hosts.values()).into_iter().flatten();
    for host in hosts.filter(|host| host.parent.key.gvk.kind != "Service") {
        let parent = &host.parent;
        let table = model.clusters.get(&parent.cluster).map(|input| input.virtual_destinations());
        if let Some(input) = table.and_then(|table| table.get(&parent.place())) {
            let ports = host.ports.iter().map(|port| (port.number, "")).collect();
            let kind = DestinationKind::VirtualDestination;
            chooser.choose(
                model,
                kind,
                parent,
                &input.object,
                ports,
                (host.viewers.clone(), Arc::clone(&host.taken)),
                ByPort::new(),
            );
        }
    }
    for (parent, service) in services(model, chooser.policies) {
        let Some(owner) = model.owner(&parent.cluster, service.namespace()) else { continue };
        let tcp = service.spec.ports.iter().filter(|port| port.is_tcp());
        let ports = tcp.map(|port| (port.port, port.name.as_str())).collect();
        let viewers = taking(|| model.viewers(Shareable::Service, &parent.cluster, service, owner));
        chooser.choose(model, DestinationKind::Service, &parent, &service.object, ports, viewers, ByPort::new());
    }
    for service in external.values() {
        let ports = service.usable_ports().map(|port| (port.number, port.name.as_str())).collect();
        let own_tls = service.tls_ports().map(|(number, index)| {
            let own_tls = Some(OwnTls::new(&service.service, index));
            (number, PortPolicies { own_tls, ..PortPolicies::default() })
        });
        let (kind, object) = (DestinationKind::ExternalService, &service.service.object);
        let viewers = (service.viewers.clone(), Arc::clone(&service.taken));
        chooser.choose(model, kind, &service.parent, object, ports, viewers, own_tls.collect());
    }
    chooser.chosen
}

type Service = Arc<Input<Theirs<ServiceSpec>>>;

/// The Services that any policy may select.
fn services<'a>(model: &'a Model, policies: &DestinationPolicies) -> BTreeMap<ResourceRef, &'a Service> {
    let mut found = BTreeMap::new();
    for workspace in model.workspaces.values() {
        for selector in policies.service_selectors(&workspace.name) {
            let selector = selector.and_then(|selector| selector.selector.as_ref());
            let is_wanted = |cluster: &Name| {
                selector.is_none_or(|selector| selector.cluster.is_empty() || *cluster == *selector.cluster)
            };
            for (cluster, input) in model.clusters.iter().filter(|(cluster, _)| is_wanted(cluster)) {
                let candidates = match selector {
                    Some(selector) => input.service_candidates(selector),
                    None => input.services().values().collect(),
                };
                for service in candidates {
                    let is_seen = model.context(cluster, service.namespace()).is_some()
                        && model
                            .owner(cluster, service.namespace())
                            .is_some_and(|owner| model.sees(workspace, Shareable::Service, cluster, service, owner));
                    if is_seen {
                        found.insert(service.reference(cluster), service);
                    }
                }
            }
        }
    }
    found
}

struct Chooser<'a> {
    policies: &'a DestinationPolicies,
    idle: &'a mut IdlePolicies,
    notes: &'a mut Notes,
    chosen: ByDestination,
}

impl Chooser<'_> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one destination, of three kinds")]
    fn choose(
        &mut self,
        model: &Model,
        kind: DestinationKind,
        target: &ResourceRef,
        object: &Object,
        ports: Vec<(u32, &str)>,
        (viewers, seen): (Vec<Viewer>, Taken),
        own: ByPort,
    ) {
        let ResourceRef { cluster, key } = target;
        let Some(owner) = model.owner(cluster, &key.namespace).map(|owner| &owner.name) else { return };
        if own.is_empty() && !viewers.iter().any(|viewer| self.policies.are_in(&viewer.workspace)) {
            return;
        }
        let subject =
            Subject { cluster, namespace: &key.namespace, name: &key.name, workspace: owner, labels: object.labels() };
        let destination = Destination { kind, object: subject, ports };
        let (base, of_base) = taking(|| self.policies.hold(owner, &destination, target, self.notes));
        let (base, of_base) = (filled(base, &own), together([&of_base, &seen]));
        self.note_idle(&base, target);
        let (mut special, mut of_special) = (BTreeMap::new(), BTreeMap::new());
        for viewer in viewers.iter().filter(|viewer| viewer.workspace != *owner) {
            let (theirs, taken) = taking(|| self.policies.hold(&viewer.workspace, &destination, target, self.notes));
            if !theirs.is_empty() {
                let theirs = filled(theirs, &base);
                self.note_idle(&theirs, target);
                special.insert(viewer.workspace.clone(), Shared::new(theirs));
                of_special.insert(viewer.workspace.clone(), together([&taken, &viewer.reads]));
            }
        }
        if !(base.is_empty() && special.is_empty()) {
            let base = Shared::new(base);
            self.chosen.insert(target.clone(), Chosen { base, special, viewers, of_base, of_special });
        }
    }

    /// Failover without anything that notices failures.
    fn note_idle(&mut self, ports: &ByPort, target: &ResourceRef) {
        for port in ports.values().filter(|port| port.outlier_detection.is_none()) {
            // Of a policy for all destinations nobody expects that it does something for each of them.
            let is_meant = |policy: &meshrelay_api::resilience::FailoverPolicySpec| {
                !policy.apply_to_destinations.is_empty() || target.key.gvk.kind != "Service"
            };
            if let Some(policy) = port.failover.as_ref().filter(|policy| is_meant(&policy.input.spec))
                && locality(&policy.input.spec, &mut Vec::new()).needs_outlier_detection
            {
                self.idle.add(&policy.source, Idle::NoOutlierDetection, target);
            }
        }
    }
}

/// Policies, with others where they have none.
pub(super) fn filled(mut ports: ByPort, others: &ByPort) -> ByPort {
    for (port, other) in others {
        ports.entry(*port).or_default().fill(other);
    }
    ports
}
