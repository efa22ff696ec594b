//! The routes of a table, as far as they are the same wherever it is served.

use std::collections::BTreeMap;

use meshrelay_api::OneofConflict;
use meshrelay_api::istio::virtual_service::{
    HttpBody, HttpDirectResponse, HttpMatchRequest, HttpRedirect, HttpRewrite,
};
use meshrelay_api::networking::{
    ForwardToAction, HttpAction, HttpRoute, RedirectAction, RedirectResponseCode, RouteTableSpec,
};
use meshrelay_snapshot::ObjectKey;

use super::matchers;
use crate::ResourceRef;
use crate::names;
use crate::report::{Code, Finding};

/// Prefix that names of HTTP routes have in the original's output; written by users, it is dropped.
const PREFIX: &str = "insecure-";

/// An HTTP route.
#[derive(Debug)]
pub(super) struct PlainRoute {
    /// Position in the table, by which its targets are found.
    pub(super) index: usize,
    pub(super) name: String,
    /// Conditions, any of which is enough; empty takes everything.
    pub(super) matches: Vec<HttpMatchRequest>,
    pub(super) action: Action,
}

/// What a route does.
#[derive(Debug)]
pub(super) enum Action {
    /// Sends requests to the targets, with this beside them.
    Forward { rewrite: HttpRewrite, auto_host: bool },
    /// Sends clients elsewhere.
    Redirect(HttpRedirect),
    /// Answers by itself.
    Respond(HttpDirectResponse),
    /// Cannot be done.
    Broken,
}

/// The HTTP routes of a table, and what is wrong with it.
pub(super) fn http_routes(spec: &RouteTableSpec, parent: &ResourceRef) -> (Vec<PlainRoute>, Vec<Finding>) {
    let mut problems = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut routes = Vec::new();
    for (index, route) in spec.http.iter().enumerate() {
        let name = route.name.strip_prefix(PREFIX).unwrap_or(&route.name);
        let name = if name.is_empty() { index.to_string() } else { name.to_owned() };
        let count = seen.entry(name.clone()).or_insert(0);
        let unique = if *count == 0 { name.clone() } else { format!("duplicate-{name}-{count}") };
        if *count > 0 {
            let text = format!("spec.http[{index}].name: {name} is used before: policies see the route as {unique}");
            problems.push((Code::DuplicateRoute, text));
        }
        *count += 1;
        let mut broken = false;
        let mut matches = Vec::new();
        for (position, matcher) in route.matchers.iter().enumerate() {
            match matchers::http(matcher) {
                Ok(conditions) => matches.push(conditions),
                Err(problem) => {
                    let text = format!("spec.http[{index}].matchers[{position}].{problem}: the matcher is left out");
                    problems.push((Code::BadValue, text));
                    broken = true;
                }
            }
        }
        // Without the conditions that were meant, it would take requests that are not its own.
        if broken && matches.is_empty() {
            continue;
        }
        let action = action(route).unwrap_or_else(|(code, problem)| {
            problems.push((code, format!("spec.http[{index}]: {problem}: requests are answered with status 500")));
            Action::Broken
        });
        routes.push(PlainRoute { index, name: route_name(&unique, parent), matches, action });
    }
    (routes, problems)
}

fn route_name(name: &str, parent: &ResourceRef) -> String {
    let ObjectKey { namespace, name: table, .. } = &parent.key;
    names::sanitize(&format!("{PREFIX}{name}-{table}-{namespace}-{}", parent.cluster))
}

fn action(route: &HttpRoute) -> Result<Action, Finding> {
    match route.action_type().map_err(|conflict| Code::split(&conflict))? {
        None => Err((Code::Missing, "expected an action such as forwardTo, found none".to_owned())),
        Some(HttpAction::ForwardTo(forward)) => self::forward(route, forward),
        Some(HttpAction::Redirect(redirect)) => self::redirect(redirect).map(Action::Redirect),
        Some(HttpAction::DirectResponse(response)) => {
            if !(100..=599).contains(&response.status) {
                let text = format!("directResponse.status: expected 100 to 599, found {}", response.status);
                return Err((Code::BadValue, text));
            }
            let body = HttpBody { string: Some(response.body.clone()), bytes: None };
            let body = Some(body).filter(|_| !response.body.is_empty());
            Ok(Action::Respond(HttpDirectResponse { status: response.status, body }))
        }
        Some(HttpAction::Delegate(_)) => Err((Code::NotTranslated, "delegate is not translated yet".to_owned())),
        Some(HttpAction::Graphql(_)) => Err((Code::NotTranslated, "graphql is not translated yet".to_owned())),
    }
}

fn forward(route: &HttpRoute, forward: &ForwardToAction) -> Result<Action, Finding> {
    let mut rewrite = HttpRewrite::default();
    let conflict = |conflict: OneofConflict| {
        let (code, text) = Code::split(&conflict);
        (code, format!("forwardTo: {text}"))
    };
    forward.path_rewrite_specifier().map_err(conflict)?;
    forward.host_rewrite_specifier().map_err(conflict)?;
    if let Some(path) = &forward.path_rewrite {
        let by_regex = |matcher: &meshrelay_api::matchers::HttpRequestMatcher| {
            matcher.uri.as_ref().is_some_and(|uri| uri.regex.is_some() || uri.suffix.is_some())
        };
        if route.matchers.iter().any(by_regex) {
            let text =
                "forwardTo.pathRewrite: expected matchers by prefix or exact path: use regexRewrite with a regex";
            return Err((Code::BadValue, text.to_owned()));
        }
        rewrite.uri = Some(path.clone());
    }
    if let Some(regex) = &forward.regex_rewrite {
        let pattern = regex.pattern.as_ref().map(|pattern| pattern.regex.as_str()).unwrap_or_default();
        let regex = matchers::rewrite(pattern, &regex.substitution)
            .map_err(|problem| (Code::BadValue, format!("forwardTo.regexRewrite: {problem}")))?;
        rewrite.uri_regex_rewrite = Some(regex);
    }
    rewrite.authority.clone_from(&forward.host_rewrite);
    Ok(Action::Forward { rewrite, auto_host: forward.auto_host_rewrite == Some(true) })
}

fn redirect(redirect: &RedirectAction) -> Result<HttpRedirect, Finding> {
    let path = redirect.path_redirect.clone().filter(|path| !path.is_empty());
    let host = Some(redirect.host_redirect.clone()).filter(|host| !host.is_empty());
    if path.is_none() && host.is_none() {
        return Err((Code::Missing, "redirect: expected hostRedirect or pathRedirect, found neither".to_owned()));
    }
    let code = match &redirect.response_code {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
        RedirectResponseCode::Unknown(code) => {
            return Err((Code::UnknownValue, format!("redirect.responseCode: {code} is not known")));
        }
    };
    Ok(HttpRedirect { authority: host, uri: path, redirect_code: Some(code), ..HttpRedirect::default() })
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Gvk;
    use serde_json::{Value, json};

    use super::*;

    fn routes(http: Value) -> (Vec<PlainRoute>, Vec<Finding>) {
        let spec: RouteTableSpec = serde_json::from_value(json!({"hosts": ["a"], "http": http})).unwrap();
        let key = ObjectKey::new(Gvk::new("networking.gloo.solo.io", "v2", "RouteTable"), "ns", "rt");
        http_routes(&spec, &ResourceRef { cluster: "mgmt".into(), key })
    }

    #[test]
    fn names_are_unique_and_without_the_prefix() {
        let answer = json!({"status": 200});
        let (routes, problems) = routes(json!([
            {"name": "insecure-a", "directResponse": answer}, {"name": "a", "directResponse": answer},
            {"directResponse": answer},
        ]));
        let names: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(names, ["insecure-a-rt-ns-mgmt", "insecure-duplicate-a-1-rt-ns-mgmt", "insecure-2-rt-ns-mgmt"]);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_route_that_lost_all_its_conditions_takes_nothing() {
        let (routes, problems) = routes(json!([
            {"matchers": [{"uri": {"regex": "("}}], "directResponse": {"status": 200}},
            {"matchers": [{"uri": {"regex": "("}}, {"uri": {"exact": "/"}}], "directResponse": {"status": 200}},
        ]));
        assert_eq!(routes.len(), 1);
        assert_eq!((routes[0].index, routes[0].matches.len()), (1, 1));
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn broken_actions_are_told() {
        for (bad, code) in [
            (json!({}), Code::Missing),
            (json!({"redirect": {}}), Code::Missing),
            (json!({"redirect": {"hostRedirect": "a", "responseCode": "GONE"}}), Code::UnknownValue),
            (json!({"directResponse": {}}), Code::BadValue),
            (json!({"delegate": {}}), Code::NotTranslated),
            (json!({"graphql": {}}), Code::NotTranslated),
            (json!({"redirect": {"hostRedirect": "a"}, "directResponse": {"status": 200}}), Code::OneOf),
            (json!({"forwardTo": {"pathRewrite": "/"}, "matchers": [{"uri": {"regex": "a"}}]}), Code::BadValue),
            (json!({"forwardTo": {"regexRewrite": {"pattern": {"regex": "("}}}}), Code::BadValue),
            (json!({"forwardTo": {"hostRewrite": "a", "autoHostRewrite": true}}), Code::OneOf),
        ] {
            let (routes, problems) = routes(json!([bad]));
            assert!(matches!(routes[0].action, Action::Broken), "{bad}");
            assert_eq!(problems[0].0, code, "{bad}");
        }
    }
}
