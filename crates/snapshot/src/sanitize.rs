use serde_json::{Map, Value};

/// Annotation that holds a copy of the whole object as `kubectl apply` last saw it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Removes what nobody translates and what changes without meaning, before an object leaves its cluster: managed
/// fields, versions of the API server, the copy that `kubectl apply` keeps, other controllers' status, and everything
/// in a pod template but labels, annotations, service account and images.
///
/// Status stays on internal kinds, where it is part of the contract between server and agent, and on
/// `KubernetesCluster`, whose `ClusterWarm` condition must survive a restart.
pub fn sanitize(object: &mut Value) {
    let group_kind = |object: &Value| {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let group = api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
        (group.to_owned(), object["kind"].as_str().unwrap_or_default().to_owned())
    };
    let (group, kind) = group_kind(object);
    let Some(fields) = object.as_object_mut() else { return };
    if group != "internal.gloo.solo.io" && kind != "KubernetesCluster" {
        fields.remove("status");
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "uid", "selfLink", "ownerReferences"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    if group == "apps"
        && let Some(template) = object.pointer_mut("/spec/template").and_then(Value::as_object_mut)
    {
        template.retain(|field, _| field == "metadata" || field == "spec");
        if let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) {
            keep_of_pod(pod);
        }
    }
}

fn keep_of_pod(pod: &mut Map<String, Value>) {
    pod.retain(|field, _| field == "serviceAccountName" || field == "containers" || field == "hostNetwork");
    let containers = pod.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten();
    for container in containers.filter_map(Value::as_object_mut) {
        container.retain(|field, _| field == "name" || field == "image" || field == "ports");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_translation_reads_stays_and_the_rest_goes() {
        let mut deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": 1},
            "metadata": {"name": "a", "namespace": "n", "uid": "1", "resourceVersion": "7", "managedFields": [],
                "annotations": {LAST_APPLIED: "{}"}},
            "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "a"}}, "spec": {
                "serviceAccountName": "sa", "volumes": [], "containers": [{"name": "c", "image": "i", "env": []}]}}},
        });
        sanitize(&mut deployment);
        assert_eq!(
            deployment,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "n"},
                "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "a"}}, "spec": {
                    "serviceAccountName": "sa", "containers": [{"name": "c", "image": "i"}]}}},
            })
        );
    }

    #[test]
    fn the_warm_condition_survives() {
        let mut cluster = json!({"apiVersion": "admin.gloo.solo.io/v2", "kind": "KubernetesCluster",
            "metadata": {"name": "a"}, "status": {"conditions": [{"type": "ClusterWarm"}]}});
        let before = cluster.clone();
        sanitize(&mut cluster);
        assert_eq!(cluster, before);
    }
}
