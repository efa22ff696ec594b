//! What Cilium enforces: connections between pods of one cluster. Requests and tokens are beyond it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use meshrelay_api::cilium::{CiliumNetworkPolicy, EndpointSelector, IngressRule, PortProtocol, PortRule};
use meshrelay_snapshot::Name;

use super::effect::{Client, Doors, Effect, Grant, Who};
use crate::model::Pods;

/// Labels that Cilium gives to pods.
const NAMESPACE: &str = "k8s:io.kubernetes.pod.namespace";
const ACCOUNT: &str = "k8s:io.cilium.k8s.policy.serviceaccount";

/// Cilium's word for every pod of the cluster.
const CLUSTER: &str = "cluster";

/// Who may connect to pods with some labels, at some ports or, without any, at all of them. `doors` are the gateways
/// through which callers of other clusters come in.
pub(super) fn policy(
    labels: &BTreeMap<Name, Name>,
    effect: &Effect,
    cluster: &Name,
    doors: &Doors,
    ports: &BTreeSet<String>,
) -> CiliumNetworkPolicy {
    let grants = effect.grants.iter().flatten().filter(|grant| !grant.dry_run && !grant.is_nothing());
    let mut endpoints: BTreeSet<EndpointSelector> = BTreeSet::new();
    let mut rules = Vec::new();
    for grant in grants {
        match &grant.clients {
            None => rules.push(IngressRule { from_cidr: addresses(grant), ..IngressRule::default() }),
            Some(clients) => {
                for client in clients {
                    match pods(client, cluster, doors) {
                        Ok(pods) => endpoints.extend(pods.iter().map(endpoint)),
                        Err(rule) => rules.push(rule),
                    }
                }
            }
        }
    }
    if !endpoints.is_empty() {
        rules.insert(0, IngressRule { from_endpoints: endpoints.into_iter().collect(), ..IngressRule::default() });
    }
    rules.dedup();
    let port = |port: &String| PortProtocol { port: port.clone(), protocol: "ANY".to_owned() };
    let to_ports = PortRule { ports: ports.iter().map(port).collect() };
    for rule in rules.iter_mut().filter(|_| !ports.is_empty()) {
        rule.to_ports = vec![to_ports.clone()];
    }
    if rules.is_empty() {
        // A rule without anything in it: nobody may connect.
        rules.push(IngressRule::default());
    }
    let match_labels = labels.iter().map(|(key, value)| (format!("any:{key}"), value.to_string())).collect();
    CiliumNetworkPolicy { endpoint_selector: EndpointSelector { match_labels }, ingress: rules }
}

/// The pods that a client has in a cluster, or a rule that says it in another way.
fn pods(client: &Client, cluster: &Name, doors: &Doors) -> Result<Doors, IngressRule> {
    match &client.who {
        // Who is told by the token alone may come from anywhere.
        None => Err(IngressRule::default()),
        Some(Who::Anybody) => Err(IngressRule { from_entities: vec![CLUSTER.to_owned()], ..IngressRule::default() }),
        Some(Who::These(principals)) => {
            let mut pods = principals.pods.get(cluster).cloned().unwrap_or_default();
            if principals.pods.keys().any(|other| other != cluster) {
                pods.extend(doors.iter().cloned());
            }
            let whole: BTreeSet<Name> =
                pods.iter().filter(|(_, account)| account.is_none()).map(|(namespace, _)| namespace.clone()).collect();
            pods.retain(|(namespace, account)| account.is_none() || !whole.contains(namespace));
            Ok(pods)
        }
    }
}

fn endpoint((namespace, account): &Pods) -> EndpointSelector {
    let namespace = [(NAMESPACE.to_owned(), namespace.to_string())];
    let account = account.iter().map(|account| (ACCOUNT.to_owned(), account.to_string()));
    EndpointSelector { match_labels: namespace.into_iter().chain(account).collect() }
}

/// Cilium takes ranges only.
fn addresses(grant: &Grant) -> Vec<String> {
    let range = |block: &String| match block.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => format!("{block}/32"),
        Ok(IpAddr::V6(_)) => format!("{block}/128"),
        Err(_) => block.clone(),
    };
    grant.ip_blocks.iter().map(range).collect()
}
