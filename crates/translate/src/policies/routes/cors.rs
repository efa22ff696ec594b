//! Which web pages of other origins may call.

use meshrelay_api::istio::virtual_service::{CorsPolicy, HttpRoute, StringMatch};
use meshrelay_api::matchers::{self, StringMatchType};
use meshrelay_api::security::{CorsConfig, CorsPolicySpec};
use meshrelay_api::selectors::RouteSelector;

use super::{RoutePolicies, RoutePolicy, headers};
use crate::report::{Code, Finding};
use crate::units::route_table::valid_regex;

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// Browsers count the age in seconds.
const SECOND: i64 = 1_000_000_000;

impl RoutePolicy for CorsPolicySpec {
    fn apply_to_routes(&self) -> &[RouteSelector] {
        &self.apply_to_routes
    }

    fn problem(&self) -> Option<Finding> {
        let rendered = render(self.config.as_ref()?);
        let checked = rendered.and_then(|policy| {
            // Rendering does without: compiling takes its time, and there are many routes.
            let mut patterns = policy.allow_origins.iter().filter_map(|origin| origin.regex.as_deref());
            patterns
                .try_for_each(|pattern| valid_regex(pattern).map(drop))
                .map_err(|problem| (Code::BadValue, format!("allowOrigins: {problem}")))
        });
        checked.err().map(|(code, text)| (code, format!("spec.config.{text}")))
    }
}

fn render(config: &CorsConfig) -> Result<CorsPolicy, Finding> {
    let bad = |text| Err((Code::BadValue, text));
    if let Some(method) = config.allow_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
        return bad(format!("allowMethods: expected a method such as GET, or *, found {method:?}"));
    }
    for (field, names) in [("allowHeaders", &config.allow_headers), ("exposeHeaders", &config.expose_headers)] {
        if let Some(name) = names.iter().find(|name| !headers::is_name(name)) {
            return bad(format!("{field}: expected the name of a header, or *, found {name:?}"));
        }
    }
    if let Some(age) = config.max_age.filter(|age| age.as_nanos() < SECOND || age.as_nanos() % SECOND != 0) {
        return bad(format!("maxAge: expected whole seconds, at least 1, found {age}"));
    }
    let origins = config.allow_origins.iter().enumerate().map(|(index, matcher)| {
        origin(matcher).map_err(|(code, problem)| (code, format!("allowOrigins[{index}]: {problem}")))
    });
    Ok(CorsPolicy {
        allow_credentials: config.allow_credentials,
        allow_headers: config.allow_headers.clone(),
        allow_methods: config.allow_methods.clone(),
        allow_origins: origins.collect::<Result<_, _>>()?,
        expose_headers: config.expose_headers.clone(),
        max_age: config.max_age.map(|age| age.to_string()),
        ..CorsPolicy::default()
    })
}

/// Istio knows neither ends nor letters of any case, but regular expressions do.
fn origin(matcher: &matchers::StringMatch) -> Result<StringMatch, Finding> {
    let of = |chosen: Option<&String>| chosen.filter(|text| !text.is_empty()).cloned();
    let as_regex = |before: &str, text: &str, after: &str| {
        let insensitive = if matcher.ignore_case { "(?i)" } else { "" };
        let regex = format!("{insensitive}{before}{}{after}", regex::escape(text));
        StringMatch { regex: Some(regex), ..StringMatch::default() }
    };
    let nothing = || (Code::Missing, "expected some text to compare origins with, found none".to_owned());
    let chosen = matcher.match_type().map_err(|conflict| Code::split(&conflict))?.ok_or_else(nothing)?;
    let (StringMatchType::Exact(text)
    | StringMatchType::Prefix(text)
    | StringMatchType::Regex(text)
    | StringMatchType::Suffix(text)) = chosen;
    let text = of(Some(text)).ok_or_else(nothing)?;
    Ok(match chosen {
        StringMatchType::Exact(_) if matcher.ignore_case => as_regex("", &text, ""),
        StringMatchType::Prefix(_) if matcher.ignore_case => as_regex("", &text, ".*"),
        StringMatchType::Suffix(_) => as_regex(".*", &text, ""),
        StringMatchType::Exact(_) => StringMatch { exact: Some(text), ..StringMatch::default() },
        StringMatchType::Prefix(_) => StringMatch { prefix: Some(text), ..StringMatch::default() },
        StringMatchType::Regex(_) => StringMatch { regex: Some(text), ..StringMatch::default() },
    })
}

pub(super) fn apply(policies: &RoutePolicies, route: &mut HttpRoute) {
    let config = policies.cors.as_ref().and_then(|policy| policy.input.spec.config.as_ref());
    route.cors_policy = config.and_then(|config| render(config).ok());
}
