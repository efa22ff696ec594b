use serde_json::{Value, json};

use crate::{KindInfo, Scope};

/// The custom resource definition of a kind, to be installed in Kubernetes.
pub fn crd(info: &KindInfo) -> Value {
    let schema = (info.schema)();
    let scope = match info.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut version = json!({
        "name": info.version,
        "served": true,
        "storage": true,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {
            "type": "object",
            "description": schema.spec.get("description"),
            "properties": {"spec": schema.spec, "status": schema.status},
        }},
    });
    if let Some(path) = outcome_path(&schema.status) {
        version["additionalPrinterColumns"] = json!([
            {"name": "Status", "type": "string", "jsonPath": path},
            // A list of columns replaces the default one, which is the age alone.
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]);
    }
    let mut names = json!({
        "kind": info.kind,
        "listKind": format!("{}List", info.kind),
        "plural": info.plural,
        "singular": info.singular(),
        "categories": ["solo-io"],
    });
    if !info.short_names.is_empty() {
        names["shortNames"] = json!(info.short_names);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": info.crd_name()},
        "spec": {"group": info.group, "names": names, "scope": scope, "versions": [version]},
    })
}

/// Where a kind's status tells the outcome.
fn outcome_path(status: &Value) -> Option<&'static str> {
    let fields = &status["properties"];
    if fields["common"]["properties"]["State"].is_object() {
        return Some(".status.common.State.approval");
    }
    fields["state"].is_object().then_some(".status.state")
}
