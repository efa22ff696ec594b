use meshrelay_api::Mesh;
use meshrelay_api::internal::{AgentInfo, IpFamily, MeshInstallation, MeshSpec};
use meshrelay_api::references::ObjectRef;
use meshrelay_snapshot::{Gvk, Name, Snapshot};

use super::kube::{ConfigMap, MeshConfig, Workload};
use super::{Settings, metadata, of_kind};

/// Kinds that tell about meshes.
pub(super) const SOURCES: &[(&str, &str, &str)] = &[("apps", "v1", "Deployment")];

/// Label of a revision of istiod, on its Deployment and pods.
const REVISION_LABEL: &str = "istio.io/rev";

/// Secret with the root certificate of the relay.
const ROOT_SECRET: &str = "relay-root-tls-secret";

/// Finds one mesh per istiod Deployment (label `app: istiod`).
pub(super) fn discover(cluster: &Name, raw: &Snapshot, settings: &Settings) -> Vec<Mesh> {
    let configs = of_kind::<ConfigMap>(raw, &Gvk::new("", "v1", "ConfigMap"));
    let ambient = raw.iter().any(|object| object.key().gvk.kind == "DaemonSet" && object.key().name == "ztunnel");
    let mut meshes = Vec::new();
    for (object, istiod) in of_kind::<Workload>(raw, &Gvk::new("apps", "v1", "Deployment")) {
        let template = istiod.spec.template;
        let labels = &template.metadata.labels;
        if labels.get("app").is_none_or(|app| app != "istiod") {
            continue;
        }
        let namespace = object.key().namespace.to_string();
        let revision = labels.get(REVISION_LABEL).cloned().unwrap_or_default();
        let config_name = match revision.as_str() {
            "" | "default" => "istio".to_owned(),
            revision => format!("istio-{revision}"),
        };
        let config = configs
            .iter()
            .find(|(config, _)| {
                config.key().namespace == namespace.as_str() && config.key().name == config_name.as_str()
            })
            .and_then(|(_, config)| serde_saphyr::from_str::<MeshConfig>(config.data.get("mesh")?).ok())
            .unwrap_or_default();
        let image = template.spec.containers.first().map(|container| container.image.as_str()).unwrap_or_default();
        let (hub, tag) = hub_and_tag(image);
        let root_namespace = or_else(config.root_namespace, &namespace);
        meshes.push(Mesh {
            metadata: metadata(format!("{}-{namespace}-{cluster}", object.key().name), settings),
            spec: MeshSpec {
                installation: Some(MeshInstallation {
                    namespace,
                    cluster: cluster.to_string(),
                    pod_labels: labels.clone(),
                    version: tag.clone(),
                    revision,
                }),
                trust_domain: or_else(config.trust_domain, &settings.trust_domain),
                istiod_service_account: template.spec.service_account().to_owned(),
                smart_dns_proxying_enabled: config
                    .default_config
                    .proxy_metadata
                    .get("ISTIO_META_DNS_CAPTURE")
                    .is_some_and(|capture| capture == "true"),
                root_namespace,
                agent_info: Some(agent_info(settings)),
                hub,
                tag,
                ip_family: IpFamily::Ipv4,
                ambient_capable: ambient,
                ..MeshSpec::default()
            },
            status: None,
        });
    }
    if meshes.is_empty()
        && let Some(version) = &settings.assumed_istio_version
    {
        meshes.push(assumed(cluster, version, settings));
    }
    meshes
}

/// The mesh of a folder that leaves istiod out and says in `fleet.yaml` which version to assume.
fn assumed(cluster: &Name, version: &str, settings: &Settings) -> Mesh {
    Mesh {
        metadata: metadata(format!("istiod-istio-system-{cluster}"), settings),
        spec: MeshSpec {
            installation: Some(MeshInstallation {
                namespace: "istio-system".to_owned(),
                cluster: cluster.to_string(),
                version: version.to_owned(),
                ..MeshInstallation::default()
            }),
            trust_domain: settings.trust_domain.clone(),
            istiod_service_account: "istiod".to_owned(),
            root_namespace: "istio-system".to_owned(),
            agent_info: Some(agent_info(settings)),
            tag: version.to_owned(),
            ..MeshSpec::default()
        },
        status: None,
    }
}

fn agent_info(settings: &Settings) -> AgentInfo {
    AgentInfo {
        namespace: settings.namespace.clone(),
        version: meshrelay_process::VERSION.to_owned(),
        relay_root_tls_secret: Some(ObjectRef { name: ROOT_SECRET.to_owned(), namespace: settings.namespace.clone() }),
    }
}

/// Registry and tag of an image such as `docker.io/istio/pilot:1.30.3`; a digest is not a tag.
fn hub_and_tag(image: &str) -> (String, String) {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    let (hub, name) = image.rsplit_once('/').unwrap_or(("", image));
    (hub.to_owned(), name.split_once(':').map(|(_, tag)| tag).unwrap_or_default().to_owned())
}

fn or_else(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}
