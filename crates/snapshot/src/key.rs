use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Name;

/// Group, version and kind of an object. The core group is the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gvk {
    /// API group, `""` for core Kubernetes kinds.
    pub group: Name,
    /// Kind, such as `VirtualService`.
    pub kind: Name,
    /// API version, such as `v1beta1`.
    pub version: Name,
}

impl Gvk {
    /// From the three parts as Kubernetes writes them.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.into(), kind: kind.into(), version: version.into() }
    }

    /// From `apiVersion` (`v1` or `networking.istio.io/v1beta1`) and `kind`.
    pub fn from_api_version(api_version: &str, kind: &str) -> Self {
        match api_version.split_once('/') {
            Some((group, version)) => Self::new(group, version, kind),
            None => Self::new("", api_version, kind),
        }
    }

    /// The `apiVersion` field: `version` for the core group, `group/version` otherwise.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            write!(f, "{}, Kind={}", self.version, self.kind)
        } else {
            write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
        }
    }
}

/// What names one object within one cluster. Ordered by group, kind, version, namespace, name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Group, version and kind.
    #[serde(flatten)]
    pub gvk: Gvk,
    /// Namespace, `""` for cluster-scoped objects.
    pub namespace: Name,
    /// Name.
    pub name: Name,
}

impl ObjectKey {
    /// From its parts; `namespace` is `""` for cluster-scoped objects.
    pub fn new(gvk: Gvk, namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { gvk, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.gvk.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.gvk.kind, self.namespace, self.name)
        }
    }
}
