use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use meshrelay_snapshot::{ClusterSettings, Gvk, Object, ObjectError};
use serde_json::{Map, Value, json};

/// Creation time of objects in a fleet whose `fleet.yaml` has no `clock`: 2020-01-01T00:00:00Z. Fixed, so that two
/// readers of one folder always agree on which object is the oldest.
pub const DEFAULT_CLOCK: Timestamp = Timestamp::constant(1_577_836_800, 0);

/// Label that an API server sets on every Namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Kinds without namespace, as (group, kind): those of Kubernetes, Gateway API and Cilium.
const CLUSTER_SCOPED: [(&str, &str); 38] = [
    ("", "ComponentStatus"),
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("authentication.k8s.io", "TokenReview"),
    ("authorization.k8s.io", "SubjectAccessReview"),
    ("cert-manager.io", "ClusterIssuer"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("certificates.k8s.io", "ClusterTrustBundle"),
    ("cilium.io", "CiliumClusterwideEnvoyConfig"),
    ("cilium.io", "CiliumClusterwideNetworkPolicy"),
    ("cilium.io", "CiliumExternalWorkload"),
    ("cilium.io", "CiliumIdentity"),
    ("cilium.io", "CiliumNode"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("node.k8s.io", "RuntimeClass"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceSlice"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// What an API server does to an object on its way in, for clusters that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Creation time of objects that state none.
    pub clock: Timestamp,
    /// External addresses of gateway Services by `namespace/name`.
    pub addresses: BTreeMap<String, Vec<String>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { clock: DEFAULT_CLOCK, addresses: BTreeMap::new() }
    }
}

impl Admission {
    /// For one cluster of a fleet; without a clock, [`DEFAULT_CLOCK`].
    pub fn new(clock: Option<Timestamp>, cluster: Option<&ClusterSettings>) -> Self {
        Self {
            clock: clock.unwrap_or(DEFAULT_CLOCK),
            addresses: cluster.map(|settings| settings.addresses.clone()).unwrap_or_default(),
        }
    }

    /// The object as an API server would store it.
    ///
    /// # Errors
    /// When the value is no Kubernetes object.
    pub fn admit(&self, mut value: Value) -> Result<Object, ObjectError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let gvk = Gvk::from_api_version(&text(&value["apiVersion"]), &text(&value["kind"]));
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            self.complete(metadata, &gvk);
        }
        if gvk.group.is_empty() && gvk.kind == "Service" {
            self.expose(&mut value);
        }
        Object::from_value(&value)
    }

    /// The Namespace that must exist for objects to live in it.
    ///
    /// # Errors
    /// Never for a name that an object has as its namespace.
    pub fn namespace(&self, name: &str) -> Result<Object, ObjectError> {
        self.admit(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    }

    fn complete(&self, metadata: &mut Map<String, Value>, gvk: &Gvk) {
        // A null says no more than an absent field, and an API server drops it.
        metadata.retain(|_, value| !value.is_null());
        if is_cluster_scoped(gvk) {
            metadata.remove("namespace");
        } else if metadata.get("namespace").is_none_or(|namespace| namespace == "") {
            metadata.insert("namespace".to_owned(), json!("default"));
        }
        metadata.entry("creationTimestamp").or_insert_with(|| json!(self.clock.to_string()));
        metadata.entry("generation").or_insert(json!(1));
        if gvk.group.is_empty() && gvk.kind == "Namespace" {
            let name = metadata.get("name").cloned().unwrap_or_default();
            if let Some(labels) = metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut() {
                labels.insert(NAMESPACE_NAME.to_owned(), name);
            }
        }
    }

    fn expose(&self, service: &mut Value) {
        let text = |pointer| service.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let key = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
        let Some(addresses) = self.addresses.get(&key) else { return };
        let ingress: Vec<Value> = addresses
            .iter()
            .map(|address| match address.parse::<IpAddr>() {
                Ok(_) => json!({"ip": address}),
                Err(_) => json!({"hostname": address}),
            })
            .collect();
        if !service["status"].is_object() {
            service["status"] = json!({});
        }
        service["status"]["loadBalancer"] = json!({"ingress": ingress});
    }
}

/// True for the kinds that are known to have no namespace; a kind that is not known has one.
pub(crate) fn is_cluster_scoped(gvk: &Gvk) -> bool {
    CLUSTER_SCOPED.binary_search(&(gvk.group.as_str(), gvk.kind.as_str())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_kinds_without_namespace_is_sorted() {
        assert!(CLUSTER_SCOPED.is_sorted());
    }

    #[test]
    fn an_object_gets_what_an_api_server_would_add() {
        let admission = Admission {
            addresses: [("gw/ingress".to_owned(), vec!["192.0.2.1".to_owned(), "lb.example.com".to_owned()])].into(),
            ..Admission::default()
        };
        let admit = |value| admission.admit(value).unwrap().value();
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "ingress", "namespace": "gw", "creationTimestamp": null}});
        assert_eq!(
            admit(service),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ingress", "namespace": "gw",
                    "creationTimestamp": "2020-01-01T00:00:00Z", "generation": 1},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}}})
        );
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "namespace": "x"}});
        assert_eq!(admit(node)["metadata"].get("namespace"), None);
        let route = json!({"apiVersion": "networking.gloo.solo.io/v2", "kind": "RouteTable",
            "metadata": {"name": "a", "generation": 7, "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let metadata = json!({"name": "a", "namespace": "default", "generation": 7,
            "creationTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(admit(route)["metadata"], metadata);
        let namespace = admission.namespace("shop").unwrap();
        assert_eq!(namespace.labels()[NAMESPACE_NAME], "shop");
    }
}
