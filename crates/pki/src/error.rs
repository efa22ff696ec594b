//! What can go wrong while certificates, keys and secrets are read, made or stored.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of this crate that an operator has to look at. Every variant carries a code with a page in the documentation.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file exists but could not be read, or a needed one is missing.
    #[error("could not read {path}: {source} (MR0300)")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file could not be written; what was there before is untouched.
    #[error("could not write {path}: {source} (MR0301)")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes that should be PEM are not, or hold something else.
    #[error("expected {expected} in {origin}, found {found} (MR0302)")]
    Pem {
        /// What was looked for, with its article.
        expected: &'static str,
        /// The file or message the bytes came from.
        origin: String,
        /// What is there instead.
        found: String,
    },
    /// A certificate does not parse or cannot be used.
    #[error("the certificate in {origin} cannot be used: {reason} (MR0303)")]
    Certificate {
        /// The file or message it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key does not parse or has an unsupported type.
    #[error("the private key in {origin} cannot be used: {reason} (MR0304)")]
    Key {
        /// The file or message it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key belong to different key pairs.
    #[error(
        "the certificate and the private key in {origin} do not belong together; replace both files with one pair (MR0305)"
    )]
    KeyMismatch {
        /// Where both came from.
        origin: String,
    },
    /// A certificate that should sign others may not.
    #[error("the certificate in {origin} cannot sign others: {reason}; give a CA certificate with its key (MR0306)")]
    NotAnAuthority {
        /// Where it came from.
        origin: String,
        /// Which property is missing.
        reason: String,
    },
    /// Making or signing a certificate failed.
    #[error("could not make the {what}: {reason} (MR0307)")]
    Issue {
        /// What was being made.
        what: &'static str,
        /// What the library said.
        reason: String,
    },
    /// A secret has some of its files but not the one that is needed.
    #[error("{path} is missing: {hint} (MR0308)")]
    Missing {
        /// The missing file.
        path: PathBuf,
        /// What to do about it.
        hint: &'static str,
    },
    /// rustls refused a configuration.
    #[error("could not set up TLS: {reason} (MR0309)")]
    Tls {
        /// What rustls said.
        reason: String,
    },
    /// A name cannot be a subject alternative name.
    #[error("`{name}` cannot be a name in a certificate; expected a DNS name or an IP address (MR0310)")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A file of issued tokens cannot be understood; it is left as it is.
    #[error(
        "the token file {path} cannot be read: {reason}; restore it, or remove it and issue the unused tokens again (MR0311)"
    )]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// As many single-use tokens are outstanding as the file may hold.
    #[error("{limit} single-use tokens are outstanding; revoke some, or wait until they expire (MR0312)")]
    TooManyTokens {
        /// The limit.
        limit: usize,
    },
    /// A setting is outside what makes sense.
    #[error("{setting} is {found}; expected {expected} (MR0313)")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// The value as given.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A token's text cannot be a token.
    #[error("the token in {origin} cannot be used: {reason} (MR0314)")]
    TokenText {
        /// Where it came from.
        origin: String,
        /// What is wrong with it; never the token itself.
        reason: &'static str,
    },
}

impl PkiError {
    /// The code with which the documentation explains this failure, such as `MR0300`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "MR0300",
            Self::Write { .. } => "MR0301",
            Self::Pem { .. } => "MR0302",
            Self::Certificate { .. } => "MR0303",
            Self::Key { .. } => "MR0304",
            Self::KeyMismatch { .. } => "MR0305",
            Self::NotAnAuthority { .. } => "MR0306",
            Self::Issue { .. } => "MR0307",
            Self::Missing { .. } => "MR0308",
            Self::Tls { .. } => "MR0309",
            Self::Name { .. } => "MR0310",
            Self::TokenFile { .. } => "MR0311",
            Self::TooManyTokens { .. } => "MR0312",
            Self::Setting { .. } => "MR0313",
            Self::TokenText { .. } => "MR0314",
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn issue(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |error| Self::Issue { what, reason: error.to_string() }
    }

    pub(crate) fn tls(error: impl std::fmt::Display) -> Self {
        Self::Tls { reason: error.to_string() }
    }
}
