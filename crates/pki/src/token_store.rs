//! Which tokens open the door: the shared one, and single-use ones for one cluster each. Pure state; time is a parameter.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cluster_name::ClusterName;
use crate::error::PkiError;
use crate::token::{Token, TokenHash};

/// How long a single-use token may wait for its agent by default: long enough for somebody to install one.
pub const DEFAULT_TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Tokens that are kept at once, so that the file stays small enough to be rewritten at every use.
pub const MAX_TOKENS: usize = 1000;
/// How long a used or expired token is remembered, so that its late user is told what happened rather than "wrong token".
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Hexadecimal digits of a token's hash that name it to people.
const ID_LENGTH: usize = 12;

/// One single-use token; the token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuedToken {
    /// The cluster it was made for.
    pub cluster: String,
    /// Its hash, hexadecimal.
    pub hash: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// After this it is refused.
    pub expires_at: Timestamp,
    /// Who used it, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<TokenUse>,
}

/// The one use of a single-use token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUse {
    /// When.
    pub at: Timestamp,
    /// Fingerprint of the public key that got a certificate for it, hexadecimal.
    pub key: String,
}

/// The single-use tokens, by their short names. This is also the form of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenStore {
    tokens: BTreeMap<String, IssuedToken>,
}

/// Which token was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// The token that all clusters share.
    Shared,
    /// A single-use token, with its short name.
    SingleUse {
        /// Its short name.
        id: String,
    },
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// No such token.
    #[error("the token is wrong; use the token of relay-identity-token-secret, or issue a new one (MR0330)")]
    Wrong,
    /// A single-use token for the second time.
    #[error("the single-use token {id} was used at {at}; issue a new one (MR0331)")]
    AlreadyUsed {
        /// Its short name.
        id: String,
        /// When it was used.
        at: Timestamp,
    },
    /// A single-use token after its end.
    #[error("the single-use token {id} expired at {at}; issue a new one (MR0332)")]
    Expired {
        /// Its short name.
        id: String,
        /// When it expired.
        at: Timestamp,
    },
    /// A single-use token of another cluster; its name is not told.
    #[error("the single-use token {id} was issued for another cluster than `{cluster}`; issue one for it (MR0333)")]
    OtherCluster {
        /// Its short name.
        id: String,
        /// The cluster that came with it.
        cluster: ClusterName,
    },
}

impl TokenRefusal {
    /// The code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Wrong => "MR0330",
            Self::AlreadyUsed { .. } => "MR0331",
            Self::Expired { .. } => "MR0332",
            Self::OtherCluster { .. } => "MR0333",
        }
    }
}

impl TokenStore {
    /// Makes a single-use token for a cluster. The token is returned once and kept only as a hash.
    ///
    /// # Errors
    /// [`PkiError::TooManyTokens`] when [`MAX_TOKENS`] are kept.
    pub fn issue(
        &mut self,
        cluster: &ClusterName,
        now: Timestamp,
        life: SignedDuration,
    ) -> Result<(String, Token), PkiError> {
        self.forget_old(now);
        if self.tokens.len() >= MAX_TOKENS {
            return Err(PkiError::TooManyTokens { limit: MAX_TOKENS });
        }
        let token = Token::generate();
        let hash = token.hash().to_hex();
        let id = hash.chars().take(ID_LENGTH).collect::<String>();
        let issued = IssuedToken {
            cluster: cluster.as_str().to_owned(),
            hash,
            issued_at: now,
            expires_at: now.checked_add(life).unwrap_or(Timestamp::MAX),
            used: None,
        };
        self.tokens.insert(id.clone(), issued);
        Ok((id, token))
    }

    /// Withdraws a token; says whether there was one of that name.
    pub fn revoke(&mut self, id: &str) -> bool {
        self.tokens.remove(id).is_some()
    }

    /// The tokens by their short names.
    pub fn tokens(&self) -> &BTreeMap<String, IssuedToken> {
        &self.tokens
    }

    /// Accepts a token for a cluster, or says why not; a single-use token is then used up.
    ///
    /// `key` is the fingerprint of the key the certificate is for. A second use with the same key is the same use: an agent
    /// whose answer got lost asks again with its key, and must not be locked out by it. All tokens are compared, whatever
    /// the outcome, so that the time tells nothing.
    ///
    /// # Errors
    /// [`TokenRefusal`]; the state is then unchanged.
    pub fn redeem(
        &mut self,
        shared: Option<&TokenHash>,
        cluster: &ClusterName,
        token: &Token,
        key: &[u8; 32],
        now: Timestamp,
    ) -> Result<Redeemed, TokenRefusal> {
        let hash = token.hash();
        let is_shared = shared.is_some_and(|shared| shared.matches(&hash));
        let mut found = None;
        for (id, issued) in &mut self.tokens {
            if TokenHash::from_hex(&issued.hash).is_some_and(|own| own.matches(&hash)) {
                found = Some((id.clone(), issued));
            }
        }
        if is_shared {
            return Ok(Redeemed::Shared);
        }
        let (id, issued) = found.ok_or(TokenRefusal::Wrong)?;
        if issued.cluster != cluster.as_str() {
            return Err(TokenRefusal::OtherCluster { id, cluster: cluster.clone() });
        }
        let key = blake3::Hash::from_bytes(*key).to_hex().to_string();
        if let Some(used) = issued.used.as_ref().filter(|used| used.key != key) {
            return Err(TokenRefusal::AlreadyUsed { id, at: used.at });
        }
        if now > issued.expires_at {
            return Err(TokenRefusal::Expired { id, at: issued.expires_at });
        }
        issued.used.get_or_insert(TokenUse { at: now, key });
        Ok(Redeemed::SingleUse { id })
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.tokens.retain(|_, issued| {
            let over = issued.used.as_ref().map_or(issued.expires_at, |used| used.at.min(issued.expires_at));
            over.checked_add(REMEMBERED).is_ok_and(|until| now <= until)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn cluster(name: &str) -> ClusterName {
        ClusterName::new(name).unwrap()
    }

    const KEY: [u8; 32] = [1; 32];
    const OTHER_KEY: [u8; 32] = [2; 32];

    #[test]
    fn a_single_use_token_is_used_once_by_its_cluster_in_its_time() {
        let mut store = TokenStore::default();
        let (id, token) = store.issue(&cluster("east"), at(0), DEFAULT_TOKEN_LIFE).unwrap();
        let before = store.clone();
        let refused = store.redeem(None, &cluster("west"), &token, &KEY, at(1)).unwrap_err();
        assert_eq!(refused.code(), "MR0333");
        assert!(!refused.to_string().contains("east"), "another cluster's name is not told");
        assert_eq!(store.redeem(None, &cluster("east"), &Token::generate(), &KEY, at(1)), Err(TokenRefusal::Wrong));
        assert_eq!(store.redeem(None, &cluster("east"), &token, &KEY, at(25)).unwrap_err().code(), "MR0332");
        assert_eq!(store, before, "a refusal uses nothing up");

        let redeemed = store.redeem(None, &cluster("east"), &token, &KEY, at(2));
        assert_eq!(redeemed, Ok(Redeemed::SingleUse { id: id.clone() }));
        let again = store.redeem(None, &cluster("east"), &token, &KEY, at(3));
        assert_eq!(again, redeemed, "a lost answer is asked for again with the same key");
        let stolen = store.redeem(None, &cluster("east"), &token, &OTHER_KEY, at(3)).unwrap_err();
        assert_eq!(stolen, TokenRefusal::AlreadyUsed { id, at: at(2) });
        assert!(store.redeem(None, &cluster("east"), &token, &KEY, at(25)).is_err(), "but not after its end");
    }

    #[test]
    fn the_shared_token_works_for_every_cluster() {
        let shared = Token::generate();
        let mut store = TokenStore::default();
        for name in ["c1", "c2", "c1"] {
            let redeemed = store.redeem(Some(&shared.hash()), &cluster(name), &shared, &KEY, at(0));
            assert_eq!(redeemed, Ok(Redeemed::Shared));
        }
        assert_eq!(store.redeem(None, &cluster("c1"), &shared, &KEY, at(0)), Err(TokenRefusal::Wrong));
    }

    #[test]
    fn a_revoked_token_is_wrong_and_old_ones_make_room() {
        let mut store = TokenStore::default();
        let (id, token) = store.issue(&cluster("c1"), at(0), DEFAULT_TOKEN_LIFE).unwrap();
        assert!(store.revoke(&id) && !store.revoke(&id));
        assert_eq!(store.redeem(None, &cluster("c1"), &token, &KEY, at(0)), Err(TokenRefusal::Wrong));
        for _ in 0..MAX_TOKENS {
            store.issue(&cluster("c1"), at(0), DEFAULT_TOKEN_LIFE).unwrap();
        }
        assert_eq!(store.issue(&cluster("c1"), at(1), DEFAULT_TOKEN_LIFE).unwrap_err().code(), "MR0312");
        store.issue(&cluster("c1"), at(24 * 32), DEFAULT_TOKEN_LIFE).unwrap();
        assert_eq!(store.tokens().len(), 1);
    }

    #[test]
    fn nothing_that_is_stored_reveals_a_token() {
        let mut store = TokenStore::default();
        let (_, token) = store.issue(&cluster("c1"), at(0), DEFAULT_TOKEN_LIFE).unwrap();
        let json = serde_json::to_string(&store).unwrap();
        assert!(!json.contains(token.reveal()));
        assert_eq!(serde_json::from_str::<TokenStore>(&json).unwrap(), store);
    }
}
