//! The objects of a cluster as translation reads them.

mod cache;
mod cluster;
pub(crate) mod kube;
mod tables;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use meshrelay_api::{Kind, decode};
use meshrelay_snapshot::{Name, Object};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use cache::Cache;
pub(crate) use cluster::ClusterInput;
pub(crate) use tables::Table;

use crate::ResourceRef;
use crate::report::{Code, Finding};

/// An object with its decoded `spec`. Does not know its cluster: equal objects of many clusters are decoded once.
#[derive(Debug)]
pub(crate) struct Input<T> {
    pub(crate) object: Arc<Object>,
    pub(crate) spec: T,
    /// What decoding found, with its code.
    pub(crate) warnings: Vec<Finding>,
    /// Why nothing but what it selects can be read, see [`GUARDS`].
    pub(crate) flaw: Option<Finding>,
}

/// By content: what was decoded follows from it.
impl<T> Hash for Input<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.object.hash().hash(state);
    }
}

impl<T> Input<T> {
    pub(crate) fn name(&self) -> &Name {
        &self.object.key().name
    }

    pub(crate) fn namespace(&self) -> &Name {
        &self.object.key().namespace
    }

    /// What "the oldest wins" compares: creation time, then cluster, namespace, name. Without a time, an object is the
    /// youngest.
    pub(crate) fn age<'a>(&'a self, cluster: &'a Name) -> Age<'a> {
        let created = self.object.created();
        Age { undated: created.is_none(), created, cluster, namespace: self.namespace(), name: self.name() }
    }

    pub(crate) fn reference(&self, cluster: &Name) -> ResourceRef {
        ResourceRef::new(cluster, self.object.key())
    }
}

/// See [`Input::age`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age<'a> {
    undated: bool,
    created: Option<Timestamp>,
    cluster: &'a Name,
    namespace: &'a Name,
    name: &'a Name,
}

/// How an object is decoded.
pub(crate) trait Decode: Sized + Send + Sync + 'static {
    /// # Errors
    /// A text for users when the object cannot be read.
    fn decode(object: &Object) -> Result<Decoded<Self>, Finding>;
}

/// What was read, see [`Input`].
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    spec: T,
    warnings: Vec<Finding>,
    flaw: Option<Finding>,
}

/// Policies that say who passes. What they select is not left open for a mistake in what they say of it.
const GUARDS: [&str; 3] = ["AccessPolicy", "ExtAuthPolicy", "JWTPolicy"];

/// One of our kinds.
impl<K: Kind> Decode for Ours<K> {
    fn decode(object: &Object) -> Result<Decoded<Self>, Finding> {
        let read = |value: &Value, flaw| {
            decode::<K>(value).map(|decoded| Decoded {
                warnings: decoded.warnings.iter().map(Code::split).collect(),
                spec: Self(decoded.value.spec),
                flaw,
            })
        };
        let mut value = object.value();
        let (code, problem) = match read(&value, None) {
            Ok(whole) => return Ok(whole),
            Err(error) => Code::split(&error),
        };
        if !GUARDS.contains(&K::INFO.kind) {
            return Err((code, problem));
        }
        if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("config");
        }
        let flaw = (code, format!("{problem}: only what it selects is known"));
        let lost = |_| (code, format!("{problem}: what it selects cannot be read either: it guards nothing"));
        read(&value, Some(flaw)).map_err(lost)
    }
}

/// The `spec` of one of our kinds.
#[derive(Debug)]
pub(crate) struct Ours<K>(K);

impl<K> std::ops::Deref for Ours<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

/// The `spec` of one of Kubernetes' kinds.
#[derive(Debug)]
pub(crate) struct Theirs<T>(T);

impl<T> std::ops::Deref for Theirs<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + Default + Send + Sync + 'static> Decode for Theirs<T> {
    fn decode(object: &Object) -> Result<Decoded<Self>, Finding> {
        let spec = match object.decode::<kube::Spec<T>>() {
            Ok(kube::Spec { spec }) => spec,
            Err(_) => {
                serde_json::from_value::<kube::Spec<T>>(kube::without_nulls(object.value()))
                    .map_err(|error| (Code::BadType, error.to_string()))?
                    .spec
            }
        };
        Ok(Decoded { spec: Self(spec.unwrap_or_default()), warnings: Vec::new(), flaw: None })
    }
}
