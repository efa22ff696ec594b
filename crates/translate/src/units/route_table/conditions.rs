//! The conditions of HTTP routes: those of one matcher, and of matchers of several tables that must hold together.

use std::collections::BTreeMap;

use meshrelay_api::istio::virtual_service::{HttpMatchRequest, RegexRewrite, StringMatch};
use meshrelay_api::matchers::{self, HeaderMatcher, HttpRequestMatcher, StringMatchType};

use crate::report::Code;

/// The last group that a substitution can refer to: RE2 takes one digit.
const LAST_GROUP: usize = 9;

/// What a request must be like; without any condition, every request is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Conditions {
    pub(super) path: Option<Path>,
    headers: BTreeMap<String, Text>,
    without_headers: BTreeMap<String, Text>,
    query_parameters: BTreeMap<String, Text>,
    method: Option<String>,
    port: Option<u32>,
}

/// What a path must be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Path {
    Exact(String, IgnoreCase),
    Prefix(String, IgnoreCase),
    /// The whole path.
    Regex(String),
}

type IgnoreCase = bool;

/// What the value of a header or parameter must be like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Text {
    /// Whatever it is.
    Present,
    Exact(String),
    /// The whole value.
    Regex(String),
}

impl Conditions {
    /// The conditions of a matcher. Regular expressions are not looked at, see [`check`](Self::check).
    ///
    /// # Errors
    /// When Istio could not express it.
    pub(super) fn read(matcher: &HttpRequestMatcher) -> Result<Self, String> {
        let path = matcher.uri.as_ref().map(path).transpose().map_err(|problem| format!("uri: {problem}"))?;
        let (without, with): (Vec<_>, Vec<_>) = matcher.headers.iter().partition(|header| header.invert_match);
        let mut query_parameters = BTreeMap::new();
        for parameter in &matcher.query_parameters {
            let value = Text::read(&parameter.value, parameter.regex);
            if query_parameters.insert(parameter.name.clone(), value).is_some() {
                return Err(format!("queryParameters: expected one condition for {}, found several", parameter.name));
            }
        }
        Ok(Self {
            path: path.flatten(),
            headers: headers(with)?,
            without_headers: headers(without)?,
            query_parameters,
            method: Some(matcher.method.clone()).filter(|method| !method.is_empty()),
            port: Some(matcher.port).filter(|port| *port != 0),
        })
    }

    /// What is wrong with the regular expressions.
    ///
    /// # Errors
    /// For the first that cannot be compiled: Istio refuses a whole VirtualService for one.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(Path::Regex(pattern)) = &self.path {
            valid(pattern).map_err(|problem| format!("uri: {problem}"))?;
        }
        for (field, texts) in [
            ("headers", &self.headers),
            ("headers", &self.without_headers),
            ("queryParameters", &self.query_parameters),
        ] {
            for text in texts.values() {
                if let Text::Regex(pattern) = text {
                    valid(pattern).map_err(|problem| format!("{field}: {problem}"))?;
                }
            }
        }
        Ok(())
    }

    /// These conditions and those of a route below, whose paths begin where these end.
    ///
    /// # Errors
    /// When no request can fulfil both, or Istio cannot express it.
    pub(super) fn with(&self, below: &Self) -> Result<Self, String> {
        let path = match (&self.path, &below.path) {
            (Some(above), Some(below)) => Some(above.with(below)?),
            (above, below) => above.clone().or_else(|| below.clone()),
        };
        let mut headers = self.headers.clone();
        join("header", &mut headers, &below.headers)?;
        let mut without_headers = self.without_headers.clone();
        for (name, other) in &below.without_headers {
            let both = without_headers.remove(name).map_or_else(|| other.clone(), |one| one.or(other));
            without_headers.insert(name.clone(), both);
        }
        for (name, without) in &without_headers {
            if headers.get(name).is_some_and(|with| with.is_within(without)) {
                return Err(format!("header {name} is both demanded and forbidden"));
            }
        }
        let mut query_parameters = self.query_parameters.clone();
        join("query parameter", &mut query_parameters, &below.query_parameters)?;
        let method = one_of("method", self.method.as_ref(), below.method.as_ref())?;
        let port = one_of("port", self.port.as_ref(), below.port.as_ref())?;
        Ok(Self { path, headers, without_headers, query_parameters, method, port })
    }

    /// How specific the conditions are, greater for more: exact paths, then regular expressions, then prefixes by
    /// length, then by the number of further conditions.
    pub(super) fn specificity(&self) -> (u8, usize, usize) {
        let more = self.headers.len() + self.without_headers.len() + self.query_parameters.len();
        let (kind, length) = match &self.path {
            Some(Path::Exact(text, _)) => (3, text.len()),
            // The length of an expression says nothing about what it fits.
            Some(Path::Regex(_)) => (2, 0),
            Some(Path::Prefix(text, _)) => (1, text.len()),
            None => (0, 0),
        };
        (kind, length, more + usize::from(self.method.is_some()))
    }

    /// The conditions in Istio's form; `None` if Istio would refuse them.
    pub(super) fn render(&self) -> Option<HttpMatchRequest> {
        self.check().ok()?;
        let (uri, ignore_case) = match &self.path {
            None => (None, false),
            Some(Path::Exact(text, ignore_case)) => (Some(exact(text)), *ignore_case),
            Some(Path::Prefix(text, ignore_case)) => {
                (Some(StringMatch { prefix: Some(text.clone()), ..StringMatch::default() }), *ignore_case)
            }
            Some(Path::Regex(pattern)) => (Some(regex(pattern)), false),
        };
        let header = |(name, text): (&String, &Text)| (name.clone(), text.render().unwrap_or_default());
        // A condition without a value is refused here.
        let parameter = |(name, text): (&String, &Text)| (name.clone(), text.render().unwrap_or_else(|| regex(".*")));
        Some(HttpMatchRequest {
            uri,
            ignore_uri_case: ignore_case.then_some(true),
            headers: self.headers.iter().map(header).collect(),
            without_headers: self.without_headers.iter().map(header).collect(),
            query_params: self.query_parameters.iter().map(parameter).collect(),
            method: self.method.as_deref().map(exact),
            port: self.port,
            ..HttpMatchRequest::default()
        })
    }
}

impl Path {
    fn with(&self, below: &Self) -> Result<Self, String> {
        match (self, below) {
            (_, Self::Prefix(text, _)) if text == "/" => Ok(self.clone()),
            (Self::Prefix(text, _), _) if text.trim_end_matches('/').is_empty() => Ok(below.clone()),
            (Self::Prefix(above, ignore), Self::Prefix(text, also)) if ignore == also => {
                Ok(Self::Prefix(concatenate(above, text), *ignore))
            }
            (Self::Prefix(above, ignore), Self::Exact(text, also)) if ignore == also => {
                Ok(Self::Exact(concatenate(above, text), *ignore))
            }
            (Self::Prefix(above, ignore), _) => {
                let above = cased(above.trim_end_matches('/'), *ignore);
                Ok(Self::Regex(match below {
                    Self::Prefix(text, also) => format!("{above}{}.*", cased(&slashed(text), *also)),
                    Self::Exact(text, also) => format!("{above}{}", cased(&slashed(text), *also)),
                    Self::Regex(pattern) => {
                        let pattern = pattern.trim_start_matches('^');
                        let is_simple = pattern.starts_with('/') && !pattern.contains('|');
                        if is_simple { format!("{above}{pattern}") } else { format!("{above}(?:{pattern})") }
                    }
                }))
            }
            _ => Err(format!("{below} cannot be below {self}: only prefixes can be continued")),
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text, _) => write!(f, "path {text}"),
            Self::Prefix(text, _) => write!(f, "prefix {text}"),
            Self::Regex(pattern) => write!(f, "regex {pattern}"),
        }
    }
}

fn slashed(text: &str) -> String {
    if text.starts_with('/') { text.to_owned() } else { format!("/{text}") }
}

fn concatenate(above: &str, below: &str) -> String {
    format!("{}{}", above.trim_end_matches('/'), slashed(below))
}

/// A regular expression for a text as it is.
fn cased(text: &str, ignore_case: IgnoreCase) -> String {
    let escaped = ::regex::escape(text);
    if ignore_case { format!("(?i:{escaped})") } else { escaped }
}

impl Text {
    fn read(value: &str, is_regex: bool) -> Self {
        match (value, is_regex) {
            ("", _) => Self::Present,
            (pattern, true) => Self::Regex(pattern.to_owned()),
            (text, false) => Self::Exact(text.to_owned()),
        }
    }

    /// What both allow.
    fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Present, one) | (one, Self::Present) => Some(one.clone()),
            _ if self.is_within(other) => Some(self.clone()),
            _ if other.is_within(self) => Some(other.clone()),
            _ => None,
        }
    }

    /// What either allows.
    fn or(&self, other: &Self) -> Self {
        let pattern = |text: &Self| match text {
            Self::Present => String::new(),
            Self::Exact(text) => ::regex::escape(text),
            Self::Regex(pattern) => format!("(?:{pattern})"),
        };
        match (self, other) {
            (Self::Present, _) | (_, Self::Present) => Self::Present,
            _ if self.is_within(other) => other.clone(),
            _ if other.is_within(self) => self.clone(),
            _ => Self::Regex(format!("{}|{}", pattern(self), pattern(other))),
        }
    }

    /// Whether every value that fits this is known to fit the other.
    fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Present) => true,
            (Self::Exact(text), Self::Regex(pattern)) => {
                let whole = ::regex::Regex::new(&format!("^(?:{pattern})$"));
                whole.is_ok_and(|whole| whole.is_match(text))
            }
            _ => self == other,
        }
    }

    /// `None` if every value fits.
    fn render(&self) -> Option<StringMatch> {
        match self {
            Self::Present => None,
            Self::Exact(text) => Some(exact(text)),
            Self::Regex(pattern) => Some(regex(pattern)),
        }
    }
}

fn join(what: &str, into: &mut BTreeMap<String, Text>, more: &BTreeMap<String, Text>) -> Result<(), String> {
    for (name, other) in more {
        let both = into.get(name).map_or_else(|| Some(other.clone()), |one| one.and(other));
        let both = both.ok_or_else(|| format!("the values that both demand of {what} {name} are different"))?;
        into.insert(name.clone(), both);
    }
    Ok(())
}

fn one_of<T: Clone + PartialEq + std::fmt::Display>(
    what: &str,
    one: Option<&T>,
    other: Option<&T>,
) -> Result<Option<T>, String> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(format!("{what} {one} is not {what} {other}")),
        (one, other) => Ok(one.or(other).cloned()),
    }
}

/// Istio wants names of headers in small letters.
fn headers(matchers: Vec<&HeaderMatcher>) -> Result<BTreeMap<String, Text>, String> {
    let mut headers = BTreeMap::new();
    for header in matchers {
        let value = Text::read(&header.value, header.regex);
        if headers.insert(header.name.to_ascii_lowercase(), value).is_some() {
            return Err(format!("headers: expected one condition for {}, found several", header.name));
        }
    }
    Ok(headers)
}

/// `None` if every path matches.
fn path(matcher: &matchers::StringMatch) -> Result<Option<Path>, String> {
    let chosen = matcher.match_type().map_err(|conflict| Code::split(&conflict).1)?;
    let ignore_case = matcher.ignore_case;
    Ok(match chosen {
        None => None,
        Some(StringMatchType::Prefix(text)) if text.is_empty() => None,
        Some(StringMatchType::Exact(text)) => Some(Path::Exact(text.clone(), ignore_case)),
        Some(StringMatchType::Prefix(text)) => Some(Path::Prefix(text.clone(), ignore_case)),
        Some(StringMatchType::Regex(pattern)) => Some(Path::Regex(pattern.clone())),
        Some(StringMatchType::Suffix(text)) => {
            let insensitive = if ignore_case { "(?i)" } else { "" };
            Some(Path::Regex(format!("{insensitive}.*{}", ::regex::escape(text))))
        }
    })
}

fn exact(text: &str) -> StringMatch {
    StringMatch { exact: Some(text.to_owned()), ..StringMatch::default() }
}

fn regex(pattern: &str) -> StringMatch {
    StringMatch { regex: Some(pattern.to_owned()), ..StringMatch::default() }
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

    fn read(value: Value) -> Result<Conditions, String> {
        let conditions = Conditions::read(&serde_json::from_value(value).unwrap())?;
        conditions.check().map(|()| conditions)
    }

    fn http(value: Value) -> HttpMatchRequest {
        read(value).unwrap().render().unwrap()
    }

    #[test]
    fn conditions_are_those_of_istio() {
        let all = json!({
            "uri": {"prefix": "/a", "ignoreCase": true}, "method": "GET", "port": 80,
            "headers": [{"name": "X-A", "value": "1"}, {"name": "b"}, {"name": "c", "value": "^x$", "regex": true},
                {"name": "d", "invertMatch": true}],
            "queryParameters": [{"name": "q", "value": "1"}, {"name": "r"},
                {"name": "s", "value": "a+", "regex": true}],
        });
        assert_eq!(
            serde_json::to_value(http(all)).unwrap(),
            json!({
                "uri": {"prefix": "/a"}, "ignoreUriCase": true, "method": {"exact": "GET"}, "port": 80,
                "headers": {"x-a": {"exact": "1"}, "b": {}, "c": {"regex": "^x$"}}, "withoutHeaders": {"d": {}},
                "queryParams": {"q": {"exact": "1"}, "r": {"regex": ".*"}, "s": {"regex": "a+"}},
            })
        );
        assert_eq!(http(json!({"uri": {"prefix": ""}})), HttpMatchRequest::default());
        let suffix = http(json!({"uri": {"suffix": ".png"}}));
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
            let problem = read(bad).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn conditions_of_several_tables_hold_together() {
        let uri = |kind: &str, text: &str| json!({"uri": {kind: text}});
        let any_case = |kind: &str, text: &str| json!({"uri": {kind: text, "ignoreCase": true}});
        let header = |value: Value| json!({"headers": [value]});
        let named = |value: &str| header(json!({"name": "h", "value": value}));
        let pattern = |value: &str| header(json!({"name": "h", "value": value, "regex": true}));
        let without = |value: &str| header(json!({"name": "h", "value": value, "invertMatch": true}));
        for (above, below, expected) in [
            (json!({}), uri("exact", "/a"), Some(json!({"uri": {"exact": "/a"}}))),
            (uri("prefix", "/"), uri("regex", "/a.*"), Some(json!({"uri": {"regex": "/a.*"}}))),
            (uri("prefix", "/p"), uri("prefix", "/a"), Some(json!({"uri": {"prefix": "/p/a"}}))),
            (uri("prefix", "/p/"), uri("exact", "/a"), Some(json!({"uri": {"exact": "/p/a"}}))),
            (uri("prefix", "/p"), uri("prefix", "/"), Some(json!({"uri": {"prefix": "/p"}}))),
            (uri("prefix", "/p.x"), uri("regex", "^/a"), Some(json!({"uri": {"regex": "/p\\.x/a"}}))),
            (uri("prefix", "/p"), uri("regex", "/a|/b"), Some(json!({"uri": {"regex": "/p(?:/a|/b)"}}))),
            (any_case("prefix", "/p"), uri("prefix", "/a"), Some(json!({"uri": {"regex": "(?i:/p)/a.*"}}))),
            (
                any_case("prefix", "/p"),
                any_case("exact", "/a"),
                Some(json!({"uri": {"exact": "/p/a"}, "ignoreUriCase": true})),
            ),
            (uri("exact", "/p"), json!({}), Some(json!({"uri": {"exact": "/p"}}))),
            (uri("exact", "/p"), uri("prefix", "/a"), None),
            (uri("regex", "/p"), uri("exact", "/a"), None),
            (json!({"method": "GET"}), json!({"method": "GET"}), Some(json!({"method": {"exact": "GET"}}))),
            (json!({"method": "GET"}), json!({"method": "PUT"}), None),
            (json!({"port": 80}), json!({"port": 81}), None),
            (named("a"), named("a"), Some(json!({"headers": {"h": {"exact": "a"}}}))),
            (named("a"), named(""), Some(json!({"headers": {"h": {"exact": "a"}}}))),
            (named("a"), named("b"), None),
            (pattern("a|b"), named("b"), Some(json!({"headers": {"h": {"exact": "b"}}}))),
            (pattern("a|b"), named("bc"), None),
            (pattern("a"), pattern("b"), None),
            (named("a"), without("a"), None),
            (named("a"), without(""), None),
            (
                named("a"),
                without("b"),
                Some(json!({"headers": {"h": {"exact": "a"}}, "withoutHeaders": {"h": {"exact": "b"}}})),
            ),
            (without("a."), without("b"), Some(json!({"withoutHeaders": {"h": {"regex": "a\\.|b"}}}))),
            (without("a"), without(""), Some(json!({"withoutHeaders": {"h": {}}}))),
            (
                json!({"queryParameters": [{"name": "q"}]}),
                json!({"queryParameters": [{"name": "q", "value": "1"}, {"name": "r"}]}),
                Some(json!({"queryParams": {"q": {"exact": "1"}, "r": {"regex": ".*"}}})),
            ),
        ] {
            let both = read(above.clone()).unwrap().with(&read(below.clone()).unwrap());
            let both = both.ok().map(|both| serde_json::to_value(both.render().unwrap()).unwrap());
            assert_eq!(both, expected, "{above} and {below}");
        }
    }

    #[test]
    fn exact_paths_are_more_specific_than_expressions_and_these_than_prefixes() {
        let ordered = [
            json!({}),
            json!({"uri": {"prefix": "/"}}),
            json!({"uri": {"prefix": "/a"}}),
            json!({"uri": {"prefix": "/a"}, "method": "GET"}),
            json!({"uri": {"regex": "/a/b/c"}}),
            json!({"uri": {"exact": "/a"}}),
            json!({"uri": {"exact": "/ab"}}),
        ];
        let ranks: Vec<_> = ordered.into_iter().map(|value| read(value).unwrap().specificity()).collect();
        assert!(ranks.is_sorted_by(|one, other| one < other), "{ranks:?}");
    }
}
