//! What translation reads of Kubernetes' own kinds.

use std::collections::BTreeMap;

use meshrelay_snapshot::Name;
use serde::Deserialize;
use serde_json::Value;

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    pub(crate) selector: BTreeMap<Name, Name>,
    pub(crate) ports: Vec<ServicePort>,
    #[serde(rename = "type")]
    pub(crate) kind: Name,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    pub(crate) name: Name,
    pub(crate) port: u32,
    pub(crate) protocol: Name,
    pub(crate) app_protocol: Option<Name>,
    pub(crate) target_port: Option<TargetPort>,
}

/// A port of pods, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
pub(crate) enum TargetPort {
    Number(u32),
    Name(Name),
}

impl ServicePort {
    /// Whether mesh traffic can go there; UDP and SCTP cannot pass a proxy.
    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol.is_empty() || self.protocol == "TCP"
    }
}

/// A ServiceAccount has no `spec`: its name and labels are all that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ServiceAccountSpec {}

/// `spec` of a Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkloadSpec {
    pub(crate) template: PodTemplate,
}

/// The pods of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PodTemplate {
    pub(crate) metadata: PodMetadata,
    pub(crate) spec: PodSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PodMetadata {
    pub(crate) labels: BTreeMap<Name, Name>,
    pub(crate) annotations: BTreeMap<Name, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) service_account_name: Option<Name>,
    pub(crate) containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) ports: Vec<ContainerPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: Option<Name>,
    pub(crate) container_port: u32,
}

impl WorkloadSpec {
    pub(crate) fn pod_labels(&self) -> &BTreeMap<Name, Name> {
        &self.template.metadata.labels
    }

    /// The account that the pods run as; Kubernetes gives `default` where none is named.
    pub(crate) fn service_account(&self) -> &str {
        self.template.spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// The number of a container's port by name.
    pub(crate) fn port(&self, name: &str) -> Option<u32> {
        let containers = self.template.spec.containers.iter();
        let mut ports = containers.flat_map(|container| &container.ports);
        ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port)
    }

    /// Whether the pods were told to stay without a sidecar.
    pub(crate) fn is_kept_out_of_the_mesh(&self) -> bool {
        let PodMetadata { labels, annotations } = &self.template.metadata;
        let key = "sidecar.istio.io/inject";
        let told = labels.get(key).map(Name::as_str).or_else(|| annotations.get(key).map(String::as_str));
        told == Some("false")
    }
}

/// Whether `labels` has everything that `selector` demands.
pub(crate) fn selects<K, V>(selector: &BTreeMap<K, V>, labels: &BTreeMap<Name, Name>) -> bool
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    selector.iter().all(|(key, value)| labels.get(key.as_ref()).is_some_and(|found| found == value.as_ref()))
}

/// `spec` of any object. Null fields count as absent, as Kubernetes treats them.
#[derive(Deserialize)]
pub(crate) struct Spec<T> {
    #[serde(default = "Option::default")]
    pub(crate) spec: Option<T>,
}

/// The value without fields that are null, which `serde(default)` does not cover.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}
