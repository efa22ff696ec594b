//! The filter that reads tokens.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::Duration;
use meshrelay_api::security::{
    ClearRouteCache, JwksSource, JwtConfig, JwtProvider, LocalJwksSpecifier, ValidationPolicy,
};
use serde_json::{Map, Value, json};

use super::{claims, keys};
use crate::report::{Code, Finding};
use crate::units::http_filters::header;

/// Type of the filter, and of what routes say to it.
const JWT_AUTHN: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
const PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig";

/// How long fetched keys are kept, how long fetching them may take, and how far clocks may differ in seconds, unless the
/// policy says otherwise; the original's values.
const CACHE: Duration = Duration::from_nanos(300_000_000_000);
const TIMEOUT: Duration = Duration::from_nanos(5_000_000_000);
const CLOCK_SKEW: u32 = 60;

/// The filters of a policy.
#[derive(Debug, PartialEq)]
pub(super) struct Filters {
    /// Configuration of the filter that reads tokens, and what routes say to it.
    pub(super) tokens: (Value, Value),
    /// Rules over the claims of tokens, if there are any.
    pub(super) claims: Option<Value>,
    /// What is not as it was asked for.
    pub(super) gaps: Vec<Finding>,
}

/// Where the keys of a provider are fetched: the Envoy cluster, by name of the provider.
pub(super) type Servers = BTreeMap<String, Result<String, Finding>>;

/// The filters of a policy. `name` tells its payloads from those of other policies in the metadata of requests.
///
/// # Errors
/// When the policy cannot be put in force.
pub(super) fn filters(config: &JwtConfig, name: &str, servers: &Servers) -> Result<Filters, Finding> {
    if config.providers.is_empty() {
        return Err((Code::Missing, "spec.config.providers: expected at least one, found none".to_owned()));
    }
    let mut gaps = Vec::new();
    let mut providers = Map::new();
    for (provider_name, provider) in &config.providers {
        let place = format!("spec.config.providers[{provider_name}]");
        let server = servers.get(provider_name);
        let mut rendered =
            render(provider, server, &place, &mut gaps).map_err(|(code, text)| (code, format!("{place}{text}")))?;
        rendered["payloadInMetadata"] = payload(name, provider_name).into();
        if claims::reads_scopes(config) {
            rendered["normalizePayloadInMetadata"] = json!({"spaceDelimitedClaims": [claims::SCOPE]});
        }
        let clears = match config.clear_route_cache {
            ClearRouteCache::True => true,
            ClearRouteCache::Auto => !provider.claims_to_headers.is_empty(),
            ClearRouteCache::False | ClearRouteCache::Unknown(_) => false,
        };
        if clears {
            rendered["clearRouteCache"] = true.into();
        }
        providers.insert(provider_name.clone(), rendered);
    }
    let payloads: Vec<String> = config.providers.keys().map(|provider| payload(name, provider)).collect();
    let needs_one = validation(config) == ValidationPolicy::RequireValid;
    let requirement = requirement(config);
    let tokens = json!({"@type": JWT_AUTHN, "providers": providers, "requirementMap": {name: requirement}});
    Ok(Filters {
        tokens: (tokens, json!({"@type": PER_ROUTE, "requirementName": name})),
        claims: claims::rules(config, &payloads, needs_one)?,
        gaps,
    })
}

/// Key of a provider's payload in the metadata of a request.
fn payload(policy: &str, provider: &str) -> String {
    format!("{policy}.{provider}")
}

/// Whether requests without a token, and with one that fails, pass.
fn validation(config: &JwtConfig) -> ValidationPolicy {
    match &config.validation_policy {
        ValidationPolicy::RequireValid if config.allow_missing_or_failed => ValidationPolicy::AllowMissingOrFailed,
        ValidationPolicy::Unknown(_) => ValidationPolicy::RequireValid,
        known => known.clone(),
    }
}

/// Which tokens are needed.
///
/// Every token that is found must be valid. Envoy sees to that for one provider only, so where providers look in
/// different places, each place is asked for by itself.
fn requirement(config: &JwtConfig) -> Value {
    let validation = validation(config);
    let named = |name: &&str| json!({"providerName": name});
    let either = |names: &[&str], or: Option<&Value>| any(names.iter().map(named).chain(or.cloned()).collect());
    if validation == ValidationPolicy::AllowMissingOrFailed {
        let all: Vec<&str> = config.providers.keys().map(String::as_str).collect();
        return either(&all, Some(&json!({"allowMissingOrFailed": {}})));
    }
    let groups = groups(&config.providers);
    let missing = json!({"allowMissing": {}});
    // One of a group, if `needed` is its position, and whatever is there of the others.
    let with = |needed: Option<usize>| {
        let of = |(index, group): (usize, &Vec<&str>)| either(group, (needed != Some(index)).then_some(&missing));
        let mut each: Vec<Value> = groups.iter().enumerate().map(of).collect();
        if each.len() == 1 { each.remove(0) } else { json!({"requiresAll": {"requirements": each}}) }
    };
    if validation == ValidationPolicy::AllowMissing {
        return with(None);
    }
    any((0..groups.len()).map(|needed| with(Some(needed))).collect())
}

fn any(mut alternatives: Vec<Value>) -> Value {
    if alternatives.len() == 1 {
        return alternatives.remove(0);
    }
    json!({"requiresAny": {"requirements": alternatives}})
}

/// Providers by the places in which they look for tokens; those of two groups share none.
fn groups(providers: &BTreeMap<String, JwtProvider>) -> Vec<Vec<&str>> {
    let mut groups: Vec<(BTreeSet<String>, Vec<&str>)> = Vec::new();
    for (name, provider) in providers {
        let mut joined = (places(provider), vec![name.as_str()]);
        let (overlapping, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(places, _)| !places.is_disjoint(&joined.0));
        for (places, names) in overlapping {
            joined.0.extend(places);
            joined.1.extend(names);
        }
        joined.1.sort_unstable();
        groups = others;
        groups.push(joined);
    }
    groups.sort_unstable_by(|a, b| a.1.cmp(&b.1));
    groups.into_iter().map(|(_, names)| names).collect()
}

fn places(provider: &JwtProvider) -> BTreeSet<String> {
    let source = provider.token_source.clone().unwrap_or_default();
    let headers = source.headers.iter().map(|header| format!("header {}", header.name.to_lowercase()));
    let places: BTreeSet<String> =
        headers.chain(source.query_params.iter().map(|name| format!("query {name}"))).collect();
    if places.is_empty() { ["header authorization", "query access_token"].map(str::to_owned).into() } else { places }
}

/// A provider in Envoy's form. Envoy would refuse the whole listener for one bad value.
fn render(
    provider: &JwtProvider,
    server: Option<&Result<String, Finding>>,
    place: &str,
    gaps: &mut Vec<Finding>,
) -> Result<Value, Finding> {
    let bad = |text: String| (Code::BadValue, text);
    let mut value = jwks(provider, server)?;
    if !provider.issuer.is_empty() {
        value["issuer"] = provider.issuer.clone().into();
    }
    if !provider.audiences.is_empty() {
        value["audiences"] = provider.audiences.clone().into();
    }
    if let Some(source) = &provider.token_source {
        let mut headers = Vec::new();
        for (index, header) in source.headers.iter().enumerate() {
            let place = format!(".tokenSource.headers[{index}]");
            let name = header::name(&header.name, &format!("{place}.name")).map_err(bad)?;
            if header.prefix.contains(|c: char| c.is_control()) {
                return Err(bad(format!("{place}.prefix: expected a text without control characters")));
            }
            headers.push(json!({"name": name, "valuePrefix": header.prefix}));
        }
        if !headers.is_empty() {
            value["fromHeaders"] = headers.into();
        }
        if !source.query_params.is_empty() {
            value["fromParams"] = source.query_params.clone().into();
        }
    }
    let mut copied = Vec::new();
    for (index, copy) in provider.claims_to_headers.iter().enumerate() {
        let here = format!(".claimsToHeaders[{index}]");
        let header = header::name(&copy.header, &format!("{here}.header")).map_err(bad)?;
        if copy.claim.is_empty() {
            return Err((Code::Missing, format!("{here}.claim: expected a claim, found none")));
        }
        if copy.append {
            let text = format!("{place}{here}.append is not translated: what the client sent in {header} is removed");
            gaps.push((Code::NotTranslated, text));
        }
        copied.push(json!({"headerName": header, "claimName": copy.claim}));
    }
    if !copied.is_empty() {
        value["claimToHeaders"] = copied.into();
    }
    if !provider.output_payload_to_header.is_empty() {
        let header = header::name(&provider.output_payload_to_header, ".outputPayloadToHeader").map_err(bad)?;
        value["forwardPayloadHeader"] = header.into();
    }
    value["forward"] = provider.keep_token.into();
    value["clockSkewSeconds"] = provider.clock_skew_seconds.unwrap_or(CLOCK_SKEW).into();
    Ok(value)
}

/// Where a provider's keys are.
fn jwks(provider: &JwtProvider, server: Option<&Result<String, Finding>>) -> Result<Value, Finding> {
    let conflict = |conflict: meshrelay_api::OneofConflict| {
        let (code, text) = Code::split(&conflict);
        (code, format!(": {text}"))
    };
    match provider.jwks_source().map_err(conflict)? {
        None => Err((Code::Missing, ": expected local or remote keys, found neither".to_owned())),
        Some(JwksSource::Local(local)) => match local.specifier().map_err(conflict)? {
            None => Err((Code::Missing, ".local: expected inline or secretRef, found neither".to_owned())),
            Some(LocalJwksSpecifier::SecretRef(_)) => {
                let text = ".local.secretRef is not translated, as Secrets are not read: write the public key inline";
                Err((Code::NotTranslated, text.to_owned()))
            }
            Some(LocalJwksSpecifier::Inline(text)) => {
                let jwks = keys::jwks(text).map_err(|text| (Code::BadValue, format!(".local.inline: {text}")))?;
                Ok(json!({"localJwks": {"inlineString": jwks}}))
            }
        },
        Some(JwksSource::Remote(remote)) => {
            let has_host = remote.url.split_once("://").is_some_and(|(_, rest)| !rest.is_empty());
            if !has_host {
                return Err((Code::BadValue, format!(".remote.url: expected an address, found {:?}", remote.url)));
            }
            let missing = (Code::Missing, "expected a destination, found none".to_owned());
            let cluster = server.cloned().unwrap_or(Err(missing));
            let cluster = cluster.map_err(|(code, text)| (code, format!(".remote.destinationRef: {text}")))?;
            let timeout = remote.timeout.unwrap_or(TIMEOUT);
            let cache = remote.cache_duration.unwrap_or(CACHE);
            for (field, duration, least) in [("timeout", timeout, 0), ("cacheDuration", cache, 1_000_000)] {
                if duration.as_nanos() < least {
                    return Err((Code::BadValue, format!(".remote.{field}: expected 1ms or more, found {duration}")));
                }
            }
            let mut jwks = json!({
                "httpUri": {"uri": remote.url, "cluster": cluster, "timeout": timeout},
                "cacheDuration": cache,
            });
            if remote.enable_async_fetch {
                jwks["asyncFetch"] = json!({});
            }
            Ok(json!({"remoteJwks": jwks}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> JwtConfig {
        serde_json::from_value(value).unwrap()
    }

    fn inline() -> Value {
        json!({"inline": json!({"keys": [{"kty": "oct", "k": "AA"}]}).to_string()})
    }

    fn requirement_of(providers: Value, validation: &str) -> Value {
        requirement(&config(json!({"providers": providers, "validationPolicy": validation})))
    }

    #[test]
    fn a_provider_is_put_in_envoys_form() {
        let config = config(json!({
            "providers": {"keycloak": {
                "issuer": "https://issuer", "audiences": ["a"], "keepToken": true, "clockSkewSeconds": 5,
                "tokenSource": {"headers": [{"name": "jwt", "prefix": "Token "}], "queryParams": ["t"]},
                "remote": {"url": "https://keycloak/certs", "cacheDuration": "1m", "enableAsyncFetch": true},
                "claimsToHeaders": [{"claim": "email", "header": "X-Email", "append": true}],
                "outputPayloadToHeader": "x-payload",
            }},
            "requiredScopes": ["a"],
        }));
        let servers = Servers::from([("keycloak".to_owned(), Ok("outbound|443||keycloak".to_owned()))]);
        let filters = filters(&config, "policy.ns.c", &servers).unwrap();
        assert_eq!(
            filters.tokens.0["providers"]["keycloak"],
            json!({
                "issuer": "https://issuer", "audiences": ["a"], "forward": true, "clockSkewSeconds": 5,
                "fromHeaders": [{"name": "jwt", "valuePrefix": "Token "}], "fromParams": ["t"],
                "remoteJwks": {
                    "httpUri": {"uri": "https://keycloak/certs", "cluster": "outbound|443||keycloak", "timeout": "5s"},
                    "cacheDuration": "60s", "asyncFetch": {},
                },
                "claimToHeaders": [{"headerName": "X-Email", "claimName": "email"}],
                "forwardPayloadHeader": "x-payload", "payloadInMetadata": "policy.ns.c.keycloak",
                "normalizePayloadInMetadata": {"spaceDelimitedClaims": ["scope"]}, "clearRouteCache": true,
            })
        );
        assert_eq!(filters.tokens.0["requirementMap"], json!({"policy.ns.c": {"providerName": "keycloak"}}));
        assert_eq!(filters.tokens.1["requirementName"], "policy.ns.c");
        assert!(filters.claims.is_some());
        assert!(matches!(&filters.gaps[..], [(Code::NotTranslated, text)] if text.contains("append")));
    }

    #[test]
    fn a_policy_that_cannot_be_put_in_force_says_where() {
        let key = json!({"kty": "oct", "k": "AA"}).to_string();
        for (provider, problem) in [
            (json!({}), "providers[p]: expected local or remote keys"),
            (json!({"local": {}}), "providers[p].local: expected inline or secretRef"),
            (json!({"local": {"inline": ""}}), "providers[p].local.inline: expected a public key"),
            (json!({"local": {"secretRef": {"key": "k"}}}), "providers[p].local.secretRef is not translated"),
            (json!({"local": {"inline": key}, "remote": {}}), "providers[p]: expected at most one of"),
            (json!({"remote": {"url": "x"}}), "providers[p].remote.url: expected an address"),
            (json!({"remote": {"url": "https://x"}}), "providers[p].remote.destinationRef: expected a destination"),
            (
                json!({"local": {"inline": key}, "claimsToHeaders": [{"claim": "a", "header": "a b"}]}),
                "providers[p].claimsToHeaders[0].header: expected the name of a header",
            ),
            (
                json!({"local": {"inline": key}, "tokenSource": {"headers": [{"prefix": "a"}]}}),
                "providers[p].tokenSource.headers[0].name",
            ),
        ] {
            let config = config(json!({"providers": {"p": provider}}));
            let (_, text) = filters(&config, "n", &Servers::new()).unwrap_err();
            assert!(text.contains(problem), "{provider}: {text}");
        }
        let slow = json!({"url": "https://x", "cacheDuration": "1us"});
        let servers = Servers::from([("p".to_owned(), Ok("c".to_owned()))]);
        let (_, text) = filters(&config(json!({"providers": {"p": {"remote": slow}}})), "n", &servers).unwrap_err();
        assert!(text.contains("remote.cacheDuration: expected 1ms or more"), "{text}");
        assert_eq!(filters(&config(json!({})), "n", &servers).unwrap_err().0, Code::Missing);
    }

    #[test]
    fn what_is_needed_follows_from_the_validation_policy() {
        let (a, b) = (json!({"providerName": "a"}), json!({"providerName": "b"}));
        let any = |list: Value| json!({"requiresAny": {"requirements": list}});
        let (missing, failed) = (json!({"allowMissing": {}}), json!({"allowMissingOrFailed": {}}));
        let one = json!({"a": {}});
        let two = json!({"a": {}, "b": {"tokenSource": {"headers": [{"name": "AUTHORIZATION"}]}}});
        for (providers, validation, expected) in [
            (&one, "REQUIRE_VALID", a.clone()),
            (&one, "ALLOW_MISSING", any(json!([a, missing]))),
            (&one, "ALLOW_MISSING_OR_FAILED", any(json!([a, failed]))),
            (&two, "REQUIRE_VALID", any(json!([a, b]))),
            (&two, "ALLOW_MISSING", any(json!([a, b, missing]))),
            (&two, "ALLOW_MISSING_OR_FAILED", any(json!([a, b, failed]))),
        ] {
            assert_eq!(requirement_of(providers.clone(), validation), expected, "{validation}");
        }
    }

    #[test]
    fn tokens_in_different_places_must_all_be_valid() {
        let providers = json!({
            "a": {"tokenSource": {"headers": [{"name": "x-a"}]}},
            "b": {"tokenSource": {"headers": [{"name": "x-b"}]}},
            "c": {"tokenSource": {"headers": [{"name": "X-A"}], "queryParams": ["t"]}},
        });
        let of = |names: &[&str], or_missing: bool| {
            let missing = or_missing.then(|| json!({"allowMissing": {}}));
            any(names.iter().map(|name| json!({"providerName": name})).chain(missing).collect())
        };
        let both = |first, second| json!({"requiresAll": {"requirements": [first, second]}});
        assert_eq!(
            requirement_of(providers.clone(), "REQUIRE_VALID"),
            any(vec![both(of(&["a", "c"], false), of(&["b"], true)), both(of(&["a", "c"], true), of(&["b"], false)),])
        );
        let optional = both(of(&["a", "c"], true), of(&["b"], true));
        assert_eq!(requirement_of(providers, "ALLOW_MISSING"), optional);
    }

    #[test]
    fn the_old_switch_beats_the_default_only() {
        let of = |policy: &str| validation(&config(json!({"allowMissingOrFailed": true, "validationPolicy": policy})));
        assert_eq!(of("REQUIRE_VALID"), ValidationPolicy::AllowMissingOrFailed);
        assert_eq!(of("ALLOW_MISSING"), ValidationPolicy::AllowMissing);
        assert_eq!(validation(&config(json!({"validationPolicy": "MAYBE"}))), ValidationPolicy::RequireValid);
    }

    #[test]
    fn routes_are_chosen_again_if_claims_become_headers_or_if_asked_for() {
        for (clear, copies, expected) in
            [("AUTO", false, false), ("AUTO", true, true), ("TRUE", false, true), ("FALSE", true, false)]
        {
            let copies = if copies { json!([{"claim": "a", "header": "a"}]) } else { json!([]) };
            let provider = json!({"local": inline(), "claimsToHeaders": copies});
            let config = config(json!({"providers": {"p": provider}, "clearRouteCache": clear}));
            let filters = filters(&config, "n", &Servers::new()).unwrap();
            assert_eq!(filters.tokens.0["providers"]["p"]["clearRouteCache"] == true, expected, "{clear}");
        }
    }
}
