use std::fmt;

/// Why a server does not serve a peer. Stable: metrics, error pages and the wire use these names and codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The token is not the one of this fleet or cluster.
    WrongToken,
    /// The single-use token was used before.
    UsedToken,
    /// The token is past its life.
    ExpiredToken,
    /// The token was issued for another cluster.
    ForeignToken,
    /// No such cluster is registered.
    UnknownCluster,
    /// The name cannot be the name of a cluster.
    InvalidCluster,
    /// The certificate is another cluster's.
    ForeignCertificate,
    /// The certificate is past its life.
    ExpiredCertificate,
    /// No certificate was presented, or it names no cluster.
    NoCertificate,
    /// Software or protocol version outside the window.
    Version,
    /// Another agent of the cluster is connected and alive.
    SecondAgent,
    /// Too many attempts from one source.
    RateLimited,
    /// The certificate signing request is not acceptable.
    MalformedCsr,
    /// The cluster is no longer registered; its agent was connected.
    Deregistered,
    /// The server is about to stop: another replica may serve.
    Draining,
    /// The first frame of the stream was not a hello, or did not come in time.
    Handshake,
    /// The server failed; trying again may help.
    Internal,
    /// The replica serves as many clusters as it shall: another one has room.
    AtCapacity,
}

impl RefusalReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 18] = [
        Self::WrongToken,
        Self::UsedToken,
        Self::ExpiredToken,
        Self::ForeignToken,
        Self::UnknownCluster,
        Self::InvalidCluster,
        Self::ForeignCertificate,
        Self::ExpiredCertificate,
        Self::NoCertificate,
        Self::Version,
        Self::SecondAgent,
        Self::RateLimited,
        Self::MalformedCsr,
        Self::Deregistered,
        Self::Draining,
        Self::Handshake,
        Self::Internal,
        Self::AtCapacity,
    ];

    /// The error code, such as `MR0200`.
    pub fn code(self) -> &'static str {
        match self {
            Self::WrongToken => "MR0200",
            Self::UsedToken => "MR0201",
            Self::ExpiredToken => "MR0202",
            Self::ForeignToken => "MR0203",
            Self::UnknownCluster => "MR0204",
            Self::InvalidCluster => "MR0205",
            Self::ForeignCertificate => "MR0206",
            Self::ExpiredCertificate => "MR0207",
            Self::NoCertificate => "MR0208",
            Self::Version => "MR0209",
            Self::SecondAgent => "MR0210",
            Self::RateLimited => "MR0211",
            Self::MalformedCsr => "MR0212",
            Self::Deregistered => "MR0213",
            Self::Draining => "MR0214",
            Self::Handshake => "MR0215",
            Self::Internal => "MR0216",
            Self::AtCapacity => "MR0217",
        }
    }

    /// The reason with that code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Value of the label `reason` in metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::WrongToken => "wrong_token",
            Self::UsedToken => "used_token",
            Self::ExpiredToken => "expired_token",
            Self::ForeignToken => "foreign_token",
            Self::UnknownCluster => "unknown_cluster",
            Self::InvalidCluster => "invalid_cluster",
            Self::ForeignCertificate => "foreign_certificate",
            Self::ExpiredCertificate => "expired_certificate",
            Self::NoCertificate => "no_certificate",
            Self::Version => "version",
            Self::SecondAgent => "second_agent",
            Self::RateLimited => "rate_limited",
            Self::MalformedCsr => "malformed_csr",
            Self::Deregistered => "deregistered",
            Self::Draining => "draining",
            Self::Handshake => "handshake",
            Self::Internal => "internal",
            Self::AtCapacity => "at_capacity",
        }
    }
}

/// A refusal with what a person needs to know: what was expected, what was found, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({})", reason.code())]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// One sentence for a person, at most [`Refusal::MAX_MESSAGE`] bytes.
    pub message: String,
}

impl Refusal {
    /// Longest message, bytes: it travels in a header, and header lists are limited to 16 KiB.
    pub const MAX_MESSAGE: usize = 1024;

    /// A refusal; a message that is too long is cut.
    pub fn new(reason: RefusalReason, message: impl fmt::Display) -> Self {
        Self { reason, message: shortened(message.to_string(), Self::MAX_MESSAGE) }
    }

    /// Value of the label `reason` in metrics.
    pub fn metric_label(&self) -> &'static str {
        self.reason.metric_label()
    }
}

/// Cuts a text at a character boundary.
pub(crate) fn shortened(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_and_labels_are_unique_and_lead_back() {
        let codes: BTreeSet<_> = RefusalReason::ALL.into_iter().map(RefusalReason::code).collect();
        let labels: BTreeSet<_> = RefusalReason::ALL.into_iter().map(RefusalReason::metric_label).collect();
        assert_eq!((codes.len(), labels.len()), (RefusalReason::ALL.len(), RefusalReason::ALL.len()));
        for reason in RefusalReason::ALL {
            assert_eq!(RefusalReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(RefusalReason::from_code("MR0001"), None);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let refusal = Refusal::new(RefusalReason::Internal, "ü".repeat(2000));
        assert!(refusal.message.len() <= Refusal::MAX_MESSAGE && refusal.message.ends_with('…'));
    }
}
