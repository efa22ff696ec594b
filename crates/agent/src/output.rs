use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshrelay_cluster::{ApplyError, ApplyMode, ApplyOutcome, Cluster};
use meshrelay_process::machine::{self, Clock};
use meshrelay_process::readiness::Readiness;
use meshrelay_relay::grpc::Applier;
use meshrelay_relay::{ApplyReport, Held, ObjectResult, Outcome};
use meshrelay_snapshot::{ContentHash, Frozen, Object, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::deletions::{Approval, DeletionFiles, HeldDeletions};
use crate::held_output::HeldOutputFile;
use crate::in_force::{self, InForce};
use crate::metrics::{OfCluster, Reason};
use crate::retry::Retry;
use crate::status::{FrozenStatus, HeldStatus, WaitingStatus};
use crate::takeover::Takeover;
use crate::{AgentError, AgentStatus, DeleteBrake, Metrics};

/// How often it is looked for an approval while deletions are held: a person waits for it.
const APPROVAL_CHECK: Duration = Duration::from_secs(1);

/// Applies outputs to the cluster and keeps the last one on disk.
pub(crate) struct Outputs<C> {
    pub(crate) cluster: Arc<C>,
    pub(crate) clock: Clock,
    pub(crate) file: HeldOutputFile,
    /// Held from the look at what is in force until it is kept. One output is applied at a time.
    pub(crate) in_force: tokio::sync::Mutex<InForce>,
    pub(crate) brake: DeleteBrake,
    pub(crate) deletions: DeletionFiles,
    pub(crate) metrics: Metrics,
    pub(crate) status: Arc<watch::Sender<AgentStatus>>,
    pub(crate) readiness: Readiness,
    pub(crate) takeover: Arc<Takeover>,
    pub(crate) hold: Hold,
    /// When what failed of the last output is tried again.
    pub(crate) retry: Mutex<Retry>,
}

/// What keeps deletions from being carried out, between two outputs.
pub(crate) struct Hold {
    /// What the brake holds, as on disk.
    held: watch::Sender<Option<HeldDeletions>>,
    /// The approval that was looked at last, so that one that does not help is not tried again and again.
    tried: Mutex<Option<Approval>>,
    /// The last output was applied while the server that made it was in doubt.
    in_doubt: AtomicBool,
}

impl Hold {
    /// Goes on from what is on disk.
    pub(crate) async fn load(files: &DeletionFiles, clock: &Clock) -> Self {
        let held = blocking(files, DeletionFiles::held).await.unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known which deletions are held, so those that are due wait for approval");
            // Of nothing, every share is too much.
            let (since, objects) = (clock.now(), Default::default());
            Some(HeldDeletions { since, present: 0, output: ContentHash::default(), objects })
        });
        Self { held: watch::Sender::new(held), tried: Mutex::default(), in_doubt: AtomicBool::new(false) }
    }
}

/// How an output is applied and why.
struct Plan {
    mode: ApplyMode,
    /// Why deletions are held, if they are.
    reason: String,
    /// The brake's judgement; `None` if it has nothing to judge.
    braked: Option<Option<HeldDeletions>>,
    /// The cluster could not be read; it may be the next time.
    is_unread: bool,
}

impl<C: Cluster> Outputs<C> {
    async fn plan(&self, snapshot: &Snapshot) -> Plan {
        let held_back = |reason: String| Plan { mode: ApplyMode::AddOnly, reason, braked: None, is_unread: false };
        if let Some(doubt) = snapshot.meta().any_doubt() {
            return held_back(doubt.to_owned());
        }
        let doubt = self.takeover.doubt();
        if let Some(doubt) = doubt {
            self.hold.in_doubt.store(true, Ordering::Relaxed);
            return held_back(doubt);
        }
        let surplus = match self.cluster.surplus(snapshot).await {
            Ok(surplus) => surplus,
            Err(error) => return Plan { is_unread: true, ..held_back(error.to_string()) },
        };
        let before = self.hold.held.borrow().clone();
        let approval = match &before {
            None => None,
            Some(_) => blocking(&self.deletions, DeletionFiles::approval).await.unwrap_or_else(|error| {
                tracing::error!(%error, "an approval cannot be read");
                None
            }),
        };
        *self.hold.tried.lock() = approval.clone();
        let verdict =
            self.brake.judge(before.as_ref(), approval.as_ref(), &surplus, snapshot.digest(), self.clock.now());
        let reason = verdict.held.as_ref().map_or_else(String::new, |held| {
            format!(
                "the delete brake holds {} deletions: expected an output to take at most {} % of the {} objects that \
                 the cluster has from us (MR0705)",
                held.objects.len(),
                self.brake.max_percent,
                held.present
            )
        });
        Plan { mode: verdict.mode, reason, braked: Some(verdict.held), is_unread: false }
    }

    /// Puts what the brake holds on disk, before anything of the output is applied.
    async fn hold(&self, held: &HeldDeletions, reason: &str) {
        let before = self.hold.held.send_replace(Some(held.clone()));
        if before.as_ref() == Some(held) {
            return;
        }
        if before.is_none_or(|before| before.objects != held.objects) {
            let digest = held.digest().short();
            tracing::warn!(code = "MR0705", digest, since = %held.since, reason, "deletions wait for meshctl approve");
        }
        let kept = held.clone();
        if let Err(error) = blocking(&self.deletions, move |files| files.keep_held(Some(&kept))).await {
            tracing::error!(%error, "what is held could not be kept for the next start");
        }
    }

    /// Lets go of what was held and of the approval, once it is done. What failed is tried again under the same approval.
    async fn settle(&self, plan: &Plan, outcome: &ApplyOutcome) {
        let Some(held) = &plan.braked else { return };
        let failed = |failure: &meshrelay_cluster::ApplyFailure| {
            self.hold.held.borrow().as_ref().is_some_and(|held| held.objects.contains(&failure.key))
                || matches!(&plan.mode, ApplyMode::Only(keys) if keys.contains(&failure.key))
        };
        if outcome.failed.iter().any(failed) {
            return;
        }
        let mut done = Ok(());
        if held.is_none() && self.hold.held.borrow().is_some() {
            done = blocking(&self.deletions, |files| files.keep_held(None)).await;
            self.hold.held.send_replace(None);
            tracing::info!(deleted = outcome.deleted.len(), "no deletions are held any more");
        }
        let approval = self.hold.tried.lock().take();
        if let (Some(approval), Ok(())) = (approval, &done) {
            done = blocking(&self.deletions, move |files| files.forget_approval(&approval)).await;
        }
        if let Err(error) = done {
            tracing::error!(%error, "an approval that was carried out could not be removed");
        }
    }

    /// What is in force from now on, on disk together with the output, before anything of it is applied: an agent that dies
    /// in between goes on from here and never back behind it. Also tells whether all of that could be kept.
    async fn follow(&self, held: &Held) -> Result<(Frozen, bool), ApplyError> {
        let mut in_force = self.in_force.lock().await;
        let frozen = in_force.follow(held, &*self.cluster).await?;
        let kept = match in_force.keep(held).await {
            Ok(()) => {
                let (file, output) = (self.file.clone(), held.clone());
                machine::blocking(move || file.store(&output)).await.flatten()
            }
            // The output alone would have the next process delete what is kept now.
            Err(error) => Err(error),
        };
        let done = match kept {
            Ok(()) => in_force.forget(held).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &done {
            tracing::error!(%error, "the output could not be kept for the next start; it is applied all the same");
        }
        Ok((frozen, done.is_ok()))
    }

    /// Nothing of an output is applied as long as the cluster cannot be read: nobody knows what it would take away.
    fn put_off(&self, held: &Held, error: &ApplyError) -> ApplyReport {
        let reason = format!("what is in force is not known: {error}");
        let what_to_do = "it goes on by itself once the cluster can be read".to_owned();
        let message = format!("{reason}; {what_to_do}");
        let before = self.status.borrow().waiting.clone();
        if before.as_ref().is_none_or(|before| before.reason != reason) {
            tracing::warn!(version = held.version(), reason, what_to_do, "an output is not applied yet");
        }
        self.show_waiting(Some(WaitingStatus {
            reason,
            since: before.map_or_else(|| self.clock.now(), |before| before.since),
            what_to_do,
        }));
        self.retry.lock().attempted(&[], true, Instant::now());
        let waiting = |object: &Arc<Object>| ObjectResult {
            key: object.key().clone(),
            outcome: Outcome::Held,
            message: message.clone(),
        };
        let results = held.visible().sorted().into_iter().map(waiting).collect();
        ApplyReport::new(held.version(), held.digest(), 0, results)
    }

    /// Shows why nothing of an output is applied.
    fn show_waiting(&self, waiting: Option<WaitingStatus>) {
        let note = waiting.as_ref().map(|waiting| format!("{}; {}", waiting.reason, waiting.what_to_do));
        self.readiness.note("cluster", note);
        if self.status.borrow().waiting != waiting {
            self.status.send_modify(|status| status.waiting = waiting);
        }
    }

    /// Shows what is kept as not everything is known.
    fn show_frozen(&self, frozen: &Frozen) {
        let before = self.status.borrow().frozen.clone();
        let now = in_force::describe(frozen, &before, self.clock.now());
        self.metrics.frozen.clear();
        for (cluster, status) in &now {
            let gauge = self.metrics.frozen.get_or_create(&OfCluster { cluster: cluster.to_string() });
            gauge.set(i64::try_from(status.deletions + status.changes).unwrap_or(i64::MAX));
            if !before.contains_key(cluster) {
                let FrozenStatus { deletions, changes, reason, what_to_do, .. } = status;
                tracing::warn!(%cluster, deletions, changes, reason, what_to_do, "what depends on a cluster is kept as it was");
            }
        }
        for cluster in before.keys().filter(|cluster| !now.contains_key(*cluster)) {
            tracing::info!(%cluster, "nothing is kept on account of the cluster any more");
        }
        let note = now.values().next().map(|first| {
            let all: usize = now.values().map(|status| status.deletions + status.changes).sum();
            format!("{all} objects are kept as they were: {}; {}", first.reason, first.what_to_do)
        });
        self.readiness.note("frozen", note);
        if now != before {
            self.status.send_modify(|status| status.frozen = now);
        }
    }

    /// Shows what is held and why.
    fn show(&self, plan: &Plan, outcome: &ApplyOutcome) {
        let held = outcome.held.len();
        let braked = plan.braked.is_some();
        for (reason, count) in [("brake", if braked { held } else { 0 }), ("incomplete", if braked { 0 } else { held })]
        {
            let gauge = self.metrics.deletions_held.get_or_create(&Reason { reason });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let hold = self.hold.held.borrow().clone().filter(|_| braked);
        let shown = (held > 0).then(|| HeldStatus {
            objects: held,
            reason: plan.reason.clone(),
            since: hold.as_ref().map_or_else(|| self.clock.now(), |hold| hold.since),
            digest: hold.as_ref().map(HeldDeletions::digest),
            what_to_do: if let Some(hold) = &hold {
                let (cluster, digest) = (self.cluster.name(), hold.digest().short());
                format!("if it is meant: meshctl approve --cluster {cluster} --digest {digest}")
            } else {
                "it goes on by itself once everything is known again".to_owned()
            },
        });
        self.readiness.note("deletions", shown.as_ref().map(|held| format!("{}; {}", held.reason, held.what_to_do)));
        self.status.send_modify(|status| {
            let before = status.held.take().filter(|before| before.digest.is_none());
            status.held = shown.map(|shown| HeldStatus {
                // Not known completely is one thing for as long as it lasts, whatever it is that is not known.
                since: before.filter(|_| shown.digest.is_none()).map_or(shown.since, |before| before.since),
                ..shown
            });
        });
    }

    /// What the server is told, object by object.
    fn report(&self, held: &Held, frozen: &Frozen, outcome: &ApplyOutcome) -> ApplyReport {
        let shown = self.status.borrow();
        let failed = outcome.failed.iter().map(|failure| ObjectResult {
            key: failure.key.clone(),
            outcome: Outcome::Failed,
            message: failure.error.to_string(),
        });
        let held_because =
            shown.held.as_ref().map_or_else(String::new, |held| format!("{}; {}", held.reason, held.what_to_do));
        let kept = outcome.held.iter().map(|key| ObjectResult {
            key: key.clone(),
            outcome: Outcome::Held,
            message: held_because.clone(),
        });
        let frozen_results = frozen.kept.iter().map(|(key, kept)| {
            let what_to_do = kept.because.as_ref().and_then(|cluster| Some(&shown.frozen.get(cluster)?.what_to_do));
            let message = what_to_do.map_or_else(|| kept.reason.clone(), |what| format!("{}; {what}", kept.reason));
            ObjectResult { key: key.clone(), outcome: Outcome::Held, message }
        });
        let results: Vec<_> = failed.chain(kept).chain(frozen_results).collect();
        let applied = (outcome.applied.len() + outcome.unchanged).saturating_sub(frozen.kept.len()) as u64;
        ApplyReport::new(held.version(), held.digest(), applied, results)
    }
}

impl<C: Cluster> Applier for Outputs<C> {
    async fn apply(&self, held: Held) -> ApplyReport {
        let started = Instant::now();
        let output = held.visible();
        // Whatever holds deletions now may be something else.
        self.hold.in_doubt.store(false, Ordering::Relaxed);
        let (frozen, is_kept) = match self.follow(&held).await {
            Ok(followed) => followed,
            Err(error) => return self.put_off(&held, &error),
        };
        self.show_waiting(None);
        let snapshot = &frozen.in_force;
        let plan = self.plan(snapshot).await;
        if let Some(Some(held)) = &plan.braked {
            self.hold(held, &plan.reason).await;
        }
        let outcome = self.cluster.apply(snapshot, plan.mode.clone()).await;
        self.in_force.lock().await.applied(&outcome);
        self.settle(&plan, &outcome).await;
        self.show(&plan, &outcome);
        self.show_frozen(&frozen);
        self.metrics.pull_time.observe(started.elapsed().as_secs_f64());
        self.metrics.output_objects.set(i64::try_from(output.len()).unwrap_or(i64::MAX));
        self.metrics.write_failures.inc_by(outcome.failed.len() as u64);
        for failure in self.retry.lock().attempted(&outcome.failed, !is_kept || plan.is_unread, Instant::now()) {
            let expected = matches!(failure.error, ApplyError::NotOurs { .. });
            tracing::warn!(object = %failure.key, error = %failure.error, expected, "an object was not applied");
        }
        if !outcome.held.is_empty() && plan.braked.is_none() {
            tracing::warn!(held = outcome.held.len(), reason = plan.reason, "deletions are held");
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
            status.output_digest = Some(held.digest());
            status.output_objects = output.len();
            status.failed_objects = outcome.failed.len();
        });
        self.report(&held, &frozen, &outcome)
    }

    /// When somebody has approved what is held, a server that took over is believed, or it is time to try again what failed.
    async fn due(&self) {
        let over = async {
            if self.takeover.doubt().is_some() || !self.hold.in_doubt.load(Ordering::Relaxed) {
                self.takeover.over().await;
            }
        };
        let retry_at = self.retry.lock().at();
        let again = async {
            match retry_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.approved() => {}
            () = over => {}
            () = again => {}
        }
    }
}

impl<C: Cluster> Outputs<C> {
    /// Ends when there is an approval that was not tried yet.
    async fn approved(&self) {
        let mut held = self.hold.held.subscribe();
        loop {
            // The sender lives as long as `self`, so the wait cannot fail.
            let since = held.wait_for(Option::is_some).await.ok().and_then(|held| Some(held.as_ref()?.since));
            tokio::time::sleep(APPROVAL_CHECK).await;
            let approval = blocking(&self.deletions, DeletionFiles::approval).await.unwrap_or_default();
            if approval.as_ref().is_some_and(|approval| Some(approval.since) == since)
                && approval != *self.hold.tried.lock()
            {
                return;
            }
        }
    }
}

/// Does something with files where it holds nobody up.
async fn blocking<T: Send + 'static>(
    files: &DeletionFiles,
    work: impl FnOnce(&DeletionFiles) -> Result<T, AgentError> + Send + 'static,
) -> Result<T, AgentError> {
    let files = files.clone();
    let done = machine::blocking(move || work(&files)).await;
    done.unwrap_or_else(|error| Err(AgentError::System(error)))
}

#[cfg(test)]
mod tests;
