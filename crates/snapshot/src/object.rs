use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ContentHash, Gvk, Name, ObjectKey, Pieces, canonical_json};

/// One Kubernetes object, immutable. Shared behind `Arc`; the body is its canonical JSON, hashed once.
///
/// The body is kept in pieces, so that objects of many clusters share what is the same in all of them.
#[derive(Clone)]
pub struct Object {
    key: ObjectKey,
    /// Read when they are first asked for, where nobody had to read the object before.
    labels: OnceLock<BTreeMap<Name, Name>>,
    created: Option<Timestamp>,
    generation: i64,
    body: Pieces,
    hash: ContentHash,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        // Everything else is read out of what is hashed.
        self.hash == other.hash
    }
}

impl Eq for Object {}

/// Why some bytes or some value is not a Kubernetes object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not JSON, or a field of the metadata has another type than Kubernetes gives it.
    #[error("expected a kubernetes object: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A field without which there is no identity.
    #[error("expected a kubernetes object, but {0} is missing or empty")]
    Missing(&'static str),
}

/// The part of an object that is needed to place it; everything else is skipped over without being built.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: Name,
    #[serde(default)]
    kind: Name,
    #[serde(default)]
    metadata: HeadMetadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HeadMetadata {
    name: Name,
    namespace: Option<Name>,
    labels: Option<BTreeMap<Name, Name>>,
    creation_timestamp: Option<Timestamp>,
    generation: Option<i64>,
}

#[derive(Deserialize)]
struct Annotated {
    metadata: AnnotatedMetadata,
}

#[derive(Deserialize)]
struct AnnotatedMetadata {
    annotations: Option<BTreeMap<String, String>>,
}

impl Object {
    /// From a JSON value with `apiVersion`, `kind` and `metadata.name`.
    ///
    /// # Errors
    /// [`ObjectError`] when the identity is missing or the metadata has wrong types.
    pub fn from_value(value: &Value) -> Result<Self, ObjectError> {
        Self::from_canonical(canonical_json(value))
    }

    /// From the canonical JSON of an object, as [`Object::body`] gave it. The hash is taken over the bytes as they are.
    ///
    /// # Errors
    /// As [`Object::from_value`].
    pub fn from_canonical(body: impl Into<Vec<u8>>) -> Result<Self, ObjectError> {
        let body = body.into();
        let Head { api_version, kind, metadata } = serde_json::from_slice(&body)?;
        for (text, field) in [(&api_version, "apiVersion"), (&kind, "kind"), (&metadata.name, "metadata.name")] {
            if text.is_empty() {
                return Err(ObjectError::Missing(field));
            }
        }
        Ok(Self {
            key: ObjectKey {
                gvk: Gvk::from_api_version(&api_version, &kind),
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name,
            },
            labels: OnceLock::from(metadata.labels.unwrap_or_default()),
            created: metadata.creation_timestamp,
            generation: metadata.generation.unwrap_or_default(),
            hash: ContentHash::of(&body),
            body: body.into(),
        })
    }

    /// From canonical JSON together with the key that it says, for those who wrote it and need not have it read: an object
    /// without creation time and generation.
    pub fn from_written(key: ObjectKey, mut body: Pieces) -> Self {
        body.shrink();
        let hash = ContentHash::of_concatenation(body.iter());
        let object = Self { key, labels: OnceLock::new(), created: None, generation: 0, hash, body };
        debug_assert_eq!(canonical_json(&object.value()), *object.body());
        debug_assert!(Self::from_canonical(object.body()).is_ok_and(|read| read.key == object.key));
        object
    }

    /// Group, version, kind, namespace and name.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// `metadata.labels`.
    pub fn labels(&self) -> &BTreeMap<Name, Name> {
        self.labels.get_or_init(|| {
            let head: Option<Head> = serde_json::from_slice(&self.body()).ok();
            head.and_then(|head| head.metadata.labels).unwrap_or_default()
        })
    }

    /// One of `metadata.annotations`, read out of the body: few are ever asked for, and they can be long.
    pub fn annotation(&self, key: &str) -> Option<String> {
        let Annotated { metadata } = serde_json::from_slice(&self.body()).ok()?;
        metadata.annotations?.remove(key)
    }

    /// `metadata.creationTimestamp`, if the object has one.
    pub fn created(&self) -> Option<Timestamp> {
        self.created
    }

    /// `metadata.generation`, 0 if the object has none.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The canonical JSON of the whole object.
    pub fn body(&self) -> Cow<'_, [u8]> {
        self.body.bytes()
    }

    /// The body in pieces, one after the other.
    pub fn pieces(&self) -> &Pieces {
        &self.body
    }

    /// Hash of the body.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The whole object as a JSON value.
    pub fn value(&self) -> Value {
        // The constructor parsed these bytes as JSON; `Null` cannot be reached.
        serde_json::from_slice(&self.body()).unwrap_or(Value::Null)
    }

    /// Reads the body as a type.
    ///
    /// # Errors
    /// When a field has another type than `T` expects.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key, self.hash.short())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_values_have_equal_hashes_whatever_the_order_of_keys() {
        let one =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {}});
        let two =
            json!({"spec": {}, "metadata": {"namespace": "n", "name": "a"}, "kind": "Service", "apiVersion": "v1"});
        let (one, two) = (Object::from_value(&one).unwrap(), Object::from_value(&two).unwrap());
        assert_eq!(one, two);
        assert_eq!(one.key().to_string(), "Service n/a");
        assert_eq!(Object::from_canonical(one.body()).unwrap(), two);
    }

    #[test]
    fn an_annotation_is_read_out_of_the_body() {
        let metadata = json!({"name": "a", "annotations": {"one": "1\"", "two": "2"}});
        let object = Object::from_value(&json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})).unwrap();
        assert_eq!(object.annotation("one").as_deref(), Some("1\""));
        assert_eq!(object.annotation("three"), None);
    }

    #[test]
    fn an_object_without_identity_is_refused() {
        let error = Object::from_value(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {}})).unwrap_err();
        assert_eq!(error.to_string(), "expected a kubernetes object, but metadata.name is missing or empty");
        assert!(Object::from_canonical(*b"{\"kind\": 1}").is_err());
        assert!(Object::from_canonical(*b"[]").is_err());
    }
}
