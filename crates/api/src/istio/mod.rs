//! Istio resources that translation emits. The types of the modules are generated from Istio's own definitions.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::{Metadata, OutputKind};

pub mod authorization_policy;
pub mod destination_rule;
pub mod envoy_filter;
pub mod gateway;
pub mod peer_authentication;
pub mod request_authentication;
pub mod service_entry;
pub mod shared;
pub mod sidecar;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;

pub use authorization_policy::AuthorizationPolicy;
pub use destination_rule::DestinationRule;
pub use envoy_filter::EnvoyFilter;
pub use gateway::Gateway;
pub use peer_authentication::PeerAuthentication;
pub use request_authentication::RequestAuthentication;
pub use service_entry::ServiceEntry;
pub use sidecar::Sidecar;
pub use virtual_service::VirtualService;
pub use workload_entry::WorkloadEntry;
pub use workload_group::WorkloadGroup;

/// An Istio object; serializing it gives the manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IstioObject<S> {
    /// Name, labels and so on.
    pub metadata: Metadata,
    /// What Istio is to do.
    pub spec: S,
}

impl<S: OutputKind> Serialize for IstioObject<S> {
    fn serialize<Out: Serializer>(&self, serializer: Out) -> Result<Out::Ok, Out::Error> {
        let mut object = serializer.serialize_struct("IstioObject", 4)?;
        object.serialize_field("apiVersion", &format_args!("{}/{}", S::GROUP, S::VERSION))?;
        object.serialize_field("kind", S::KIND)?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("spec", &self.spec)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::shared::Destination;
    use super::virtual_service::{HttpRoute, HttpRouteDestination};
    use super::*;

    #[test]
    fn an_object_is_written_as_a_manifest() {
        let destination = Destination { host: "web.shop.svc.cluster.local".to_owned(), ..Destination::default() };
        let route = HttpRouteDestination { destination, ..HttpRouteDestination::default() };
        let http = vec![HttpRoute { route: vec![route], ..HttpRoute::default() }];
        let object = IstioObject {
            metadata: Metadata { name: "web".to_owned(), namespace: "shop".to_owned(), ..Metadata::default() },
            spec: VirtualService { hosts: vec!["web".to_owned()], http, ..VirtualService::default() },
        };
        assert_eq!(
            serde_json::to_value(&object).unwrap(),
            json!({
                "apiVersion": "networking.istio.io/v1beta1",
                "kind": "VirtualService",
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "hosts": ["web"],
                    "http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}]
                }
            })
        );
    }

    #[test]
    fn the_only_kind_without_v1beta1_is_written_as_v1alpha3() {
        assert_eq!(EnvoyFilter::VERSION, "v1alpha3");
        assert_eq!((AuthorizationPolicy::GROUP, AuthorizationPolicy::VERSION), ("security.istio.io", "v1beta1"));
    }
}
