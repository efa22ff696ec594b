//! Which Services something can be said about, and which ports of them selectors pick.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshrelay_api::references::DestinationKind;
use meshrelay_api::selectors::DestinationSelector;
use meshrelay_snapshot::Name;

use super::context::Place;
use super::service::Ruling;
use crate::ResourceRef;
use crate::input::kube::ServiceSpec;
use crate::input::{Input, Theirs};
use crate::model::service_of;
use crate::policies::{Destination, Subject};
use crate::report::{Code, Notes, Severity};

/// Without a selector there are no pods to protect.
pub(super) fn has_pods(service: &Input<Theirs<ServiceSpec>>) -> bool {
    !service.spec.selector.is_empty() && service.spec.kind != *"ExternalName"
}

/// Whether a Service is that of a gateway, or another name for the pods of one.
pub(super) fn is_of_gateway(place: Place<'_>, service: &Input<Theirs<ServiceSpec>>) -> bool {
    place.cluster.gateways().values().any(|gateway| {
        let labels = &gateway.spec.workload_labels;
        let has = |(key, value): (&Name, &Name)| labels.get(key.as_str()).is_some_and(|found| *value == **found);
        service_of(gateway).is_some_and(|(namespace, name)| {
            namespace == *place.namespace && (name == *service.name() || service.spec.selector.iter().all(has))
        })
    })
}

/// Positions of the ports that any of the selectors picks.
pub(super) fn picked(
    place: Place<'_>,
    service: &Arc<Input<Theirs<ServiceSpec>>>,
    selectors: &[&DestinationSelector],
) -> BTreeSet<usize> {
    if selectors.is_empty() {
        return BTreeSet::new();
    }
    let object = Subject {
        cluster: &place.cluster.name,
        namespace: place.namespace,
        name: service.name(),
        workspace: &place.workspace.name,
        labels: service.object.labels(),
    };
    let ports = service.spec.ports.iter().map(|port| (port.port, port.name.as_str())).collect();
    let destination = Destination { kind: DestinationKind::Service, object, ports };
    selectors.iter().flat_map(|selector| destination.selected_ports(selector)).collect()
}

pub(super) fn note_unknown_ports(rulings: &[Ruling], parent: &ResourceRef, notes: &mut Notes) {
    let unknown = rulings.iter().flat_map(|ruling| &ruling.mesh).filter(|port| port.is_tcp && port.number.is_none());
    for port in unknown {
        let text = format!(
            "port {} leads to a port of the pods by name, {}, and no known workload has it: nobody may call it. Use its \
             number",
            port.service_port,
            port.name.as_ref().map_or("", Name::as_str)
        );
        notes.say(parent, Severity::Warning, Code::UnknownTargetPort, text);
    }
}
