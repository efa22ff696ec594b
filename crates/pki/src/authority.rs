//! The relay's certificate authority: makes itself, or is loaded from PEM, and signs server and client certificates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::{SignedDuration, Timestamp};
use rand::TryRng as _;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, DnsName};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use crate::certificate;
use crate::csr::CheckedCsr;
use crate::error::PkiError;
use crate::renewal::Validity;

/// Ten years. Nothing renews the root by itself, because every agent has to learn a new one first, and a root of one year
/// would end every connection of the fleet on the installation's first anniversary without a warning.
pub const DEFAULT_ROOT_VALIDITY: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// One year, for server and client certificates; both are renewed by themselves.
pub const DEFAULT_LEAF_VALIDITY: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Certificates begin this long before they are made, so that a peer whose clock is behind accepts them at once.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// Common name of a root made here.
pub const ROOT_NAME: &str = "relay-root-ca";
/// Common name of the server's certificate, and the first label of its DNS names.
pub const SERVER_NAME: &str = "gloo-mesh-mgmt-server";

/// A certificate that was signed, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate, followed by the intermediate authorities that lead to the root.
    pub chain_pem: String,
    /// The authorities that the holder should trust.
    pub ca_pem: String,
    /// In which time it is valid.
    pub validity: Validity,
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate: IssuedCertificate,
    /// Its key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The names under which agents reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    /// Namespace of the management plane: gives `gloo-mesh-mgmt-server.<namespace>` and the same with `.svc`.
    pub namespace: String,
    /// Further DNS names or IP addresses (`relay.additionalSans`).
    pub additional: Vec<String>,
    /// Also `localhost`, `127.0.0.1` and `::1`, for a server and agents on one machine.
    pub local: bool,
}

impl ServerNames {
    /// All names as text, without repetition, in a stable order.
    pub fn all(&self) -> Vec<String> {
        let mut names = vec![
            format!("{SERVER_NAME}.{}", self.namespace),
            format!("{SERVER_NAME}.{}.svc", self.namespace),
            SERVER_NAME.to_owned(),
        ];
        if self.local {
            names.push("localhost".to_owned());
            names.extend(
                [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].map(|ip| ip.to_string()),
            );
        }
        for name in &self.additional {
            let name = name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |ip| ip.to_string());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn sans(&self) -> Result<Vec<SanType>, PkiError> {
        self.all()
            .into_iter()
            .map(|name| {
                if let Ok(ip) = name.parse::<IpAddr>() {
                    return Ok(SanType::IpAddress(ip));
                }
                let refuse =
                    |name: &str| PkiError::Name { name: name.chars().flat_map(char::escape_default).collect() };
                DnsName::try_from(name.strip_prefix("*.").unwrap_or(&name)).map_err(|_| refuse(&name))?;
                Ok(SanType::DnsName(name.as_str().try_into().map_err(|_| refuse(&name))?))
            })
            .collect()
    }
}

/// A certificate authority with its key, ready to sign.
#[derive(Debug)]
pub struct Authority {
    /// The signing certificate, then the intermediates above it, as given.
    chain: Vec<CertificateDer<'static>>,
    bundle_pem: String,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a self-signed root (ECDSA P-256) named [`ROOT_NAME`].
    ///
    /// # Errors
    /// [`PkiError::Issue`] when the crypto library has no randomness, or the validity leads beyond the calendar.
    pub fn create(now: Timestamp, validity: SignedDuration) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::issue("root key"))?;
        let (mut params, _) = params("root certificate", ROOT_NAME, now, validity, None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(PkiError::issue("root certificate"))?;
        let pem = certificate.pem();
        Self::load(pem.as_bytes(), key.serialize_pem().as_bytes(), pem.as_bytes(), "the new root")
    }

    /// Loads a root or intermediate authority: `tls.crt` (the signing certificate first), `tls.key` and `ca.crt` (what
    /// holders of issued certificates should trust; several for a change of roots).
    ///
    /// # Errors
    /// Malformed PEM, a key of another certificate ([`PkiError::KeyMismatch`]), or a certificate that may not sign others
    /// ([`PkiError::NotAnAuthority`]). `origin` names the place in the message.
    pub fn load(certificate: &[u8], key: &[u8], ca: &[u8], origin: &str) -> Result<Self, PkiError> {
        let chain = certificate::parse_certificates(certificate, origin)?;
        let bundle = certificate::parse_certificates(ca, origin)?;
        let key = load_key_pair(key, origin)?;
        let signing = chain.first().ok_or_else(|| not_authority(origin, "there is none".to_owned()))?;
        let parsed = certificate::parse_x509(signing, origin)?;
        let unreadable = |error: x509_parser::error::X509Error| not_authority(origin, error.to_string());
        if !parsed.basic_constraints().map_err(unreadable)?.is_some_and(|basic| basic.value.ca) {
            return Err(not_authority(origin, "its basic constraints do not say CA".to_owned()));
        }
        if parsed.key_usage().map_err(unreadable)?.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(not_authority(origin, "its key usage lacks certificate signing".to_owned()));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::KeyMismatch { origin: origin.to_owned() });
        }
        let validity = Validity::of_parsed(&parsed);
        let issuer = Issuer::from_ca_cert_der(signing, key).map_err(PkiError::issue("issuer"))?;
        Ok(Self { bundle_pem: certificate::to_pem(&bundle), chain, validity, issuer })
    }

    /// The signing certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        certificate::to_pem(self.chain.first())
    }

    /// The key, PKCS#8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// The authorities that holders of certificates signed here should trust, PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// In which time the signing certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Signs a server certificate for a new key.
    ///
    /// # Errors
    /// [`PkiError::Name`] for an impossible name; [`PkiError::NotAnAuthority`] when the authority itself has expired.
    pub fn sign_server(
        &self,
        names: &ServerNames,
        now: Timestamp,
        validity: SignedDuration,
    ) -> Result<KeyedCertificate, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::issue("server key"))?;
        let (mut params, validity) = self.leaf_params("server certificate", SERVER_NAME, now, validity)?;
        params.subject_alt_names = names.sans()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::issue("server certificate"))?;
        Ok(KeyedCertificate {
            certificate: self.issued(&certificate, validity),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Signs a client certificate for a checked request. Only its public key is taken from it: names, usages and validity
    /// are ours.
    ///
    /// # Errors
    /// [`PkiError::NotAnAuthority`] when the authority itself has expired.
    pub fn sign_client(
        &self,
        request: &CheckedCsr,
        now: Timestamp,
        validity: SignedDuration,
    ) -> Result<IssuedCertificate, PkiError> {
        let cluster = request.cluster().as_str();
        let (mut params, validity) = self.leaf_params("client certificate", cluster, now, validity)?;
        let san = cluster.try_into().map_err(PkiError::issue("client certificate"))?;
        params.subject_alt_names = vec![SanType::DnsName(san)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate =
            params.signed_by(request.public_key(), &self.issuer).map_err(PkiError::issue("client certificate"))?;
        Ok(self.issued(&certificate, validity))
    }

    /// Whether this authority's key signed a certificate.
    pub fn has_signed(&self, certificate: &CertificateDer<'_>) -> bool {
        let Some(own) = self.chain.first() else { return false };
        let (Ok(own), Ok(other)) =
            (certificate::parse_x509(own, "authority"), certificate::parse_x509(certificate, "certificate"))
        else {
            return false;
        };
        other.issuer().as_raw() == own.subject().as_raw() && other.verify_signature(Some(own.public_key())).is_ok()
    }

    fn leaf_params(
        &self,
        what: &'static str,
        name: &str,
        now: Timestamp,
        validity: SignedDuration,
    ) -> Result<(CertificateParams, Validity), PkiError> {
        if now > self.validity.not_after {
            return Err(not_authority("the signing secret", format!("it expired at {}", self.validity.not_after)));
        }
        let (mut params, validity) = params(what, name, now, validity, Some(self.validity.not_after))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok((params, validity))
    }

    fn issued(&self, certificate: &Certificate, validity: Validity) -> IssuedCertificate {
        // A self-signed root at the end of the chain is left out: a peer must have it already.
        let above = self.chain.iter().filter(|der| {
            certificate::parse_x509(der, "authority").is_ok_and(|c| c.subject().as_raw() != c.issuer().as_raw())
        });
        IssuedCertificate {
            chain_pem: certificate::to_pem(std::iter::once(certificate.der()).chain(above)),
            ca_pem: self.bundle_pem.clone(),
            validity,
        }
    }
}

/// Parses a private key of a type that can sign certificates.
fn load_key_pair(pem: &[u8], origin: &str) -> Result<KeyPair, PkiError> {
    let key = certificate::parse_key(pem, origin)?;
    KeyPair::try_from(&key).map_err(|error| PkiError::Key { origin: origin.to_owned(), reason: error.to_string() })
}

fn not_authority(origin: &str, reason: String) -> PkiError {
    PkiError::NotAnAuthority { origin: origin.to_owned(), reason }
}

/// What every certificate has: name, random serial number, validity (no longer than its issuer's).
fn params(
    what: &'static str,
    name: &str,
    now: Timestamp,
    life: SignedDuration,
    limit: Option<Timestamp>,
) -> Result<(CertificateParams, Validity), PkiError> {
    let failed = |reason: String| PkiError::Issue { what, reason };
    if life <= BACKDATE {
        return Err(failed(format!("a validity of {life} is too short; expected more than {BACKDATE}")));
    }
    let not_before = now.checked_sub(BACKDATE).map_err(|error| failed(error.to_string()))?;
    let not_after = not_before.checked_add(life).map_err(|error| failed(error.to_string()))?;
    let not_after = limit.map_or(not_after, |limit| not_after.min(limit));
    let time = |at: Timestamp| {
        ASN1Time::from_timestamp(at.as_second()).map(|t| t.to_datetime()).map_err(|error| failed(error.to_string()))
    };
    // 127 random bits: unpredictable, positive, below the 20 bytes that RFC 5280 allows.
    let mut serial = [0u8; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut serial).map_err(|error| failed(error.to_string()))?;
    serial[0] = serial[0] & 0x7f | 0x40;

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = time(not_before)?;
    params.not_after = time(not_after)?;
    let whole = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
    Ok((params, Validity { not_before: whole(not_before), not_after: whole(not_after) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_name::ClusterName;
    use crate::csr;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00.5Z".parse().unwrap()
    }

    fn root() -> Authority {
        Authority::create(now(), DEFAULT_ROOT_VALIDITY).unwrap()
    }

    fn names() -> ServerNames {
        ServerNames {
            namespace: "gloo-mesh".into(),
            additional: vec!["Relay.example.org".into(), "10.0.0.7".into()],
            local: true,
        }
    }

    fn leaf(chain_pem: &str) -> CertificateDer<'static> {
        certificate::parse_certificates(chain_pem.as_bytes(), "test").unwrap().remove(0)
    }

    #[test]
    fn the_server_certificate_has_its_names_and_only_server_usage() {
        let root = root();
        let made = root.sign_server(&names(), now(), DEFAULT_LEAF_VALIDITY).unwrap();
        let der = leaf(&made.certificate.chain_pem);
        let parsed = certificate::parse_x509(&der, "test").unwrap();
        let sans = parsed.subject_alternative_name().unwrap().unwrap().value.to_owned();
        let shown: Vec<_> = sans.general_names.iter().map(|name| name.to_string()).collect();
        assert_eq!(shown.len(), names().all().len());
        assert!(shown.iter().any(|n| n.contains("gloo-mesh-mgmt-server.gloo-mesh.svc")), "{shown:?}");
        assert!(shown.iter().any(|n| n.contains("relay.example.org")), "{shown:?}");
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        assert!(!parsed.is_ca());
        assert!(root.has_signed(&der));
        assert!(!Authority::create(now(), DEFAULT_ROOT_VALIDITY).unwrap().has_signed(&der), "same name, other key");
        assert_eq!(Validity::of(&der, "test").unwrap(), made.certificate.validity);
        assert_eq!(made.certificate.validity.not_before.to_string(), "2026-03-01T11:55:00Z");
    }

    #[test]
    fn a_client_certificate_carries_what_we_set_and_ends_with_its_issuer() {
        let root = Authority::create(now(), SignedDuration::from_hours(24)).unwrap();
        let cluster = ClusterName::new("cluster1").unwrap();
        let request = csr::generate(&cluster).unwrap();
        let checked = csr::check_csr(&request.der, &cluster).unwrap();
        let issued = root.sign_client(&checked, now(), DEFAULT_LEAF_VALIDITY).unwrap();
        assert_eq!(issued.validity.not_after, root.validity().not_after);
        let der = leaf(&issued.chain_pem);
        let parsed = certificate::parse_x509(&der, "test").unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=cluster1");
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        let again = root.sign_client(&checked, now(), DEFAULT_LEAF_VALIDITY).unwrap();
        let again = leaf(&again.chain_pem);
        assert_ne!(certificate::parse_x509(&again, "test").unwrap().raw_serial(), parsed.raw_serial());

        let later = now() + SignedDuration::from_hours(48);
        assert_eq!(root.sign_client(&checked, later, DEFAULT_LEAF_VALIDITY).unwrap_err().code(), "MR0306");
    }

    #[test]
    fn what_is_no_authority_is_not_loaded() {
        let (root, other) = (root(), root());
        let (pem, key) = (root.certificate_pem(), root.key_pem());
        assert!(Authority::load(pem.as_bytes(), key.as_bytes(), pem.as_bytes(), "x").is_ok());
        let mixed = Authority::load(pem.as_bytes(), other.key_pem().as_bytes(), pem.as_bytes(), "x").unwrap_err();
        assert_eq!(mixed.code(), "MR0305");
        let server = root.sign_server(&names(), now(), DEFAULT_LEAF_VALIDITY).unwrap();
        let leaf = &server.certificate.chain_pem;
        let error = Authority::load(leaf.as_bytes(), server.key_pem.as_bytes(), pem.as_bytes(), "x").unwrap_err();
        assert_eq!(error.code(), "MR0306");
        assert!(!format!("{server:?}{root:?}").contains("PRIVATE"), "no key in debug output");
    }

    #[test]
    fn an_impossible_name_is_refused_and_named() {
        let bad = ServerNames { additional: vec!["a b".into()], ..names() };
        let error = root().sign_server(&bad, now(), DEFAULT_LEAF_VALIDITY).unwrap_err();
        assert!(error.to_string().contains("`a b`"), "{error}");
    }
}
