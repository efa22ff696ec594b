use crate::certificates::{AgentCertificateAuthority, CommonCertOptions};
use crate::references::ObjectRef;

message! {
    /// An order to an agent to obtain a certificate.
    pub struct IssuedCertificateSpec {
        /// Names in the certificate, such as SPIFFE identities.
        pub hosts: Vec<String>,
        /// Secret to write certificate and key to; absent keeps them in memory.
        pub issued_certificate_secret: Option<ObjectRef>,
        /// Properties of the certificate.
        pub cert_options: Option<CommonCertOptions>,
        /// The server signs.
        pub mgmt_server_ca: Option<SigningCertificateAuthority>,
        /// The agent asks an authority by itself.
        pub agent_ca: Option<AgentCertificateAuthority>,
        /// The Mesh that the certificate is for.
        pub mesh_ref: Option<ObjectRef>,
        /// Whether istiod and then the workloads are restarted afterwards.
        pub auto_restart_pods: bool,
        /// Roots that are to be trusted as well.
        pub passive_certificate_authorities: Vec<SigningCertificateAuthority>,
    }

    /// Who signs.
    oneof certificate_authority: CertificateAuthority {
        mgmt_server_ca: MgmtServerCa(SigningCertificateAuthority), agent_ca: AgentCa(AgentCertificateAuthority),
    }
}

message! {
    /// A certificate and key with which the server signs.
    pub struct SigningCertificateAuthority {
        /// Secret with both.
        pub signing_certificate_secret: Option<ObjectRef>,
    }

    /// Where they are.
    oneof certificate_authority: SigningCertificateSource { signing_certificate_secret: Secret(ObjectRef), }
}

message! {
    /// How far the order has come.
    pub struct IssuedCertificateStatus {
        /// The `metadata.generation` that was processed.
        pub observed_generation: i64,
        /// What went wrong, if something did.
        pub error: String,
        /// The step that was reached.
        pub state: IssuedCertificateState,
    }
}

named_values! {
    /// Steps of obtaining a certificate.
    pub enum IssuedCertificateState {
        /// Not begun.
        Pending = "PENDING",
        /// The agent has made a key and asked for a signature.
        Requested = "REQUESTED",
        /// Signed, but not in its Secret yet.
        Issued = "ISSUED",
        /// In its Secret.
        Finished = "FINISHED",
        /// Given up.
        Failed = "FAILED",
    }
}
