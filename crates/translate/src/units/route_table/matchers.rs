use std::collections::BTreeMap;

use meshrelay_api::istio::virtual_service::{HttpMatchRequest, RegexRewrite, StringMatch};
use meshrelay_api::matchers::{self, HeaderMatcher, HttpRequestMatcher, StringMatchType};

use crate::report::Code;

/// The last group that a substitution can refer to: RE2 takes one digit.
const LAST_GROUP: usize = 9;

/// The conditions of a matcher in Istio's form.
///
/// # Errors
/// When Istio could not express it, or would refuse the whole VirtualService.
pub(super) fn http(matcher: &HttpRequestMatcher) -> Result<HttpMatchRequest, String> {
    let mut conditions = HttpMatchRequest::default();
    if let Some(uri) = &matcher.uri {
        conditions.uri = string_match(uri).map_err(|problem| format!("uri: {problem}"))?;
        conditions.ignore_uri_case =
            (uri.ignore_case && uri.regex.is_none() && conditions.uri.is_some()).then_some(true);
    }
    let (without, with): (Vec<_>, Vec<_>) = matcher.headers.iter().partition(|header| header.invert_match);
    conditions.headers = headers(with)?;
    conditions.without_headers = headers(without)?;
    for parameter in &matcher.query_parameters {
        let value = match (parameter.regex, parameter.value.as_str()) {
            (_, "") => regex(".*".to_owned()),
            (true, pattern) => {
                regex(valid(pattern).map_err(|problem| format!("queryParameters: {problem}"))?.to_owned())
            }
            (false, text) => exact(text),
        };
        if conditions.query_params.insert(parameter.name.clone(), value).is_some() {
            return Err(format!("queryParameters: expected one condition for {}, found several", parameter.name));
        }
    }
    conditions.method = Some(exact(&matcher.method)).filter(|_| !matcher.method.is_empty());
    conditions.port = Some(matcher.port).filter(|port| *port != 0);
    Ok(conditions)
}

/// Istio wants names of headers in small letters; no condition at all asks for presence.
fn headers(matchers: Vec<&HeaderMatcher>) -> Result<BTreeMap<String, StringMatch>, String> {
    let mut headers = BTreeMap::new();
    for header in matchers {
        let value = match (header.regex, header.value.as_str()) {
            (_, "") => StringMatch::default(),
            (true, pattern) => regex(valid(pattern).map_err(|problem| format!("headers: {problem}"))?.to_owned()),
            (false, text) => exact(text),
        };
        if headers.insert(header.name.to_ascii_lowercase(), value).is_some() {
            return Err(format!("headers: expected one condition for {}, found several", header.name));
        }
    }
    Ok(headers)
}

/// `None` if every text matches.
fn string_match(matcher: &matchers::StringMatch) -> Result<Option<StringMatch>, String> {
    let chosen = matcher.match_type().map_err(|conflict| Code::split(&conflict).1)?;
    Ok(match chosen {
        None => None,
        Some(StringMatchType::Exact(text)) => Some(exact(text)),
        Some(StringMatchType::Prefix(text)) if text.is_empty() => None,
        Some(StringMatchType::Prefix(text)) => {
            Some(StringMatch { prefix: Some(text.clone()), ..StringMatch::default() })
        }
        Some(StringMatchType::Regex(pattern)) => Some(regex(valid(pattern)?.to_owned())),
        Some(StringMatchType::Suffix(text)) => {
            let insensitive = if matcher.ignore_case { "(?i)" } else { "" };
            Some(regex(format!("{insensitive}.*{}", ::regex::escape(text))))
        }
    })
}

fn exact(text: &str) -> StringMatch {
    StringMatch { exact: Some(text.to_owned()), ..StringMatch::default() }
}

fn regex(pattern: String) -> StringMatch {
    StringMatch { regex: Some(pattern), ..StringMatch::default() }
}

/// A rewrite of whatever a pattern finds. Istio refuses an empty substitution, so a group that is always empty is put
/// behind the pattern and substituted.
///
/// # Errors
/// When the pattern cannot be compiled, or has too many groups to refer to one more.
pub(super) fn rewrite(pattern: &str, substitution: &str) -> Result<RegexRewrite, String> {
    let compiled = compile(pattern)?;
    let regex = |pattern: &str, substitution: &str| RegexRewrite {
        r#match: Some(pattern.to_owned()),
        rewrite: Some(substitution.to_owned()),
    };
    if !substitution.is_empty() {
        return Ok(regex(pattern, substitution));
    }
    // The whole match counts as a group too.
    match compiled.captures_len() {
        group @ 1..=LAST_GROUP => Ok(regex(&format!("(?:{pattern})()"), &format!("\\{group}"))),
        groups => {
            Err(format!("expected less than {LAST_GROUP} groups with an empty substitution, found {}", groups - 1))
        }
    }
}

/// The pattern itself, if it can be compiled. Istio refuses a whole VirtualService for one bad pattern.
pub(crate) fn valid(pattern: &str) -> Result<&str, String> {
    compile(pattern).map(|_| pattern)
}

fn compile(pattern: &str) -> Result<::regex::Regex, String> {
    ::regex::Regex::new(pattern).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("expected a regular expression, found {pattern:?}: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn matcher(value: Value) -> HttpRequestMatcher {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn conditions_are_those_of_istio() {
        let all = matcher(json!({
            "uri": {"prefix": "/a", "ignoreCase": true}, "method": "GET", "port": 80,
            "headers": [{"name": "X-A", "value": "1"}, {"name": "b"}, {"name": "c", "value": "^x$", "regex": true},
                {"name": "d", "invertMatch": true}],
            "queryParameters": [{"name": "q", "value": "1"}, {"name": "r"},
                {"name": "s", "value": "a+", "regex": true}],
        }));
        assert_eq!(
            serde_json::to_value(http(&all).unwrap()).unwrap(),
            json!({
                "uri": {"prefix": "/a"}, "ignoreUriCase": true, "method": {"exact": "GET"}, "port": 80,
                "headers": {"x-a": {"exact": "1"}, "b": {}, "c": {"regex": "^x$"}}, "withoutHeaders": {"d": {}},
                "queryParams": {"q": {"exact": "1"}, "r": {"regex": ".*"}, "s": {"regex": "a+"}},
            })
        );
        assert_eq!(http(&matcher(json!({"uri": {"prefix": ""}}))).unwrap(), HttpMatchRequest::default());
        let suffix = http(&matcher(json!({"uri": {"suffix": ".png"}}))).unwrap();
        assert_eq!(suffix.uri.unwrap().regex.unwrap(), ".*\\.png");
    }

    #[test]
    fn an_empty_substitution_is_an_empty_group() {
        let rewritten = |pattern: &str, path: &str| {
            let rewrite = rewrite(pattern, "").unwrap();
            let regex = ::regex::Regex::new(&rewrite.r#match.unwrap()).unwrap();
            let substitution = rewrite.rewrite.unwrap().replace('\\', "$");
            regex.replace_all(path, substitution).into_owned()
        };
        assert_eq!(rewritten("^/v[0-9]+", "/v1/a"), "/a");
        assert_eq!(rewritten("a|(b)", "/xaby"), "/xy");
        assert!(rewrite("(a)(b)(c)(d)(e)(f)(g)(h)(i)", "").is_err());
        assert_eq!(rewrite("a", "b").unwrap().rewrite.unwrap(), "b");
    }

    #[test]
    fn what_istio_would_refuse_is_told() {
        for (bad, expected) in [
            (json!({"uri": {"regex": "a("}}), "uri: expected a regular expression, found \"a(\": unclosed group"),
            (json!({"uri": {"regex": "a", "exact": "b"}}), "uri: expected at most one of exact, prefix, regex, suffix"),
            (
                json!({"headers": [{"name": "a"}, {"name": "A"}]}),
                "headers: expected one condition for A, found several",
            ),
        ] {
            let problem = http(&matcher(bad)).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
