use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::networking::{FailureMode, RouteTableSpec};
use meshrelay_api::references::DestinationReference;
use meshrelay_snapshot::Name;

use super::destinations::{Place, Target};
use super::placement::Table;
use super::{Placement, RouteTable, Targets};
use crate::ResourceRef;
use crate::engine::Stage;
use crate::fingerprint::Shared;
use crate::hostname::{self, Allowed};
use crate::input::ClusterInput;
use crate::model::{Model, Shareable};
use crate::report::{Code, Finding, Notes, Severity};
use crate::units::mesh_host::MeshHosts;
use crate::units::virtual_gateway::VirtualGateway;

/// The tables of a cluster that count.
pub(crate) fn list(model: &Model, cluster: &ClusterInput) -> BTreeSet<ResourceRef> {
    model.counting(&cluster.name, cluster.route_tables().values())
}

/// One table, if it is a root.
pub(crate) fn resolve(
    model: &Model,
    hosts: &MeshHosts,
    gateways: &Stage<VirtualGateway>,
    parent: &ResourceRef,
    notes: &mut Notes,
) -> Option<RouteTable> {
    let cluster = &parent.cluster;
    let table = model.clusters.get(cluster)?.route_tables().get(&parent.place())?;
    let owner = model.config_owner(cluster, table.namespace())?;
    note_untranslated(&table.spec, parent, notes);
    if table.spec.hosts.is_empty() {
        return None;
    }
    let viewers = model.viewers(Shareable::RouteTable, cluster, table, owner);
    let good_hosts = good_hosts(&table.spec, parent, notes);
    let place = Table { model, gateways, cluster, input: table, hosts: &good_hosts, parent, owner };
    let places = place.places(&viewers, notes);
    // Contexts of one cluster and workspace see the same.
    let mut known: BTreeMap<(Name, Name, bool), Shared<Targets>> = BTreeMap::new();
    let mut placements = Vec::new();
    for (context, place) in places {
        let Some(workspace) = model.workspaces.get(&context.workspace) else { continue };
        let seen_from = (context.cluster.clone(), context.workspace.clone(), place.is_mesh);
        let targets = known.entry(seen_from).or_insert_with(|| {
            let place = Place {
                model,
                hosts,
                table: parent,
                owner,
                cluster: &context.cluster,
                workspace,
                is_mesh: place.is_mesh,
            };
            Shared::new(targets(&table.spec, &place))
        });
        let served = good_hosts.iter().filter(|host| place.hosts.contains(*host));
        placements.push(Placement {
            served_by: place.served_by.into_iter().collect(),
            hosts: served.cloned().collect(),
            targets: targets.clone(),
            sources: place.sources.iter().chain(model.sources(&context.workspace)).cloned().collect(),
            context,
        });
    }
    Some(RouteTable {
        parent: parent.clone(),
        table: Arc::clone(table),
        placements,
        sources: model.sources(&owner.name).cloned().collect(),
        federated_host_headers: model.options.federated_host_headers,
    })
}

/// The hosts that Istio takes; others are told.
fn good_hosts(spec: &RouteTableSpec, parent: &ResourceRef, notes: &mut Notes) -> Vec<String> {
    let mut good: Vec<String> = Vec::new();
    for host in &spec.hosts {
        match hostname::problem(host, Allowed::Anything) {
            Some(problem) => {
                let text = format!("spec.hosts: {problem}: it is left out");
                notes.say(parent, Severity::Invalid, Code::BadValue, text);
            }
            None if good.contains(host) => {}
            None => good.push(host.clone()),
        }
    }
    good
}

fn note_untranslated(spec: &RouteTableSpec, parent: &ResourceRef, notes: &mut Notes) {
    let freeze = spec.failure_mode == FailureMode::FreezeConfig;
    for (found, text) in [
        (
            spec.hosts.is_empty(),
            "a table without hosts is served by tables that delegate to it, which is not translated yet",
        ),
        (freeze, "spec.failureMode: FREEZE_CONFIG is not translated yet: broken routes are replaced"),
        (!spec.apply_to_destinations.is_empty(), "spec.applyToDestinations is not translated yet: no effect"),
        (spec.portal_metadata.is_some(), "spec.portalMetadata is not translated yet: no effect"),
    ] {
        if found {
            notes.say(parent, Severity::Warning, Code::NotTranslated, text);
        }
    }
}

fn targets(spec: &RouteTableSpec, place: &Place<'_>) -> Targets {
    let http = spec.http.iter().map(|route| match &route.forward_to {
        Some(forward) if !forward.destinations.is_empty() => resolve_all(&forward.destinations, place),
        Some(_) => resolve_all(spec.default_destination.as_slice(), place),
        None => Ok(Vec::new()),
    });
    let tcp = spec.tcp.iter().map(|route| match &route.forward_to {
        Some(forward) => resolve_all(&forward.destinations, place),
        None => Ok(Vec::new()),
    });
    let tls = spec.tls.iter().map(|route| match &route.forward_to {
        Some(forward) => resolve_all(&forward.destinations, place),
        None => Ok(Vec::new()),
    });
    Targets { http: http.collect(), tcp: tcp.collect(), tls: tls.collect() }
}

/// One destination that leads nowhere spoils the route: its share of the traffic would be lost in silence.
fn resolve_all(destinations: &[DestinationReference], place: &Place<'_>) -> Result<Vec<Target>, Finding> {
    destinations.iter().map(|destination| place.resolve(destination)).collect()
}
