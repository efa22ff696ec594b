//! Rules over the claims of tokens that were read.

use meshrelay_api::security::{ClaimMatcher, JwtConfig};
use serde_json::{Value, json};

use crate::report::{Code, Finding};

/// The claim with the scopes, separated by blanks, RFC 8693.
pub(super) const SCOPE: &str = "scope";

/// Where Envoy leaves the payloads of tokens, whatever the name of the filter.
const NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// Whether rules look at single scopes.
pub(super) fn reads_scopes(config: &JwtConfig) -> bool {
    !config.required_scopes.is_empty() || config.claims.iter().any(|claim| claim.key == SCOPE)
}

/// Who may pass, as rules of Envoy's RBAC; `None` if everybody may. Each payload that is there must hold what is
/// demanded, and with `needs_one` one of them has to.
///
/// # Errors
/// When a claim says nothing that could be looked at.
pub(super) fn rules(config: &JwtConfig, payloads: &[String], needs_one: bool) -> Result<Option<Value>, Finding> {
    if config.claims.is_empty() && config.required_scopes.is_empty() {
        return Ok(None);
    }
    let demands: Vec<Value> = payloads.iter().map(|payload| demands(config, payload)).collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    if needs_one {
        all.push(any(demands.clone()));
    }
    if !needs_one || payloads.len() > 1 {
        let absent = |payload: &String| json!({"notId": found(&[payload], json!({"presentMatch": true}))});
        all.extend(payloads.iter().zip(demands).map(|(payload, demands)| any(vec![absent(payload), demands])));
    }
    let policy = json!({"permissions": [{"any": true}], "principals": [{"andIds": {"ids": all}}]});
    Ok(Some(json!({"action": "ALLOW", "policies": {"claims": policy}})))
}

/// Everything that a payload must hold.
fn demands(config: &JwtConfig, payload: &str) -> Result<Value, Finding> {
    let mut demands = Vec::new();
    for (index, claim) in config.claims.iter().enumerate() {
        let place = format!("spec.config.claims[{index}]");
        demands.extend(demand(claim, payload).map_err(|(code, text)| (code, format!("{place}{text}")))?);
    }
    for (index, scope) in config.required_scopes.iter().enumerate() {
        if scope.is_empty() {
            let text = format!("spec.config.requiredScopes[{index}]: expected a scope, found none");
            return Err((Code::Missing, text));
        }
        demands.push(has_value(&[payload, SCOPE], json!({"stringMatch": {"exact": scope}})));
    }
    Ok(json!({"andIds": {"ids": demands}}))
}

/// What a claim has to be, and what it must not be.
fn demand(claim: &ClaimMatcher, payload: &str) -> Result<Vec<Value>, Finding> {
    let delimiter = &claim.nested_claim_delimiter;
    let steps: Vec<&str> =
        if delimiter.is_empty() { vec![claim.key.as_str()] } else { claim.key.split(delimiter.as_str()).collect() };
    if steps.iter().any(|step| step.is_empty()) {
        return Err((Code::BadValue, format!(".key: expected a claim, found {:?}", claim.key)));
    }
    if claim.values.is_empty() && claim.not_values.is_empty() {
        return Err((Code::Missing, ": expected values or notValues, found neither".to_owned()));
    }
    let path: Vec<&str> = std::iter::once(payload).chain(steps).collect();
    let one_of = |values: &[String]| any(values.iter().flat_map(|value| matches(&path, value)).collect());
    let mut demands = Vec::new();
    if !claim.values.is_empty() {
        demands.push(one_of(&claim.values));
    }
    if !claim.not_values.is_empty() {
        demands.push(json!({"notId": one_of(&claim.not_values)}));
    }
    Ok(demands)
}

/// The ways in which a claim can be a value. Claims have types, values are texts: `true` is also what a claim says that
/// is no text.
fn matches(path: &[&str], value: &str) -> Vec<Value> {
    if value == "*" {
        return vec![found(path, json!({"presentMatch": true}))];
    }
    let mut all = vec![has_value(path, json!({"stringMatch": text(value)}))];
    if let Ok(truth) = value.parse::<bool>() {
        all.push(has_value(path, json!({"boolMatch": truth})));
    }
    if let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) {
        all.push(has_value(path, json!({"doubleMatch": {"exact": number}})));
    }
    all
}

/// A text in which `*` stands for anything.
fn text(pattern: &str) -> Value {
    let parts: Vec<&str> = pattern.split('*').collect();
    match parts.as_slice() {
        [all] => json!({"exact": all}),
        ["", end] => json!({"suffix": end}),
        [beginning, ""] => json!({"prefix": beginning}),
        parts => {
            let parts: Vec<String> = parts.iter().map(|part| regex::escape(part)).collect();
            // Also over line ends, or a line end would hide what must not be there.
            json!({"safeRegex": {"regex": format!("(?s){}", parts.join(".*"))}})
        }
    }
}

/// A claim is a value, or a list with it.
fn has_value(path: &[&str], value: Value) -> Value {
    found(path, json!({"orMatch": {"valueMatchers": [value, {"listMatch": {"oneOf": value}}]}}))
}

fn found(path: &[&str], value: Value) -> Value {
    let path: Vec<Value> = path.iter().map(|key| json!({"key": key})).collect();
    json!({"sourcedMetadata": {"metadataMatcher": {"filter": NAMESPACE, "path": path, "value": value}}})
}

fn any(mut ids: Vec<Value>) -> Value {
    if ids.len() == 1 { ids.remove(0) } else { json!({"orIds": {"ids": ids}}) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(config: Value, payloads: &[&str], needs_one: bool) -> Result<Option<Value>, Finding> {
        let config: JwtConfig = serde_json::from_value(config).unwrap();
        let payloads: Vec<String> = payloads.iter().map(|payload| (*payload).to_owned()).collect();
        let rules = rules(&config, &payloads, needs_one)?;
        Ok(rules.map(|rules| rules["policies"]["claims"]["principals"][0]["andIds"]["ids"].clone()))
    }

    fn metadata(path: &[&str], value: Value) -> Value {
        found(path, value)
    }

    #[test]
    fn nothing_is_demanded_without_claims() {
        assert_eq!(rules_of(json!({}), &["p"], false), Ok(None));
    }

    #[test]
    fn each_payload_that_is_there_must_hold_every_claim_and_scope() {
        let config = json!({
            "claims": [{"key": "email", "values": ["*@solo.io", "root"], "notValues": ["a*"]}],
            "requiredScopes": ["is:developer"],
        });
        let present = |payload| metadata(&[payload], json!({"presentMatch": true}));
        let is = |path: &[&str], matcher| has_value(path, json!({"stringMatch": matcher}));
        let demands = |payload| {
            json!({"andIds": {"ids": [
                {"orIds": {"ids": [
                    is(&[payload, "email"], json!({"suffix": "@solo.io"})),
                    is(&[payload, "email"], json!({"exact": "root"})),
                ]}},
                {"notId": is(&[payload, "email"], json!({"prefix": "a"}))},
                is(&[payload, "scope"], json!({"exact": "is:developer"})),
            ]}})
        };
        let if_there = |payload| json!({"orIds": {"ids": [{"notId": present(payload)}, demands(payload)]}});
        for (payloads, needs_one, expected) in [
            (&["p"][..], true, json!([demands("p")])),
            (&["p"], false, json!([if_there("p")])),
            (&["p", "q"], false, json!([if_there("p"), if_there("q")])),
            (
                &["p", "q"],
                true,
                json!([{"orIds": {"ids": [demands("p"), demands("q")]}}, if_there("p"), if_there("q")]),
            ),
        ] {
            assert_eq!(rules_of(config.clone(), payloads, needs_one).unwrap().unwrap(), expected);
        }
    }

    #[test]
    fn values_may_be_of_any_type_and_lie_deep() {
        let matcher = |pattern: &str| matches(&["p", "a", "b"], pattern);
        assert_eq!(matcher("*"), [metadata(&["p", "a", "b"], json!({"presentMatch": true}))]);
        assert_eq!(matcher("true")[1], has_value(&["p", "a", "b"], json!({"boolMatch": true})));
        assert_eq!(matcher("7")[1], has_value(&["p", "a", "b"], json!({"doubleMatch": {"exact": 7.0}})));
        assert_eq!(text("a.*b"), json!({"safeRegex": {"regex": "(?s)a\\..*b"}}));
        let config = json!({"claims": [{"key": "a.b", "values": ["x"], "nestedClaimDelimiter": "."}]});
        let rules = rules_of(config, &["p"], false).unwrap().unwrap().to_string();
        assert!(rules.contains(r#""path":[{"key":"p"},{"key":"a"},{"key":"b"}]"#), "{rules}");
    }

    #[test]
    fn a_claim_that_says_nothing_is_refused() {
        for claim in [
            json!({"key": "a"}),
            json!({"values": ["a"]}),
            json!({"key": "a..b", "values": ["a"], "nestedClaimDelimiter": "."}),
        ] {
            assert!(rules_of(json!({"claims": [claim]}), &["p"], false).is_err());
        }
        assert!(rules_of(json!({"requiredScopes": [""]}), &["p"], false).is_err());
    }
}
