//! Keeps a file with the newest reports, beside the path of the outputs: writing it never delays them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshrelay_process::machine::blocking;
use meshrelay_translate::{Reports, ReportsDocument};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::replicas::Leadership;

/// After a failed write, when it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Writes the newest of `reports` whenever they change and this server leads, until their sender is gone; the last ones are
/// written then.
pub(crate) async fn keep(path: PathBuf, mut reports: watch::Receiver<Option<Arc<Reports>>>, mut leader: Leadership) {
    let mut again = None;
    loop {
        let at = again.take();
        let retry = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = reports.changed() => if changed.is_err() { return },
            // What another one found is there, and may be older.
            Ok(()) = leader.changed() => {}
            () = retry => {}
        }
        if leader.borrow_and_update().is_none() {
            continue;
        }
        let newest = reports.borrow_and_update().clone();
        let Some(newest) = newest else { continue };
        let file = path.clone();
        if let Err(error) = blocking(move || write(&file, &newest)).await.flatten() {
            tracing::warn!(%error, path = %path.display(), "the reports could not be written");
            again = Some(Instant::now() + RETRY);
        }
    }
}

fn write(path: &Path, reports: &Reports) -> std::io::Result<()> {
    let value = serde_json::to_value(ReportsDocument::from(reports))?;
    let temporary = path.with_extension("tmp");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&temporary, meshrelay_snapshot::to_yaml(&value))?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs until there are no more reports; tells whether the file was written.
    async fn is_written(token: Option<u64>) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.yaml");
        let (reports, newest) = watch::channel(None);
        let (_leads, leader) = watch::channel(token);
        reports.send_replace(Some(Arc::default()));
        drop(reports);
        keep(path.clone(), newest, leader).await;
        path.exists()
    }

    #[tokio::test]
    async fn the_leader_alone_writes_the_file() {
        assert!(is_written(Some(1)).await);
        assert!(!is_written(None).await);
    }

    #[tokio::test]
    async fn a_write_that_failed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.yaml");
        // In the way of the file.
        std::fs::create_dir(&path).unwrap();
        let (reports, newest) = watch::channel(None);
        let (_leads, leader) = watch::channel(Some(1));
        reports.send_replace(Some(Arc::default()));
        tokio::spawn(keep(path.clone(), newest, leader));
        let temporary = path.with_extension("tmp");
        let tried = async {
            // Twice.
            for _ in 0..2 {
                while std::fs::remove_file(&temporary).is_err() {
                    tokio::task::yield_now().await;
                }
            }
            std::fs::remove_dir(&path).unwrap();
            while !path.is_file() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), tried).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_leader_writes_what_it_found_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.yaml");
        let (reports, newest) = watch::channel(None);
        let (leads, leader) = watch::channel(None);
        reports.send_replace(Some(Arc::default()));
        tokio::spawn(keep(path.clone(), newest, leader));
        // On one thread: the task has gone as far as it can.
        tokio::task::yield_now().await;
        assert!(!path.exists());
        leads.send_replace(Some(1));
        let written = async {
            while !path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.unwrap();
    }
}
