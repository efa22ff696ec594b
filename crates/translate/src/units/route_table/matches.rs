//! The conditions of routes, for each kind of proxies that serve them.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::virtual_service::{HttpMatchRequest, L4MatchAttributes, TlsMatchAttributes};

use super::ServedBy;
use super::tree::{Workloads, both_labels};

/// Each condition for each kind of proxies, of sidecars only those with one of the given labels. Nothing if one of the
/// conditions holds always; `None` if the route is for none of the proxies.
pub(super) fn matches<C: Condition>(conditions: &[C], served_by: &[ServedBy], workloads: &Workloads) -> Option<Vec<C>> {
    let anything = [C::default()];
    let conditions = if conditions.is_empty() { &anything } else { conditions };
    let bindings: BTreeSet<&Vec<String>> = served_by.iter().map(|served| &served.gateways).collect();
    let mut matches = Vec::new();
    for condition in conditions {
        for served in served_by {
            for labels in labels(served, workloads) {
                let mut condition = condition.clone();
                let (bound_to, source, port) = condition.proxies();
                // Istio heeds either gateways or labels, and labels tell the proxies apart as well.
                if bindings.len() > 1 && labels.is_empty() {
                    bound_to.clone_from(&served.gateways);
                }
                *source = labels;
                // Users name ports of the gateway's Service, proxies know those of its pods.
                *port = port.map(|number| served.ports.get(&number).copied().unwrap_or(number));
                matches.push(condition);
            }
        }
    }
    if matches.is_empty() {
        return None;
    }
    Some(if matches.contains(&C::default()) { Vec::new() } else { matches })
}

/// The labels of the proxies that have a route; selectors of workloads never concern gateways.
fn labels(served: &ServedBy, workloads: &Workloads) -> Vec<BTreeMap<String, String>> {
    if workloads.is_empty() || served.gateway.is_some() {
        return vec![served.labels.clone()];
    }
    let both: BTreeSet<_> = workloads.iter().filter_map(|labels| both_labels(&served.labels, labels)).collect();
    both.into_iter().collect()
}

/// A condition of any kind of route, as far as it tells the proxies that it holds for.
pub(super) trait Condition: Clone + Default + PartialEq {
    /// Gateways, labels of the proxies, and the port.
    fn proxies(&mut self) -> (&mut Vec<String>, &mut BTreeMap<String, String>, &mut Option<u32>);
}

impl Condition for HttpMatchRequest {
    fn proxies(&mut self) -> (&mut Vec<String>, &mut BTreeMap<String, String>, &mut Option<u32>) {
        (&mut self.gateways, &mut self.source_labels, &mut self.port)
    }
}

impl Condition for L4MatchAttributes {
    fn proxies(&mut self) -> (&mut Vec<String>, &mut BTreeMap<String, String>, &mut Option<u32>) {
        (&mut self.gateways, &mut self.source_labels, &mut self.port)
    }
}

impl Condition for TlsMatchAttributes {
    fn proxies(&mut self) -> (&mut Vec<String>, &mut BTreeMap<String, String>, &mut Option<u32>) {
        (&mut self.gateways, &mut self.source_labels, &mut self.port)
    }
}
