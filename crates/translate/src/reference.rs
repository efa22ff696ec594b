use std::fmt;

use meshrelay_api::references::ObjectReference;
use meshrelay_snapshot::{Name, ObjectKey};
use serde::{Deserialize, Serialize};

/// One object of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceRef {
    /// Cluster that holds the object.
    pub cluster: Name,
    /// The object within the cluster.
    pub key: ObjectKey,
}

impl ResourceRef {
    /// Namespace and name, by which tables of one kind are ordered.
    pub(crate) fn place(&self) -> (Name, Name) {
        (self.key.namespace.clone(), self.key.name.clone())
    }

    /// Cluster, and namespace with name, of what the resource refers to; what is left out is its own.
    pub(crate) fn named(&self, reference: &ObjectReference) -> (Name, (Name, Name)) {
        let or = |text: &str, own: &Name| if text.is_empty() { own.clone() } else { Name::from(text) };
        let namespace = or(&reference.namespace, &self.key.namespace);
        (or(&reference.cluster, &self.cluster), (namespace, Name::from(&reference.name)))
    }

    /// From its parts.
    pub fn new(cluster: &Name, key: &ObjectKey) -> Self {
        Self { cluster: cluster.clone(), key: key.clone() }
    }
}

/// As people name it in messages: `RouteTable cluster1/shop/cart`, without the namespace where there is none.
impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectKey { gvk, namespace, name } = &self.key;
        if namespace.is_empty() {
            write!(f, "{} {}/{name}", gvk.kind, self.cluster)
        } else {
            write!(f, "{} {}/{namespace}/{name}", gvk.kind, self.cluster)
        }
    }
}

/// Where generated objects go: one namespace of one cluster, and the workspace that owns it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContextId {
    /// The cluster.
    pub cluster: Name,
    /// The namespace.
    pub namespace: Name,
    /// The workspace that owns the namespace.
    pub workspace: Name,
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of workspace {}", self.cluster, self.namespace, self.workspace)
    }
}
