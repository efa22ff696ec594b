use std::collections::BTreeMap;

use crate::admin::EnforcementLayers;
use crate::selectors::{DestinationSelector, ObjectSelector};
use crate::status::Status;

message! {
    /// Who may call what. Whatever several policies allow together is allowed.
    pub struct AccessPolicySpec {
        /// The Services; without these and without workloads all of the workspace. Left aside where workloads are given.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// The workloads; one empty entry means all of the workspace.
        pub apply_to_workloads: Vec<NamespaceWorkloadSelector>,
        /// What holds for them.
        pub config: Option<AccessConfig>,
    }
}

message! {
    /// Workloads by the namespace that they run in and the labels of their pods.
    pub struct NamespaceWorkloadSelector {
        /// Which of them; absent selects all.
        pub selector: Option<WorkloadObjectSelector>,
    }
}

message! {
    /// Workloads; what is left out matches any.
    pub struct WorkloadObjectSelector {
        /// Labels that the pods must have.
        pub labels: BTreeMap<String, String>,
        /// Exact namespace.
        pub namespace: String,
        /// Exact cluster.
        pub cluster: String,
        /// Exact workspace that owns the namespace.
        pub workspace: String,
    }
}

message! {
    /// How callers prove who they are, and what they may do.
    pub struct AccessConfig {
        /// How callers prove who they are; absent leaves it as it is.
        pub authn: Option<Authentication>,
        /// What is allowed; without any condition nothing is. Left aside where `authz_list` is given.
        pub authz: Option<Authorization>,
        /// What is allowed, any of the entries.
        pub authz_list: Vec<Authorization>,
        /// What enforces it; absent means everything available.
        pub enforcement_layers: Option<EnforcementLayers>,
    }
}

message! {
    /// How callers prove who they are.
    pub struct Authentication {
        /// Whether connections must use mutual TLS.
        pub tls_mode: TlsMode,
    }
}

named_values! {
    /// Whether connections to a workload must use mutual TLS.
    pub enum TlsMode {
        /// They must not.
        Disable = "DISABLE",
        /// They may.
        Permissive = "PERMISSIVE",
        /// They must.
        Strict = "STRICT",
    }
}

message! {
    /// What is allowed; all conditions must hold together.
    pub struct Authorization {
        /// Who may call, any of the entries; an empty entry means every caller with an identity.
        pub allowed_clients: Vec<IdentitySelector>,
        /// Paths, exact or with `*` at the beginning or the end; empty means any.
        pub allowed_paths: Vec<String>,
        /// HTTP methods; empty means any.
        pub allowed_methods: Vec<String>,
        /// What else the request must have.
        pub r#match: Option<AccessMatch>,
        /// Addresses, or ranges of them, that the connection may come from.
        pub allowed_ip_blocks: Vec<String>,
        /// Addresses, or ranges of them, that the request may come from, as trusted proxies tell it.
        pub allowed_remote_ip_blocks: Vec<String>,
        /// Whether what would be refused is let through and only logged.
        pub dry_run: bool,
    }
}

message! {
    /// What a request must have.
    pub struct AccessMatch {
        /// What it must have.
        pub request: Option<AccessRequest>,
    }
}

message! {
    /// What a request must have.
    pub struct AccessRequest {
        /// Values by name of the header.
        pub headers: BTreeMap<String, HeaderValues>,
    }
}

message! {
    /// Values of a header, exact or with `*` at the beginning or the end; at least one of the two lists is needed.
    pub struct HeaderValues {
        /// Values of which it must have one.
        pub values: Vec<String>,
        /// Values of which it may have none.
        pub not_values: Vec<String>,
    }
}

message! {
    /// Callers by who they are; everything that is given must hold together.
    pub struct IdentitySelector {
        /// By the service account that they run as.
        pub service_account_selector: Option<ObjectSelector>,
        /// By the ExternalWorkload that they are.
        pub external_workload_selector: Option<ObjectSelector>,
        /// By the token that the request carries.
        pub request_identity_matcher: Option<RequestIdentityMatcher>,
    }
}

message! {
    /// Callers by the token that the request carries.
    pub struct RequestIdentityMatcher {
        /// Issuer and subject, `<issuer>/<subject>`, of which the token must have one.
        pub request_principals: Vec<String>,
        /// Issuer and subject of which the token may have none.
        pub not_request_principals: Vec<String>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct AccessPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of Services that it applies to.
        pub num_selected_destination_ports: u32,
        /// Number of namespaces in which it applies to workloads.
        pub num_selected_namespaces: u32,
        /// Number of service accounts that may call.
        pub num_allowed_service_accounts: u32,
    }
}
