//! What selectors of policies pick. Selectors are exact, a condition that is left out holds always, and the conditions
//! of one selector must hold together.

use std::collections::BTreeMap;

use meshrelay_api::references::DestinationKind;
use meshrelay_api::selectors::{
    DestinationSelector, ObjectSelector, PortSelector, RouteLabelSelector, RouteSelector, WorkloadKind,
    WorkloadSelector,
};
use meshrelay_snapshot::Name;

use crate::ResourceRef;
use crate::input::kube::selects;
use crate::report::{Code, Notes, Severity};

/// An object as selectors look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// The workspace that owns it.
    pub(crate) workspace: &'a str,
    pub(crate) labels: &'a BTreeMap<Name, Name>,
}

impl Subject<'_> {
    /// Whether the selector picks the object.
    pub(crate) fn is_selected(&self, selector: &ObjectSelector) -> bool {
        is(&selector.name, self.name)
            && is(&selector.namespace, self.namespace)
            && is(&selector.cluster, self.cluster)
            && is(&selector.workspace, self.workspace)
            && selects(&selector.labels, self.labels)
    }
}

/// A Service, VirtualDestination or ExternalService as selectors look at it.
#[derive(Clone, Debug)]
pub(crate) struct Destination<'a> {
    pub(crate) kind: DestinationKind,
    pub(crate) object: Subject<'a>,
    /// Numbers and names of the ports that are looked at; those of VirtualDestinations have no names.
    pub(crate) ports: Vec<(u32, &'a str)>,
}

impl Destination<'_> {
    /// Positions of the ports that the selector picks; none if it does not pick the destination.
    pub(crate) fn selected_ports(&self, selector: &DestinationSelector) -> Vec<usize> {
        if selector.kind != self.kind
            || !selector.selector.as_ref().is_none_or(|wanted| self.object.is_selected(wanted))
        {
            return Vec::new();
        }
        let is_selected = |port: &(usize, &(u32, &str))| is_port(selector.port.as_ref(), *port.1);
        self.ports.iter().enumerate().filter(is_selected).map(|(index, _)| index).collect()
    }

    /// Whether the selector picks the destination at one of its ports.
    pub(crate) fn is_selected(&self, selector: &DestinationSelector) -> bool {
        !self.selected_ports(selector).is_empty()
    }
}

/// Whether a selector picks a port.
fn is_port(selector: Option<&PortSelector>, (number, name): (u32, &str)) -> bool {
    selector.is_none_or(|selector| {
        selector.number.is_none_or(|wanted| wanted == number)
            && selector.name.as_deref().is_none_or(|wanted| wanted == name)
    })
}

/// A route as selectors look at it.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a> {
    /// Its own labels, those of its table, and those that it inherits.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// The table that it is written in.
    pub(crate) cluster: &'a str,
    pub(crate) namespace: &'a str,
    /// The workspace that owns the table.
    pub(crate) workspace: &'a str,
    /// Where it leads, each with the one port that it goes to.
    pub(crate) destinations: &'a [Destination<'a>],
}

impl Route<'_> {
    /// Whether the selector picks the route. One without conditions picks every route.
    pub(crate) fn is_selected(&self, selector: &RouteSelector) -> bool {
        selector.route.as_ref().is_none_or(|wanted| self.has(wanted))
            && selector
                .with_destinations
                .as_ref()
                .is_none_or(|wanted| self.destinations.iter().any(|destination| destination.is_selected(wanted)))
    }

    /// Whether labels and table are those that are wanted.
    pub(crate) fn has(&self, wanted: &RouteLabelSelector) -> bool {
        is(&wanted.namespace, self.namespace)
            && is(&wanted.cluster, self.cluster)
            && is(&wanted.workspace, self.workspace)
            && wanted.labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// Says what selectors of workloads ask for that has no effect.
pub(crate) fn check_workloads(source: &ResourceRef, field: &str, selectors: &[WorkloadSelector], notes: &mut Notes) {
    for (index, selector) in selectors.iter().enumerate() {
        if selector.kind == WorkloadKind::Vm {
            let text = format!("{field}[{index}].kind: VM is not translated yet: the entry selects nothing");
            notes.say(source, Severity::Warning, Code::NotTranslated, text);
        }
        if selector.port.is_some() {
            let text = format!("{field}[{index}].port is not translated: workloads are selected with all their ports");
            notes.say(source, Severity::Warning, Code::NotTranslated, text);
        }
    }
}

fn is(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || found == wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Name, Name> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn destinations_are_picked_by_kind_place_labels_and_port() {
        let labels = labels(&[("app", "a")]);
        let object = Subject { cluster: "c1", namespace: "n", name: "a", workspace: "w", labels: &labels };
        let destination =
            Destination { kind: DestinationKind::Service, object, ports: vec![(80, "http"), (90, "admin")] };
        for (selector, ports) in [
            (json!({}), vec![0, 1]),
            (json!({"kind": "VIRTUAL_DESTINATION"}), vec![]),
            (json!({"port": {"number": 90}}), vec![1]),
            (json!({"port": {"name": "http"}}), vec![0]),
            (json!({"port": {"number": 1}}), vec![]),
            (json!({"selector": {"labels": {"app": "a"}, "workspace": "w"}}), vec![0, 1]),
            (json!({"selector": {"labels": {"app": "b"}}}), vec![]),
            (json!({"selector": {"cluster": "c2"}}), vec![]),
            (json!({"selector": {"name": "a", "namespace": "n", "cluster": "c1"}, "port": {"number": 80}}), vec![0]),
        ] {
            let parsed: DestinationSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(destination.selected_ports(&parsed), ports, "{selector}");
        }
    }

    #[test]
    fn routes_are_picked_by_labels_table_and_destinations() {
        let of_service = labels(&[]);
        let object = Subject { cluster: "c1", namespace: "n", name: "a", workspace: "w", labels: &of_service };
        let destinations = [Destination { kind: DestinationKind::Service, object, ports: vec![(80, "http")] }];
        let own = BTreeMap::from([("route".to_owned(), "cart".to_owned())]);
        let route =
            Route { labels: &own, cluster: "mgmt", namespace: "shop", workspace: "w", destinations: &destinations };
        for (selector, picked) in [
            (json!({}), true),
            (json!({"route": {}}), true),
            (json!({"route": {"labels": {"route": "cart"}, "cluster": "mgmt"}}), true),
            (json!({"route": {"labels": {"route": "other"}}}), false),
            (json!({"route": {"namespace": "other"}}), false),
            (json!({"withDestinations": {}}), true),
            (json!({"withDestinations": {"port": {"number": 81}}}), false),
        ] {
            let parsed: RouteSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(route.is_selected(&parsed), picked, "{selector}");
        }
    }
}
