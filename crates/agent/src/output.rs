use std::sync::Arc;
use std::time::Instant;

use meshrelay_cluster::{ApplyError, ApplyMode, Cluster};
use meshrelay_relay::grpc::Applier;
use meshrelay_relay::{ApplyReport, Held, ObjectResult, Outcome};
use tokio::sync::watch;

use crate::held_output::HeldOutputFile;
use crate::{AgentStatus, Metrics};

/// Applies outputs to the cluster and keeps the last one on disk.
pub(crate) struct Outputs<C> {
    pub(crate) cluster: Arc<C>,
    pub(crate) file: HeldOutputFile,
    pub(crate) metrics: Metrics,
    pub(crate) status: Arc<watch::Sender<AgentStatus>>,
}

impl<C: Cluster> Applier for Outputs<C> {
    async fn apply(&self, held: Held) -> ApplyReport {
        let started = Instant::now();
        // Kept before it is applied: an agent that dies in between goes on from here and never back behind it.
        let (file, kept) = (self.file.clone(), held.clone());
        let stored = tokio::task::spawn_blocking(move || file.store(&kept)).await;
        if let Err(error) = stored.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::error!(%error, "the output could not be kept for the next start; it is applied all the same");
        }
        let snapshot = held.visible();
        let doubt = snapshot.meta().any_doubt();
        let mode = if doubt.is_some() { ApplyMode::AddOnly } else { ApplyMode::Complete };
        let outcome = self.cluster.apply(snapshot, mode).await;
        self.metrics.pull_time.observe(started.elapsed().as_secs_f64());
        self.metrics.output_objects.set(i64::try_from(snapshot.len()).unwrap_or(i64::MAX));
        self.metrics.write_failures.inc_by(outcome.failed.len() as u64);
        let failed = outcome.failed.iter().map(|failure| ObjectResult {
            key: failure.key.clone(),
            outcome: Outcome::Failed,
            message: failure.error.to_string(),
        });
        let kept = outcome.held.iter().map(|key| ObjectResult {
            key: key.clone(),
            outcome: Outcome::Held,
            message: doubt.unwrap_or("what is applied could not all be read").to_owned(),
        });
        let results: Vec<_> = failed.chain(kept).collect();
        for failure in &outcome.failed {
            let expected = matches!(failure.error, ApplyError::NotOurs { .. });
            tracing::warn!(object = %failure.key, error = %failure.error, expected, "an object was not applied");
        }
        if !outcome.held.is_empty() {
            tracing::warn!(held = outcome.held.len(), reason = doubt, "deletions are held");
        }
        if !outcome.applied.is_empty() || !outcome.deleted.is_empty() {
            tracing::info!(
                version = held.version(),
                applied = outcome.applied.len(),
                deleted = outcome.deleted.len(),
                unchanged = outcome.unchanged,
                failed = outcome.failed.len(),
                "applied an output"
            );
        }
        self.status.send_modify(|status| {
            status.output_version = held.version();
            status.output_objects = snapshot.len();
            status.failed_objects = outcome.failed.len();
            status.held_objects = outcome.held.len();
        });
        let applied = (outcome.applied.len() + outcome.unchanged) as u64;
        ApplyReport::new(held.version(), held.digest(), applied, results)
    }
}
