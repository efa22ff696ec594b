use meshrelay_snapshot::{Object, ObjectKey};

/// Place of a kind in the order of creation; deletion goes the other way. What others refer to comes first, so that no
/// proxy is ever told to route to a host, or to listen on a gateway, that is not there yet; what forbids comes last on
/// the way in and goes first on the way out.
fn rank(key: &ObjectKey) -> u8 {
    match (key.gvk.group.as_str(), key.gvk.kind.as_str()) {
        ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition") => 0,
        ("", "ServiceAccount" | "Secret" | "ConfigMap") => 1,
        ("networking.istio.io", "Gateway") | ("gateway.networking.k8s.io", "Gateway") => 3,
        ("networking.istio.io", "VirtualService" | "EnvoyFilter" | "Sidecar") => 4,
        ("security.istio.io" | "cilium.io" | "networking.k8s.io", _) => 5,
        // ServiceEntry, WorkloadEntry, DestinationRule, AuthConfig and everything that is only referred to.
        _ => 2,
    }
}

/// Sorts objects for creation.
pub(crate) fn for_creation<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Vec<&'a Object> {
    let mut objects: Vec<_> = objects.into_iter().collect();
    objects.sort_by_cached_key(|object| (rank(object.key()), object.key().clone()));
    objects
}

/// Sorts objects for deletion.
pub(crate) fn for_deletion<T>(objects: &mut [T], key: impl Fn(&T) -> &ObjectKey) {
    objects.sort_by_cached_key(|object| (std::cmp::Reverse(rank(key(object))), key(object).clone()));
}
