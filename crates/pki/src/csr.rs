//! Certificate signing requests: made by the agent, checked by the server.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _, SanType, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{self, Oid};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use crate::cluster_name::ClusterName;
use crate::error::PkiError;

/// Largest request that is looked at. One with an RSA key of 4096 bits has about 1.7 KiB.
pub const MAX_CSR_BYTES: usize = 16 * 1024;
/// Weakest RSA key: the least that TLS libraries still accept.
const MIN_RSA_BITS: usize = 2048;
/// Longest RSA key, so that nobody makes the server verify huge ones.
const MAX_RSA_BITS: usize = 4096;

/// Signature algorithms that count as proof of possession.
const SIGNATURES: [Oid<'static>; 7] = [
    oid_registry::OID_SIG_ECDSA_WITH_SHA256,
    oid_registry::OID_SIG_ECDSA_WITH_SHA384,
    oid_registry::OID_SIG_ED25519,
    oid_registry::OID_PKCS1_SHA256WITHRSA,
    oid_registry::OID_PKCS1_SHA384WITHRSA,
    oid_registry::OID_PKCS1_SHA512WITHRSA,
    oid_registry::OID_PKCS1_RSASSAPSS,
];

/// A request with its new private key, on the agent's side.
pub struct KeyedRequest {
    /// The request, DER.
    pub der: Vec<u8>,
    /// The key, PKCS#8 PEM; it never leaves the agent.
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for KeyedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedRequest").field("der", &self.der.len()).finish_non_exhaustive()
    }
}

/// A request that passed every check of [`check_csr`].
#[derive(Clone, Debug)]
pub struct CheckedCsr {
    cluster: ClusterName,
    public_key: SubjectPublicKeyInfo,
}

impl CheckedCsr {
    /// The cluster it asks for, and the only name it carries.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// A hash of the public key: the same for two requests made with one key.
    pub fn key_fingerprint(&self) -> [u8; 32] {
        *blake3::hash(&self.public_key.subject_public_key_info()).as_bytes()
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

/// Why a signing request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Larger than [`MAX_CSR_BYTES`].
    #[error("the signing request has {found} bytes; at most {MAX_CSR_BYTES} are accepted (MR0321)")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not a DER certification request, or bytes follow it.
    #[error("the signing request cannot be read: {reason} (MR0322)")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// A key type or strength outside the list.
    #[error(
        "the signing request has a key of type {found}; expected ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 \
             bits (MR0323)"
    )]
    Key {
        /// What it has.
        found: String,
    },
    /// The sender does not hold the private key, or the request was changed on its way.
    #[error("the signature of the signing request does not fit its public key (MR0324)")]
    Signature,
    /// A signature algorithm outside the list, such as one with SHA-1.
    #[error(
        "the signing request is signed with {found}; expected ECDSA, Ed25519 or RSA with SHA-256 or better (MR0338)"
    )]
    SignatureAlgorithm {
        /// Its object identifier.
        found: String,
    },
    /// Names other than exactly the cluster's.
    #[error("the signing request asks for {found}; expected exactly the DNS name `{expected}` (MR0325)")]
    Names {
        /// The cluster's name.
        expected: ClusterName,
        /// What it asks for, shortened.
        found: String,
    },
}

impl CsrError {
    /// The code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "MR0321",
            Self::Malformed { .. } => "MR0322",
            Self::Key { .. } => "MR0323",
            Self::Signature => "MR0324",
            Self::SignatureAlgorithm { .. } => "MR0338",
            Self::Names { .. } => "MR0325",
        }
    }
}

/// Makes a new ECDSA P-256 key and a request for a cluster's certificate.
///
/// # Errors
/// [`PkiError::Issue`] when the crypto library has no randomness.
pub fn generate(cluster: &ClusterName) -> Result<KeyedRequest, PkiError> {
    let key = KeyPair::generate().map_err(PkiError::issue("client key"))?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    Ok(KeyedRequest { der: request(cluster, &key)?, key_pem })
}

/// Makes a request for a cluster's certificate with a key that exists (PEM).
///
/// # Errors
/// [`PkiError::Pem`] or [`PkiError::Key`] when the key cannot be used.
pub fn generate_for_key(cluster: &ClusterName, key_pem: &str, origin: &str) -> Result<Vec<u8>, PkiError> {
    let key = crate::certificate::parse_key(key_pem.as_bytes(), origin)?;
    let key = KeyPair::try_from(&key)
        .map_err(|error| PkiError::Key { origin: origin.to_owned(), reason: error.to_string() })?;
    request(cluster, &key)
}

fn request(cluster: &ClusterName, key: &KeyPair) -> Result<Vec<u8>, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cluster.as_str());
    let san = cluster.as_str().try_into().map_err(PkiError::issue("signing request"))?;
    params.subject_alt_names = vec![SanType::DnsName(san)];
    let request = params.serialize_request(key).map_err(PkiError::issue("signing request"))?;
    Ok(request.der().to_vec())
}

/// Checks a signing request (DER) from an agent that says it is `cluster`.
///
/// Size, form, key type and strength, possession of the key, and the names: exactly one, the cluster's. Whatever else a
/// request asks for (subject, usages, constraints) is ignored, for the certificate is made from the result alone.
///
/// # Errors
/// [`CsrError`] with the first check that failed; never a panic, whatever the bytes.
pub fn check_csr(bytes: &[u8], cluster: &ClusterName) -> Result<CheckedCsr, CsrError> {
    if bytes.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge { found: bytes.len() });
    }
    let malformed = |reason: &str| CsrError::Malformed { reason: reason.to_owned() };
    let (rest, csr) = X509CertificationRequest::from_der(bytes)
        .map_err(|_| malformed("expected a PKCS#10 certification request in DER"))?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow it"));
    }
    let info = &csr.certification_request_info;
    let public_key = check_key(&info.subject_pki)?;
    // The verifier below would still take SHA-1, which proves little.
    let algorithm = &csr.signature_algorithm.algorithm;
    if !SIGNATURES.contains(algorithm) {
        return Err(CsrError::SignatureAlgorithm { found: algorithm.to_id_string() });
    }
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    check_names(info.iter_attributes().map(|attribute| attribute.parsed_attribute()), cluster)?;
    Ok(CheckedCsr { cluster: cluster.clone(), public_key })
}

fn check_key(spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<SubjectPublicKeyInfo, CsrError> {
    let refuse = |found: String| CsrError::Key { found };
    let unsupported = || refuse(spki.algorithm.algorithm.to_id_string());
    match spki.parsed().map_err(|_| unsupported())? {
        PublicKey::RSA(key) => {
            let bits = key.key_size();
            if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                return Err(refuse(format!("RSA with {bits} bits")));
            }
        }
        PublicKey::EC(point) => {
            let bits = point.key_size();
            if !matches!(bits, 256 | 384) {
                return Err(refuse(format!("elliptic curve with {bits} bits")));
            }
        }
        PublicKey::Unknown(_) if spki.algorithm.algorithm == oid_registry::OID_SIG_ED25519 => {}
        _ => return Err(unsupported()),
    }
    // Matches the whole algorithm identifier, curve included, against what can be written into a certificate.
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| unsupported())
}

fn check_names<'a>(
    attributes: impl Iterator<Item = &'a ParsedCriAttribute<'a>>,
    cluster: &ClusterName,
) -> Result<(), CsrError> {
    let refuse = |found: String| Err(CsrError::Names { expected: cluster.clone(), found });
    let mut names = Vec::new();
    for attribute in attributes {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute else { continue };
        for extension in &request.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => names.extend(&san.general_names),
                // A SAN that only another parser can read must not pass as "no name".
                _ if extension.oid == oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME => {
                    return refuse("names that cannot be read".to_owned());
                }
                _ => {}
            }
        }
    }
    match names.as_slice() {
        [GeneralName::DNSName(name)] if *name == cluster.as_str() => Ok(()),
        [] => refuse("no name".to_owned()),
        [GeneralName::DNSName(name)] => {
            refuse(format!("`{}`", name.chars().take(80).flat_map(char::escape_default).collect::<String>()))
        }
        [_] => refuse("a name that is no DNS name".to_owned()),
        many => refuse(format!("{} names", many.len())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cluster() -> ClusterName {
        ClusterName::new("cluster1").unwrap()
    }

    fn with_names(names: Vec<SanType>, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn a_request_made_here_passes_and_keeps_its_key() {
        let made = generate(&cluster()).unwrap();
        let checked = check_csr(&made.der, &cluster()).unwrap();
        let again = generate_for_key(&cluster(), &made.key_pem, "test").unwrap();
        assert_eq!(check_csr(&again, &cluster()).unwrap().key_fingerprint(), checked.key_fingerprint());
        let other = generate(&cluster()).unwrap();
        assert_ne!(check_csr(&other.der, &cluster()).unwrap().key_fingerprint(), checked.key_fingerprint());
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn names_other_than_the_clusters_are_refused() {
        let key = KeyPair::generate().unwrap();
        let ip = SanType::IpAddress([127, 0, 0, 1].into());
        let cases = [
            vec![],
            vec![dns("cluster2")],
            vec![dns("CLUSTER1")],
            vec![dns("*")],
            vec![dns("cluster1"), dns("cluster2")],
            vec![dns("cluster1"), dns("cluster1")],
            vec![dns("cluster1"), ip.clone()],
            vec![ip],
            vec![SanType::URI("spiffe://a/cluster1".try_into().unwrap())],
        ];
        for names in cases {
            let error = check_csr(&with_names(names.clone(), &key), &cluster()).unwrap_err();
            assert!(matches!(error, CsrError::Names { .. }), "{names:?}: {error}");
            assert!(error.to_string().contains(error.code()));
        }
        assert!(check_csr(&with_names(vec![dns("cluster1")], &key), &cluster()).is_ok());
    }

    #[test]
    fn a_request_that_wants_to_be_an_authority_gets_a_plain_certificate() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![dns("cluster1")];
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        let checked = check_csr(&der, &cluster()).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = crate::Authority::create(now, crate::authority::DEFAULT_ROOT_VALIDITY).unwrap();
        let issued = authority.sign_client(&checked, now, crate::authority::DEFAULT_LEAF_VALIDITY).unwrap();
        let chain = crate::certificate::parse_certificates(issued.chain_pem.as_bytes(), "test").unwrap();
        let parsed = crate::certificate::parse_x509(&chain[0], "test").unwrap();
        assert!(!parsed.is_ca());
        assert!(!parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
    }

    #[test]
    fn keys_of_other_types_are_refused() {
        for (algorithm, good) in [
            (&rcgen::PKCS_ECDSA_P384_SHA384, true),
            (&rcgen::PKCS_ED25519, true),
            (&rcgen::PKCS_ECDSA_P521_SHA512, false),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let result = check_csr(&with_names(vec![dns("cluster1")], &key), &cluster());
            assert_eq!(result.is_ok(), good, "{algorithm:?}: {result:?}");
        }
    }

    #[test]
    fn size_and_trailing_bytes_are_checked() {
        let mut der = generate(&cluster()).unwrap().der;
        der.push(0);
        assert_eq!(check_csr(&der, &cluster()).unwrap_err().code(), "MR0322");
        assert_eq!(check_csr(&vec![0x30; MAX_CSR_BYTES + 1], &cluster()).unwrap_err().code(), "MR0321");
        assert_eq!(check_csr(&[], &cluster()).unwrap_err().code(), "MR0322");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            prop_assert!(check_csr(&bytes, &cluster()).is_err());
        }

        #[test]
        fn a_changed_request_never_passes_with_another_key(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
            let der = generate(&cluster()).unwrap().der;
            let mut changed = der.clone();
            let at = at.index(der.len());
            changed[at] ^= 1 << bit;
            if cut {
                changed.truncate(at);
            }
            // Only bits that no signature covers (such as unused bits of a bit string) may change.
            if let Ok(checked) = check_csr(&changed, &cluster()) {
                let original = check_csr(&der, &cluster()).unwrap();
                prop_assert_eq!(checked.key_fingerprint(), original.key_fingerprint());
                prop_assert!(!cut);
            }
        }
    }
}
