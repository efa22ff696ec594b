//! Gateways of isolated workspaces: they stay open, as their callers are anybody.

use std::collections::BTreeMap;

use meshrelay_api::istio::authorization_policy::Rule;
use meshrelay_snapshot::{ContentHash, Name};

use super::service::authorization;
use crate::fingerprint::fingerprint;
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A gateway that is kept open.
#[derive(Debug, Hash)]
pub(crate) struct GatewayAccess {
    /// The DiscoveredGateway.
    pub(super) parent: ResourceRef,
    pub(super) context: ContextId,
    /// Its Service.
    pub(super) service: Name,
    /// Labels of its pods.
    pub(super) labels: BTreeMap<Name, Name>,
    pub(super) sources: Vec<ResourceRef>,
}

impl ParentInput for GatewayAccess {
    fn id(&self) -> BatchId {
        (UnitKind::Access, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::Access, &self.parent);
        let shapers: Shapers = self.sources.iter().chain([&self.parent]).collect();
        let ContextId { cluster, namespace, .. } = &self.context;
        let name = format!("service-isolation-allow-gateway-{}-{namespace}-{cluster}", self.service);
        let body = Body::new(&authorization(&self.labels, vec![Rule::default()]), shapers);
        emission.emit(&self.context, &names::sanitize(&name), &body, Extra::default());
        emission.finish()
    }
}
