use std::net::SocketAddr;
use std::path::PathBuf;

use meshrelay_pki::PkiError;
use meshrelay_process::logging::LoggingError;
use meshrelay_process::settings::SettingsError;
use meshrelay_store::StoreError;

/// Why the management server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Logging.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A setting without which there is nothing to do.
    #[error("expected the setting {setting}, found none; {hint} (MR0600)")]
    Missing {
        /// Name of the setting.
        setting: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Certificates, keys, tokens.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Settings of the snapshot store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {what}: {source}; is another process using it? (MR0601)")]
    Listen {
        /// What it is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Something of the operating system that a process needs.
    #[error("cannot start: {0} (MR0602)")]
    System(#[from] std::io::Error),
    /// The settings cannot be printed.
    #[error("cannot print the settings: {0} (MR0603)")]
    Print(#[from] serde_saphyr::ser::Error),
    /// A file in the state folder cannot be used.
    #[error("cannot use {}: {source}; repair it or move it away (MR0604)", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
