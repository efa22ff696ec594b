//! What the servers are told: AuthConfigs, where the Service of a server is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use meshrelay_snapshot::{ContentHash, Gvk, Name};
use serde_json::Value;

use super::{Approval, ExtAuthPolicy, auth_config_name, filter};
use crate::fingerprint::fingerprint;
use crate::model::Model;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::Taken;
use crate::report::{Notes, Severity};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// Kinds that tell which proxies there are: gateways, and those in front of Services.
static PROXIES: LazyLock<[Gvk; 2]> =
    LazyLock::new(|| [Gvk::new("", "v1", "Service"), Gvk::new("internal.gloo.solo.io", "v2", "DiscoveredGateway")]);

/// A Service behind a server with what it is told.
#[derive(Debug, Hash)]
pub(crate) struct AuthConfigs {
    parent: ResourceRef,
    context: ContextId,
    /// By name of the object.
    policies: BTreeMap<String, Asked>,
}

/// What a policy asks of a Service.
#[derive(Debug, Hash)]
struct Asked {
    policy: ExtAuthPolicy,
    servers: BTreeSet<ResourceRef>,
    /// What tells in the clusters of the proxies that they ask.
    reads: Arc<BTreeSet<(Name, Gvk)>>,
    /// What told the proxies to ask.
    taken: Vec<Taken>,
}

/// What all servers are told, out of what policies ask of them.
pub(in crate::units::http_filters) fn gather<'a>(
    model: &Model,
    approvals: impl Iterator<Item = (&'a ContextId, &'a Approval, &'a Taken)>,
    notes: &mut Notes,
) -> Vec<AuthConfigs> {
    let mut all: BTreeMap<ResourceRef, AuthConfigs> = BTreeMap::new();
    let mut used: BTreeMap<&ResourceRef, (BTreeSet<&ResourceRef>, BTreeSet<&ResourceRef>)> = BTreeMap::new();
    for (proxies, approval, taken) in approvals {
        if let Some(server) = &approval.server {
            let (policies, services) = used.entry(server).or_default();
            policies.insert(&approval.policy.source);
            services.extend(&approval.services);
        }
        for (service, context) in &approval.configured {
            let configs = all.entry(service.clone()).or_insert_with(|| AuthConfigs {
                parent: service.clone(),
                context: context.clone(),
                policies: BTreeMap::new(),
            });
            let name = auth_config_name(&approval.policy, service);
            let asked = configs.policies.entry(name).or_insert_with(|| Asked {
                policy: approval.policy.clone(),
                servers: BTreeSet::new(),
                reads: Arc::default(),
                taken: Vec::new(),
            });
            if !asked.taken.contains(taken) {
                asked.taken.push(Arc::clone(taken));
            }
            asked.servers.extend(approval.server.clone());
            Arc::make_mut(&mut asked.reads).extend(PROXIES.iter().map(|kind| (proxies.cluster.clone(), kind.clone())));
        }
    }
    for (server, (policies, services)) in used {
        notes.count(server, "numAppliedPolicies", policies.len());
        notes.count(server, "numSelectedBackingServices", services.len());
    }
    for (cluster, input) in &model.clusters {
        for server in input.ext_auth_servers().values() {
            if model.config_owner(cluster, server.namespace()).is_some() {
                for (code, problem) in filter::problems(&server.spec) {
                    notes.say(&server.reference(cluster), Severity::Invalid, code, problem);
                }
            }
        }
    }
    all.into_values().collect()
}

impl ParentInput for AuthConfigs {
    fn id(&self) -> BatchId {
        (UnitKind::AuthConfig, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::AuthConfig, &self.parent);
        for (name, Asked { policy, servers, reads, taken }) in &self.policies {
            // As it is written, with what this version does not know.
            let object = policy.input.object.value();
            let spec = object.pointer("/spec/config/glooAuth").unwrap_or(&Value::Null);
            let shapers: Shapers = servers.iter().chain([&self.parent, &policy.source]).collect();
            let body = Body::of(Gvk::new("extauth.solo.io", "v1", "AuthConfig"), spec, shapers);
            let body = body.reading(taken.iter().chain([reads]));
            emission.emit(&self.context, name, &body, Extra::default());
        }
        emission.finish()
    }
}
