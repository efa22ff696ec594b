//! What a developer portal shows of an API.

use std::collections::BTreeMap;

message! {
    /// The API product that a route table serves.
    #[schemars(extend("required" = ["apiProductId", "apiVersion"]))]
    pub struct PortalMetadata {
        /// Identifies the product; tables with the same one are versions of one product.
        #[schemars(extend("x-kubernetes-validations" = [
            {"rule": "!self.contains(' ')", "message": "expected an id without spaces"}
        ]))]
        pub api_product_id: String,
        /// Name of the product for people; that of the oldest table counts.
        pub api_product_display_name: String,
        /// Version of the product.
        pub api_version: String,
        /// Title of this version.
        pub title: String,
        /// Description of this version, in CommonMark.
        pub description: String,
        /// Address of the terms of service.
        pub terms_of_service: String,
        /// Mail address for questions.
        pub contact: String,
        /// Licence of the API.
        pub license: String,
        /// Stage of its life.
        pub lifecycle: String,
        /// Anything else that the portal shall show.
        pub custom_metadata: BTreeMap<String, String>,
    }
}
