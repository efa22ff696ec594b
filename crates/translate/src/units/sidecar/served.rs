//! The hosts for which sidecars have routes of tables.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use meshrelay_snapshot::Name;

use crate::ResourceRef;
use crate::engine::Stage;
use crate::fingerprint::fingerprint;
use crate::input::kube::selects;
use crate::model::Model;
use crate::reads::{Changes, Place, Taken, Thing, record};
use crate::report::{Code, Notes, Severity};
use crate::units::route_table::RouteTable;

/// Name of the step.
pub(super) const NAME: &str = "hosts of tables at sidecars";

/// What tables serve at sidecars, by cluster and namespace of these.
#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<(Name, Name), Vec<ServedHosts>>);

/// The hosts of a table at some sidecars of a namespace.
#[derive(Debug, Hash)]
pub(super) struct ServedHosts {
    pub(super) table: ResourceRef,
    /// Labels that the pods must have.
    labels: BTreeMap<String, String>,
    /// In the form in which Istio looks for them.
    pub(super) hosts: BTreeSet<String>,
    /// What told that.
    pub(super) taken: Taken,
}

impl Served {
    /// What all tables serve at sidecars of workspaces that `is_trimmed` picks.
    pub(super) fn resolve(
        model: &Model,
        tables: &Stage<RouteTable>,
        is_trimmed: impl Fn(&Name) -> bool,
        notes: &mut Notes,
    ) -> Self {
        let mut all = Self::default();
        if !model.workspaces.keys().any(&is_trimmed) {
            return all;
        }
        for table in tables.values() {
            for (context, labels, hosts, place) in
                table.at_sidecars().into_iter().filter(|(context, ..)| is_trimmed(&context.workspace))
            {
                let (addresses, hosts): (Vec<String>, Vec<String>) =
                    hosts.into_iter().partition(|host| host.parse::<IpAddr>().is_ok());
                // One other host is enough for Istio to find all of them.
                if hosts.is_empty() && !addresses.is_empty() {
                    let text = format!(
                        "spec.hosts: {}: sidecars that are told of some hosts only cannot be told of addresses: add a \
                         host name, or these are not served there",
                        addresses.join(", ")
                    );
                    notes.say_in(&table.parent, context, Severity::Warning, Code::BadValue, text);
                }
                let (cluster, namespace) = (&context.cluster, &context.namespace);
                // Istio takes a short name for a Service of the namespace.
                let whole = |host: String| match host.contains('.') {
                    true => host,
                    false => format!("{host}.{namespace}.svc.{}", model.domain(cluster)),
                };
                let hosts = hosts.into_iter().filter(|host| host != "*").map(whole).collect();
                let taken = place.map_or_else(|| Arc::clone(table.of_tree()), |place| table.taken_at(place));
                let served = ServedHosts { table: table.parent.clone(), labels, hosts, taken };
                all.0.entry((cluster.clone(), namespace.clone())).or_default().push(served);
            }
        }
        all
    }

    pub(super) fn compare(before: Option<&Self>, after: &Self, changes: &mut Changes) {
        let places = before.into_iter().chain([after]).flat_map(|served| served.0.keys());
        for place in places.collect::<BTreeSet<_>>() {
            let of = |served: &Self| fingerprint(&served.0.get(place));
            if before.is_none_or(|before| of(before) != of(after)) {
                changes.add(Place::results(NAME), Thing::Namespace(&place.0, &place.1));
            }
        }
    }

    /// What tables serve at the sidecars of pods with these labels.
    pub(super) fn at(
        &self,
        cluster: &Name,
        namespace: &Name,
        labels: &BTreeMap<Name, Name>,
    ) -> impl Iterator<Item = &ServedHosts> {
        record(Place::results(NAME), Thing::Namespace(cluster, namespace));
        let here = self.0.get(&(cluster.clone(), namespace.clone())).into_iter().flatten();
        here.filter(move |served| selects(&served.labels, labels))
    }
}
