//! Patches of Envoy's configuration.

use std::collections::BTreeMap;

use meshrelay_api::istio::EnvoyFilter;
use meshrelay_api::istio::envoy_filter::{
    ApplyTo, ConfigObjectMatch, ConfigPatch, FilterChainMatch, FilterMatch, ListenerMatch, Patch, PatchContext,
    PatchOperation, RouteConfigurationMatch, RouteMatch, SubFilterMatch, VirtualHostMatch, WorkloadSelector,
};
use serde_json::{Value, json};

use super::effect::{Effect, merge};
use crate::fingerprint::Shared;

/// Puts a filter before the router, after those that were put there before: on one port of the proxies, or on all.
pub(super) fn install(
    context: PatchContext,
    port: Option<u32>,
    name: &str,
    config: &Value,
    disabled: bool,
) -> ConfigPatch {
    let router = SubFilterMatch { name: Some("envoy.filters.http.router".to_owned()) };
    let manager = FilterMatch {
        name: Some("envoy.filters.network.http_connection_manager".to_owned()),
        sub_filter: Some(router),
    };
    let chain = FilterChainMatch { filter: Some(manager), ..FilterChainMatch::default() };
    let listener = ListenerMatch { port_number: port, filter_chain: Some(chain), ..ListenerMatch::default() };
    let mut value = json!({"name": name, "typedConfig": config});
    if disabled {
        value["disabled"] = true.into();
    }
    ConfigPatch {
        apply_to: Some(ApplyTo::HttpFilter),
        r#match: Some(ConfigObjectMatch {
            context: Some(context),
            listener: Some(listener),
            ..ConfigObjectMatch::default()
        }),
        patch: Some(Patch { operation: Some(PatchOperation::InsertBefore), value: Some(value), filter_class: None }),
    }
}

/// Which routes a patch changes.
pub(super) enum Routes<'a> {
    /// Those with a name.
    Named(&'a str),
    /// All that lead to a port of the proxy's own pod.
    To(u32),
    /// All that say nothing else.
    All,
}

/// What some effects make routes say to filters. `suffix` is that of the filters' names.
pub(super) fn said(effects: &[Shared<Effect>], suffix: &str) -> BTreeMap<String, Value> {
    let mut filters: BTreeMap<String, Value> = BTreeMap::new();
    for effect in effects {
        let name = format!("{}{suffix}", effect.position.name());
        merge(filters.entry(name).or_default(), &effect.route);
    }
    filters
}

/// Tells filters, by name, what some routes want of them.
pub(super) fn configure(context: PatchContext, routes: &Routes<'_>, filters: BTreeMap<String, Value>) -> ConfigPatch {
    let (apply_to, route_configuration) = match routes {
        Routes::Named(name) => {
            let route = Some(RouteMatch { name: Some((*name).to_owned()), action: None });
            let vhost = Some(VirtualHostMatch { route, ..VirtualHostMatch::default() });
            (ApplyTo::HttpRoute, Some(RouteConfigurationMatch { vhost, ..RouteConfigurationMatch::default() }))
        }
        Routes::To(port) => {
            let port_number = Some(*port);
            (ApplyTo::HttpRoute, Some(RouteConfigurationMatch { port_number, ..RouteConfigurationMatch::default() }))
        }
        Routes::All => (ApplyTo::RouteConfiguration, None),
    };
    ConfigPatch {
        apply_to: Some(apply_to),
        r#match: Some(ConfigObjectMatch {
            context: Some(context),
            route_configuration,
            ..ConfigObjectMatch::default()
        }),
        patch: Some(Patch {
            operation: Some(PatchOperation::Merge),
            value: Some(json!({"typedPerFilterConfig": filters})),
            filter_class: None,
        }),
    }
}

/// An EnvoyFilter for the proxies with some labels, or for all of its namespace.
pub(super) fn envoy_filter(labels: Option<&BTreeMap<String, String>>, config_patches: Vec<ConfigPatch>) -> EnvoyFilter {
    let labels = labels.filter(|labels| !labels.is_empty()).cloned();
    let workload_selector = labels.map(|labels| WorkloadSelector { labels });
    EnvoyFilter { config_patches, workload_selector, ..EnvoyFilter::default() }
}
