//! The server's state folder: makes what self-signed operation needs, and never remakes what exists.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::authority::{Authority, DEFAULT_LEAF_VALIDITY, DEFAULT_ROOT_VALIDITY, ServerNames};
use crate::certificate;
use crate::error::PkiError;
use crate::reload::ReloadingAuthority;
use crate::renewal::{GraceRatio, Validity};
use crate::secret_dir::{
    CA_CERT, ROOT_SECRET, SERVER_SECRET, SIGNING_SECRET, SecretDir, TLS_CERT, TLS_KEY, TOKEN, TOKEN_SECRET, lock,
    make_private_dir,
};
use crate::tls::{FilePair, ServerFiles};
use crate::token::Token;
use crate::token_file::TokenFile;
use crate::watch::{Watched, required};

/// How the server makes what is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOptions {
    /// Names in the server's certificate.
    pub names: ServerNames,
    /// Life of a new root.
    pub root_validity: SignedDuration,
    /// Life of a new server certificate.
    pub server_validity: SignedDuration,
    /// When the server's certificate is renewed.
    pub grace_ratio: GraceRatio,
    /// Whether to make a shared token (`relay.disableTokenGeneration: false`).
    pub generate_token: bool,
}

impl ServerOptions {
    /// The defaults, for a management plane in a namespace, reachable from the same machine too.
    pub fn new(namespace: &str) -> Self {
        Self {
            names: ServerNames { namespace: namespace.to_owned(), additional: Vec::new(), local: true },
            root_validity: DEFAULT_ROOT_VALIDITY,
            server_validity: DEFAULT_LEAF_VALIDITY,
            grace_ratio: GraceRatio::default(),
            generate_token: true,
        }
    }
}

/// What the server holds in its state folder.
#[derive(Debug)]
pub struct ServerState {
    directory: PathBuf,
    options: ServerOptions,
    authority: Arc<ReloadingAuthority>,
    authority_watch: Option<Watched>,
    shared_token: Option<Token>,
}

impl ServerState {
    /// Loads the state folder and makes what is missing: root, signing authority (the root again), server certificate, shared
    /// token. What exists stays as it is; only a server certificate that this authority signed is replaced when it is due
    /// for renewal or lacks a name.
    ///
    /// # Errors
    /// Anything that exists but cannot be used, or a secret with some of its files missing. Nothing is overwritten then.
    pub fn load_or_create(directory: &Path, options: &ServerOptions, now: Timestamp) -> Result<Self, PkiError> {
        make_private_dir(directory)?;
        // Two servers that start on one new folder must not each make a root.
        let lock = lock(&directory.join("relay-secrets.lock"))?;
        let root = SecretDir::new(directory, ROOT_SECRET);
        let signing = SecretDir::new(directory, SIGNING_SECRET);
        ensure_authority(&root, &signing, options, now)?;
        let paths = vec![signing.file(TLS_CERT), signing.file(TLS_KEY), root.file(CA_CERT)];
        let load = |contents: &_, paths: &[PathBuf]| {
            let file = |index| required(contents, paths, index);
            Authority::load(file(0)?, file(1)?, file(2)?, &format!("{SIGNING_SECRET} and {ROOT_SECRET}"))
        };
        let (authority, loaded) = Watched::load("signing authority", paths, |contents, paths| {
            load(contents, paths).map(ReloadingAuthority::new)
        })?;
        let target = Arc::clone(&authority);
        let authority_watch =
            Some(loaded.then(move |contents, paths| load(contents, paths).map(|new| target.replace(new))));
        let shared_token = ensure_token(&SecretDir::new(directory, TOKEN_SECRET), options.generate_token)?;
        let state = Self {
            directory: directory.to_owned(),
            options: options.clone(),
            authority,
            authority_watch,
            shared_token,
        };
        state.renew_server_certificate(now)?;
        drop(lock);
        Ok(state)
    }

    /// Makes the server's certificate if there is none, and replaces one that this authority signed when it is due for renewal
    /// or lacks a name; whether it did. Call it from time to time; the new files are then picked up like any others.
    ///
    /// # Errors
    /// A certificate or key that exists but cannot be used; it is left as it is.
    pub fn renew_server_certificate(&self, now: Timestamp) -> Result<bool, PkiError> {
        let secret = SecretDir::new(&self.directory, SERVER_SECRET);
        let [chain, key] = secret.read([TLS_CERT, TLS_KEY])?;
        let authority = self.authority.current();
        match (chain, key) {
            (None, None) => {}
            (Some(chain), Some(key)) => {
                let origin = format!("{} and {TLS_KEY}", secret.file(TLS_CERT).display());
                let pair = certificate::parse_pair(&chain, &key, &origin)?;
                let leaf = pair.end_entity_cert().map_err(PkiError::tls)?;
                let due = Validity::of(leaf, &origin)?.renewal_due(self.options.grace_ratio, now);
                let complete = has_names(leaf, &self.options.names, &origin)?;
                if !authority.has_signed(leaf) || (!due && complete) {
                    return Ok(false);
                }
            }
            (None, Some(_)) => return Err(missing(secret.file(TLS_CERT), "restore it, or remove its key as well")),
            (Some(_), None) => {
                return Err(missing(secret.file(TLS_KEY), "restore it, or remove the certificate as well"));
            }
        }
        let made = authority.sign_server(&self.options.names, now, self.options.server_validity)?;
        secret.replace(&[
            (CA_CERT, authority.bundle_pem().as_bytes()),
            (TLS_CERT, made.certificate.chain_pem.as_bytes()),
            (TLS_KEY, made.key_pem.as_bytes()),
        ])?;
        tracing::info!(until = %made.certificate.validity.not_after, "made a server certificate");
        Ok(true)
    }

    /// The authority that signs agents' certificates; it follows its files when [`ServerState::take_watch`] is polled.
    pub fn authority(&self) -> Arc<ReloadingAuthority> {
        Arc::clone(&self.authority)
    }

    /// What to poll so that the authority follows its files; once.
    pub fn take_watch(&mut self) -> Option<Watched> {
        self.authority_watch.take()
    }

    /// The authorities that agents must trust, PEM: what goes into their `ca.crt`.
    pub fn root_ca_pem(&self) -> String {
        self.authority.current().bundle_pem().to_owned()
    }

    /// The token that all clusters share, if there is one.
    pub fn shared_token(&self) -> Option<&Token> {
        self.shared_token.as_ref()
    }

    /// The single-use tokens.
    pub fn tokens(&self) -> TokenFile {
        TokenFile::new(&self.directory)
    }

    /// The files of a server that asks for client certificates (mTLS).
    pub fn mtls_files(&self) -> ServerFiles {
        let client_ca = Some(SecretDir::new(&self.directory, ROOT_SECRET).file(CA_CERT));
        ServerFiles { client_ca, ..self.simple_tls_files() }
    }

    /// The files of a server that does not (simple TLS).
    pub fn simple_tls_files(&self) -> ServerFiles {
        let secret = SecretDir::new(&self.directory, SERVER_SECRET);
        let certificate = FilePair { certificate: secret.file(TLS_CERT), key: secret.file(TLS_KEY) };
        ServerFiles { certificate, client_ca: None }
    }
}

fn missing(path: PathBuf, hint: &'static str) -> PkiError {
    PkiError::Missing { path, hint }
}

/// Sees to a root bundle and a signing pair.
fn ensure_authority(
    root: &SecretDir,
    signing: &SecretDir,
    options: &ServerOptions,
    now: Timestamp,
) -> Result<(), PkiError> {
    let [root_cert, root_key] = root.read([CA_CERT, TLS_KEY])?;
    let [signing_ca, signing_cert, signing_key] = signing.read([CA_CERT, TLS_CERT, TLS_KEY])?;
    let write_signing = |certificate: &[u8], key: &[u8]| {
        signing.replace(&[(CA_CERT, certificate), (TLS_CERT, certificate), (TLS_KEY, key)])
    };
    match (signing_cert, signing_key) {
        (Some(certificate), Some(_)) => match root_cert {
            Some(_) => Ok(()),
            None => {
                let ca = signing_ca.unwrap_or(certificate);
                let key = root_key.as_deref().map(|key| (TLS_KEY, key.as_slice()));
                root.replace(&std::iter::once((CA_CERT, ca.as_slice())).chain(key).collect::<Vec<_>>())
            }
        },
        (Some(_), None) => Err(missing(signing.file(TLS_KEY), "restore the key of the signing certificate")),
        (None, Some(_)) => Err(missing(signing.file(TLS_CERT), "restore the signing certificate of this key")),
        (None, None) => match (root_cert, root_key) {
            (Some(certificate), Some(key)) => {
                // Checked before it is copied, so that a bad root is reported where it lies.
                Authority::load(&certificate, &key, &certificate, &root.file(CA_CERT).display().to_string())?;
                write_signing(&certificate, &key)
            }
            (Some(_), None) => Err(missing(
                root.file(TLS_KEY),
                "restore it, give a signing certificate in relay-tls-signing-secret, or use your own certificates",
            )),
            (None, Some(_)) => Err(missing(root.file(CA_CERT), "restore the root certificate of this key")),
            (None, None) => {
                let authority = Authority::create(now, options.root_validity)?;
                let (certificate, key): (_, Zeroizing<String>) = (authority.certificate_pem(), authority.key_pem());
                root.replace(&[(CA_CERT, certificate.as_bytes()), (TLS_KEY, key.as_bytes())])?;
                write_signing(certificate.as_bytes(), key.as_bytes())?;
                tracing::info!(until = %authority.validity().not_after, "made a root certificate");
                Ok(())
            }
        },
    }
}

fn ensure_token(secret: &SecretDir, generate: bool) -> Result<Option<Token>, PkiError> {
    let [text] = secret.read([TOKEN])?;
    if let Some(text) = text {
        return Token::new(&String::from_utf8_lossy(&text), &secret.file(TOKEN).display().to_string()).map(Some);
    }
    if !generate {
        return Ok(None);
    }
    let token = Token::generate();
    secret.replace(&[(TOKEN, token.reveal().as_bytes())])?;
    Ok(Some(token))
}

fn has_names(leaf: &CertificateDer<'_>, names: &ServerNames, origin: &str) -> Result<bool, PkiError> {
    let parsed = certificate::parse_x509(leaf, origin)?;
    let sans = parsed
        .subject_alternative_name()
        .map_err(|error| PkiError::Certificate { origin: origin.to_owned(), reason: error.to_string() })?;
    let present: Vec<String> = sans
        .iter()
        .flat_map(|san| &san.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|ip| ip.to_string()),
            _ => None,
        })
        .collect();
    Ok(names.all().iter().all(|name| present.contains(name)))
}
