//! Snapshots to store.

use std::sync::Arc;

use meshrelay_snapshot::{Completeness, Gvk, Object, Snapshot};
use meshrelay_store::Stored;
use serde_json::{Value, json};

pub(crate) fn object(name: &str, content: &str) -> Arc<Object> {
    let value = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "n", "labels": {"app": name}}, "spec": {"content": content},
    });
    Arc::new(Object::from_value(&value).unwrap())
}

/// So many objects, each made anew, with a content that names the version.
pub(crate) fn snapshot(objects: u32, content: impl Fn(u32) -> String) -> Arc<Snapshot> {
    let objects = (0..objects).map(|number| object(&format!("service-{number}"), &content(number)));
    let mut snapshot: Snapshot = objects.collect();
    let mut meta = snapshot.meta().clone();
    meta.completeness.insert(Gvk::new("", "v1", "Service"), Completeness::Synced);
    meta.facts.agent_version = "1.2.3".to_owned();
    snapshot.set_meta(meta);
    Arc::new(snapshot)
}

pub(crate) fn stored(version: u64, snapshot: &Arc<Snapshot>, writer: &str) -> Stored {
    Stored::new(version, Arc::clone(snapshot), Value::Null, writer)
}

/// A version that differs from others in every object.
pub(crate) fn version(version: u64, writer: &str) -> Stored {
    stored(version, &snapshot(40, |_| format!("{version} by {writer}")), writer)
}
