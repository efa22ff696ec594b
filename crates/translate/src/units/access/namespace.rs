//! Who may call the workloads of a namespace, by the labels of their pods.

use std::collections::{BTreeMap, BTreeSet};

use meshrelay_snapshot::{ContentHash, Gvk, Name, ObjectKey};

use super::cni;
use super::effect::{Doors, Effect, Layers};
use super::service::{Guarded, Peers, emit_authorization};
use crate::fingerprint::{Shared, fingerprint};
use crate::names;
use crate::output::{Body, Emission, Extra, Shapers};
use crate::reads::Taken;
use crate::unit::{Batch, BatchId, ParentInput, UnitKind};
use crate::{ContextId, ResourceRef};

/// A namespace with everything that is said about the callers of its workloads.
#[derive(Debug, Hash)]
pub(crate) struct NamespaceAccess {
    pub(super) parent: ResourceRef,
    pub(super) context: ContextId,
    pub(super) rulings: Vec<WorkloadRuling>,
    /// Gateways through which callers of other clusters come in.
    pub(super) doors: Doors,
    /// By labels of the pods.
    pub(super) peers: BTreeMap<BTreeMap<Name, Name>, Peers>,
    /// Where it is written whether its workspace is isolated.
    pub(super) settings: Taken,
    /// What told the modes of TLS.
    pub(super) taken: Taken,
}

/// What one policy says about the callers of some workloads.
#[derive(Debug, Hash)]
pub(super) struct WorkloadRuling {
    pub(super) labels: BTreeMap<Name, Name>,
    pub(super) policy: ResourceRef,
    pub(super) effect: Shared<Effect>,
    pub(super) layers: Layers,
}

impl NamespaceAccess {
    pub(super) fn parent(cluster: &Name, namespace: &Name) -> ResourceRef {
        let key = ObjectKey::new(Gvk::new("", "v1", "Namespace"), Name::default(), namespace.clone());
        ResourceRef::new(cluster, &key)
    }
}

/// Labels as parts of an object's identity.
fn parts(labels: &BTreeMap<Name, Name>) -> impl Iterator<Item = &str> {
    labels.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()])
}

impl ParentInput for NamespaceAccess {
    fn id(&self) -> BatchId {
        (UnitKind::Access, self.parent.clone())
    }

    fn fingerprint(&self) -> ContentHash {
        fingerprint(self)
    }

    fn translate(&self) -> Batch {
        let mut emission = Emission::new(UnitKind::Access, &self.parent);
        let own: Shapers = [&self.parent].into_iter().collect();
        for WorkloadRuling { labels, policy, effect, layers } in &self.rulings {
            let shapers = own.with([policy]);
            let key = &policy.key;
            let identity: Vec<&str> =
                ["AccessPolicy", &policy.cluster, &key.namespace, &key.name].into_iter().chain(parts(labels)).collect();
            let name = names::identified(&format!("accesspolicy-{}-{}", key.name, key.namespace), &identity);
            if layers.mesh {
                let pods = Guarded { context: &self.context, labels, taken: &self.settings };
                emit_authorization(&mut emission, &name, pods, effect, &[], &shapers);
            }
            if layers.cni && effect.is_enforced() {
                let spec = cni::policy(labels, effect, &self.context.cluster, &self.doors, &BTreeSet::new());
                let body = Body::new(&spec, shapers).reading([effect.reads(), &self.settings]);
                emission.emit(&self.context, &name, &body, Extra::default());
            }
        }
        for (labels, peers) in &self.peers {
            let identity: Vec<&str> = ["PeerAuthentication"].into_iter().chain(parts(labels)).collect();
            let readable = parts(labels).collect::<Vec<_>>().join("-");
            let name = names::identified(&format!("accesspolicy-{readable}"), &identity);
            let body = Body::new(&peers.object(labels), own.with(&peers.sources)).reading([&self.taken]);
            emission.emit(&self.context, &name, &body, Extra::default());
        }
        emission.finish()
    }
}
