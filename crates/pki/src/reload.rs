//! Certificates and trusted authorities that change while the program runs.
//!
//! rustls asks these objects at every handshake, so a replacement counts from the next connection on and disturbs none
//! that exist. Each keeps what it has when the replacement is bad.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::SignedDuration;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::authority::Authority;
use crate::certificate;
use crate::error::PkiError;
use crate::renewal::Validity;
use crate::tls::provider;

/// How long after its end a client certificate still opens the door for a new registration, by default: long enough for a
/// cluster that was switched off for a holiday.
pub const DEFAULT_EXPIRED_LIMIT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The server's certificate; the same for every name that clients ask for.
#[derive(Debug)]
pub struct ReloadingServerCert(ArcSwap<CertifiedKey>);

impl ReloadingServerCert {
    /// Starts with a certificate chain and its key, PEM.
    ///
    /// # Errors
    /// Malformed PEM, an unsupported key, or a key of another certificate.
    pub fn new(chain: &[u8], key: &[u8], origin: &str) -> Result<Self, PkiError> {
        certificate::parse_pair(chain, key, origin).map(|key| Self(ArcSwap::from_pointee(key)))
    }

    /// Replaces both.
    ///
    /// # Errors
    /// As [`ReloadingServerCert::new`]; the present certificate then stays.
    pub fn replace(&self, chain: &[u8], key: &[u8], origin: &str) -> Result<(), PkiError> {
        certificate::parse_pair(chain, key, origin).map(|key| self.0.store(Arc::new(key)))
    }

    /// In which time the present certificate is valid.
    pub fn validity(&self) -> Option<Validity> {
        validity(&self.0.load())
    }
}

impl ResolvesServerCert for ReloadingServerCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The agent's certificate; none before it has registered.
#[derive(Debug, Default)]
pub struct ReloadingClientCert(ArcSwapOption<CertifiedKey>);

impl ReloadingClientCert {
    /// Puts a certificate chain and its key (PEM) in place.
    ///
    /// # Errors
    /// Malformed PEM, an unsupported key, or a key of another certificate; what is there then stays.
    pub fn replace(&self, chain: &[u8], key: &[u8], origin: &str) -> Result<(), PkiError> {
        certificate::parse_pair(chain, key, origin).map(|key| self.0.store(Some(Arc::new(key))))
    }

    /// In which time the present certificate is valid; `None` without one.
    pub fn validity(&self) -> Option<Validity> {
        self.0.load().as_deref().and_then(validity)
    }
}

impl ResolvesClientCert for ReloadingClientCert {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

/// Verifies agents' certificates against authorities that can change; several at once for a change of roots.
///
/// A client may come without a certificate, since it has none before it registers on the same port: whoever serves an RPC
/// decides whether one is needed. A certificate that has ended is accepted for a limited time if it was valid at its end;
/// [`crate::PeerIdentity::expired`] marks such a peer, who may only register again.
#[derive(Debug)]
pub struct ReloadingClientVerifier {
    inner: ArcSwap<Arc<dyn ClientCertVerifier>>,
    expired_limit: SignedDuration,
}

impl ReloadingClientVerifier {
    /// Starts with a PEM bundle of authorities. A limit of zero lets no ended certificate in, as where no registration is.
    ///
    /// # Errors
    /// Malformed PEM, or a certificate that cannot be an authority.
    pub fn new(bundle: &[u8], expired_limit: SignedDuration, origin: &str) -> Result<Self, PkiError> {
        Ok(Self { inner: ArcSwap::from_pointee(client_verifier(bundle, origin)?), expired_limit })
    }

    /// Replaces the authorities.
    ///
    /// # Errors
    /// As [`ReloadingClientVerifier::new`]; the present ones then stay.
    pub fn replace(&self, bundle: &[u8], origin: &str) -> Result<(), PkiError> {
        client_verifier(bundle, origin).map(|verifier| self.inner.store(Arc::new(verifier)))
    }

    /// The time at which to verify a certificate: its end when it ended not longer ago than the limit, otherwise now.
    fn verification_time(&self, end_entity: &CertificateDer<'_>, now: UnixTime) -> UnixTime {
        let ended = || {
            let end = Validity::of(end_entity, "the handshake").ok()?.not_after.as_second();
            let end = u64::try_from(end).ok()?;
            let limit = u64::try_from(self.expired_limit.as_secs()).ok()?;
            let since = now.as_secs().checked_sub(end)?;
            (1..=limit).contains(&since).then(|| UnixTime::since_unix_epoch(Duration::from_secs(end)))
        };
        ended().unwrap_or(now)
    }
}

impl ClientCertVerifier for ReloadingClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: they could not follow a change of authorities, and an agent has one certificate to choose from.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let time = self.verification_time(end_entity, now);
        self.inner.load().verify_client_cert(end_entity, intermediates, time).map_err(same_name_other_key)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.load().supported_verify_schemes()
    }
}

/// Verifies the server's certificate against authorities that can change; several at once for a change of roots.
#[derive(Debug)]
pub struct ReloadingServerVerifier(ArcSwap<WebPkiServerVerifier>);

impl ReloadingServerVerifier {
    /// Starts with a PEM bundle of authorities.
    ///
    /// # Errors
    /// Malformed PEM, or a certificate that cannot be an authority.
    pub fn new(bundle: &[u8], origin: &str) -> Result<Self, PkiError> {
        Ok(Self(ArcSwap::new(server_verifier(bundle, origin)?)))
    }

    /// Replaces the authorities.
    ///
    /// # Errors
    /// As [`ReloadingServerVerifier::new`]; the present ones then stay.
    pub fn replace(&self, bundle: &[u8], origin: &str) -> Result<(), PkiError> {
        server_verifier(bundle, origin).map(|verifier| self.0.store(verifier))
    }
}

impl ServerCertVerifier for ReloadingServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0
            .load()
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(same_name_other_key)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().supported_verify_schemes()
    }
}

/// The authority that signs agents' certificates, replaceable like everything else.
#[derive(Debug)]
pub struct ReloadingAuthority(ArcSwap<Authority>);

impl ReloadingAuthority {
    /// Starts with an authority.
    pub fn new(authority: Authority) -> Self {
        Self(ArcSwap::from_pointee(authority))
    }

    /// The present authority.
    pub fn current(&self) -> Arc<Authority> {
        self.0.load_full()
    }

    /// Replaces it.
    pub fn replace(&self, authority: Authority) {
        self.0.store(Arc::new(authority));
    }
}

fn validity(key: &CertifiedKey) -> Option<Validity> {
    key.cert.first().and_then(|leaf| Validity::of(leaf, "the certificate in use").ok())
}

fn roots(bundle: &[u8], origin: &str) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    for authority in certificate::parse_certificates(bundle, origin)? {
        roots
            .add(authority)
            .map_err(|error| PkiError::Certificate { origin: origin.to_owned(), reason: error.to_string() })?;
    }
    Ok(Arc::new(roots))
}

fn client_verifier(bundle: &[u8], origin: &str) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    WebPkiClientVerifier::builder_with_provider(roots(bundle, origin)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(PkiError::tls)
}

fn server_verifier(bundle: &[u8], origin: &str) -> Result<Arc<WebPkiServerVerifier>, PkiError> {
    WebPkiServerVerifier::builder_with_provider(roots(bundle, origin)?, provider()).build().map_err(PkiError::tls)
}

/// Self-made roots all have one name, so the certificate of another installation fails by its signature; what the peer and
/// the operator should hear is that the authority is unknown.
fn same_name_other_key(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}
