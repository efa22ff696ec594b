use serde::Serialize;

/// The `spec` of a kind that translation emits and others define.
pub trait OutputKind: Serialize {
    /// API group.
    const GROUP: &'static str;
    /// API version in which we write the kind.
    const VERSION: &'static str;
    /// Name of the kind.
    const KIND: &'static str;
    /// Name of the resource in paths of the Kubernetes API.
    const PLURAL: &'static str;
}
