use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::KindSchema;

/// Whether the objects of a kind live in namespaces. Those of every kind of this API do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They belong to the cluster as a whole.
    Cluster,
}

/// Where the resources of a kind are written, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// By users, in the management cluster only.
    Management,
    /// By users, in any namespace from which a workspace reads configuration.
    Anywhere,
    /// By the agent, in its own cluster.
    Agent,
    /// By the server, in workload clusters.
    Server,
}

/// One kind of resource: a line of the table [`KINDS`](crate::KINDS).
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Name of the kind.
    pub kind: &'static str,
    /// Name of the resource in paths of the Kubernetes API.
    pub plural: &'static str,
    /// Short names for `kubectl`.
    pub short_names: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub scope: Scope,
    /// Where its objects are written.
    pub written: Written,
    /// The schemas of its `spec` and `status`, made on first use.
    pub schema: fn() -> &'static KindSchema,
}

impl KindInfo {
    /// `group/version`, as objects say it.
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// Name of one object of the kind, for `kubectl`.
    pub fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// Name of the custom resource definition.
    pub fn crd_name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// The `spec` of a kind; the kind's name is an alias of [`Resource`] of it.
pub trait Kind: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The `status` of the kind.
    type Status: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The kind's line in the table of kinds.
    const INFO: &'static KindInfo;
}

/// The part of `metadata` that means something to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name of the object.
    pub name: String,
    /// Namespace of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels, by which others select the object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When the object was made; absent in files that never were in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// Counts the changes of `spec`; 0 when not known.
    #[serde(skip_serializing_if = "crate::message::is_default")]
    pub generation: i64,
}

/// An object of one of our kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource<K: Kind> {
    /// Name, labels and so on.
    pub metadata: Metadata,
    /// What the writer wants.
    pub spec: K,
    /// What became of it.
    pub status: Option<K::Status>,
}

impl<K: Kind> Serialize for Resource<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Resource", 4 + usize::from(self.status.is_some()))?;
        object.serialize_field("apiVersion", &K::INFO.api_version())?;
        object.serialize_field("kind", K::INFO.kind)?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        match &self.status {
            Some(status) => object.serialize_field("status", status)?,
            None => object.skip_field("status")?,
        }
        object.end()
    }
}
