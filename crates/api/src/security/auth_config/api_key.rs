use std::collections::BTreeMap;

use crate::references::ObjectRef;

message! {
    /// Keys that clients send in a header.
    pub struct ApiKeyAuth {
        /// The old form of `k8sSecretApikeyStorage.labelSelector`.
        pub label_selector: BTreeMap<String, String>,
        /// The old form of `k8sSecretApikeyStorage.apiKeySecretRefs`.
        pub api_key_secret_refs: Vec<ObjectRef>,
        /// The header; empty means `api-key`.
        pub header_name: String,
        /// The old form of `headersFromMetadataEntry`.
        pub headers_from_metadata: BTreeMap<String, KeyMetadata>,
        /// What the application is told about the key, by name of the header.
        pub headers_from_metadata_entry: BTreeMap<String, KeyMetadata>,
        /// Secrets hold the keys.
        pub k8s_secret_apikey_storage: Option<SecretKeyStorage>,
        /// Aerospike holds the keys.
        pub aerospike_apikey_storage: Option<AerospikeKeyStorage>,
    }

    /// What holds the keys.
    oneof storage_backend: KeyStorage {
        k8s_secret_apikey_storage: Secrets(SecretKeyStorage), aerospike_apikey_storage: Aerospike(AerospikeKeyStorage),
    }
}

message! {
    /// Something that is known about a key.
    pub struct KeyMetadata {
        /// Name of the entry.
        pub name: String,
        /// Whether keys without it are refused.
        pub required: bool,
    }
}

message! {
    /// Secrets with keys.
    pub struct SecretKeyStorage {
        /// Labels that they must have.
        pub label_selector: BTreeMap<String, String>,
        /// By name.
        pub api_key_secret_refs: Vec<ObjectRef>,
    }
}

message! {
    /// A database with keys.
    pub struct AerospikeKeyStorage {
        /// Where it is.
        pub hostname: String,
        /// Namespace of the records.
        pub namespace: String,
        /// Set of the records.
        pub set: String,
        /// Port.
        pub port: i32,
        /// How many records are read at once.
        pub batch_size: i32,
        /// Writes wait for all replicas.
        pub commit_all: Option<u32>,
        /// Writes wait for the master.
        pub commit_master: Option<u32>,
        /// How namespaces with strong consistency are read.
        pub read_mode_sc: Option<StrongReadMode>,
        /// How namespaces with high availability are read.
        pub read_mode_ap: Option<AvailableReadMode>,
        /// Name in the server's certificate.
        pub node_tls_name: String,
        /// File with our certificate.
        pub cert_path: String,
        /// File with our key.
        pub key_path: String,
        /// Whether the server's certificate is not checked.
        pub allow_insecure: bool,
        /// File with the certificates that are trusted.
        pub root_ca_path: String,
        /// Version of TLS.
        pub tls_version: String,
        /// Curves, the best first.
        pub tls_curve_groups: Vec<TlsCurve>,
        /// Labels that keys must have.
        pub label_selector: BTreeMap<String, String>,
    }

    /// What writes wait for.
    oneof commit_level: CommitLevel { commit_all: All(u32), commit_master: Master(u32), }
}

message! {
    /// How namespaces with strong consistency are read.
    pub struct StrongReadMode {
        /// In order within a session.
        pub read_mode_sc_session: Option<u32>,
        /// In order over all sessions.
        pub read_mode_sc_linearize: Option<u32>,
        /// From any replica.
        pub read_mode_sc_replica: Option<u32>,
        /// Even from partitions that are cut off.
        pub read_mode_sc_allow_unavailable: Option<u32>,
    }

    /// The way.
    oneof read_mode_sc: StrongRead {
        read_mode_sc_session: Session(u32), read_mode_sc_linearize: Linearize(u32), read_mode_sc_replica: Replica(u32),
        read_mode_sc_allow_unavailable: AllowUnavailable(u32),
    }
}

message! {
    /// How namespaces with high availability are read.
    pub struct AvailableReadMode {
        /// One replica is asked.
        pub read_mode_ap_one: Option<u32>,
        /// All replicas are asked.
        pub read_mode_ap_all: Option<u32>,
    }

    /// The way.
    oneof read_mode_ap: AvailableRead { read_mode_ap_one: One(u32), read_mode_ap_all: All(u32), }
}

message! {
    /// A curve of TLS.
    pub struct TlsCurve {
        /// P-256.
        pub curve_p256: Option<u32>,
        /// P-384.
        pub curve_p384: Option<u32>,
        /// P-521.
        pub curve_p521: Option<u32>,
        /// X25519.
        pub x25519: Option<u32>,
    }

    /// The curve.
    oneof curve_id: CurveId { curve_p256: P256(u32), curve_p384: P384(u32), curve_p521: P521(u32), x25519: X25519(u32), }
}
