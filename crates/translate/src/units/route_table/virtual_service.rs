use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::VirtualService;
use meshrelay_api::istio::virtual_service::{
    Destination, HeaderOperations, Headers, HttpDirectResponse, HttpMatchRequest, HttpRewrite, HttpRoute,
    HttpRouteDestination, L4MatchAttributes, PortSelector, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
};
use meshrelay_api::matchers::TcpRequestMatcher;

use super::actions::{self, Action};
use super::conditions::Conditions;
use super::matches::matches;
use super::weights::shares;
use super::{Placement, Reached, Route, RouteTable, Target};
use crate::ResourceRef;
use crate::hostname;
use crate::names;
use crate::report::{Code, Finding, Notes, Severity};

/// A route, as far as it is the same wherever it is served.
#[derive(Debug)]
pub(super) struct PlainRoute {
    /// Conditions, any of which is enough; `None` if those that were meant are lost.
    matches: Option<Vec<HttpMatchRequest>>,
    action: Action,
}

/// The routes of a tree; what is wrong with the tables is told.
pub(super) fn plain_routes(table: &RouteTable, notes: &mut Notes) -> Vec<PlainRoute> {
    for Reached { table, .. } in &table.tables {
        for (index, route) in table.input.spec.http.iter().enumerate() {
            for (position, matcher) in route.matchers.iter().enumerate() {
                // What cannot be read is told where the tree is made.
                if let Ok(Err(problem)) = Conditions::read(matcher).map(|conditions| conditions.check()) {
                    let text = format!("spec.http[{index}].matchers[{position}].{problem}: the matcher is left out");
                    notes.say(&table.source, Severity::Invalid, Code::BadValue, text);
                }
            }
        }
    }
    let plain = |route: &Route| {
        let matches: Vec<_> = route.conditions.iter().filter_map(Conditions::render).collect();
        let written = route.written().filter(|_| !route.replaced);
        let action = written.map_or(Ok(Action::Broken), |written| actions::action(written, &route.conditions));
        let action = action.unwrap_or_else(|(code, problem)| {
            let severity = if code == Code::NotTranslated { Severity::Warning } else { Severity::Invalid };
            let text = format!("spec.http[{}]: {problem}: requests are answered with status 500", route.index);
            notes.say(&route.table.source, severity, code, text);
            Action::Broken
        });
        PlainRoute { matches: Some(matches).filter(|all| all.is_empty() == route.conditions.is_empty()), action }
    };
    table.routes.iter().map(plain).collect()
}

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
        http: routes.iter().enumerate().filter_map(|(position, route)| writer.http_route(position, route)).collect(),
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
    /// `None` if none of the proxies has the route.
    fn http_route(&mut self, position: usize, plain: &PlainRoute) -> Option<HttpRoute> {
        let route = self.table.routes.get(position)?;
        let r#match = matches(plain.matches.as_deref()?, &self.placement.served_by, &route.workloads)?;
        let mut value = HttpRoute { name: Some(route.name.clone()), r#match, ..HttpRoute::default() };
        // What stands in for a route that cannot be served.
        let replaced = || Some(HttpDirectResponse { status: 500, body: None });
        let mut targets = Weighted::new();
        match &plain.action {
            Action::Redirect(redirect) => value.redirect = Some(redirect.clone()),
            Action::Respond(response) => value.direct_response = Some(response.clone()),
            Action::Broken => {
                value.direct_response = replaced();
                return Some(value);
            }
            Action::Forward { rewrite, auto_host } => {
                let place = format!("spec.http[{}].forwardTo", route.index);
                let found = self.targets(&route.table.source, self.placement.targets.http.get(position), &place);
                let Some(found) = found else {
                    value.direct_response = replaced();
                    return Some(value);
                };
                targets = found;
                self.forward(&targets, rewrite, *auto_host, &mut value);
            }
        }
        if let Some(policies) = self.placement.targets.policies.get(position) {
            let targets: Vec<&Target> = targets.iter().map(|(target, _)| target).collect();
            policies.apply(&mut value, &targets, &self.placement.context, self.notes);
        }
        Some(value)
    }

    /// The targets with their shares; what is wrong with them is told.
    fn targets(
        &mut self,
        source: &ResourceRef,
        targets: Option<&Result<Vec<Target>, Finding>>,
        place: &str,
    ) -> Option<Weighted> {
        let targets = match targets {
            Some(Ok(targets)) if !targets.is_empty() => targets,
            Some(Err((code, problem))) => {
                self.refuse(source, place, *code, problem);
                return None;
            }
            _ => {
                self.refuse(
                    source,
                    place,
                    Code::Missing,
                    "expected destinations or spec.defaultDestination, found neither",
                );
                return None;
            }
        };
        if let Some(target) = targets.iter().find(|target| target.way_out.is_some() && !place.starts_with("spec.http"))
        {
            let text = format!("only HTTP requests can leave through the gateways of {}", target.destination);
            self.refuse(source, place, Code::EgressClosed, &text);
            return None;
        }
        let weights: Vec<u32> = targets.iter().map(|target| target.weight).collect();
        let shares = match shares(&weights) {
            Ok(shares) => shares,
            Err(problem) => {
                self.refuse(source, place, Code::Weights, &problem);
                return None;
            }
        };
        let weighted = targets.iter().cloned().zip(shares).filter(|(_, share)| *share > 0);
        let weighted: Weighted = weighted.map(|(target, share)| (target, i32::try_from(share).ok())).collect();
        Some(if let [(target, _)] = weighted.as_slice() { vec![(target.clone(), None)] } else { weighted })
    }

    fn refuse(&mut self, source: &ResourceRef, place: &str, code: Code, problem: &str) {
        let is_http = place.starts_with("spec.http");
        let effect = if is_http { "requests are answered with status 500" } else { "the route is left out" };
        let text = format!("{place}: {problem}: {effect}");
        let severity = if code == Code::NotTranslated { Severity::Warning } else { Severity::Invalid };
        self.notes.say_in(source, &self.placement.context, severity, code, text);
    }

    fn forward(&self, targets: &Weighted, rewrite: &HttpRewrite, auto_host: bool, route: &mut HttpRoute) {
        let hosts: BTreeSet<&str> = targets.iter().map(|(target, _)| target.host.as_str()).collect();
        let only_host = hosts.first().filter(|_| hosts.len() == 1);
        let mut rewrite = rewrite.clone();
        // Gateways know by the host where requests leave to.
        let is_rewritten = |target: &Target| auto_host || target.way_out.is_some();
        if let Some(host) = only_host.filter(|_| targets.iter().any(|(target, _)| is_rewritten(target))) {
            rewrite.authority = Some((*host).to_owned());
        }
        route.rewrite = Some(rewrite).filter(|rewrite| *rewrite != HttpRewrite::default());
        let destination = |(target, weight): &(Target, Option<i32>)| {
            let mut set = BTreeMap::new();
            // Istio rewrites the host of a whole route only; for one of several destinations, the header does it.
            if only_host.is_none() && is_rewritten(target) {
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
        let routes = table
            .tables
            .iter()
            .flat_map(|reached| reached.table.input.spec.tcp.iter().enumerate().map(move |route| (reached, route)));
        let mut rendered = Vec::new();
        for (position, (Reached { table, workloads }, (index, route))) in routes.enumerate() {
            let condition = |matcher: &TcpRequestMatcher| L4MatchAttributes {
                port: port(matcher.port),
                ..L4MatchAttributes::default()
            };
            let conditions: Vec<_> = route.matchers.iter().map(condition).collect();
            let place = format!("spec.tcp[{index}].forwardTo");
            let targets = self.targets(&table.source, self.placement.targets.tcp.get(position), &place);
            let r#match = matches(&conditions, &self.placement.served_by, workloads);
            let both = targets.zip(r#match);
            rendered.extend(both.map(|(targets, r#match)| TcpRoute { r#match, route: stream_destinations(&targets) }));
        }
        rendered
    }

    fn tls_routes(&mut self) -> Vec<TlsRoute> {
        let table = self.table;
        let hosts = &self.placement.hosts;
        let routes = table
            .tables
            .iter()
            .flat_map(|reached| reached.table.input.spec.tls.iter().enumerate().map(move |route| (reached, route)));
        let mut rendered = Vec::new();
        for (position, (Reached { table, workloads }, (index, route))) in routes.enumerate() {
            let condition = |sni_hosts, number| TlsMatchAttributes {
                sni_hosts,
                port: port(number),
                ..TlsMatchAttributes::default()
            };
            let mut conditions = Vec::new();
            for (position, matcher) in route.matchers.iter().enumerate() {
                let place = format!("spec.tls[{index}].matchers[{position}].sniHosts");
                let sni_hosts = self.sni_hosts(&table.source, &place, &matcher.sni_hosts);
                conditions.extend(sni_hosts.map(|sni_hosts| condition(sni_hosts, matcher.port)));
            }
            if route.matchers.is_empty() {
                conditions.push(condition(hosts.clone(), 0));
            }
            // Without the names that were meant, it would take connections that are not its own.
            if conditions.is_empty() {
                continue;
            }
            let place = format!("spec.tls[{index}].forwardTo");
            let targets = self.targets(&table.source, self.placement.targets.tls.get(position), &place);
            let r#match = matches(&conditions, &self.placement.served_by, workloads);
            let both = targets.zip(r#match);
            rendered.extend(both.map(|(targets, r#match)| TlsRoute { r#match, route: stream_destinations(&targets) }));
        }
        rendered
    }

    /// The server names of a matcher that are among the hosts: Istio refuses a whole VirtualService for any other.
    /// `None` if none is left.
    fn sni_hosts(&mut self, source: &ResourceRef, place: &str, wanted: &[String]) -> Option<Vec<String>> {
        if wanted.is_empty() {
            return Some(self.placement.hosts.clone());
        }
        let root = self.table.tables.first().map(|reached| &*reached.table.input.spec.hosts).unwrap_or_default();
        let mut kept = Vec::new();
        for name in wanted {
            if self.placement.hosts.iter().any(|host| hostname::covers(host, name)) {
                kept.push(name.clone());
            } else if !root.iter().any(|host| hostname::covers(host, name)) {
                let text = format!("{place}: {name} is none of the hosts of {}: it is left out", self.table.parent);
                self.notes.say(source, Severity::Invalid, Code::BadValue, text);
            }
        }
        Some(kept).filter(|kept| !kept.is_empty())
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
    if let Some(way_out) = &target.way_out {
        let port = Some(PortSelector { number: Some(way_out.port) });
        return Destination { host: way_out.host.clone(), port, subset: Some(way_out.subset.clone()) };
    }
    let subset = (!target.subset.is_empty()).then(|| subset_name(&target.subset));
    Destination { host: target.host.clone(), port: Some(PortSelector { number: Some(target.port) }), subset }
}

/// `version-v2` for `version: v2`.
pub(crate) fn subset_name(subset: &BTreeMap<String, String>) -> String {
    let parts: Vec<String> = subset.iter().map(|(key, value)| format!("{key}-{value}")).collect();
    names::sanitize(&parts.join("-"))
}
