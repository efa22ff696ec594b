use std::collections::BTreeMap;

use meshrelay_api::istio::destination_rule::{Distribute, Failover, LocalityLoadBalancerSetting};
use meshrelay_api::resilience::{FailoverConfig, FailoverPolicySpec, LocalityMapping, WeightedLocality};

use crate::report::{Code, Finding};

/// What a FailoverPolicy becomes.
#[derive(Debug, PartialEq)]
pub(crate) struct Locality {
    pub(crate) settings: LocalityLoadBalancerSetting,
    /// Whether it does nothing as long as failing endpoints are not noticed.
    pub(crate) needs_outlier_detection: bool,
}

/// A mapping that Istio takes.
enum Mapping {
    Distribute(Distribute),
    Failover(Failover),
}

/// The settings, and what Istio would refuse and is left out. Istio takes shares or failover, never both, and wants
/// places that do not overlap.
pub(crate) fn locality(spec: &FailoverPolicySpec, problems: &mut Vec<Finding>) -> Locality {
    let nothing = FailoverConfig::default();
    let config = spec.config.as_ref().unwrap_or(&nothing);
    let mut settings = LocalityLoadBalancerSetting { enabled: Some(true), ..LocalityLoadBalancerSetting::default() };
    for (index, mapping) in config.locality_mappings.iter().enumerate() {
        let result = read(mapping, problems, index).and_then(|mapping| add(&mut settings, mapping));
        if let Err(problem) = result {
            let text = format!("spec.config.localityMappings[{index}]{problem}: the mapping is left out");
            problems.push((Code::BadValue, text));
        }
    }
    let labels = config.priority_labels.iter().flat_map(|labels| &labels.labels);
    if config.locality_mappings.is_empty() {
        settings.failover_priority = labels.filter(|label| !label.is_empty()).cloned().collect();
    } else if labels.count() > 0 {
        let text = "spec.config.priorityLabels: no effect beside localityMappings";
        problems.push((Code::BadValue, text.to_owned()));
    }
    let needs_outlier_detection = settings.distribute.is_empty();
    Locality { settings, needs_outlier_detection }
}

/// Reads a mapping: with weights a distribution, without them a failover.
fn read(mapping: &LocalityMapping, problems: &mut Vec<Finding>, index: usize) -> Result<Mapping, String> {
    let from = mapping.from.clone().unwrap_or_default();
    let from = place([&from.region, &from.zone, &from.sub_zone]).map_err(|problem| format!(".from: {problem}"))?;
    let mut to = Vec::new();
    for (position, target) in mapping.to.iter().enumerate() {
        let WeightedLocality { region, zone, sub_zone, weight } = target;
        let place: String = place([region, zone, sub_zone]).map_err(|problem| format!(".to[{position}]: {problem}"))?;
        to.push((place, *weight));
    }
    let weighted = to.iter().filter(|(_, weight)| weight.is_some()).count();
    match to.as_slice() {
        [] => Err(".to: expected at least one place, found none".to_owned()),
        _ if weighted == to.len() => {
            let sum: u64 = to.iter().map(|(_, weight)| u64::from(weight.unwrap_or_default())).sum();
            if sum != 100 {
                return Err(format!(".to: expected weights that add up to 100, found {sum}"));
            }
            let mut shares = BTreeMap::new();
            // A share of nothing is what places have that are not named.
            for (place, weight) in to.into_iter().filter(|(_, weight)| *weight != Some(0)) {
                if let Some(other) = shares.keys().find(|other: &&String| overlap(other, &place)) {
                    return Err(format!(".to: expected places that do not overlap, found {other} and {place}"));
                }
                shares.insert(place, weight.unwrap_or_default());
            }
            Ok(Mapping::Distribute(Distribute { from: Some(from), to: shares }))
        }
        _ if weighted > 0 => Err(".to: expected weights in all entries or in none".to_owned()),
        [(first, _), more @ ..] => {
            if let Some(place) = [&from, first].into_iter().find(|place| place.contains('/')) {
                return Err(format!(": expected regions alone where there are no weights, found {place}"));
            }
            if from == *first {
                return Err(format!(": expected different regions, found {from} twice"));
            }
            if !more.is_empty() {
                let text = format!(
                    "spec.config.localityMappings[{index}].to: Istio prefers one region only, {first}; the others come \
                     after it, all alike"
                );
                problems.push((Code::NotTranslated, text));
            }
            Ok(Mapping::Failover(Failover { from: Some(from), to: Some(first.clone()) }))
        }
    }
}

/// Adds a mapping if Istio takes it beside those that are there.
fn add(settings: &mut LocalityLoadBalancerSetting, mapping: Mapping) -> Result<(), String> {
    match mapping {
        Mapping::Distribute(_) if !settings.failover.is_empty() => {
            Err(": expected no weights, because mappings before it have none".to_owned())
        }
        Mapping::Failover(_) if !settings.distribute.is_empty() => {
            Err(": expected weights, because mappings before it have them".to_owned())
        }
        Mapping::Distribute(distribute) => {
            let from = distribute.from.as_deref().unwrap_or_default();
            let known = settings.distribute.iter().filter_map(|known| known.from.as_deref());
            if let Some(other) = known.into_iter().find(|other| overlap(other, from)) {
                return Err(format!(".from: expected a place that no mapping before it has, found {other} and {from}"));
            }
            settings.distribute.push(distribute);
            Ok(())
        }
        Mapping::Failover(failover) => {
            if settings.failover.iter().any(|known| known.from == failover.from) {
                let from = failover.from.unwrap_or_default();
                return Err(format!(".from: expected a region that no mapping before it has, found {from} again"));
            }
            settings.failover.push(failover);
            Ok(())
        }
    }
}

/// A place as Istio writes it: `region`, `region/zone` or `region/zone/subzone`. A part `*` behind the region is like
/// none.
fn place(parts: [&String; 3]) -> Result<String, String> {
    let given: Vec<&str> = parts.into_iter().map(String::as_str).collect();
    let last = given.iter().rposition(|part| !part.is_empty() && *part != "*").map_or(0, |last| last + 1);
    let place = given.get(..last).unwrap_or_default();
    if place.is_empty() || place.iter().any(|part| part.is_empty() || part.contains(['*', '/'])) {
        let found = given.join("/");
        return Err(format!("expected a region, then zone, then subZone, without wildcards, found {found:?}"));
    }
    Ok(place.join("/"))
}

/// Whether one place lies in the other.
fn overlap(one: &str, other: &str) -> bool {
    let lies_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    lies_in(one, other) || lies_in(other, one)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_policy(config: Value) -> (Value, Vec<String>) {
        let spec: FailoverPolicySpec = serde_json::from_value(json!({"config": config})).unwrap();
        let mut problems = Vec::new();
        let locality = locality(&spec, &mut problems);
        (serde_json::to_value(locality.settings).unwrap(), problems.into_iter().map(|(_, text)| text).collect())
    }

    #[test]
    fn mappings_become_what_istio_has() {
        for (config, settings) in [
            (json!({}), json!({"enabled": true})),
            (json!({"localityMappings": []}), json!({"enabled": true})),
            (
                json!({"localityMappings": [{"from": {"region": "a"}, "to": [{"region": "b"}]}]}),
                json!({"enabled": true, "failover": [{"from": "a", "to": "b"}]}),
            ),
            (
                json!({"localityMappings": [{"from": {"region": "a", "zone": "1", "subZone": "*"},
                    "to": [{"region": "a", "zone": "1", "weight": 80}, {"region": "b", "weight": 20},
                        {"region": "c", "weight": 0}]}]}),
                json!({"enabled": true, "distribute": [{"from": "a/1", "to": {"a/1": 80, "b": 20}}]}),
            ),
            (
                json!({"priorityLabels": {"labels": ["topology.istio.io/network", "version=v2"]}}),
                json!({"enabled": true, "failoverPriority": ["topology.istio.io/network", "version=v2"]}),
            ),
        ] {
            assert_eq!(read_policy(config.clone()), (settings, Vec::new()), "{config}");
        }
    }

    #[test]
    fn what_istio_would_refuse_is_left_out_and_told() {
        let failover = json!({"from": {"region": "a"}, "to": [{"region": "b"}]});
        let shares = json!({"from": {"region": "a"}, "to": [{"region": "b", "weight": 100}]});
        for (mappings, number, told) in [
            (json!([{"to": [{"region": "b"}]}]), 0, "[0].from: expected a region"),
            (json!([{"from": {"region": "*"}, "to": [{"region": "b"}]}]), 0, "found \"*//\""),
            (json!([{"from": {"region": "a"}}]), 0, "expected at least one place"),
            (json!([{"from": {"region": "a"}, "to": [{"region": "a"}]}]), 0, "found a twice"),
            (json!([{"from": {"region": "a", "zone": "1"}, "to": [{"region": "b"}]}]), 0, "found a/1"),
            (json!([{"from": {"region": "a"}, "to": [{"region": "b", "subZone": "1"}]}]), 0, "found \"b//1\""),
            (json!([{"from": {"region": "a"}, "to": [{"region": "b", "weight": 99}]}]), 0, "found 99"),
            (
                json!([{"from": {"region": "a"}, "to": [{"region": "b", "weight": 99}, {"region": "c"}]}]),
                0,
                "or in none",
            ),
            (
                json!([{"from": {"region": "a"},
                    "to": [{"region": "b", "weight": 50}, {"region": "b", "zone": "1", "weight": 50}]}]),
                0,
                "found b and b/1",
            ),
            (json!([failover, failover]), 1, "found a again"),
            (json!([failover, shares]), 1, "expected no weights"),
            (json!([shares, failover]), 1, "expected weights"),
            (
                json!([shares, {"from": {"region": "a", "zone": "1"}, "to": [{"region": "b", "weight": 100}]}]),
                1,
                "found a and a/1",
            ),
            (json!([{"from": {"region": "a"}, "to": [{"region": "b"}, {"region": "c"}]}]), 1, "one region only, b"),
        ] {
            let (settings, problems) = read_policy(json!({"localityMappings": mappings}));
            let kept = ["failover", "distribute"].iter().filter_map(|field| settings[*field].as_array());
            assert_eq!(kept.map(Vec::len).sum::<usize>(), number, "{mappings}");
            assert_eq!(problems.len(), 1, "{mappings}: {problems:?}");
            assert!(problems[0].contains(told), "{mappings}: {problems:?}");
        }
    }

    #[test]
    fn mappings_beat_labels() {
        let mapping = json!({"from": {"region": "a"}, "to": [{"region": "b"}]});
        let (settings, problems) =
            read_policy(json!({"localityMappings": [mapping], "priorityLabels": {"labels": ["x"]}}));
        assert!(settings.get("failoverPriority").is_none());
        assert_eq!(problems, ["spec.config.priorityLabels: no effect beside localityMappings"]);
    }
}
