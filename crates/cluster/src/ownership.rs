use meshrelay_snapshot::{Object, ObjectError};
use serde_json::{Map, Value, json};

/// Labels that the agent puts on each object it applies: how it, and the users' own tools, find what it made. The keys
/// are those that Gloo Mesh uses, so that habits and scripts go on working.
pub mod labels {
    /// Namespace of the agent that applied the object.
    pub const AGENT: &str = "agent.gloo.solo.io";
    /// Installation that the object belongs to.
    pub const OWNER_NAME: &str = "owner.gloo.solo.io/name";
    /// Name of the cluster that the object was made for.
    pub const RELAY_CLUSTER: &str = "relay.solo.io/cluster";
    /// Name of the cluster once more: the label by which objects that are no longer wanted are found.
    pub const CLUSTER: &str = "cluster.multicluster.solo.io";
    /// Value of [`AGENT`] and [`OWNER_NAME`].
    pub const GLOO_MESH: &str = "gloo-mesh";
}

fn all(cluster: &str) -> [(&'static str, &str); 4] {
    [
        (labels::AGENT, labels::GLOO_MESH),
        (labels::OWNER_NAME, labels::GLOO_MESH),
        (labels::RELAY_CLUSTER, cluster),
        (labels::CLUSTER, cluster),
    ]
}

/// The object with our labels.
pub(crate) fn claim(object: &Object, cluster: &str) -> Result<Value, ObjectError> {
    let mut value = object.value();
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut).ok_or(ObjectError::Missing("metadata"))?;
    let found = metadata.entry("labels").or_insert_with(|| json!({}));
    if found.is_null() {
        *found = json!({});
    }
    let found: &mut Map<String, Value> = found.as_object_mut().ok_or(ObjectError::Missing("metadata.labels"))?;
    for (key, label) in all(cluster) {
        found.insert(key.to_owned(), json!(label));
    }
    Ok(value)
}

/// Whether a text that cannot be parsed is what became of an object with our labels.
pub(crate) fn is_claimed(text: &str, cluster: &str) -> bool {
    all(cluster).iter().all(|(key, label)| {
        let value =
            |line: &str| Some(line.trim().strip_prefix(key)?.trim_start_matches(['"', '\'', ':', ' ']).to_owned());
        text.lines().filter_map(value).any(|value| value.trim_matches(['"', '\'']) == *label)
    })
}

/// The object as it was before [`claim`]; `None` if it is not ours.
pub(crate) fn release(mut value: Value, cluster: &str) -> Option<Object> {
    let found = value.pointer_mut("/metadata/labels")?.as_object_mut()?;
    for (key, label) in all(cluster) {
        if found.remove(key)? != label {
            return None;
        }
    }
    if found.is_empty() {
        value.get_mut("metadata")?.as_object_mut()?.remove("labels");
    }
    Object::from_value(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_claimed_is_recognised_and_comes_back_as_it_was() {
        for labels in [json!({"app": "a"}), Value::Null] {
            let mut value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}});
            if labels.is_object() {
                value["metadata"]["labels"] = labels;
            }
            let object = Object::from_value(&value).unwrap();
            let claimed = claim(&object, "one").unwrap();
            assert_eq!(claimed["metadata"]["labels"]["relay.solo.io/cluster"], "one");
            assert_eq!(release(claimed.clone(), "one").unwrap(), object);
            assert_eq!(release(claimed, "two"), None, "another cluster's object is not ours");
            assert_eq!(release(value, "one"), None);
        }
    }
}
