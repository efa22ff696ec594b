//! Reading PEM and DER: certificates, chains and private keys, with the place they came from in every error.

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;

use crate::error::PkiError;
use crate::tls::provider;

/// The certificates in a PEM text, in their order: a chain (leaf first) or a bundle of authorities.
///
/// # Errors
/// [`PkiError::Pem`] when the text is no PEM or holds no certificate. Each certificate is parsed, so that a bundle with one
/// broken member is refused as a whole ([`PkiError::Certificate`]) rather than trusted in part.
pub fn parse_certificates(pem: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let refuse = |found| PkiError::Pem { expected: "a PEM certificate", origin: origin.to_owned(), found };
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(format!("malformed PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(refuse(if pem.is_empty() { "nothing".to_owned() } else { "none".to_owned() }));
    }
    for certificate in &certificates {
        parse_x509(certificate, origin)?;
    }
    Ok(certificates)
}

/// The first private key in a PEM text: PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
/// [`PkiError::Pem`] when there is none.
pub fn parse_key(pem: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| PkiError::Pem {
        expected: "a PEM private key",
        origin: origin.to_owned(),
        found: error.to_string(),
    })
}

/// A certificate chain and its key, ready for rustls.
///
/// # Errors
/// Malformed PEM, an unsupported key, or [`PkiError::KeyMismatch`].
pub(crate) fn parse_pair(chain: &[u8], key: &[u8], origin: &str) -> Result<CertifiedKey, PkiError> {
    let chain = parse_certificates(chain, origin)?;
    let key = parse_key(key, origin)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PkiError::KeyMismatch { origin: origin.to_owned() },
        other => PkiError::Key { origin: origin.to_owned(), reason: other.to_string() },
    })
}

/// Writes certificates as one PEM text.
pub fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    use base64::Engine as _;
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        // RFC 7468: lines of 64 characters.
        for line in encoded.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|&b| char::from(b)));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// Parses one DER certificate without trailing bytes.
pub(crate) fn parse_x509<'a>(certificate: &'a [u8], origin: &str) -> Result<X509Certificate<'a>, PkiError> {
    let refuse = |reason: String| PkiError::Certificate { origin: origin.to_owned(), reason };
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| refuse(error.to_string()))?;
    if !rest.is_empty() {
        return Err(refuse(format!("{} bytes follow it", rest.len())));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    #[test]
    fn pem_round_trips_and_bad_pem_is_told_apart() {
        let authority =
            Authority::create(jiff::Timestamp::UNIX_EPOCH, crate::authority::DEFAULT_ROOT_VALIDITY).unwrap();
        let bundle = format!("{}{}", authority.certificate_pem(), authority.certificate_pem());
        let parsed = parse_certificates(bundle.as_bytes(), "bundle").unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parse_certificates(to_pem(&parsed).as_bytes(), "again").unwrap(), parsed);
        assert_eq!(parse_certificates(b"", "x").unwrap_err().code(), "MR0302");
        assert_eq!(parse_certificates(b"hello", "x").unwrap_err().code(), "MR0302");
        let broken = bundle.replacen("MII", "MIJ", 1);
        assert!(parse_certificates(broken.as_bytes(), "x").is_err());
        assert!(parse_key(bundle.as_bytes(), "x").unwrap_err().to_string().contains("private key"));
    }
}
