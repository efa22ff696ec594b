use std::path::PathBuf;

use meshrelay_snapshot::{ContentHash, ObjectKey};

/// Folder of objects without namespace; no namespace can have this name.
const CLUSTER_SCOPED: &str = "_cluster";

/// Longest file name without its ending: file systems allow 255 bytes.
const LONGEST_NAME: usize = 200;

/// Path of an object's file below the folder of its cluster: `<namespace>/<kind>-<name>.yaml`, and
/// `<namespace>/<kind>.<group>_<name>.yaml` for kinds outside Kubernetes core, apps, Istio and Gloo, of which two
/// groups may have one each.
///
/// The version is left out, as it is not part of an object's identity in Kubernetes. Characters outside
/// `a-z 0-9 . -` are percent-encoded, so that names cannot leave the folder and stay apart on file systems that do not
/// tell upper from lower case; a name over 200 bytes is cut and ends in a hash.
pub fn object_path(key: &ObjectKey) -> PathBuf {
    let namespace = if key.namespace.is_empty() { CLUSTER_SCOPED.to_owned() } else { encode(&key.namespace, false) };
    let kind = encode(&key.gvk.kind.to_lowercase(), false);
    let name = encode(&key.name, true);
    let mut file = if is_familiar(&key.gvk.group) {
        format!("{kind}-{name}")
    } else {
        format!("{kind}.{}_{name}", encode(&key.gvk.group, true))
    };
    if file.len() > LONGEST_NAME {
        let hash = ContentHash::of(file.as_bytes()).to_string();
        // Encoded names are ASCII, so any byte is a boundary.
        file = format!("{}-{}", &file[..LONGEST_NAME - 33], &hash[..32]);
    }
    PathBuf::from(namespace).join(format!("{file}.yaml"))
}

/// Groups among which no kind occurs twice.
fn is_familiar(group: &str) -> bool {
    matches!(group, "" | "apps" | "networking.istio.io" | "security.istio.io") || group.ends_with(".gloo.solo.io")
}

fn encode(text: &str, dots: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => encoded.push(char::from(byte)),
            b'.' if dots => encoded.push('.'),
            _ => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use meshrelay_snapshot::Gvk;
    use proptest::prelude::*;

    use super::*;

    fn path(group: &str, kind: &str, namespace: &str, name: &str) -> String {
        let key = ObjectKey::new(Gvk::new(group, "v1", kind), namespace, name);
        object_path(&key).to_str().unwrap().to_owned()
    }

    #[test]
    fn paths_are_readable_and_distinct() {
        assert_eq!(path("networking.istio.io", "Gateway", "gw", "a.b"), "gw/gateway-a.b.yaml");
        let other = "gw/gateway.gateway.networking.k8s.io_a.b.yaml";
        assert_eq!(path("gateway.networking.k8s.io", "Gateway", "gw", "a.b"), other);
        assert_eq!(path("", "Node", "", "a"), "_cluster/node-a.yaml");
        assert_eq!(
            path("rbac.authorization.k8s.io", "ClusterRole", "", "system:A"),
            "_cluster/clusterrole.rbac.authorization.k8s.io_system%3a%41.yaml"
        );
        let long = "x".repeat(253);
        assert!(path("", "ConfigMap", "n", &long).len() < 255);
        assert_ne!(path("", "ConfigMap", "n", &long), path("", "ConfigMap", "n", &format!("{long}y")));
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_folder(
            [kind, namespace, group] in [".{0,20}", ".{0,20}", ".{0,20}"],
            name in ".{0,300}",
        ) {
            let key = ObjectKey::new(Gvk::new(&group, "v1", &kind), namespace.as_str(), name.as_str());
            let path = object_path(&key);
            let parts: Vec<_> = path.components().collect();
            prop_assert_eq!(parts.len(), 2);
            let plain = |part: &Component<'_>| matches!(part, Component::Normal(name) if name.len() < 255);
            prop_assert!(parts.iter().all(plain));
        }
    }
}
