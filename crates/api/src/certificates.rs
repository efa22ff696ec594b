//! Certificate authorities and the certificates that they issue.

use crate::EncodedBytes;
use crate::references::ObjectRef;

message! {
    /// Properties of a certificate.
    pub struct CommonCertOptions {
        /// Days until it expires; 0 means 365.
        pub ttl_days: u32,
        /// Size of its RSA key in bits, in spite of the name; 0 means 4096.
        pub rsa_key_size_bytes: u32,
        /// Its organization; empty means `gloo-mesh`.
        pub org_name: String,
        /// The share of its life, between 0 and 1, that is left when a new one is made.
        pub secret_rotation_grace_period_ratio: f64,
    }
}

message! {
    /// An authority that the agent asks by itself, so that keys never leave its cluster.
    pub struct AgentCertificateAuthority {
        /// HashiCorp Vault.
        pub vault: Option<VaultCa>,
    }

    /// The authority.
    oneof ca_source: AgentCaSource { vault: Vault(VaultCa), }
}

message! {
    /// An intermediate authority in Vault's PKI engine.
    pub struct VaultCa {
        /// Path of the authority's certificate.
        pub ca_path: String,
        /// Path that signs requests.
        pub csr_path: String,
        /// Address of Vault.
        pub server: String,
        /// PEM bundle to check Vault's certificate with.
        pub ca_bundle: Option<EncodedBytes>,
        /// Secret with such a bundle.
        pub ca_secret_ref: Option<ObjectRef>,
        /// File with such a bundle.
        pub ca_local_path: Option<String>,
        /// Namespace within Vault.
        pub namespace: String,
        /// Secret with a token to log in with.
        pub token_secret_ref: Option<ObjectRef>,
        /// A Kubernetes service account to log in with.
        pub kubernetes_auth: Option<VaultKubernetesAuth>,
    }

    /// What Vault's own certificate is checked with.
    oneof ca_source: VaultCaSource {
        ca_bundle: CaBundle(EncodedBytes), ca_secret_ref: CaSecretRef(ObjectRef), ca_local_path: CaLocalPath(String),
    }

    /// How the agent logs in.
    oneof auth_type: VaultAuthType {
        token_secret_ref: TokenSecretRef(ObjectRef), kubernetes_auth: KubernetesAuth(VaultKubernetesAuth),
    }
}

message! {
    /// Logging in to Vault with a Kubernetes service account.
    pub struct VaultKubernetesAuth {
        /// Where the method is mounted; empty means `/v1/auth/kubernetes`.
        pub mount_path: String,
        /// Role to ask for; needed.
        pub role: String,
        /// Key of the token within its Secret; empty means `token`.
        pub secret_token_key: String,
        /// The service account.
        pub service_account_ref: Option<ObjectRef>,
        /// File with the token of the service account.
        pub mounted_sa_path: Option<String>,
    }

    /// Where the token comes from.
    oneof service_account_location: ServiceAccountLocation {
        service_account_ref: ServiceAccountRef(ObjectRef), mounted_sa_path: MountedSaPath(String),
    }
}
