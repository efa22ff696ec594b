//! Why a TLS handshake failed, in words for both sides and as a metric label.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// The reason of a failed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum TlsRefusal {
    /// We do not know the authority of the peer's certificate.
    #[error("the peer's certificate was signed by an unknown authority; compare ca.crt on both sides (MR0340)")]
    UnknownAuthority,
    /// The peer's certificate has ended (for a client: longer ago than the time in which it may register again).
    #[error("the peer's certificate has expired; register again with a fresh token, or renew it (MR0341)")]
    Expired,
    /// The peer's certificate has not begun.
    #[error("the peer's certificate is not valid yet; compare the clocks of both machines (MR0342)")]
    NotYetValid,
    /// The server's certificate has other names than the one that was dialled.
    #[error(
        "the server's certificate is for another name; set the relay authority to one of its names, or add this name to \
             the server's additional names (MR0343)"
    )]
    WrongName,
    /// A certificate of the wrong kind, such as a server's used by a client.
    #[error("the peer's certificate is for another purpose (MR0344)")]
    WrongPurpose,
    /// Another fault of the peer's certificate.
    #[error("the peer's certificate cannot be used (MR0345)")]
    BadCertificate,
    /// The peer says that it does not know our authority.
    #[error("the peer does not know the authority of our certificate; compare ca.crt on both sides (MR0346)")]
    OwnAuthorityUnknown,
    /// The peer says that our certificate has ended.
    #[error("the peer says that our certificate has expired; register again with a fresh token, or renew it (MR0347)")]
    OwnExpired,
    /// The peer refuses our certificate, or the lack of one.
    #[error("the peer refuses our certificate (MR0348)")]
    OwnRefused,
    /// No TLS at all, or no version or protocol in common.
    #[error(
        "the peer does not speak the same TLS; check that both sides have the same mode and that nothing between them \
             ends TLS (MR0349)"
    )]
    NotTls,
}

impl TlsRefusal {
    /// Finds the reason in an error or what caused it; `None` when no handshake failed, such as for a lost connection.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(tls);
            }
            // An io::Error hides what it carries from `source`, which skips to the source of that.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn of_tls(error: &rustls::Error) -> Option<Self> {
        use rustls::Error as Tls;
        Some(match error {
            Tls::InvalidCertificate(certificate) => match certificate {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::WrongPurpose,
                _ => Self::BadCertificate,
            },
            Tls::AlertReceived(alert) => match alert {
                AlertDescription::UnknownCA => Self::OwnAuthorityUnknown,
                AlertDescription::CertificateExpired => Self::OwnExpired,
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError => Self::OwnRefused,
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::NoApplicationProtocol
                | AlertDescription::UnexpectedMessage
                | AlertDescription::DecodeError => Self::NotTls,
                _ => return None,
            },
            Tls::InvalidMessage(_)
            | Tls::InappropriateMessage { .. }
            | Tls::InappropriateHandshakeMessage { .. }
            | Tls::PeerIncompatible(_)
            | Tls::NoApplicationProtocol => Self::NotTls,
            _ => return None,
        })
    }

    /// The code of this refusal.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownAuthority => "MR0340",
            Self::Expired => "MR0341",
            Self::NotYetValid => "MR0342",
            Self::WrongName => "MR0343",
            Self::WrongPurpose => "MR0344",
            Self::BadCertificate => "MR0345",
            Self::OwnAuthorityUnknown => "MR0346",
            Self::OwnExpired => "MR0347",
            Self::OwnRefused => "MR0348",
            Self::NotTls => "MR0349",
        }
    }

    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongName => "wrong_name",
            Self::WrongPurpose => "wrong_purpose",
            Self::BadCertificate => "bad_certificate",
            Self::OwnAuthorityUnknown => "own_authority_unknown",
            Self::OwnExpired => "own_expired",
            Self::OwnRefused => "own_refused",
            Self::NotTls => "not_tls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Transport(#[source] io::Error);

    #[test]
    fn the_reason_is_found_below_other_errors() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let wrapped = Transport(io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls)));
        assert_eq!(TlsRefusal::of(&wrapped), Some(TlsRefusal::OwnExpired));
        assert_eq!(TlsRefusal::of(&Transport(io::Error::other("reset"))), None);
    }

    #[test]
    fn every_reason_shows_its_code() {
        use TlsRefusal::*;
        let all = [
            UnknownAuthority,
            Expired,
            NotYetValid,
            WrongName,
            WrongPurpose,
            BadCertificate,
            OwnAuthorityUnknown,
            OwnExpired,
            OwnRefused,
            NotTls,
        ];
        let mut labels = std::collections::BTreeSet::new();
        for refusal in all {
            assert!(refusal.to_string().contains(refusal.code()), "{refusal}");
            assert!(labels.insert((refusal.as_str(), refusal.code())));
        }
    }
}
