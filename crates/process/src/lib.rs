//! What every Meshrelay process has beside its own work: layered [`settings`], [`logging`], documented [`metrics`],
//! [`readiness`], its [`machine`], the [`admin`] endpoints for health and metrics, [`shutdown`], and the error codes of its messages.

pub mod admin;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod program;
pub mod readiness;
pub mod settings;
pub mod shutdown;

/// Version of this build, as `--version`, metrics and the relay handshake show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
