use std::net::SocketAddr;
use std::path::PathBuf;

use meshrelay_pki::PkiError;
use meshrelay_process::logging::LoggingError;
use meshrelay_process::settings::SettingsError;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Logging.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A setting without which there is nothing to do.
    #[error("expected the setting {setting}, found none; {hint} (MR0700)")]
    Missing {
        /// Name of the setting.
        setting: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A setting that makes no sense.
    #[error("expected the setting {setting} to be {expected}, found {found} (MR0706)")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What is set.
        found: String,
    },
    /// Certificates, keys, tokens.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The name of the cluster.
    #[error(transparent)]
    ClusterName(#[from] meshrelay_pki::cluster_name::ClusterNameError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {what}: {source}; is another process using it? (MR0701)")]
    Listen {
        /// What it is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Something of the operating system that a process needs.
    #[error("cannot start: {0} (MR0702)")]
    System(#[from] std::io::Error),
    /// The settings cannot be printed.
    #[error("cannot print the settings: {0} (MR0703)")]
    Print(#[from] serde_saphyr::ser::Error),
    /// The state folder cannot be written.
    #[error("cannot use {}: {source} (MR0704)", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
