//! Where tables are served.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::networking::RouteTableSpec;
use meshrelay_api::selectors::ObjectSelector;
use meshrelay_snapshot::Name;

use super::{Applicant, ServedBy, ServingGateway};
use crate::engine::Stage;
use crate::input::kube::selects;
use crate::input::{ClusterInput, Input, Ours};
use crate::model::{Model, Shareable, Viewer, Workspace};
use crate::report::{Code, Notes, Severity};
use crate::units::virtual_gateway::VirtualGateway;
use crate::{ContextId, ResourceRef};

/// What Istio calls all sidecars.
pub(super) const MESH: &str = "mesh";

/// What serves a table in one context, for which hosts, and which gateways had a part.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) served_by: BTreeSet<ServedBy>,
    pub(super) hosts: BTreeSet<String>,
    pub(super) sources: BTreeSet<ResourceRef>,
    pub(super) is_mesh: bool,
}

/// A root table as listeners and sidecars look at it.
pub(super) struct Root<'a> {
    pub(super) model: &'a Model,
    pub(super) gateways: &'a Stage<VirtualGateway>,
    pub(super) cluster: &'a Name,
    pub(super) input: &'a Input<Ours<RouteTableSpec>>,
    /// Whether the tree has routes for HTTP, TCP and TLS.
    pub(super) has: [bool; 3],
    /// The hosts that Istio takes.
    pub(super) hosts: &'a [String],
    pub(super) parent: &'a ResourceRef,
    pub(super) owner: &'a Workspace,
}

impl Root<'_> {
    /// All contexts in which the table is served.
    pub(super) fn places(&self, viewers: &[Viewer], notes: &mut Notes) -> BTreeMap<ContextId, Place> {
        let mut places = BTreeMap::new();
        let spec = &self.input.spec;
        for (index, reference) in spec.virtual_gateways.iter().enumerate() {
            let or = |text: &str, default: &Name| if text.is_empty() { default.clone() } else { Name::from(text) };
            let mut key = self.parent.key.clone();
            key.gvk.kind = "VirtualGateway".into();
            key.name = Name::from(&reference.name);
            key.namespace = or(&reference.namespace, &key.namespace);
            let wanted = ResourceRef { cluster: or(&reference.cluster, self.cluster), key };
            let Some(gateway) = self.gateways.get(&wanted) else {
                let text = format!("spec.virtualGateways[{index}]: {wanted} does not exist or belongs to no workspace");
                notes.say(self.parent, Severity::Invalid, Code::NotFound, text);
                continue;
            };
            self.at_gateway(gateway, &mut places, notes);
        }
        // An entry without a selector picks every sidecar; no entry at all does so only where no gateway is named.
        if !spec.workload_selectors.is_empty() || spec.virtual_gateways.is_empty() {
            self.at_sidecars(viewers, &mut places, notes);
        }
        places
    }

    fn at_gateway(&self, gateway: &VirtualGateway, places: &mut BTreeMap<ContextId, Place>, notes: &mut Notes) {
        let wanted = &gateway.parent;
        let Some(workspace) = self.model.config_owner(&wanted.cluster, &wanted.key.namespace) else { return };
        if !self.model.sees(workspace, Shareable::RouteTable, self.cluster, self.input, self.owner) {
            let text = format!(
                "{wanted} belongs to workspace {}, which does not see the table: workspace {} must export RouteTables \
                 to it, and it must import them",
                workspace.name, self.owner.name
            );
            notes.say(self.parent, Severity::Invalid, Code::NotAdmitted, text);
            return;
        }
        let applicant = self.applicant();
        let mut admitted_somewhere = false;
        let mut admitted_hosts: BTreeSet<&str> = BTreeSet::new();
        for site in &gateway.sites {
            let mut names = Vec::new();
            let mut pod_ports = Vec::new();
            let mut hosts: BTreeSet<String> = BTreeSet::new();
            for port in &site.ports {
                let admitted = gateway.admitted(port, &applicant);
                if !admitted.is_empty() {
                    names.push(port.name.clone());
                    pod_ports.push(port.pod_port);
                    hosts.extend(admitted.iter().map(|host| (*host).to_owned()));
                    admitted_hosts.extend(admitted);
                }
            }
            if names.is_empty() {
                continue;
            }
            admitted_somewhere = true;
            names.sort_unstable();
            let place = places.entry(site.context.clone()).or_default();
            place.served_by.insert(ServedBy {
                gateways: names,
                labels: site.selector.clone(),
                ports: site.service_ports.clone(),
                gateway: Some(ServingGateway { parent: wanted.clone(), service: site.service.clone(), pod_ports }),
            });
            place.hosts.extend(hosts);
            place.sources.extend([wanted, &site.gateway, &site.service].map(ResourceRef::clone));
        }
        if admitted_somewhere {
            notes.count(self.parent, "numAllowedVirtualGateways", 1);
            notes.count(wanted, "routeTablesCount", 1);
        }
        if gateway.sites.is_empty() {
            return;
        }
        let refused: Vec<&str> =
            self.hosts.iter().map(String::as_str).filter(|host| !admitted_hosts.contains(host)).collect();
        if !refused.is_empty() {
            let text = format!(
                "{wanted} has no listener for {}: its listeners must allow the table and the host, and serve routes of \
                 this kind",
                refused.join(", ")
            );
            let severity = if admitted_somewhere { Severity::Warning } else { Severity::Invalid };
            notes.say(self.parent, severity, Code::NotAdmitted, text);
        }
    }

    fn applicant(&self) -> Applicant<'_> {
        let [has_http, has_tcp, has_tls] = self.has;
        Applicant {
            hosts: self.hosts,
            namespace: self.input.namespace(),
            name: self.input.name(),
            labels: self.input.object.labels(),
            cluster: self.cluster,
            workspace: &self.owner.name,
            has_http,
            has_tcp,
            has_tls,
        }
    }

    /// Namespaces of all workspaces that see the table in which a workload is selected.
    fn at_sidecars(&self, viewers: &[Viewer], places: &mut BTreeMap<ContextId, Place>, notes: &mut Notes) {
        // Istio does not take a table for all hosts in a sidecar.
        let hosts: Vec<&String> = self.hosts.iter().filter(|host| *host != "*").collect();
        if hosts.len() < self.hosts.len() {
            let text = "spec.hosts: * is for gateways only: sidecars serve the other hosts";
            notes.say(self.parent, Severity::Warning, Code::BadValue, text);
        }
        if hosts.is_empty() {
            return;
        }
        let anything = ObjectSelector::default();
        let selectors = &self.input.spec.workload_selectors;
        let mut picks: Vec<&ObjectSelector> =
            selectors.iter().map(|selector| selector.selector.as_ref().unwrap_or(&anything)).collect();
        if picks.is_empty() {
            picks.push(&anything);
        }
        let is = |wanted: &str, found: &Name| wanted.is_empty() || found == wanted;
        let mut found = false;
        for viewer in viewers {
            for (cluster, namespaces) in viewer.contexts.iter() {
                // Most selectors name places: nothing of the others is looked at, as there are many.
                let here =
                    |pick: &&&ObjectSelector| is(&pick.cluster, cluster) && is(&pick.workspace, &viewer.workspace);
                let picks: Vec<&ObjectSelector> = picks.iter().filter(here).copied().collect();
                if picks.is_empty() {
                    continue;
                }
                let Some(input) = self.model.clusters.get(cluster) else { continue };
                for namespace in namespaces {
                    let picks = picks.iter().filter(|pick| is(&pick.namespace, namespace)).copied();
                    let served_by = served_by(picks, input, namespace);
                    if served_by.is_empty() {
                        continue;
                    }
                    found = true;
                    let context = ContextId {
                        cluster: cluster.clone(),
                        namespace: namespace.clone(),
                        workspace: viewer.workspace.clone(),
                    };
                    // One VirtualService is for both, and Istio refuses one for all hosts at sidecars.
                    if places.get(&context).is_some_and(|place| place.hosts.contains("*")) {
                        let text = format!(
                            "spec.hosts: sidecars of {}/{} do not serve the table, because a gateway there serves it \
                             for *: write a table for sidecars, without *",
                            context.cluster, context.namespace
                        );
                        notes.say_in(self.parent, &context, Severity::Warning, Code::BadValue, text);
                        continue;
                    }
                    let place = places.entry(context).or_default();
                    place.served_by.extend(served_by);
                    place.hosts.extend(hosts.iter().map(|host| (*host).clone()));
                    place.is_mesh = true;
                }
            }
        }
        if !found {
            let text = "expected workloads with a sidecar in namespaces that see the table, but none is selected";
            notes.say(self.parent, Severity::Warning, Code::NoWorkload, text);
        }
    }
}

/// What the selectors pick of the workloads of a namespace. One that picks all of them stands alone.
fn served_by<'a>(
    picks: impl Iterator<Item = &'a ObjectSelector>,
    cluster: &ClusterInput,
    namespace: &Name,
) -> Vec<ServedBy> {
    let picked = picks.filter(|pick| cluster.sidecars(namespace).any(|labels| selects(&pick.labels, labels)));
    let serve = |pick: &ObjectSelector| ServedBy {
        gateways: vec![MESH.to_owned()],
        labels: pick.labels.clone(),
        ports: BTreeMap::new(),
        gateway: None,
    };
    let served_by: Vec<ServedBy> = picked.map(serve).collect();
    let unlimited = served_by.iter().find(|served| served.labels.is_empty()).cloned();
    unlimited.map_or(served_by, |served| vec![served])
}

impl ClusterInput {
    /// Labels of the pods of each workload of a namespace that may have a sidecar: those that were not told to stay
    /// without, gateways excepted.
    fn sidecars(&self, namespace: &Name) -> impl Iterator<Item = &BTreeMap<Name, Name>> {
        let workloads = self.workloads_in(namespace).iter();
        let candidates = workloads.filter(|workload| !workload.spec.is_kept_out_of_the_mesh());
        candidates.map(|workload| workload.spec.pod_labels()).filter(move |labels| !self.is_gateway(namespace, labels))
    }

    pub(crate) fn is_gateway(&self, namespace: &Name, labels: &BTreeMap<Name, Name>) -> bool {
        self.gateways().values().any(|gateway| {
            let here = gateway.spec.service.as_ref().is_some_and(|service| *namespace == *service.namespace);
            here && !gateway.spec.workload_labels.is_empty() && selects(&gateway.spec.workload_labels, labels)
        })
    }
}
