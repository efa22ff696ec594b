//! One registration, from the request to the certificate, with all checks in the order in which they must happen.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::authority::{DEFAULT_LEAF_VALIDITY, IssuedCertificate};
use crate::cluster_name::{ClusterName, ClusterNameError};
use crate::csr::{CsrError, check_csr};
use crate::error::PkiError;
use crate::identity::PeerIdentity;
use crate::rate::{RateExceeded, RateLimit, RateLimiter};
use crate::reload::{DEFAULT_EXPIRED_LIMIT, ReloadingAuthority};
use crate::token::{Token, TokenHash};
use crate::token_file::{RedeemError, TokenFile};
use crate::token_store::{Redeemed, TokenRefusal};

/// A request to register, as it came in.
#[derive(Clone, Copy)]
pub struct RegistrationRequest<'a> {
    /// The token; empty when the connection's certificate is to count.
    pub token: &'a str,
    /// The signing request, DER.
    pub csr: &'a [u8],
    /// Who the connection's certificate says it is; `None` without one.
    pub peer: Option<&'a PeerIdentity>,
}

impl std::fmt::Debug for RegistrationRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A log must not show the token.
        f.debug_struct("RegistrationRequest")
            .field("with_token", &!self.token.is_empty())
            .field("csr_bytes", &self.csr.len())
            .field("peer", &self.peer)
            .finish()
    }
}

/// A certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its certificate.
    pub certificate: IssuedCertificate,
    /// On the strength of what.
    pub credential: Credential,
}

/// What allowed a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token.
    Token(Redeemed),
    /// The certificate that is being renewed.
    Certificate {
        /// It had ended already: the agent was away for long.
        expired: bool,
    },
}

/// Why a registration is refused. The text may be sent to the agent, except for [`RegistrationRefusal::Internal`].
#[derive(Debug, thiserror::Error)]
pub enum RegistrationRefusal {
    /// Too many attempts.
    #[error(transparent)]
    Rate(#[from] RateExceeded),
    /// Not a cluster name.
    #[error(transparent)]
    Cluster(#[from] ClusterNameError),
    /// A bad signing request.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// A bad token.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// Neither token nor certificate.
    #[error("neither a token nor a client certificate came with the registration; give the agent a token (MR0335)")]
    NoCredential,
    /// A certificate, and no token, of another cluster.
    #[error("the client certificate is for cluster `{certificate}`, but the registration is for `{asked}` (MR0336)")]
    OtherCluster {
        /// Whose certificate it is.
        certificate: ClusterName,
        /// What was asked for.
        asked: ClusterName,
    },
    /// A certificate that ended too long ago, and no token.
    #[error("the client certificate expired at {at}, too long ago to register with it; use a fresh token (MR0337)")]
    ExpiredTooLongAgo {
        /// When it ended.
        at: Timestamp,
    },
    /// The server's own trouble. Log it; tell the agent to try again later.
    #[error(transparent)]
    Internal(#[from] PkiError),
}

impl RegistrationRefusal {
    /// The code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rate(refusal) => refusal.code(),
            Self::Cluster(refusal) => refusal.code(),
            Self::Csr(refusal) => refusal.code(),
            Self::Token(refusal) => refusal.code(),
            Self::NoCredential => "MR0335",
            Self::OtherCluster { .. } => "MR0336",
            Self::ExpiredTooLongAgo { .. } => "MR0337",
            Self::Internal(error) => error.code(),
        }
    }

    /// The refusal as a metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rate(_) => "rate_limited",
            Self::Cluster(_) => "bad_cluster_name",
            Self::Csr(_) => "bad_csr",
            Self::Token(TokenRefusal::Wrong) => "wrong_token",
            Self::Token(TokenRefusal::AlreadyUsed { .. }) => "used_token",
            Self::Token(TokenRefusal::Expired { .. }) => "expired_token",
            Self::Token(TokenRefusal::OtherCluster { .. }) => "other_clusters_token",
            Self::NoCredential => "no_credential",
            Self::OtherCluster { .. } => "other_clusters_certificate",
            Self::ExpiredTooLongAgo { .. } => "expired_certificate",
            Self::Internal(_) => "internal",
        }
    }
}

/// What a [`Registrar`] may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrarOptions {
    /// Life of agents' certificates.
    pub client_validity: SignedDuration,
    /// How long after its end a certificate still counts for registering again.
    pub expired_limit: SignedDuration,
    /// Attempts per source.
    pub rate: RateLimit,
}

impl Default for RegistrarOptions {
    fn default() -> Self {
        Self {
            client_validity: DEFAULT_LEAF_VALIDITY,
            expired_limit: DEFAULT_EXPIRED_LIMIT,
            rate: RateLimit::default(),
        }
    }
}

/// Decides about registrations and signs the certificates.
#[derive(Debug)]
pub struct Registrar {
    authority: Arc<ReloadingAuthority>,
    shared: Option<TokenHash>,
    tokens: TokenFile,
    limiter: Mutex<RateLimiter>,
    options: RegistrarOptions,
}

impl Registrar {
    /// A registrar with an authority and tokens.
    ///
    /// # Errors
    /// [`PkiError::Setting`] for a rate limit that makes no sense.
    pub fn new(
        authority: Arc<ReloadingAuthority>,
        shared: Option<&Token>,
        tokens: TokenFile,
        options: RegistrarOptions,
    ) -> Result<Self, PkiError> {
        let limiter = Mutex::new(RateLimiter::new(options.rate)?);
        Ok(Self { authority, shared: shared.map(Token::hash), tokens, limiter, options })
    }

    /// Counts an attempt of a source and reads the cluster's name. First step, before anything is looked up.
    ///
    /// # Errors
    /// [`RegistrationRefusal::Rate`] or [`RegistrationRefusal::Cluster`].
    pub fn admit(&self, source: IpAddr, cluster: &str, now: Timestamp) -> Result<ClusterName, RegistrationRefusal> {
        self.limiter.lock().check(source, now)?;
        Ok(ClusterName::new(cluster)?)
    }

    /// Checks the request and signs a certificate. Second step, after the caller has made sure that the cluster is registered.
    ///
    /// The signing request is checked before the token is used up, and the use of a token is on disk before the certificate is
    /// given out. A certificate of the same cluster counts before the token, so that a renewal uses none up. Blocks on the
    /// disk for some milliseconds when a token is used.
    ///
    /// # Errors
    /// [`RegistrationRefusal`]; nothing has changed then.
    pub fn register(
        &self,
        cluster: &ClusterName,
        request: &RegistrationRequest<'_>,
        now: Timestamp,
    ) -> Result<Registration, RegistrationRefusal> {
        let csr = check_csr(request.csr, cluster)?;
        // Signed first, because a token must not be used up by a signature that fails; given out last.
        let certificate = self.authority.current().sign_client(&csr, now, self.options.client_validity)?;
        let credential = match (self.by_certificate(cluster, request.peer, now), request.token) {
            (Ok(credential), _) => credential,
            (Err(refusal), "") => return Err(refusal),
            (Err(_), token) => {
                // What cannot be a token at all is a wrong token to whoever sent it.
                let token = Token::new(token, "the registration").map_err(|_| TokenRefusal::Wrong)?;
                let redeemed = self.tokens.redeem(self.shared.as_ref(), cluster, &token, &csr.key_fingerprint(), now);
                Credential::Token(redeemed.map_err(|error| match error {
                    RedeemError::Refused(refusal) => RegistrationRefusal::Token(refusal),
                    RedeemError::File(error) => RegistrationRefusal::Internal(error),
                })?)
            }
        };
        Ok(Registration { cluster: cluster.clone(), certificate, credential })
    }

    /// Takes back the attempt that [`Registrar::admit`] counted: the registration succeeded.
    pub fn succeeded(&self, source: IpAddr) {
        self.limiter.lock().give_back(source);
    }

    /// Whether a text is the shared token: what simple TLS asks of every stream. Compared in constant time.
    pub fn is_shared_token(&self, text: &str) -> bool {
        Token::new(text, "the request")
            .is_ok_and(|token| self.shared.as_ref().is_some_and(|shared| shared.matches(&token.hash())))
    }

    fn by_certificate(
        &self,
        cluster: &ClusterName,
        peer: Option<&PeerIdentity>,
        now: Timestamp,
    ) -> Result<Credential, RegistrationRefusal> {
        let peer = peer.ok_or(RegistrationRefusal::NoCredential)?;
        if peer.cluster != *cluster {
            let (certificate, asked) = (peer.cluster.clone(), cluster.clone());
            return Err(RegistrationRefusal::OtherCluster { certificate, asked });
        }
        // Judged anew: the connection may be older than the end of its certificate.
        let end = peer.validity.not_after;
        if now.duration_since(end) > self.options.expired_limit {
            return Err(RegistrationRefusal::ExpiredTooLongAgo { at: end });
        }
        Ok(Credential::Certificate { expired: now > end })
    }
}
