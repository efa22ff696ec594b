//! What routes do, as far as it is the same wherever they are served.

use meshrelay_api::OneofConflict;
use meshrelay_api::istio::virtual_service::{HttpBody, HttpDirectResponse, HttpRedirect, HttpRewrite};
use meshrelay_api::networking::{ForwardToAction, HttpAction, HttpRoute, RedirectAction, RedirectResponseCode};

use super::conditions::{self, Conditions, Path};
use crate::report::{Code, Finding};

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

/// What a route does; `conditions` are those that hold for it in the end.
///
/// # Errors
/// When it cannot be done.
pub(super) fn action(route: &HttpRoute, conditions: &[Conditions]) -> Result<Action, Finding> {
    match route.action_type().map_err(|conflict| Code::split(&conflict))? {
        None => Err((Code::Missing, "expected an action such as forwardTo, found none".to_owned())),
        Some(HttpAction::ForwardTo(forward)) => self::forward(forward, conditions),
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
        // Flattening has put other routes in its place.
        Some(HttpAction::Delegate(_)) => Ok(Action::Broken),
        Some(HttpAction::Graphql(_)) => Err((Code::NotTranslated, "graphql is not translated yet".to_owned())),
    }
}

fn forward(forward: &ForwardToAction, conditions: &[Conditions]) -> Result<Action, Finding> {
    let mut rewrite = HttpRewrite::default();
    let conflict = |conflict: OneofConflict| {
        let (code, text) = Code::split(&conflict);
        (code, format!("forwardTo: {text}"))
    };
    forward.path_rewrite_specifier().map_err(conflict)?;
    forward.host_rewrite_specifier().map_err(conflict)?;
    if let Some(path) = &forward.path_rewrite {
        if conditions.iter().any(|conditions| matches!(conditions.path, Some(Path::Regex(_)))) {
            let text =
                "forwardTo.pathRewrite: expected matchers by prefix or exact path: use regexRewrite with a regex";
            return Err((Code::BadValue, text.to_owned()));
        }
        rewrite.uri = Some(path.clone());
    }
    if let Some(regex) = &forward.regex_rewrite {
        let pattern = regex.pattern.as_ref().map(|pattern| pattern.regex.as_str()).unwrap_or_default();
        let regex = conditions::rewrite(pattern, &regex.substitution)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn broken_actions_are_told() {
        for (bad, code) in [
            (json!({}), Code::Missing),
            (json!({"redirect": {}}), Code::Missing),
            (json!({"redirect": {"hostRedirect": "a", "responseCode": "GONE"}}), Code::UnknownValue),
            (json!({"directResponse": {}}), Code::BadValue),
            (json!({"graphql": {}}), Code::NotTranslated),
            (json!({"redirect": {"hostRedirect": "a"}, "directResponse": {"status": 200}}), Code::OneOf),
            (json!({"forwardTo": {"pathRewrite": "/"}, "matchers": [{"uri": {"regex": "a"}}]}), Code::BadValue),
            (json!({"forwardTo": {"regexRewrite": {"pattern": {"regex": "("}}}}), Code::BadValue),
            (json!({"forwardTo": {"hostRewrite": "a", "autoHostRewrite": true}}), Code::OneOf),
        ] {
            let route: HttpRoute = serde_json::from_value(bad.clone()).unwrap();
            let conditions: Vec<_> = route.matchers.iter().map(|matcher| Conditions::read(matcher).unwrap()).collect();
            assert_eq!(action(&route, &conditions).unwrap_err().0, code, "{bad}");
        }
    }
}
