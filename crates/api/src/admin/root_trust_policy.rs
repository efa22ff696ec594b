use crate::certificates::{AgentCertificateAuthority, CommonCertOptions};
use crate::references::ObjectRef;
use crate::selectors::MeshSelector;
use crate::status::Approval;

message! {
    /// One root of trust for several meshes.
    pub struct RootTrustPolicySpec {
        /// The meshes; empty means all.
        pub apply_to_meshes: Vec<MeshSelector>,
        /// The root and what is signed with it.
        pub config: Option<RootTrustPolicyConfig>,
    }
}

message! {
    /// A root of trust. Without an authority, a self-signed root is made.
    pub struct RootTrustPolicyConfig {
        /// The server signs intermediate certificates.
        pub mgmt_server_ca: Option<RootCertificateAuthority>,
        /// Each agent gets its intermediate certificate by itself.
        pub agent_ca: Option<AgentCertificateAuthority>,
        /// Properties of the intermediate certificates.
        pub intermediate_cert_options: Option<CommonCertOptions>,
        /// Whether istiod and then the workloads are restarted after a certificate was issued.
        pub auto_restart_pods: bool,
        /// Roots that are trusted but sign nothing, to change roots without a gap.
        pub passive_certificate_authorities: Vec<RootCertificateAuthority>,
    }

    /// Who signs intermediate certificates.
    oneof certificate_authority_type: CertificateAuthorityType {
        mgmt_server_ca: MgmtServerCa(RootCertificateAuthority), agent_ca: AgentCa(AgentCertificateAuthority),
    }
}

message! {
    /// A root certificate and its key.
    pub struct RootCertificateAuthority {
        /// Self-signed, with these properties.
        pub generated: Option<CommonCertOptions>,
        /// Secret in the namespace of the policy.
        pub secret_ref: Option<ObjectRef>,
    }

    /// Where the root comes from.
    oneof ca_source: RootCaSource { generated: Generated(CommonCertOptions), secret_ref: SecretRef(ObjectRef), }
}

message! {
    /// What the server tells about the policy.
    pub struct RootTrustPolicyStatus {
        /// The `metadata.generation` that was processed.
        pub observed_generation: i64,
        /// The outcome.
        pub state: Approval,
    }
}
