//! Where something runs.

message! {
    /// A place, as Kubernetes nodes tell it by their labels.
    pub struct Locality {
        /// Region, from `topology.kubernetes.io/region`.
        pub region: String,
        /// Zone, from `topology.kubernetes.io/zone`.
        pub zone: String,
        /// Part of a zone, from `topology.istio.io/subzone`.
        pub sub_zone: String,
    }
}
