//! Which clusters are warm, and what is told about it: the condition `ClusterWarm` of a KubernetesCluster.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use meshrelay_api::conditions::{CLUSTER_REGISTERED, CLUSTER_WARM, FALSE, FIRST_SNAPSHOT_RECEIVED, TRUE};
use meshrelay_api::status::Condition;
use meshrelay_snapshot::{Name, Object};
use serde::Deserialize;

use crate::ServerError;
use crate::state_file::StateFile;

/// File in the state folder with the clusters that have sent a snapshot.
pub(crate) const WARM_FILE: &str = "warm-clusters.json";

/// When each cluster that has sent a snapshot sent its first one.
pub(crate) type WarmClusters = BTreeMap<Name, Timestamp>;

/// What the file may hold, and what replicas share.
#[derive(Deserialize)]
#[serde(untagged)]
enum WarmFile {
    Times(WarmClusters),
    /// The names alone, as earlier versions wrote them.
    Names(BTreeSet<Name>),
}

impl Default for WarmFile {
    fn default() -> Self {
        Self::Times(WarmClusters::new())
    }
}

impl WarmFile {
    /// Those without a time are warm since `now`.
    fn into_clusters(self, now: Timestamp) -> WarmClusters {
        match self {
            Self::Times(warm) => warm,
            Self::Names(names) => names.into_iter().map(|name| (name, now)).collect(),
        }
    }
}

/// Reads what replicas share; nothing from what is of another form.
pub(crate) fn shared(value: &serde_json::Value, now: Timestamp) -> WarmClusters {
    WarmFile::deserialize(value).unwrap_or_default().into_clusters(now)
}

/// The form in which replicas share them.
pub(crate) fn to_share(warm: &WarmClusters) -> serde_json::Value {
    warm.iter().map(|(name, since)| (name.as_str(), serde_json::Value::from(since.to_string()))).collect()
}

/// Reads the file. Clusters without a time are warm since `now`, and the file says so from then on.
pub(crate) fn load(file: &StateFile, now: Timestamp) -> Result<WarmClusters, ServerError> {
    let kept: WarmFile = file.load()?;
    let is_earlier = matches!(kept, WarmFile::Names(_));
    let warm = kept.into_clusters(now);
    if is_earlier {
        file.store(&warm)?;
    }
    Ok(warm)
}

/// What a KubernetesCluster says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registration {
    /// `spec.skipWarming`.
    pub(crate) skip_warming: bool,
    /// When it was made; the time at which it was read if it does not say.
    pub(crate) since: Timestamp,
    /// Since when its condition `ClusterWarm` is true; `None` if it is not, or has none.
    pub(crate) warm_since: Option<Timestamp>,
}

impl Registration {
    pub(crate) fn read(object: &Object, skip_warming: bool, now: Timestamp) -> Self {
        let since = object.created().unwrap_or(now);
        let value = object.value();
        let conditions = value["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let warm = conditions.iter().find(|found| found["type"] == CLUSTER_WARM && found["status"] == TRUE);
        let time = |condition: &serde_json::Value| condition["lastTransitionTime"].as_str()?.parse().ok();
        Self { skip_warming, since, warm_since: warm.map(|condition| time(condition).unwrap_or(since)) }
    }
}

/// The condition `ClusterWarm` of a cluster that is registered since then, and warm since a time or not yet.
pub(crate) fn cluster_warm(registered: Timestamp, warm_since: Option<Timestamp>) -> Condition {
    let (status, reason, message) = match warm_since {
        Some(_) => (TRUE, FIRST_SNAPSHOT_RECEIVED, "the agent has connected, and its first input snapshot was stored"),
        None => (FALSE, CLUSTER_REGISTERED, "the cluster is registered, and its agent has sent no input snapshot yet"),
    };
    Condition {
        kind: CLUSTER_WARM.to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(warm_since.unwrap_or(registered)),
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Condition::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_condition_is_as_documented() {
        let (registered, warm) = (time("2026-01-01T00:00:00Z"), time("2026-01-02T03:04:05.5Z"));
        let cold = serde_json::to_value(cluster_warm(registered, None)).unwrap();
        assert_eq!(
            (&cold["type"], &cold["status"], &cold["reason"]),
            (&json!("ClusterWarm"), &json!("False"), &json!("ClusterRegistered"))
        );
        assert_eq!(cold["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let warm = serde_json::to_value(cluster_warm(registered, Some(warm))).unwrap();
        assert_eq!(
            (&warm["type"], &warm["status"], &warm["reason"]),
            (&json!("ClusterWarm"), &json!("True"), &json!("FirstSnapshotReceived"))
        );
        assert_eq!(warm["lastTransitionTime"], "2026-01-02T03:04:05.5Z");
        assert!(cold["message"].as_str().unwrap() != warm["message"].as_str().unwrap());
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read_and_keeps_the_time_that_it_got() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), WARM_FILE);
        assert!(load(&file, time("2026-01-01T00:00:00Z")).unwrap().is_empty(), "no file, no cluster");
        std::fs::write(folder.path().join(WARM_FILE), r#"["east", "west"]"#).unwrap();
        let first = time("2026-01-02T00:00:00Z");
        let expected = WarmClusters::from([("east".into(), first), ("west".into(), first)]);
        assert_eq!(load(&file, first).unwrap(), expected);
        assert_eq!(load(&file, time("2026-01-03T00:00:00Z")).unwrap(), expected);
        std::fs::write(folder.path().join(WARM_FILE), "{\"east\": 7}").unwrap();
        assert!(load(&file, first).is_err(), "nothing is made up");
    }

    #[test]
    fn the_condition_of_a_resource_is_read() {
        let now = time("2026-02-01T00:00:00Z");
        let read = |conditions: serde_json::Value| {
            let object = Object::from_value(&json!({
                "apiVersion": "admin.gloo.solo.io/v2", "kind": "KubernetesCluster",
                "metadata": {"name": "one", "namespace": "gloo-mesh", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"conditions": conditions},
            }));
            Registration::read(&object.unwrap(), false, now).warm_since
        };
        let condition =
            |kind, status| json!([{"type": kind, "status": status, "lastTransitionTime": "2026-01-05T00:00:00Z"}]);
        assert_eq!(read(condition("ClusterWarm", "True")), Some(time("2026-01-05T00:00:00Z")));
        assert_eq!(read(condition("ClusterWarm", "False")), None);
        assert_eq!(read(condition("Ready", "True")), None);
        assert_eq!(read(json!([{"type": "ClusterWarm", "status": "True"}])), Some(time("2026-01-01T00:00:00Z")));
        for odd in [json!(null), json!("warm"), json!([1, null]), json!({"type": "ClusterWarm"})] {
            assert_eq!(read(odd), None);
        }
    }
}
