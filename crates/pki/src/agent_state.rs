//! The agent's state folder: whom it trusts, its token, and its certificate with the next one in preparation.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::certificate;
use crate::cluster_name::ClusterName;
use crate::csr;
use crate::error::PkiError;
use crate::reload::ReloadingClientCert;
use crate::renewal::Validity;
use crate::secret_dir::{
    CA_CERT, CLIENT_SECRET, ROOT_SECRET, SecretDir, TLS_CERT, TLS_KEY, TOKEN, TOKEN_SECRET, make_private_dir,
};
use crate::tls::{ClientFiles, FilePair};
use crate::token::Token;

/// Secret of the key that waits for its certificate.
const NEXT_SECRET: &str = "relay-client-tls-secret-next";

/// What an agent holds in its state folder.
#[derive(Clone, Debug)]
pub struct AgentState {
    directory: PathBuf,
}

/// The agent's certificate as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its intermediates, PEM.
    pub chain_pem: String,
    /// In which time it is valid.
    pub validity: Validity,
}

impl AgentState {
    /// Opens a state folder; it is made if it does not exist.
    ///
    /// # Errors
    /// [`PkiError::Write`] when it cannot be made.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        make_private_dir(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Puts in place what an agent needs before it registers: the authorities to trust and, where there is one, a token.
    ///
    /// # Errors
    /// Malformed PEM, or what keeps the files from being written.
    pub fn bootstrap(&self, root_ca_pem: &str, token: Option<&Token>) -> Result<(), PkiError> {
        certificate::parse_certificates(root_ca_pem.as_bytes(), "the root certificate given")?;
        self.secret(ROOT_SECRET).replace(&[(CA_CERT, root_ca_pem.as_bytes())])?;
        token.map_or(Ok(()), |token| self.secret(TOKEN_SECRET).replace(&[(TOKEN, token.reveal().as_bytes())]))
    }

    /// The token to register with.
    ///
    /// # Errors
    /// [`PkiError::TokenText`] when the file holds no token.
    pub fn token(&self) -> Result<Option<Token>, PkiError> {
        let secret = self.secret(TOKEN_SECRET);
        let [text] = secret.read([TOKEN])?;
        let origin = secret.file(TOKEN).display().to_string();
        text.map(|text| Token::new(&String::from_utf8_lossy(&text), &origin)).transpose()
    }

    /// The agent's certificate; `None` before it has registered.
    ///
    /// # Errors
    /// A certificate or key that exists but cannot be used.
    pub fn certificate(&self) -> Result<Option<ClientCertificate>, PkiError> {
        let secret = self.secret(CLIENT_SECRET);
        let [chain, key] = secret.read([TLS_CERT, TLS_KEY])?;
        let (Some(chain), Some(key)) = (chain, key) else { return Ok(None) };
        let origin = secret.file(TLS_CERT).display().to_string();
        let validity = check_pair(&chain, &key, &origin)?;
        Ok(Some(ClientCertificate { chain_pem: String::from_utf8_lossy(&chain).into_owned(), validity }))
    }

    /// A signing request (DER) for a new certificate. Its key is kept on disk until the certificate is stored, and asked for
    /// again until then, so that an answer that got lost costs no token.
    ///
    /// # Errors
    /// What keeps the key from being made, read or written.
    pub fn signing_request(&self, cluster: &ClusterName) -> Result<Vec<u8>, PkiError> {
        let next = self.secret(NEXT_SECRET);
        let [waiting] = next.read([TLS_KEY])?;
        let [current] = self.secret(CLIENT_SECRET).read([TLS_KEY])?;
        // The same key as the present one's: the last store was cut off after its work was done.
        if let Some(key) = waiting.filter(|key| current.as_ref() != Some(key)) {
            let origin = next.file(TLS_KEY).display().to_string();
            match csr::generate_for_key(cluster, &String::from_utf8_lossy(&key), &origin) {
                Ok(request) => return Ok(request),
                // Nothing depends on it yet, so a new one is better than an agent that never gets a certificate.
                Err(error) => tracing::warn!(%error, "made a new key in place of one that cannot be read"),
            }
        }
        let made = csr::generate(cluster)?;
        next.replace(&[(TLS_KEY, made.key_pem.as_bytes())])?;
        Ok(made.der)
    }

    /// Stores the certificate that answers the last signing request, with its key and the authorities that came with it, in one
    /// step; the old certificate stays in force until then, and for ever if this fails.
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`] when it is for another key; malformed PEM; what keeps the files from being written.
    pub fn store(&self, chain_pem: &str, ca_pem: &str) -> Result<Validity, PkiError> {
        let next = self.secret(NEXT_SECRET);
        let [key] = next.read([TLS_KEY])?;
        let key: Zeroizing<Vec<u8>> = key.ok_or_else(|| PkiError::Missing {
            path: next.file(TLS_KEY),
            hint: "register again, so that a new key is made",
        })?;
        let validity = check_pair(chain_pem.as_bytes(), &key, "the answer to the registration")?;
        certificate::parse_certificates(ca_pem.as_bytes(), "the answer to the registration")?;
        self.secret(CLIENT_SECRET).replace(&[
            (CA_CERT, ca_pem.as_bytes()),
            (TLS_CERT, chain_pem.as_bytes()),
            (TLS_KEY, &key),
        ])?;
        next.remove()?;
        Ok(validity)
    }

    /// Puts the stored certificate in force at once, instead of at the next poll; whether there is one.
    ///
    /// # Errors
    /// A certificate or key that exists but cannot be used; what was in force stays.
    pub fn load_into(&self, certificate: &ReloadingClientCert) -> Result<bool, PkiError> {
        let secret = self.secret(CLIENT_SECRET);
        let [chain, key] = secret.read([TLS_CERT, TLS_KEY])?;
        let (Some(chain), Some(key)) = (chain, key) else { return Ok(false) };
        certificate.replace(&chain, &key, &secret.file(TLS_CERT).display().to_string())?;
        Ok(true)
    }

    /// The files of an agent that shows its certificate (mTLS). The server is trusted under the authorities given at the start
    /// and under those that came with the certificate, so that a change of roots reaches agents by renewal.
    pub fn mtls_files(&self) -> ClientFiles {
        let client = self.secret(CLIENT_SECRET);
        let certificate = FilePair { certificate: client.file(TLS_CERT), key: client.file(TLS_KEY) };
        ClientFiles {
            server_ca: vec![self.secret(ROOT_SECRET).file(CA_CERT), client.file(CA_CERT)],
            certificate: Some(certificate),
        }
    }

    /// The files of an agent that shows a token only (simple TLS).
    pub fn simple_tls_files(&self) -> ClientFiles {
        ClientFiles { server_ca: vec![self.secret(ROOT_SECRET).file(CA_CERT)], certificate: None }
    }

    fn secret(&self, name: &str) -> SecretDir {
        SecretDir::new(&self.directory, name)
    }
}

/// Checks that a chain and a key belong together; the validity of the certificate.
fn check_pair(chain: &[u8], key: &[u8], origin: &str) -> Result<Validity, PkiError> {
    let leaf = certificate::parse_pair(chain, key, origin)?;
    let leaf = leaf.end_entity_cert().map_err(PkiError::tls)?;
    Validity::of(leaf, origin)
}
