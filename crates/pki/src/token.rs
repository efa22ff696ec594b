//! Registration tokens: made, read from secrets, compared in constant time, hashed before they are stored.

use rand::distr::{Alphanumeric, SampleString as _};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::PkiError;

/// Letters and digits of a token made here: 190 random bits.
const TOKEN_LENGTH: usize = 32;
/// Longest token that is read, so that a wrong file or message is noticed.
const MAX_TOKEN_BYTES: usize = 1024;
/// Separates these hashes from any other use of the same hash function.
const HASH_CONTEXT: &str = "meshrelay registration token v1";

/// A registration token in clear. Its debug form hides it, and its memory is wiped.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

/// The hash under which a token is stored and compared.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash([u8; 32]);

impl Token {
    /// Makes a random token of 32 letters and digits.
    pub fn generate() -> Self {
        Self(Zeroizing::new(Alphanumeric.sample_string(&mut rand::rng(), TOKEN_LENGTH)))
    }

    /// Reads a token; white space around it is dropped, because files end with a line break.
    ///
    /// # Errors
    /// [`PkiError::TokenText`] unless it is 1 to 1024 printable ASCII characters without spaces.
    pub fn new(text: &str, origin: &str) -> Result<Self, PkiError> {
        let refuse = |reason| Err(PkiError::TokenText { origin: origin.to_owned(), reason });
        let text = text.trim();
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_TOKEN_BYTES {
            return refuse("it is longer than 1024 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse("it has spaces, control or non-ASCII characters");
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The token in clear, to send it or to write it into a secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash. Tokens are random and long, so a fast hash suffices.
    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::derive_key(HASH_CONTEXT, self.0.as_bytes()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl TokenHash {
    /// Whether two hashes are equal, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The hash as 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Reads [`TokenHash::to_hex`].
    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_hide_themselves_and_hash_stably() {
        let (a, b) = (Token::generate(), Token::generate());
        assert_eq!(a.reveal().len(), TOKEN_LENGTH);
        assert!(!a.hash().matches(&b.hash()));
        assert!(!format!("{a:?}").contains(a.reveal()));
        let same = Token::new(&format!("{}\n", a.reveal()), "test").unwrap();
        assert!(a.hash().matches(&same.hash()));
        assert!(TokenHash::from_hex(&a.hash().to_hex()).unwrap().matches(&a.hash()));
        assert!(TokenHash::from_hex("12").is_none());
    }

    #[test]
    fn texts_that_cannot_be_tokens_are_refused_without_showing_them() {
        for bad in ["", " \n", "a b", "a\tb", "tokän", &"x".repeat(1025)] {
            let error = Token::new(bad, "relay-identity-token-secret/token").unwrap_err();
            assert_eq!(error.code(), "MR0314");
            assert!(bad.trim().is_empty() || !error.to_string().contains(bad));
        }
    }
}
