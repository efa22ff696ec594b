//! What the servers count: RateLimitConfigs, where the Services of the servers are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::admin::RateLimitServerConfigSpec;
use meshrelay_api::references::{DestinationKind, DestinationReference};
use meshrelay_snapshot::{ContentHash, Gvk, ObjectKey};
use serde_json::{Map, Value, json};

use super::{config_name, server};
use crate::fingerprint::fingerprint;
use crate::input::{Input, Ours};
use crate::model::{Model, Shareable};
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::{Taken, taking};
use crate::report::{Code, Finding, Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::units::mesh_host::MeshHosts;
use crate::{ContextId, ResourceRef};

type ServerConfig = Arc<Input<Ours<RateLimitServerConfigSpec>>>;

/// A server's Service with what it counts.
#[derive(Debug, Hash)]
pub(crate) struct RateLimitConfigs {
    parent: ResourceRef,
    context: ContextId,
    /// With what told that they are for it.
    configs: BTreeMap<ResourceRef, (ServerConfig, Taken)>,
}

/// What all servers count.
pub(in crate::units::http_filters) fn gather(
    model: &Model,
    hosts: &MeshHosts,
    notes: &mut Notes,
) -> Vec<RateLimitConfigs> {
    let mut all: BTreeMap<ResourceRef, RateLimitConfigs> = BTreeMap::new();
    for (cluster, input) in &model.clusters {
        for config in input.rate_limit_server_configs().values() {
            if model.config_owner(cluster, config.namespace()).is_none() {
                continue;
            }
            let source = config.reference(cluster);
            if config.spec.raw.is_none() {
                notes.say(&source, Severity::Invalid, Code::Missing, "spec.raw: expected descriptors, found nothing");
                continue;
            }
            let mut reached = 0;
            let (services, taken) = taking(|| services(model, hosts, &source, &config.spec, notes));
            for service in services {
                let Some(context) = model.context(&service.cluster, &service.key.namespace) else {
                    let text = format!("{service} is in no namespace with a mesh, where nothing can be written");
                    notes.say(&source, Severity::Warning, Code::Unreachable, text);
                    continue;
                };
                reached += 1;
                let configs = all.entry(service.clone()).or_insert_with(|| RateLimitConfigs {
                    parent: service,
                    context,
                    configs: BTreeMap::new(),
                });
                configs.configs.insert(source.clone(), (Arc::clone(config), Arc::clone(&taken)));
            }
            notes.count(&source, "numSelectedDestinationServers", reached);
        }
    }
    note(model, notes);
    all.into_values().collect()
}

/// Says what is wrong with settings and descriptions, whether or not policies name them.
fn note(model: &Model, notes: &mut Notes) {
    for (cluster, input) in &model.clusters {
        for settings in input.rate_limit_server_settings().values() {
            if let Some((code, problem)) = server::problem(&settings.spec)
                && model.config_owner(cluster, settings.namespace()).is_some()
            {
                notes.say(&settings.reference(cluster), Severity::Invalid, code, problem);
            }
        }
        for client in input.rate_limit_client_configs().values() {
            if client.spec.raw.is_none() && model.config_owner(cluster, client.namespace()).is_some() {
                let text = "spec.raw: expected descriptions, found nothing";
                notes.say(&client.reference(cluster), Severity::Invalid, Code::Missing, text);
            }
        }
    }
}

/// The Services behind the servers that a configuration is for.
pub(super) fn services(
    model: &Model,
    hosts: &MeshHosts,
    source: &ResourceRef,
    spec: &RateLimitServerConfigSpec,
    notes: &mut Notes,
) -> BTreeSet<ResourceRef> {
    if spec.destination_servers.is_empty() {
        let text = "spec.destinationServers: expected at least one, found none: nobody counts";
        notes.say(source, Severity::Invalid, Code::Missing, text);
    }
    let mut all = BTreeSet::new();
    for (index, destination) in spec.destination_servers.iter().enumerate() {
        match behind(model, hosts, source, destination) {
            Ok(services) => all.extend(services),
            Err((code, problem)) => {
                let text = format!("spec.destinationServers[{index}]: {problem}: it is left out");
                notes.say(source, Severity::Invalid, code, text);
            }
        }
    }
    all
}

fn behind(
    model: &Model,
    hosts: &MeshHosts,
    source: &ResourceRef,
    destination: &DestinationReference,
) -> Result<Vec<ResourceRef>, Finding> {
    let wrong = || (Code::BadValue, "expected ref to a Service or VirtualDestination".to_owned());
    let reference = destination.r#ref.as_ref().filter(|_| destination.aws_lambda.is_none()).ok_or_else(wrong)?;
    let (cluster, place) = source.named(reference);
    let (gvk, kind) = match &destination.kind {
        DestinationKind::Service => (Gvk::new("", "v1", "Service"), Shareable::Service),
        DestinationKind::VirtualDestination => {
            (Gvk::new("networking.gloo.solo.io", "v2", "VirtualDestination"), Shareable::VirtualDestination)
        }
        _ => return Err(wrong()),
    };
    let wanted = ResourceRef { cluster, key: ObjectKey::new(gvk, place.0.clone(), place.1.clone()) };
    let input = model.clusters.get(&wanted.cluster);
    let seen = input.and_then(|input| match kind {
        Shareable::Service => input.services().get(&place).map(|found| is_seen(model, source, kind, &wanted, found)),
        _ => input.virtual_destinations().get(&place).map(|found| is_seen(model, source, kind, &wanted, found)),
    });
    match seen {
        Some(true) => {}
        Some(false) => return Err((Code::NotFound, format!("{wanted} is not shared with the workspace"))),
        None => return Err((Code::NotFound, format!("{wanted} does not exist"))),
    }
    if kind == Shareable::Service {
        return Ok(vec![wanted]);
    }
    let host = hosts.look(model, &wanted);
    let services: Vec<ResourceRef> =
        host.into_iter().flat_map(|host| host.backings.values()).map(|backing| backing.service.clone()).collect();
    if services.is_empty() {
        Err((Code::NoBacking, format!("{wanted} has no service behind it")))
    } else {
        Ok(services)
    }
}

fn is_seen<T>(model: &Model, from: &ResourceRef, kind: Shareable, wanted: &ResourceRef, found: &Input<T>) -> bool {
    let from = model.config_owner(&from.cluster, &from.key.namespace);
    let owner = model.owner(&wanted.cluster, &wanted.key.namespace);
    from.zip(owner).is_some_and(|(from, owner)| model.sees(from, kind, &wanted.cluster, found, owner))
}

impl ParentInput for RateLimitConfigs {
    fn id(&self) -> BatchId {
        (UnitKind::RateLimitConfig, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::RateLimitConfig, &self.parent);
        for (source, (config, taken)) in &self.configs {
            // As it is written, with what this version does not know.
            let object = config.object.value();
            let fields = ["descriptors", "setDescriptors"];
            let raw: Map<String, Value> = fields
                .iter()
                .filter_map(|field| Some(((*field).to_owned(), object.pointer(&format!("/spec/raw/{field}"))?.clone())))
                .collect();
            let shapers: Shapers = [&self.parent, source].into_iter().collect();
            let body =
                Body::of(Gvk::new("ratelimit.solo.io", "v1alpha1", "RateLimitConfig"), &json!({"raw": raw}), shapers);
            let body = body.reading([taken]);
            emission.emit(&self.context, &config_name(source, &self.parent), &body, Extra::default());
        }
        emission.finish()
    }
}
