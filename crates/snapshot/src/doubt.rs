use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Name, Object};

/// Annotation of a generated object with the clusters that had a part in it, but for the one that it is for, ordered and
/// with commas between them. Absent when there is no other.
pub const DEPENDS_ON: &str = "meshrelay.io/depends-on";

/// Why absence of what depends on a cluster does not mean that it is not wanted: an output made now has nothing of the cluster,
/// or not all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDoubt {
    /// Why, for people.
    pub reason: String,
}

/// The clusters that had a part in a generated object beside the one that it is for, see [`DEPENDS_ON`].
pub fn depends_on(object: &Object) -> BTreeSet<Name> {
    listed(&object.annotation(DEPENDS_ON).unwrap_or_default()).collect()
}

/// Adds clusters to those that a generated object for one cluster depends on.
pub fn depend_on<'a>(object: &mut Value, own: &Name, more: impl IntoIterator<Item = &'a Name>) {
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    let before = annotations.get(DEPENDS_ON).and_then(Value::as_str).unwrap_or_default();
    let mut clusters: BTreeSet<Name> = listed(before).chain(more.into_iter().cloned()).collect();
    clusters.remove(own);
    if !clusters.is_empty() {
        let clusters: Vec<&str> = clusters.iter().map(Name::as_str).collect();
        annotations.insert(DEPENDS_ON.to_owned(), clusters.join(",").into());
    }
}

fn listed(text: &str) -> impl Iterator<Item = Name> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Name::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Snapshot, SnapshotMeta};

    #[test]
    fn an_object_names_the_clusters_that_it_depends_on() {
        let object = |annotations: serde_json::Value| {
            let metadata = json!({"name": "a", "annotations": annotations});
            Object::from_value(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).unwrap()
        };
        assert_eq!(depends_on(&object(json!({}))), BTreeSet::new());
        assert_eq!(depends_on(&object(json!({DEPENDS_ON: "b, a,,"}))), ["a".into(), "b".into()].into());
        let mut value = object(json!({DEPENDS_ON: "c"})).value();
        depend_on(&mut value, &"own".into(), &["a".into(), "own".into(), "c".into()]);
        assert_eq!(value["metadata"]["annotations"], json!({DEPENDS_ON: "a,c"}));
    }

    #[test]
    fn doubts_are_part_of_the_digest_and_no_doubts_leave_it_as_it_was() {
        let mut snapshot = Snapshot::new();
        let none = serde_json::to_string(snapshot.meta()).unwrap();
        assert!(!none.contains("doubt"), "{none}");
        let before = snapshot.digest();
        let doubt = ClusterDoubt { reason: "away".to_owned() };
        let meta = SnapshotMeta { doubts: [("one".into(), doubt)].into(), ..SnapshotMeta::default() };
        let text = serde_json::to_string(&meta).unwrap();
        assert_eq!(serde_json::from_str::<SnapshotMeta>(&text).unwrap(), meta);
        snapshot.set_meta(meta);
        assert_ne!(snapshot.digest(), before);
        assert_eq!(snapshot.meta().any_doubt(), None, "it is not a doubt about everything");
    }
}
