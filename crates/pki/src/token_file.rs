//! The file of single-use tokens, shared between servers and the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::cluster_name::ClusterName;
use crate::error::PkiError;
use crate::secret_dir;
use crate::token::{Token, TokenHash};
use crate::token_store::{Redeemed, TokenRefusal, TokenStore};

/// Name of the file in the state folder.
pub const TOKEN_FILE: &str = "relay-cluster-tokens.json";

/// The file of single-use tokens. Every call locks it, reads it, and writes it back if something changed, so that several
/// processes on one state folder agree on what was used. Calls block on the disk for some milliseconds.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

/// A token was refused, or the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// The token is not accepted.
    #[error(transparent)]
    Refused(#[from] TokenRefusal),
    /// The file cannot be read or written; the token is not used up.
    #[error(transparent)]
    File(#[from] PkiError),
}

impl TokenFile {
    /// The file in a state folder; it need not exist.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join(TOKEN_FILE) }
    }

    /// Makes a single-use token; returns its short name and the token, which is kept nowhere else.
    ///
    /// # Errors
    /// [`PkiError::TooManyTokens`], or what keeps the file from being read or written.
    pub fn issue(
        &self,
        cluster: &ClusterName,
        now: Timestamp,
        life: SignedDuration,
    ) -> Result<(String, Token), PkiError> {
        self.change(|store| store.issue(cluster, now, life))?
    }

    /// Withdraws a token; says whether there was one.
    ///
    /// # Errors
    /// What keeps the file from being read or written.
    pub fn revoke(&self, id: &str) -> Result<bool, PkiError> {
        self.change(|store| store.revoke(id))
    }

    /// The tokens as they are now.
    ///
    /// # Errors
    /// What keeps the file from being read.
    pub fn load(&self) -> Result<TokenStore, PkiError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TokenStore::default()),
            Err(error) => return Err(PkiError::read(&self.path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| PkiError::TokenFile { path: self.path.clone(), reason: error.to_string() })
    }

    /// [`TokenStore::redeem`], with the use on disk before it is answered.
    ///
    /// # Errors
    /// [`RedeemError`]; nothing is used up then.
    pub fn redeem(
        &self,
        shared: Option<&TokenHash>,
        cluster: &ClusterName,
        token: &Token,
        key: &[u8; 32],
        now: Timestamp,
    ) -> Result<Redeemed, RedeemError> {
        Ok(self.change(|store| store.redeem(shared, cluster, token, key, now))??)
    }

    fn change<T>(&self, change: impl FnOnce(&mut TokenStore) -> T) -> Result<T, PkiError> {
        if let Some(directory) = self.path.parent() {
            secret_dir::make_private_dir(directory)?;
        }
        // The lock is on a file of its own, because the token file is replaced by renaming.
        let lock = secret_dir::lock(&self.path.with_extension("lock"))?;
        let mut store = self.load()?;
        let before = store.clone();
        let result = change(&mut store);
        if store != before {
            let mut json = serde_json::to_vec_pretty(&store)
                .map_err(|error| PkiError::TokenFile { path: self.path.clone(), reason: error.to_string() })?;
            json.push(b'\n');
            secret_dir::write_atomically(&self.path, &json)?;
        }
        drop(lock);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::token_store::DEFAULT_TOKEN_LIFE;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn of_many_who_race_for_a_token_one_gets_it() {
        let state = tempfile::tempdir().unwrap();
        let cluster = ClusterName::new("c1").unwrap();
        let (_, token) = TokenFile::new(state.path()).issue(&cluster, NOW, DEFAULT_TOKEN_LIFE).unwrap();
        let (won, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..16u8 {
                let (state, cluster, token, won, used) = (&state, &cluster, &token, &won, &used);
                scope.spawn(move || {
                    // Each has its own handle, as separate processes have.
                    match TokenFile::new(state.path()).redeem(None, cluster, token, &[n; 32], NOW) {
                        Ok(_) => won.fetch_add(1, Ordering::Relaxed),
                        Err(RedeemError::Refused(TokenRefusal::AlreadyUsed { .. })) => {
                            used.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(other) => panic!("{other}"),
                    };
                });
            }
        });
        assert_eq!((won.into_inner(), used.into_inner()), (1, 15));
    }

    #[test]
    fn uses_survive_a_restart_and_a_bad_file_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let cluster = ClusterName::new("c1").unwrap();
        let file = TokenFile::new(state.path());
        let (id, token) = file.issue(&cluster, NOW, DEFAULT_TOKEN_LIFE).unwrap();
        file.redeem(None, &cluster, &token, &[1; 32], NOW).unwrap();
        let reopened = TokenFile::new(state.path());
        assert!(reopened.load().unwrap().tokens()[&id].used.is_some());
        assert!(reopened.redeem(None, &cluster, &token, &[2; 32], NOW).is_err());

        let path = state.path().join(TOKEN_FILE);
        fs::write(&path, "{\"tokens\":{").unwrap();
        assert_eq!(file.issue(&cluster, NOW, DEFAULT_TOKEN_LIFE).unwrap_err().code(), "MR0311");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"tokens\":{");
    }
}
