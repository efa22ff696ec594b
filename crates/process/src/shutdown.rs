//! Clean shutdown on SIGTERM or Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was told twice to end: that of a shell for SIGINT.
const IMPATIENT: i32 = 130;

/// Cancels the token at the first SIGTERM or SIGINT. A second one ends the process at once.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signal(token: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for again in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if again {
                tracing::warn!(signal = name, "ending at once");
                std::process::exit(IMPATIENT);
            }
            tracing::info!(signal = name, "shutting down");
            token.cancel();
        }
    });
    Ok(())
}
