//! Who a peer is: the cluster name in the DNS SAN of its certificate, once TLS has verified the chain.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::certificate;
use crate::cluster_name::{ClusterName, ClusterNameError};
use crate::renewal::Validity;

/// The identity of a connected agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Whether the certificate is past its end. TLS lets such a certificate in for a limited time after its end, and only so that
    /// the agent can register again: refuse everything else.
    pub expired: bool,
    /// When the certificate begins and ends.
    pub validity: Validity,
}

/// Why a certificate gives no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// TLS without a client certificate.
    #[error("no client certificate was presented; register to get one (MR0326)")]
    NoCertificate,
    /// A certificate that does not parse.
    #[error("the client certificate cannot be read: {reason} (MR0327)")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// None or several DNS names.
    #[error("the client certificate has {found} DNS names; expected exactly one, the cluster name (MR0328)")]
    Names {
        /// How many it has.
        found: usize,
    },
    /// A DNS name that is no cluster name.
    #[error("the client certificate's DNS name is no cluster name (MR0329): {0}")]
    Name(#[source] ClusterNameError),
}

impl IdentityError {
    /// The code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "MR0326",
            Self::Malformed { .. } => "MR0327",
            Self::Names { .. } => "MR0328",
            Self::Name(_) => "MR0329",
        }
    }
}

/// Reads the identity from a chain (leaf first) that the TLS layer has verified. The common name is not looked at; names
/// of other kinds (URI, IP address) beside the one DNS name are allowed, since a user's own authority may add them.
///
/// # Errors
/// [`IdentityError`] when there is no certificate, or not exactly one DNS name that is a cluster name.
pub fn peer_identity(chain: &[CertificateDer<'_>], now: Timestamp) -> Result<PeerIdentity, IdentityError> {
    let malformed = |reason: String| IdentityError::Malformed { reason };
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let parsed = certificate::parse_x509(leaf, "the handshake").map_err(|error| malformed(error.to_string()))?;
    let validity = Validity::of_parsed(&parsed);
    let sans = parsed.subject_alternative_name().map_err(|error| malformed(error.to_string()))?;
    let names: Vec<&str> = sans
        .iter()
        .flat_map(|san| &san.value.general_names)
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
        .collect();
    let [name] = names.as_slice() else { return Err(IdentityError::Names { found: names.len() }) };
    let cluster = ClusterName::new(name).map_err(IdentityError::Name)?;
    Ok(PeerIdentity { cluster, expired: now > validity.not_after, validity })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "cluster9");
        params.subject_alt_names = names;
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        vec![params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()]
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn exactly_one_dns_name_is_the_identity() {
        let before: Timestamp = "2029-12-31T00:00:00Z".parse().unwrap();
        let after: Timestamp = "2030-01-02T00:00:00Z".parse().unwrap();
        let uri = SanType::URI("spiffe://x/y".try_into().unwrap());
        let chain = certificate(vec![uri.clone(), dns("cluster1")]);
        let identity = peer_identity(&chain, before).unwrap();
        assert_eq!((identity.cluster.as_str(), identity.expired), ("cluster1", false));
        assert!(peer_identity(&chain, after).unwrap().expired);

        let code = |names| peer_identity(&certificate(names), before).unwrap_err().code();
        assert_eq!(code(vec![]), "MR0328", "the common name is no identity");
        assert_eq!(code(vec![uri]), "MR0328");
        assert_eq!(code(vec![dns("a"), dns("b")]), "MR0328");
        assert_eq!(code(vec![dns("gloo-mesh-mgmt-server.gloo-mesh")]), "MR0329");
        assert_eq!(code(vec![dns("*")]), "MR0329");
        let mut endless = CertificateParams::default();
        endless.subject_alt_names = vec![dns("cluster1")];
        endless.not_after = x509_parser::time::ASN1Time::from_timestamp(253_402_300_799).unwrap().to_datetime();
        let endless = endless.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        assert_eq!(peer_identity(&[endless], before).unwrap().validity.not_after, Timestamp::MAX);
        assert_eq!(peer_identity(&[], before).unwrap_err().code(), "MR0326");
        assert_eq!(peer_identity(&[vec![1, 2, 3].into()], before).unwrap_err().code(), "MR0327");
    }
}
