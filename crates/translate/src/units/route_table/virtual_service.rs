use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::VirtualService;
use meshrelay_api::istio::virtual_service::{
    Destination, HeaderOperations, Headers, HttpDirectResponse, HttpMatchRequest, HttpRewrite, HttpRoute,
    HttpRouteDestination, L4MatchAttributes, PortSelector, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
};

use super::actions::{Action, PlainRoute};
use super::weights::shares;
use super::{Placement, RouteTable, ServedBy, Target};
use crate::hostname;
use crate::names;
use crate::report::{Code, Finding, Notes, Severity};

/// The VirtualService of a table in one context; `None` if no route is left.
pub(super) fn render(
    table: &RouteTable,
    placement: &Placement,
    routes: &[PlainRoute],
    notes: &mut Notes,
) -> Option<VirtualService> {
    let gateways: BTreeSet<&String> = placement.served_by.iter().flat_map(|served| &served.gateways).collect();
    let mut writer = Writer { table, placement, notes };
    let spec = VirtualService {
        export_to: vec![".".to_owned()],
        gateways: gateways.into_iter().cloned().collect(),
        hosts: hostname::without_covered(&placement.hosts),
        http: routes.iter().map(|route| writer.http_route(route)).collect(),
        tcp: writer.tcp_routes(),
        tls: writer.tls_routes(),
    };
    let has_routes = !(spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty());
    has_routes.then_some(spec)
}

/// The targets of a route with their shares, which a single target does not need.
type Weighted = Vec<(Target, Option<i32>)>;

struct Writer<'a, 'n> {
    table: &'a RouteTable,
    placement: &'a Placement,
    notes: &'n mut Notes,
}

impl Writer<'_, '_> {
    fn http_route(&mut self, route: &PlainRoute) -> HttpRoute {
        let mut value =
            HttpRoute { name: Some(route.name.clone()), r#match: self.matches(&route.matches), ..HttpRoute::default() };
        // What stands in for a route that cannot be served.
        let replaced = || Some(HttpDirectResponse { status: 500, body: None });
        let mut targets = Weighted::new();
        match &route.action {
            Action::Redirect(redirect) => value.redirect = Some(redirect.clone()),
            Action::Respond(response) => value.direct_response = Some(response.clone()),
            Action::Broken => {
                value.direct_response = replaced();
                return value;
            }
            Action::Forward { rewrite, auto_host } => {
                let place = format!("spec.http[{}].forwardTo", route.index);
                let Some(found) = self.targets(self.placement.targets.http.get(route.index), &place) else {
                    value.direct_response = replaced();
                    return value;
                };
                targets = found;
                self.forward(&targets, rewrite, *auto_host, &mut value);
            }
        }
        if let Some(policies) = self.placement.targets.policies.get(route.index) {
            let targets: Vec<&Target> = targets.iter().map(|(target, _)| target).collect();
            policies.apply(&mut value, &targets, &self.placement.context, self.notes);
        }
        value
    }

    /// The targets with their shares; what is wrong with them is told.
    fn targets(&mut self, targets: Option<&Result<Vec<Target>, Finding>>, place: &str) -> Option<Weighted> {
        let targets = match targets {
            Some(Ok(targets)) if !targets.is_empty() => targets,
            Some(Err((code, problem))) => {
                self.refuse(place, *code, problem);
                return None;
            }
            _ => {
                self.refuse(place, Code::Missing, "expected destinations or spec.defaultDestination, found neither");
                return None;
            }
        };
        let weights: Vec<u32> = targets.iter().map(|target| target.weight).collect();
        let shares = match shares(&weights) {
            Ok(shares) => shares,
            Err(problem) => {
                self.refuse(place, Code::Weights, &problem);
                return None;
            }
        };
        let weighted = targets.iter().cloned().zip(shares).filter(|(_, share)| *share > 0);
        let weighted: Weighted = weighted.map(|(target, share)| (target, i32::try_from(share).ok())).collect();
        Some(if let [(target, _)] = weighted.as_slice() { vec![(target.clone(), None)] } else { weighted })
    }

    fn refuse(&mut self, place: &str, code: Code, problem: &str) {
        let is_http = place.starts_with("spec.http");
        let effect = if is_http { "requests are answered with status 500" } else { "the route is left out" };
        let text = format!("{place}: {problem}: {effect}");
        let severity = if code == Code::NotTranslated { Severity::Warning } else { Severity::Invalid };
        self.notes.say_in(&self.table.parent, &self.placement.context, severity, code, text);
    }

    fn forward(&self, targets: &Weighted, rewrite: &HttpRewrite, auto_host: bool, route: &mut HttpRoute) {
        let hosts: BTreeSet<&str> = targets.iter().map(|(target, _)| target.host.as_str()).collect();
        let only_host = hosts.first().filter(|_| hosts.len() == 1);
        let mut rewrite = rewrite.clone();
        if let Some(host) = only_host.filter(|_| auto_host) {
            rewrite.authority = Some((*host).to_owned());
        }
        route.rewrite = Some(rewrite).filter(|rewrite| *rewrite != HttpRewrite::default());
        let destination = |(target, weight): &(Target, Option<i32>)| {
            let mut set = BTreeMap::new();
            // Istio rewrites the host of a whole route only; for one of several destinations, the header does it.
            if auto_host && only_host.is_none() {
                set.insert("Host".to_owned(), target.host.clone());
            }
            if self.table.federated_host_headers && target.is_mesh_host {
                set.insert("x-gloo-mesh-federated-host".to_owned(), target.host.clone());
                set.insert("x-gloo-mesh-federated-port".to_owned(), target.port.to_string());
            }
            let headers = (!set.is_empty()).then(|| {
                let request = Some(HeaderOperations { set, ..HeaderOperations::default() });
                Headers { request, response: None }
            });
            HttpRouteDestination { destination: destination(target), headers, weight: *weight }
        };
        route.route = targets.iter().map(destination).collect();
    }

    fn tcp_routes(&mut self) -> Vec<TcpRoute> {
        let table = self.table;
        let mut routes = Vec::new();
        for (index, route) in table.table.spec.tcp.iter().enumerate() {
            let conditions: Vec<_> = route
                .matchers
                .iter()
                .map(|matcher| L4MatchAttributes { port: port(matcher.port), ..L4MatchAttributes::default() })
                .collect();
            let targets = self.targets(self.placement.targets.tcp.get(index), &format!("spec.tcp[{index}].forwardTo"));
            let r#match = self.matches(&conditions);
            routes.extend(targets.map(|targets| TcpRoute { r#match, route: stream_destinations(&targets) }));
        }
        routes
    }

    fn tls_routes(&mut self) -> Vec<TlsRoute> {
        let table = self.table;
        let hosts = &self.placement.hosts;
        let mut routes = Vec::new();
        for (index, route) in table.table.spec.tls.iter().enumerate() {
            let condition = |sni_hosts: &[String], number| TlsMatchAttributes {
                sni_hosts: if sni_hosts.is_empty() { hosts.clone() } else { sni_hosts.to_vec() },
                port: port(number),
                ..TlsMatchAttributes::default()
            };
            let mut conditions: Vec<_> =
                route.matchers.iter().map(|matcher| condition(&matcher.sni_hosts, matcher.port)).collect();
            if conditions.is_empty() {
                conditions.push(condition(&[], 0));
            }
            let targets = self.targets(self.placement.targets.tls.get(index), &format!("spec.tls[{index}].forwardTo"));
            let r#match = self.matches(&conditions);
            routes.extend(targets.map(|targets| TlsRoute { r#match, route: stream_destinations(&targets) }));
        }
        routes
    }

    /// Each condition for each kind of proxies; nothing if one of them holds always.
    fn matches<C: Condition>(&self, conditions: &[C]) -> Vec<C> {
        let anything = [C::default()];
        let conditions = if conditions.is_empty() { &anything } else { conditions };
        let served_by = &self.placement.served_by;
        let bindings: BTreeSet<&Vec<String>> = served_by.iter().map(|served| &served.gateways).collect();
        let mut matches = Vec::new();
        for condition in conditions {
            for ServedBy { gateways, labels, ports } in served_by {
                let mut condition = condition.clone();
                let (bound_to, source, port) = condition.proxies();
                source.clone_from(labels);
                // Istio heeds either gateways or labels, and labels tell the proxies apart as well.
                if bindings.len() > 1 && labels.is_empty() {
                    bound_to.clone_from(gateways);
                }
                // Users name ports of the gateway's Service, proxies know those of its pods.
                *port = port.map(|number| ports.get(&number).copied().unwrap_or(number));
                matches.push(condition);
            }
        }
        if matches.contains(&C::default()) { Vec::new() } else { matches }
    }
}

/// A condition of any kind of route, as far as it tells the proxies that it holds for.
trait Condition: Clone + Default + PartialEq {
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

fn stream_destinations(targets: &Weighted) -> Vec<RouteDestination> {
    let destination = |(target, weight): &(Target, Option<i32>)| RouteDestination {
        destination: destination(target),
        weight: *weight,
    };
    targets.iter().map(destination).collect()
}

/// A port, where 0 stands for any.
fn port(number: u32) -> Option<u32> {
    Some(number).filter(|number| *number != 0)
}

/// A target as VirtualServices write it.
pub(crate) fn destination(target: &Target) -> Destination {
    let subset = (!target.subset.is_empty()).then(|| subset_name(&target.subset));
    Destination { host: target.host.clone(), port: Some(PortSelector { number: Some(target.port) }), subset }
}

/// `version-v2` for `version: v2`.
pub(crate) fn subset_name(subset: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = subset.iter().map(|(key, value)| format!("{key}-{value}")).collect();
    names::sanitize(&parts.join("-"))
}
