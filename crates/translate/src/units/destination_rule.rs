//! Rules for the clients of a destination: the subsets that routes in a namespace use.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_api::istio::DestinationRule;
use meshrelay_api::istio::destination_rule::Subset;
use meshrelay_snapshot::ContentHash;

use super::route_table::{RouteTable, subset_name};
use crate::engine::Stage;
use crate::fingerprint::fingerprint;
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A destination with what its clients need to know, by context.
#[derive(Debug, Hash)]
pub(crate) struct ClientRules {
    parent: ResourceRef,
    contexts: BTreeMap<ContextId, ClientRule>,
}

#[derive(Debug, Default, Hash)]
struct ClientRule {
    host: String,
    /// Labels by name of the subset.
    subsets: BTreeMap<String, BTreeMap<String, String>>,
    tables: BTreeSet<ResourceRef>,
}

/// The rules that the routes of all tables need. Several tables of a namespace share one rule per host.
pub(crate) fn gather(tables: &Stage<RouteTable>) -> Vec<ClientRules> {
    let mut all: BTreeMap<ResourceRef, ClientRules> = BTreeMap::new();
    for table in tables.values() {
        for placement in &table.placements {
            for target in placement.targets.all().filter(|target| !target.subset.is_empty()) {
                let parent = &target.destination;
                let rules = all
                    .entry(parent.clone())
                    .or_insert_with(|| ClientRules { parent: parent.clone(), contexts: BTreeMap::new() });
                let rule = rules.contexts.entry(placement.context.clone()).or_default();
                rule.host.clone_from(&target.host);
                rule.subsets.insert(subset_name(&target.subset), target.subset.clone());
                rule.tables.insert(table.parent.clone());
            }
        }
    }
    all.into_values().collect()
}

impl ParentInput for ClientRules {
    fn id(&self) -> BatchId {
        (UnitKind::DestinationRule, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::DestinationRule, &self.parent);
        let ResourceRef { cluster, key } = &self.parent;
        let readable = if key.gvk.kind == "Service" {
            format!("{}-{}-svc-{cluster}", key.name, key.namespace)
        } else {
            format!("{}-{}-virtual-destination", key.name, key.namespace)
        };
        for (context, rule) in &self.contexts {
            let subset = |(name, labels): (&String, &BTreeMap<String, String>)| Subset {
                name: name.clone(),
                labels: labels.clone(),
                ..Subset::default()
            };
            let spec = DestinationRule {
                export_to: vec![".".to_owned()],
                host: rule.host.clone(),
                subsets: rule.subsets.iter().map(subset).collect(),
                ..DestinationRule::default()
            };
            let shapers: Shapers = rule.tables.iter().chain([&self.parent]).collect();
            let body = Body::new(&spec, shapers);
            let identity = [
                "DestinationRule",
                &key.gvk.kind,
                cluster,
                &key.namespace,
                &key.name,
                &context.cluster,
                &context.namespace,
            ];
            emission.emit(context, &names::identified(&readable, &identity), &body, Extra::default());
        }
        emission.finish()
    }
}
