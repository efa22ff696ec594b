//! Random edits of a small fleet, with objects that mean something.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

pub(crate) const CLUSTERS: [&str; 3] = ["mgmt", "c1", "c2"];
pub(crate) const NAMESPACES: [&str; 4] = ["gloo-mesh", "gateways", "a", "b"];
/// Namespaces in which things are written, the likely ones more than once.
pub(crate) const LIKELY: [&str; 6] = ["a", "a", "a", "b", "b", "gateways"];
pub(crate) const NAMES: [&str; 3] = ["x", "y", "y-a"];

/// Adds or replaces an object of a cluster, or takes one away.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Put(&'static str, Value),
    Remove(&'static str, usize),
    DropCluster(&'static str),
}

pub(crate) fn name() -> impl Strategy<Value = &'static str> {
    select(&NAMES[..])
}

pub(crate) fn namespace() -> impl Strategy<Value = &'static str> {
    select(&LIKELY[..])
}

pub(crate) fn cluster() -> impl Strategy<Value = &'static str> {
    select(vec!["c1", "c1", "c2", "c2", "mgmt"])
}

pub(crate) fn object(api_version: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let labels = json!({"app": name, "istio": if name == "x" { "ingressgateway" } else { "eastwestgateway" }});
    json!({"apiVersion": api_version, "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": namespace, "labels": labels}})
}

pub(crate) fn select_routes() -> impl Strategy<Value = Value> {
    (0..4, name()).prop_map(|(way, name)| match way {
        0 => json!({}),
        1 => json!({"applyToRoutes": [{"route": {"labels": {"app": name}}}]}),
        2 => json!({"applyToRoutes": [{"withDestinations": {"selector": {"name": name}}}]}),
        _ => json!({"applyToRoutes": [{"withDestinations": {"kind": "VIRTUAL_DESTINATION"}}]}),
    })
}

pub(crate) fn reference() -> impl Strategy<Value = Value> {
    (name(), prop::option::of(namespace()), prop::option::of(cluster())).prop_map(|(name, namespace, cluster)| {
        let mut reference = json!({"name": name});
        for (field, value) in [("namespace", namespace), ("cluster", cluster)] {
            if let Some(value) = value {
                reference[field] = value.into();
            }
        }
        reference
    })
}

pub(crate) fn destination() -> impl Strategy<Value = Value> {
    let kind = select(vec!["SERVICE", "SERVICE", "VIRTUAL_DESTINATION", "EXTERNAL_SERVICE"]);
    (reference(), kind, any::<bool>(), select(vec![0, 0, 50, 100])).prop_map(|(reference, kind, subset, weight)| {
        let subset = if subset { json!({"version": "v1"}) } else { json!({}) };
        json!({"ref": reference, "kind": kind, "port": {"number": 80}, "subset": subset, "weight": weight})
    })
}

/// A route of a table, half of which delegate to others, or to themselves.
pub(crate) fn route() -> impl Strategy<Value = Value> {
    let path = select(vec![json!({}), json!({"prefix": "/a"}), json!({"exact": "/b"}), json!({"regex": "/c("})]);
    let method = select(vec!["", "", "GET", "PUT"]);
    let matchers = prop::collection::vec((path, method), 0..3).prop_map(|matchers| {
        let matcher = |(uri, method)| json!({"uri": uri, "method": method});
        matchers.into_iter().map(matcher).collect::<Vec<_>>()
    });
    let tables = prop_oneof![
        Just(json!({})),
        name().prop_map(|name| json!({"name": name})),
        name().prop_map(|name| json!({"labels": {"app": name}})),
    ];
    let sort = select(vec!["TABLE_WEIGHT", "ROUTE_SPECIFICITY"]);
    let delegate = (prop::collection::vec(tables, 1..3), sort)
        .prop_map(|(tables, sort)| json!({"delegate": {"routeTables": tables, "sortMethod": sort}}));
    let forward = prop::collection::vec(destination(), 1..3)
        .prop_map(|destinations| json!({"forwardTo": {"destinations": destinations}}));
    (prop_oneof![delegate, forward], matchers, select(vec!["all", "", "insecure-all"])).prop_map(
        |(mut route, matchers, name)| {
            route["matchers"] = matchers.into();
            route["name"] = name.into();
            route
        },
    )
}

pub(crate) fn host() -> impl Strategy<Value = &'static str> {
    select(vec!["h.a.mesh", "h-a.mesh", "other.mesh", "*.mesh", "short", "*"])
}

pub(crate) fn mode() -> impl Strategy<Value = Value> {
    select(vec![json!({}), json!({}), json!({"tlsTermination": {}}), json!({"sniRouting": {}})])
}

/// Edits of a fleet in which workspaces share with each other, by settings in any cluster.
pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let sharing = (cluster(), settings(Just(true))).prop_map(|(cluster, object)| Edit::Put(cluster, object));
    (prop::collection::vec(sharing, 0..5), prop::collection::vec(edit(), 0..40))
        .prop_map(|(sharing, edits)| sharing.into_iter().chain(edits).collect())
}

/// One object of a kind that means something, often referring to others that may or may not exist.
pub(crate) fn put() -> impl Strategy<Value = Value> {
    let networking = "networking.gloo.solo.io/v2";
    let selector =
        select(vec![json!({}), json!({"labels": {"app": "y"}}), json!({"namespace": "a"}), json!({"cluster": "c1"})]);
    let service = (namespace(), name(), select(vec![80, 8080])).prop_map(|(namespace, name, target)| {
        let ports = json!([{"name": "http", "port": 80, "targetPort": target}, {"name": "tls", "port": 15443}]);
        object("v1", "Service", namespace, name, json!({"selector": {"app": name}, "ports": ports}))
    });
    let workload = (namespace(), name(), name()).prop_map(|(namespace, name, account)| {
        // Two workloads with the same pods.
        let app = if name == "y-a" { "y" } else { name };
        let template = json!({"metadata": {"labels": {"app": app}}, "spec": {"serviceAccountName": account}});
        object("apps/v1", "Deployment", namespace, name, json!({"template": template}))
    });
    let workspace = (name(), select(vec!["*", "c*", "c1"]), prop::sample::subsequence(NAMESPACES.to_vec(), 1..4))
        .prop_map(|(name, clusters, namespaces)| {
            let namespaces: Vec<Value> = namespaces.iter().map(|namespace| json!({"name": namespace})).collect();
            let spec = json!({"workloadClusters": [{"name": clusters, "namespaces": namespaces}]});
            object("admin.gloo.solo.io/v2", "Workspace", "gloo-mesh", name, spec)
        });
    let table = (
        namespace(),
        name(),
        prop::option::of(host()),
        prop::option::of(reference()),
        prop::collection::vec(route(), 1..4),
        (any::<bool>(), any::<bool>(), 0..3),
    )
        .prop_map(move |(namespace, name, host, gateway, http, (sidecars, freeze, weight))| {
            let gateways: Vec<Value> = gateway.into_iter().collect();
            let selectors = if sidecars { json!([{"selector": {"labels": {"app": "y"}}}]) } else { json!([]) };
            let mode = if freeze { "FREEZE_CONFIG" } else { "ROUTE_REPLACEMENT" };
            let spec = json!({"hosts": host.into_iter().collect::<Vec<_>>(), "virtualGateways": gateways,
                "workloadSelectors": selectors, "http": http, "failureMode": mode, "weight": weight});
            object(networking, "RouteTable", namespace, name, spec)
        });
    let virtual_destination =
        (namespace(), name(), prop::collection::vec(host(), 1..3), selector, mode(), 0..4).prop_map(move |(namespace, name, hosts, selector, mode, what)| {
            let mut ports = json!([{"number": 80, "protocol": "HTTP"}]);
            if what == 1 {
                ports = json!([{"number": 80, "protocol": "HTTP"}, {"number": 81, "protocol": "TCP", "targetPort": {"number": 80}}]);
            }
            let services = if what < 3 { json!([selector]) } else { json!([]) };
            let outside = if what > 1 { json!([selector]) } else { json!([]) };
            let spec = json!({"hosts": hosts, "services": services, "externalServices": outside, "ports": ports,
                "clientMode": mode});
            object(networking, "VirtualDestination", namespace, name, spec)
        });
    let external = (namespace(), name(), host(), any::<bool>(), reference()).prop_map(move |(namespace, name, host, leaves, gateway)| {
        let mut ports = json!([{"number": 80, "protocol": "HTTP"}]);
        if leaves {
            ports[0]["egressGatewayRoutes"] = json!({"virtualGatewayRefs": [gateway, {"name": "base", "namespace": "gateways", "cluster": "c1"}]});
        } else if name == "x" {
            ports[0]["clientsideTls"] = json!({});
        }
        object(networking, "ExternalService", namespace, name, json!({"hosts": [host], "ports": ports}))
    });
    let gateway = (namespace(), name(), host(), any::<bool>()).prop_map(move |(namespace, name, host, leaves)| {
        let mut listener = json!({"http": {}, "port": {"number": 80}, "allowedRouteTables": [{"host": host}]});
        if leaves {
            listener = json!({"http": {}, "port": {"number": 16443}, "tls": {"mode": "ISTIO_MUTUAL"}});
        }
        object(networking, "VirtualGateway", namespace, name, json!({"listeners": [listener]}))
    });
    let route_policy = (namespace(), name(), 0..5_usize, select_routes(), reference()).prop_map(
        |(namespace, name, kind, mut spec, reference)| {
            let (group, kind, config) = [
                ("resilience", "RetryTimeoutPolicy", json!({"requestTimeout": if name == "x" { "1s" } else { "1us" }})),
                ("resilience", "FaultInjectionPolicy", json!({"delay": {"fixedDelay": "1s"}})),
                ("security", "CORSPolicy", json!({"allowMethods": [if name == "x" { "GET" } else { "get" }]})),
                ("trafficcontrol", "HeaderManipulationPolicy", json!({"appendRequestHeaders": {"X-A": name}})),
                ("trafficcontrol", "MirrorPolicy", json!({"destination": {"ref": reference, "subset": {"app": name}}})),
            ][kind]
                .clone();
            spec["config"] = config;
            if kind == "HeaderManipulationPolicy" && name != "x" {
                spec["applyToRouteDestinations"] = json!([{"onDestinations": [{"selector": {"name": "y"}}]}]);
            }
            object(&format!("{group}.policy.gloo.solo.io/v2"), kind, namespace, name, spec)
        },
    );
    prop_oneof![
        7 => prop_oneof![service, workload, workspace, settings(any::<bool>()), table, virtual_destination, external, gateway],
        2 => route_policy,
        2 => destination_policy(),
        3 => ways_out(),
        3 => prop_oneof![access(), account_or_network()],
        2 => ext_auth(),
        2 => token_policy(),
        3 => rate_limits(),
        1 => trim(),
    ]
}

/// Settings of the workspace that owns the namespace, or of all.
pub(crate) fn settings(share: impl Strategy<Value = bool>) -> impl Strategy<Value = Value> {
    (namespace(), select(vec!["x", "global"]), share, any::<bool>(), any::<(bool, bool)>(), mode()).prop_map(
        |(namespace, name, share, federate, (isolate, trim), mode)| {
            let rules = if share { json!([{"workspaces": [{"name": "*"}]}]) } else { json!([]) };
            let options = json!({"federation": {"enabled": federate, "hostSuffix": "global"},
                "virtualDestClientMode": mode,
                "serviceIsolation": {"enabled": isolate, "trimProxyConfig": true}, "trimAllProxyConfig": trim});
            let spec = json!({"importFrom": rules, "exportTo": rules, "options": options});
            object("admin.gloo.solo.io/v2", "WorkspaceSettings", namespace, name, spec)
        },
    )
}

/// What sidecars are told of.
pub(crate) fn trim() -> impl Strategy<Value = Value> {
    let workloads = select(vec![
        json!([]),
        json!([{}]),
        json!([{"selector": {"labels": {"app": "y"}}}]),
        json!([{"selector": {"name": "y-a", "namespace": "a"}, "port": {"number": 80}}]),
        json!([{"kind": "VM"}, {"selector": {"cluster": "c1"}}]),
    ]);
    let included = select(vec![
        json!([]),
        json!([{}]),
        json!([{"selector": {"name": "y"}}]),
        json!([{"kind": "VIRTUAL_DESTINATION"}, {"kind": "EXTERNAL_SERVICE", "port": {"number": 80}}]),
        json!([{"selector": {"workspace": "second"}}]),
    ]);
    (namespace(), name(), workloads, included).prop_map(|(namespace, name, workloads, included)| {
        let spec = json!({"applyToWorkloads": workloads, "config": {"includedDestinations": included}});
        object("resilience.policy.gloo.solo.io/v2", "TrimProxyConfigPolicy", namespace, name, spec)
    })
}

/// A policy for destinations of one kind, or of all kinds.
pub(crate) fn destination_policy() -> impl Strategy<Value = Value> {
    let kinds = vec![
        ("resilience", "FailoverPolicy", json!({"localityMappings": []})),
        ("resilience", "OutlierDetectionPolicy", json!({"consecutiveErrors": 2})),
        ("resilience", "ConnectionPolicy", json!({"tcp": {"maxConnections": 2}})),
        ("trafficcontrol", "LoadBalancerPolicy", json!({"simple": "RANDOM", "healthyPanicThreshold": 3})),
        ("security", "ClientTLSPolicy", json!({})),
    ];
    let target = select(vec!["SERVICE", "VIRTUAL_DESTINATION", "EXTERNAL_SERVICE"]);
    let gateways = json!({"namespace": "gateways"});
    let selector =
        select(vec![json!({}), json!({"name": "y"}), json!({"namespace": "a"}), json!({"cluster": "c1"}), gateways]);
    (namespace(), name(), select(kinds), prop::option::of((target, selector))).prop_map(
        |(namespace, name, (group, kind, config), target)| {
            let targets: Vec<Value> =
                target.into_iter().map(|(kind, selector)| json!({"kind": kind, "selector": selector})).collect();
            let mut spec = json!({"applyToDestinations": targets});
            let (field, value) = if kind == "ClientTLSPolicy" { ("simple", json!({})) } else { ("config", config) };
            spec[field] = value;
            object(&format!("{group}.policy.gloo.solo.io/v2"), kind, namespace, name, spec)
        },
    )
}

/// What leaves through the gateways, and what else has to do with their Services.
pub(crate) fn ways_out() -> impl Strategy<Value = Value> {
    let networking = "networking.gloo.solo.io/v2";
    // Hosts that are easily taken for each other.
    let hosts = select(vec![
        json!(["out.a-b.org"]),
        json!(["out-a.b.org"]),
        json!(["out.a-b.org", "out-a.b.org"]),
        json!(["outside.org"]),
    ]);
    let external = (namespace(), name(), hosts, cluster()).prop_map(move |(namespace, name, hosts, cluster)| {
        let gateways = json!([{"name": "base", "namespace": "gateways", "cluster": "c1"},
            {"name": "x", "namespace": "gateways", "cluster": cluster}]);
        let ports =
            json!([{"number": 80, "protocol": "HTTP", "egressGatewayRoutes": {"virtualGatewayRefs": gateways}}]);
        object(networking, "ExternalService", namespace, name, json!({"hosts": hosts, "ports": ports}))
    });
    let behind = (namespace(), name()).prop_map(move |(namespace, name)| {
        let services = json!([{"namespace": "gateways", "name": "x"}]);
        let ports = json!([{"number": 80, "protocol": "HTTP"}]);
        let spec = json!({"hosts": ["gateway.mesh"], "services": services, "ports": ports});
        object(networking, "VirtualDestination", namespace, name, spec)
    });
    let subset = (namespace(), name()).prop_map(move |(namespace, name)| {
        let destination = json!({"ref": {"name": "x", "namespace": "gateways"}, "port": {"number": 80},
            "subset": {"version": name}});
        let http = json!([{"forwardTo": {"destinations": [destination]}}]);
        let spec = json!({"hosts": ["subset.mesh"], "workloadSelectors": [{}], "http": http});
        object(networking, "RouteTable", namespace, name, spec)
    });
    let policy =
        (namespace(), name(), select(vec!["SERVICE", "VIRTUAL_DESTINATION"])).prop_map(|(namespace, name, kind)| {
            let spec = json!({"applyToDestinations": [{"kind": kind}], "config": {"tcp": {"maxConnections": 3}}});
            object("resilience.policy.gloo.solo.io/v2", "ConnectionPolicy", namespace, name, spec)
        });
    prop_oneof![2 => external, 1 => behind, 1 => subset, 1 => policy]
}

/// External authorization: policies for routes and Services, the servers, and the Service that is one by its name.
pub(crate) fn ext_auth() -> impl Strategy<Value = Value> {
    let server = (namespace(), name(), destination()).prop_map(|(namespace, name, destination)| {
        let spec = json!({"destinationServer": destination});
        object("admin.gloo.solo.io/v2", "ExtAuthServer", namespace, name, spec)
    });
    let service = namespace().prop_map(|namespace| {
        let ports = json!([{"name": "grpc", "port": 8083}]);
        let spec = json!({"selector": {"app": "auth"}, "ports": ports});
        object("v1", "Service", namespace, "ext-auth-service", spec)
    });
    let targets = select(vec![
        json!({}),
        json!({"applyToRoutes": [{}]}),
        json!({"applyToRoutes": [{"withDestinations": {}}]}),
        json!({"applyToDestinations": [{"selector": {"labels": {"app": "y"}}}]}),
        json!({"applyToDestinations": [{"selector": {"cluster": "c1"}, "port": {"number": 80}}]}),
    ]);
    let config = select(vec![
        json!({"glooAuth": {"configs": [{"jwt": {}}]}}),
        json!({"customAuth": {"contextExtensions": {"a": "b"}}}),
        json!({"glooAuth": "of a wrong type"}),
        json!({}),
    ]);
    let policy = (namespace(), name(), targets, config, prop::option::of(reference())).prop_map(
        |(namespace, name, mut spec, config, server)| {
            spec["config"] = config;
            if let Some(server) = server {
                spec["config"]["server"] = server;
            }
            object("security.policy.gloo.solo.io/v2", "ExtAuthPolicy", namespace, name, spec)
        },
    );
    prop_oneof![1 => server, 1 => service, 3 => policy]
}

/// Who may call what.
pub(crate) fn access() -> impl Strategy<Value = Value> {
    let clients = select(vec![
        json!([{}]),
        json!([{"serviceAccountSelector": {"namespace": "a"}}]),
        json!([{"serviceAccountSelector": {"name": "x", "labels": {"app": "x"}}}]),
        json!([{"serviceAccountSelector": {"workspace": "second"}}]),
    ]);
    let targets = select(vec![
        json!({}),
        json!({"applyToDestinations": [{"selector": {"labels": {"app": "y"}}}]}),
        json!({"applyToWorkloads": [{"selector": {"labels": {"app": "y"}}}]}),
        json!({"applyToWorkloads": [{}]}),
    ]);
    let tls = select(vec!["DISABLE", "PERMISSIVE", "STRICT"]);
    (namespace(), name(), targets, clients, tls, any::<bool>()).prop_map(
        |(namespace, name, targets, clients, tls, dry_run)| {
            let authz = json!({"allowedClients": clients, "dryRun": dry_run});
            let mut spec = json!({"config": {"authn": {"tlsMode": tls}, "authz": authz}});
            spec.as_object_mut().unwrap().extend(targets.as_object().unwrap().clone());
            object("security.policy.gloo.solo.io/v2", "AccessPolicy", namespace, name, spec)
        },
    )
}

/// What else decides about callers.
pub(crate) fn account_or_network() -> impl Strategy<Value = Value> {
    (namespace(), name(), any::<bool>()).prop_map(|(namespace, name, is_account)| {
        if is_account {
            object("v1", "ServiceAccount", namespace, name, json!({}))
        } else {
            let spec = json!({"provider": "CILIUM"});
            object("internal.gloo.solo.io/v2", "DiscoveredCNI", "gloo-mesh", "cilium", spec)
        }
    })
}

/// Selectors of routes or Services, beside routes.
pub(crate) fn select_targets() -> impl Strategy<Value = Value> {
    (select_routes(), any::<bool>()).prop_map(|(mut spec, services)| {
        if services {
            spec["applyToDestinations"] = json!([{"selector": {"name": "y"}}]);
        }
        spec
    })
}

pub(crate) fn phase() -> impl Strategy<Value = Value> {
    select(vec![json!({}), json!({"preAuthz": {"priority": 1}}), json!({"postAuthz": {}})])
}

pub(crate) fn token_policy() -> impl Strategy<Value = Value> {
    (namespace(), name(), select_targets(), phase(), destination(), 0..4_usize).prop_map(
        |(namespace, name, mut spec, phase, keys, way)| {
            let provider = match way {
                0 => json!({"local": {"secretRef": {"key": "key"}}}),
                1 => json!({"local": {"inline": json!({"kty": "oct", "k": "AA"}).to_string()}}),
                _ => json!({"remote": {"url": "https://keys.mesh", "destinationRef": keys}}),
            };
            let claims = if way == 1 { json!([{"key": "a", "values": ["b"]}]) } else { json!([]) };
            spec["config"] = json!({"providers": {"a": provider}, "phase": phase, "claims": claims});
            object("security.policy.gloo.solo.io/v2", "JWTPolicy", namespace, name, spec)
        },
    )
}

/// Policies, what they name, and what names their servers.
pub(crate) fn rate_limits() -> impl Strategy<Value = Value> {
    let raw = json!({"rateLimits": [{"actions": [{"remoteAddress": {}}]}, {"setActions": [{"genericKey": {}}]}]});
    let traffic_control = "trafficcontrol.policy.gloo.solo.io/v2";
    let policy =
        (namespace(), name(), select_targets(), phase(), reference(), reference(), prop::option::of(reference()))
            .prop_map({
                let raw = raw.clone();
                move |(namespace, name, mut spec, phase, counted, settings, described)| {
                    spec["config"] =
                        json!({"phase": phase, "ratelimitServerConfig": counted, "serverSettings": settings});
                    match described {
                        Some(client) => spec["config"]["ratelimitClientConfig"] = client,
                        None => spec["config"]["raw"] = raw.clone(),
                    }
                    object(traffic_control, "RateLimitPolicy", namespace, name, spec)
                }
            });
    let client = (namespace(), name()).prop_map(move |(namespace, name)| {
        object(traffic_control, "RateLimitClientConfig", namespace, name, json!({"raw": raw}))
    });
    let counted =
        (namespace(), name(), prop::collection::vec(destination(), 0..3)).prop_map(|(namespace, name, servers)| {
            let spec = json!({"destinationServers": servers, "raw": {"descriptors": [{"key": "remote_address"}]}});
            object("admin.gloo.solo.io/v2", "RateLimitServerConfig", namespace, name, spec)
        });
    let settings = (namespace(), name(), destination(), any::<bool>()).prop_map(|(namespace, name, server, deny)| {
        let spec = json!({"destinationServer": server, "denyOnFail": deny});
        object("admin.gloo.solo.io/v2", "RateLimitServerSettings", namespace, name, spec)
    });
    prop_oneof![policy, client, counted, settings]
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        20 => (cluster(), put()).prop_map(|(cluster, object)| Edit::Put(cluster, object)),
        3 => (cluster(), any::<usize>()).prop_map(|(cluster, index)| Edit::Remove(cluster, index)),
        1 => select(vec!["c1", "c2"]).prop_map(Edit::DropCluster),
    ]
}
