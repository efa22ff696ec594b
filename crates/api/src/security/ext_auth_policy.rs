use std::collections::BTreeMap;

use super::auth_config::AuthConfigSpec;
use crate::references::ObjectReference;
use crate::selectors::{DestinationSelector, RouteSelector};
use crate::status::Status;

message! {
    /// Which requests a server has to approve.
    pub struct ExtAuthPolicySpec {
        /// The routes; empty means none.
        pub apply_to_routes: Vec<RouteSelector>,
        /// The Services; empty means all of the workspace if there are no routes either, else none.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What holds for them.
        pub config: Option<ExtAuthConfig>,
    }
}

message! {
    /// How requests are approved.
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "!has(self.disable)", "message": "disable is no longer supported: select fewer routes"}
    ]))]
    pub struct ExtAuthConfig {
        /// No approval is needed. No longer supported.
        pub disable: Option<bool>,
        /// Steps that the server goes through.
        pub gloo_auth: Option<AuthConfigSpec>,
        /// The server decides by itself.
        pub custom_auth: Option<CustomAuth>,
        /// The ExtAuthServer; absent means that of the workspace, or the Service `ext-auth-service`.
        pub server: Option<ObjectReference>,
    }

    /// Who decides how.
    oneof auth_type: ExtAuthType { disable: Disable(bool), gloo_auth: GlooAuth(AuthConfigSpec), custom_auth: CustomAuth(CustomAuth), }
}

message! {
    /// A server that decides by itself.
    pub struct CustomAuth {
        /// What the server is told beside the request.
        pub context_extensions: BTreeMap<String, String>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct ExtAuthPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of Services that it applies to.
        pub num_selected_destination_ports: u32,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
    }
}
