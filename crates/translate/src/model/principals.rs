//! Callers, by the identity that a mesh gives them and by where their pods run.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::Name;

use super::{Model, Workspace};
use crate::input::ClusterInput;
use crate::input::kube::selects;

/// Pods of a cluster: a namespace, and the account that they run as; without one, all pods of the namespace.
pub(crate) type Pods = (Name, Option<Name>);

/// Some callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Principals {
    /// `<trust domain>/ns/<namespace>/sa/<account>`; `*` for all accounts of a namespace.
    pub(crate) identities: BTreeSet<String>,
    /// Where they run, by cluster.
    pub(crate) pods: BTreeMap<Name, BTreeSet<Pods>>,
}

impl Principals {
    fn add(&mut self, cluster: &ClusterInput, namespace: &Name, account: Option<&Name>) {
        // The trust domain is the mesh's; workloads of a cluster without a mesh have no identity.
        let Some(trust_domain) = cluster.trust_domain(namespace) else { return };
        let name = account.map_or("*", Name::as_str);
        self.identities.insert(format!("{trust_domain}/ns/{namespace}/sa/{name}"));
        self.pods.entry(cluster.name.clone()).or_default().insert((namespace.clone(), account.cloned()));
    }
}

impl Model {
    /// Everything that runs in the namespaces of a workspace.
    pub(crate) fn principals_of(&self, workspace: &Workspace) -> Principals {
        let mut principals = Principals::default();
        for (cluster, namespaces) in workspace.contexts.iter() {
            let Some(cluster) = self.clusters.get(cluster) else { continue };
            for namespace in namespaces {
                principals.add(cluster, namespace, None);
            }
        }
        principals
    }

    /// The callers that a selector of service accounts picks. Accounts are not shared between workspaces: without a
    /// namespace or workspace only those of `own` are meant, as anybody could make an account of that name or with
    /// these labels.
    pub(crate) fn selected_principals(&self, own: &Workspace, selector: &ObjectSelector) -> Principals {
        let ObjectSelector { labels, name, namespace, cluster, workspace } = selector;
        if labels.is_empty() && name.is_empty() && namespace.is_empty() && cluster.is_empty() {
            let workspace = if workspace.is_empty() { Some(own) } else { self.workspaces.get(workspace.as_str()) };
            return workspace.map(|workspace| self.principals_of(workspace)).unwrap_or_default();
        }
        let mut principals = Principals::default();
        let is_exact = labels.is_empty() && !name.is_empty() && !namespace.is_empty() && !cluster.is_empty();
        let namespace = Name::from(namespace);
        let wanted = if workspace.is_empty() && namespace.is_empty() { &own.name } else { workspace.as_str() };
        for (found, input) in self.clusters.iter().filter(|(found, _)| cluster.is_empty() || *cluster == ***found) {
            let owned = |namespace: &Name| {
                wanted.is_empty() || self.owner(found, namespace).is_some_and(|owner| *owner.name == *wanted)
            };
            let namespaces: Vec<&Name> = if namespace.is_empty() {
                let workspace = self.workspaces.get(wanted);
                workspace.and_then(|workspace| workspace.contexts.get(found)).into_iter().flatten().collect()
            } else {
                vec![&namespace]
            };
            for namespace in namespaces.into_iter().filter(|namespace| owned(namespace)) {
                if is_exact {
                    principals.add(input, namespace, Some(&Name::from(name)));
                    continue;
                }
                for (account, has) in input.accounts(namespace) {
                    let is_selected = name.is_empty() || account == *name.as_str();
                    if is_selected && has.is_none_or(|has| selects(labels, has)) && (has.is_some() || labels.is_empty())
                    {
                        principals.add(input, namespace, Some(&account));
                    }
                }
            }
        }
        principals
    }
}

impl ClusterInput {
    /// The service accounts of a namespace with their labels: those that exist, and those that workloads and gateways
    /// are known to run as, whose labels are not known. Every namespace has `default`.
    fn accounts(&self, namespace: &Name) -> BTreeMap<Name, Option<&BTreeMap<Name, Name>>> {
        let mut accounts = BTreeMap::new();
        if self.namespaces().contains_key(namespace) {
            accounts.insert(Name::from("default"), None);
        }
        let workloads = self.workloads_in(namespace).iter();
        accounts.extend(workloads.map(|workload| (Name::from(workload.spec.service_account()), None)));
        let gateways = self.gateways().values().flat_map(|gateway| &gateway.spec.service_account_refs);
        let gateways = gateways.filter(|account| *namespace == *account.namespace);
        accounts.extend(gateways.map(|account| (Name::from(&account.name), None)));
        let existing = self.service_accounts().in_namespace(namespace);
        accounts.extend(existing.map(|account| (account.name().clone(), Some(account.object.labels()))));
        accounts
    }
}
