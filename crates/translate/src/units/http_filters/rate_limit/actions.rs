//! Descriptions of requests, as Envoy sends them to a rate limit server.

use meshrelay_api::rate_limits::{
    Action, ActionSpecifier, HeaderCondition, HeaderMatchSpecifier, HeaderValueMatch, MetadataKey, MetadataSource,
    RateLimitActions,
};
use serde_json::{Map, Value, json};

use crate::report::{Code, Finding};
use crate::units::http_filters::header;

/// Tells the server that a description has no order; the server's set descriptors match only such ones.
const UNORDERED: &str = "solo.setDescriptor.uniqueValue";

/// The descriptions in Envoy's form, all of them for the configuration that the server knows as `config`. Envoy would
/// refuse everything for one wrong part, so a wrong description is left out; `place` is that of the list.
pub(super) fn descriptions(
    rate_limits: &[RateLimitActions],
    config: &str,
    place: &str,
    problems: &mut Vec<Finding>,
) -> Vec<Value> {
    let mut all = Vec::new();
    for (index, limit) in rate_limits.iter().enumerate() {
        let place = format!("{place}[{index}]");
        if limit.limit.is_some() {
            let text = format!("{place}.limit: limits in metadata are not translated: the server's own limits hold");
            problems.push((Code::NotTranslated, text));
        }
        if limit.actions.is_empty() && limit.set_actions.is_empty() {
            let text = format!("{place}: expected actions or setActions, found neither: it is left out");
            problems.push((Code::Missing, text));
        }
        for (field, parts, head) in
            [("actions", &limit.actions, [config, ""]), ("setActions", &limit.set_actions, [config, UNORDERED])]
        {
            if parts.is_empty() {
                continue;
            }
            let is_set = field == "setActions";
            let rendered: Result<Vec<Value>, String> = parts
                .iter()
                .enumerate()
                .map(|(index, part)| action(part, is_set).map_err(|text| format!("{place}.{field}[{index}]{text}")))
                .collect();
            match rendered {
                Ok(rendered) => {
                    let head = head.iter().filter(|value| !value.is_empty());
                    let head = head.map(|value| json!({"genericKey": {"descriptorValue": value}}));
                    all.push(json!({"actions": head.chain(rendered).collect::<Vec<_>>()}));
                }
                Err(text) => problems.push((Code::BadValue, format!("{text}: the description is left out"))),
            }
        }
    }
    all
}

/// A part of a description. Of an unordered one, parts without a value are left out, as the others still say something.
fn action(action: &Action, is_set: bool) -> Result<Value, String> {
    let chosen = action.action_specifier().map_err(|conflict| format!(": {}", Code::split(&conflict).1))?;
    let skip = |mut value: Value| {
        if is_set {
            value["skipIfAbsent"] = true.into();
        }
        value
    };
    Ok(match chosen.ok_or(": expected a kind of action, found none")? {
        ActionSpecifier::SourceCluster(_) => json!({"sourceCluster": {}}),
        ActionSpecifier::DestinationCluster(_) => json!({"destinationCluster": {}}),
        ActionSpecifier::RemoteAddress(_) => json!({"remoteAddress": {}}),
        ActionSpecifier::RequestHeaders(header) => {
            let name = header::name(&header.header_name, ".requestHeaders.headerName")?;
            let key = given(&header.descriptor_key, ".requestHeaders.descriptorKey")?;
            json!({"requestHeaders": skip(json!({"headerName": name, "descriptorKey": key}))})
        }
        ActionSpecifier::GenericKey(key) => {
            let value = given(&key.descriptor_value, ".genericKey.descriptorValue")?;
            // With it, a request could be counted under the configuration of somebody else.
            if value == UNORDERED {
                return Err(format!(".genericKey.descriptorValue: {UNORDERED} is reserved"));
            }
            json!({"genericKey": {"descriptorValue": value}})
        }
        ActionSpecifier::HeaderValueMatch(matcher) => json!({"headerValueMatch": header_value_match(matcher)?}),
        ActionSpecifier::Metadata(metadata) => {
            let source = match &metadata.source {
                MetadataSource::Unknown(other) => return Err(format!(".metadata.source: {other} is not known")),
                known => known.as_str(),
            };
            let mut value = json!({
                "descriptorKey": given(&metadata.descriptor_key, ".metadata.descriptorKey")?,
                "metadataKey": metadata_key(metadata.metadata_key.as_ref())?,
                "source": source,
            });
            if !metadata.default_value.is_empty() {
                value["defaultValue"] = metadata.default_value.clone().into();
            }
            json!({"metadata": skip(value)})
        }
    })
}

fn header_value_match(matcher: &HeaderValueMatch) -> Result<Value, String> {
    let value = given(&matcher.descriptor_value, ".headerValueMatch.descriptorValue")?;
    if matcher.headers.is_empty() {
        return Err(".headerValueMatch.headers: expected at least one, found none".to_owned());
    }
    let condition = |(index, header): (usize, &HeaderCondition)| {
        header_condition(header).map_err(|text| format!(".headerValueMatch.headers[{index}]{text}"))
    };
    let headers: Vec<Value> = matcher.headers.iter().enumerate().map(condition).collect::<Result<_, _>>()?;
    let mut rendered = json!({"descriptorValue": value, "headers": headers});
    if let Some(expected) = matcher.expect_match {
        rendered["expectMatch"] = expected.into();
    }
    Ok(rendered)
}

fn header_condition(header: &HeaderCondition) -> Result<Value, String> {
    let mut condition = Map::new();
    condition.insert("name".to_owned(), header::name(&header.name, ".name")?.into());
    let chosen = header.header_match_specifier().map_err(|conflict| format!(": {}", Code::split(&conflict).1))?;
    let (field, value) = match chosen {
        None => ("presentMatch", json!(true)),
        Some(HeaderMatchSpecifier::Present(present)) => ("presentMatch", json!(present)),
        Some(HeaderMatchSpecifier::Exact(text)) => ("stringMatch", json!({"exact": text})),
        Some(HeaderMatchSpecifier::Prefix(text)) => ("stringMatch", json!({"prefix": given(text, ".prefixMatch")?})),
        Some(HeaderMatchSpecifier::Suffix(text)) => ("stringMatch", json!({"suffix": given(text, ".suffixMatch")?})),
        Some(HeaderMatchSpecifier::Regex(pattern)) => {
            regex::Regex::new(pattern)
                .map_err(|_| format!(".regexMatch: expected a regular expression, found {pattern:?}"))?;
            ("stringMatch", json!({"safeRegex": {"regex": pattern}}))
        }
        Some(HeaderMatchSpecifier::Range(range)) => ("rangeMatch", json!({"start": range.start, "end": range.end})),
    };
    condition.insert(field.to_owned(), value);
    if header.invert_match {
        condition.insert("invertMatch".to_owned(), true.into());
    }
    Ok(condition.into())
}

fn metadata_key(key: Option<&MetadataKey>) -> Result<Value, String> {
    let key = key.ok_or(".metadata.metadataKey: expected a key, found none")?;
    let namespace = given(&key.key, ".metadata.metadataKey.key")?;
    let step = |step: &meshrelay_api::rate_limits::PathSegment| {
        let key = given(step.key.as_deref().unwrap_or_default(), ".metadata.metadataKey.path")?;
        Ok(json!({"key": key}))
    };
    let path: Vec<Value> = key.path.iter().map(step).collect::<Result<_, String>>()?;
    if path.is_empty() {
        return Err(".metadata.metadataKey.path: expected at least one key, found none".to_owned());
    }
    Ok(json!({"key": namespace, "path": path}))
}

fn given<'a>(text: &'a str, place: &str) -> Result<&'a str, String> {
    if text.is_empty() { Err(format!("{place}: expected a text, found none")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(value: Value) -> (Vec<Value>, Vec<String>) {
        let limits: Vec<RateLimitActions> = serde_json::from_value(value).unwrap();
        let mut problems = Vec::new();
        let all = descriptions(&limits, "ns.config", "raw.rateLimits", &mut problems);
        (all, problems.into_iter().map(|(_, text)| text).collect())
    }

    #[test]
    fn ordered_and_unordered_descriptions_begin_with_the_configuration() {
        let header = json!({"requestHeaders": {"headerName": "X-Organization", "descriptorKey": "organization"}});
        let (all, problems) = rendered(json!([{"actions": [header], "setActions": [header]}]));
        let config = json!({"genericKey": {"descriptorValue": "ns.config"}});
        let skipped = json!({"requestHeaders": {
            "headerName": "X-Organization", "descriptorKey": "organization", "skipIfAbsent": true,
        }});
        assert_eq!(
            all,
            [
                json!({"actions": [config, header]}),
                json!({"actions": [config, {"genericKey": {"descriptorValue": UNORDERED}}, skipped]}),
            ]
        );
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn every_kind_of_action_is_put_in_envoys_form() {
        let (all, problems) = rendered(json!([{"actions": [
            {"sourceCluster": {}}, {"destinationCluster": {}}, {"remoteAddress": {}},
            {"genericKey": {"descriptorValue": "a"}},
            {"headerValueMatch": {"descriptorValue": "b", "expectMatch": false, "headers": [
                {"name": "x", "exactMatch": "1"}, {"name": "x", "regexMatch": "a+", "invertMatch": true},
                {"name": "x", "rangeMatch": {"start": 1, "end": 3}}, {"name": "x", "presentMatch": false},
                {"name": ":path", "prefixMatch": "/a"}, {"name": "x", "suffixMatch": "b"}, {"name": "x"},
            ]}},
            {"metadata": {"descriptorKey": "user", "defaultValue": "none", "source": "ROUTE_ENTRY",
                "metadataKey": {"key": "envoy.filters.http.ext_authz", "path": [{"key": "userId"}]}}},
        ]}]));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            all[0]["actions"].as_array().unwrap()[4..],
            [
                json!({"genericKey": {"descriptorValue": "a"}}),
                json!({"headerValueMatch": {"descriptorValue": "b", "expectMatch": false, "headers": [
                    {"name": "x", "stringMatch": {"exact": "1"}},
                    {"name": "x", "stringMatch": {"safeRegex": {"regex": "a+"}}, "invertMatch": true},
                    {"name": "x", "rangeMatch": {"start": 1, "end": 3}}, {"name": "x", "presentMatch": false},
                    {"name": ":path", "stringMatch": {"prefix": "/a"}}, {"name": "x", "stringMatch": {"suffix": "b"}},
                    {"name": "x", "presentMatch": true},
                ]}}),
                json!({"metadata": {"descriptorKey": "user", "defaultValue": "none", "source": "ROUTE_ENTRY",
                    "metadataKey": {"key": "envoy.filters.http.ext_authz", "path": [{"key": "userId"}]}}}),
            ]
        );
    }

    #[test]
    fn what_envoy_would_refuse_is_left_out_and_told() {
        let good = json!({"remoteAddress": {}});
        for (wrong, problem) in [
            (json!({}), "actions[1]: expected a kind of action"),
            (json!({"remoteAddress": {}, "sourceCluster": {}}), "actions[1]: expected at most one of"),
            (json!({"genericKey": {}}), "actions[1].genericKey.descriptorValue: expected a text"),
            (json!({"genericKey": {"descriptorValue": UNORDERED}}), "is reserved"),
            (json!({"requestHeaders": {"headerName": "a b", "descriptorKey": "a"}}), "expected the name of a header"),
            (json!({"requestHeaders": {"headerName": "a"}}), "descriptorKey: expected a text"),
            (json!({"headerValueMatch": {"descriptorValue": "a"}}), "headers: expected at least one"),
            (
                json!({"headerValueMatch": {"descriptorValue": "a", "headers": [{"name": "x", "regexMatch": "("}]}}),
                "headers[0].regexMatch: expected a regular expression",
            ),
            (json!({"metadata": {"descriptorKey": "a"}}), "metadataKey: expected a key"),
            (json!({"metadata": {"descriptorKey": "a", "metadataKey": {"key": "b"}}}), "path: expected at least one"),
            (
                json!({"metadata": {"descriptorKey": "a", "metadataKey": {"key": "b", "path": [{}]}}}),
                "path: expected a text",
            ),
        ] {
            let (all, problems) = rendered(json!([{"actions": [good, wrong]}, {"actions": [good]}]));
            assert_eq!(all.len(), 1, "{wrong}");
            assert!(
                problems[0].starts_with("raw.rateLimits[0].actions[1]") && problems[0].contains(problem),
                "{wrong}: {problems:?}"
            );
        }
        let (all, problems) = rendered(json!([{}, {"actions": [good], "limit": {"dynamicMetadata": {}}}]));
        assert_eq!((all.len(), problems.len()), (1, 2), "{problems:?}");
    }
}
