use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshrelay_cluster::{ApplyError, ApplyMode, ApplyOutcome, Cluster};
use meshrelay_process::machine::{self, Clock};
use meshrelay_process::readiness::Readiness;
use meshrelay_relay::grpc::Applier;
use meshrelay_relay::{ApplyReport, Held, ObjectResult, Outcome};
use meshrelay_snapshot::{Frozen, Object, ObjectKey};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use self::hold::blocking;
use crate::brake;
use crate::deletions::{DeletionFiles, HeldDeletions};
use crate::held_output::HeldOutputFile;
use crate::in_force::{self, InForce};
use crate::metrics::{OfCluster, Reason};
use crate::retry::Retry;
use crate::status::{FrozenStatus, HeldStatus, WaitingStatus};
use crate::takeover::Takeover;
use crate::{AgentStatus, DeleteBrake, Metrics};

pub(crate) use self::hold::Hold;

/// What to do where a file of the state folder cannot be written.
const MAKE_ROOM: &str = "it goes on by itself once the state folder can be written: make room there";

const ONCE_READABLE: &str = "it goes on by itself once the cluster can be read";

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

/// How an output is applied and why.
struct Plan {
    mode: ApplyMode,
    /// Why deletions are held, if they are.
    reason: String,
    /// What to do about that, if the brake does not hold them.
    what_to_do: &'static str,
    /// The brake's judgement; `None` if it has nothing to judge.
    braked: Option<Option<HeldDeletions>>,
    /// Something failed that may succeed the next time.
    again: bool,
}

impl Plan {
    /// Nothing is deleted.
    fn held_back(reason: String, what_to_do: &'static str) -> Self {
        Self { mode: ApplyMode::AddOnly, reason, what_to_do, braked: None, again: false }
    }
}

impl<C: Cluster> Outputs<C> {
    async fn plan(&self, frozen: &Frozen) -> Plan {
        const ONCE_KNOWN: &str = "it goes on by itself once everything is known again";
        let snapshot = &frozen.in_force;
        if let Some(doubt) = snapshot.meta().any_doubt() {
            return Plan::held_back(doubt.to_owned(), ONCE_KNOWN);
        }
        let doubt = self.takeover.doubt();
        if let Some(doubt) = doubt {
            self.hold.in_doubt.store(true, Ordering::Relaxed);
            return Plan::held_back(doubt, ONCE_KNOWN);
        }
        let mut surplus = match self.cluster.surplus(snapshot).await {
            Ok(surplus) => surplus,
            Err(error) => return Plan { again: true, ..Plan::held_back(error.to_string(), ONCE_KNOWN) },
        };
        let before = self.hold.held.borrow().clone();
        // What is held stays so while it is kept for another reason too, or that would end the hold.
        let held = before.iter().flat_map(|before| &before.objects);
        surplus.objects.extend(held.filter(|key| is_frozen(frozen, key)).cloned());
        let approval = match &before {
            None => None,
            Some(_) => blocking(&self.deletions, DeletionFiles::approval).await.unwrap_or_else(|error| {
                tracing::error!(%error, "an approval cannot be read");
                None
            }),
        };
        *self.hold.tried.lock() = approval.clone();
        let recent = self.hold.recent.lock().clone().unwanted(|key| snapshot.get(key).is_some());
        let (digest, now) = (snapshot.digest(), self.clock.now());
        let verdict = self.brake.judge(before.as_ref(), approval.as_ref(), &recent, &surplus, digest, now);
        if let Err(error) = self.count(&verdict.recent).await {
            tracing::error!(%error, "what is deleted could not be kept for the next start");
            // What is held is not deleted, and what was counted before still is.
            if verdict.held.is_none() {
                let reason = format!("what is deleted cannot be counted: {error}");
                return Plan { again: true, ..Plan::held_back(reason, MAKE_ROOM) };
            }
        }
        let reason = verdict.held.as_ref().map_or_else(String::new, |held| {
            let gone = match verdict.recent.len() {
                0 => String::new(),
                gone => format!(" after {gone} within {} minutes", brake::WINDOW.as_mins()),
            };
            format!(
                "the delete brake holds {} deletions{gone}: expected outputs to take at most {} % of the {} objects \
                 that the cluster has from us (MR0705)",
                held.objects.len(),
                self.brake.max_percent,
                held.present
            )
        });
        Plan { mode: verdict.mode, reason, what_to_do: "", braked: Some(verdict.held), again: false }
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
            // What is there is older than what will be in force.
            let file = self.file.clone();
            let removed = (in_force.remove().await, machine::blocking(move || file.remove()).await.flatten());
            if let (Err(error), _) | (_, Err(error)) = removed {
                tracing::warn!(%error, "an older output stays on disk; the next start will find that it is not in force");
            }
        }
        Ok((frozen, done.is_ok()))
    }

    /// The last output as it was read back, if that is what was applied last. Otherwise what the cluster has stays as it is until a
    /// server says what it wants: it may be newer.
    pub(crate) async fn resumed(&self, read_back: Option<Held>) -> Option<Held> {
        let read_back = read_back?;
        let reason = match self.in_force.lock().await.look(&*self.cluster).await {
            Ok(true) => return Some(read_back),
            Ok(false) => "the last output on disk is not what was applied here last".to_owned(),
            Err(error) => not_known(&error),
        };
        self.wait(reason, "it goes on by itself once a server gives the output");
        None
    }

    /// Nothing of an output is applied: as long as the cluster cannot be read nobody knows what it would take away.
    fn put_off(&self, held: &Held, reason: String, what_to_do: &str) -> ApplyReport {
        let message = self.wait(reason, what_to_do);
        self.retry.lock().attempted(&[], true, Instant::now());
        let waiting = |object: &Arc<Object>| ObjectResult {
            key: object.key().clone(),
            outcome: Outcome::Held,
            message: message.clone(),
        };
        let results = held.visible().sorted().into_iter().map(waiting).collect();
        ApplyReport::new(held.version(), held.digest(), 0, results)
    }

    /// Says why nothing of an output is applied, and what is to be done about it.
    fn wait(&self, reason: String, what_to_do: &str) -> String {
        let message = format!("{reason}; {what_to_do}");
        let before = self.status.borrow().waiting.clone();
        if before.as_ref().is_none_or(|before| before.reason != reason) {
            tracing::warn!(reason, what_to_do, "an output is not applied yet");
        }
        let since = before.map_or_else(|| self.clock.now(), |before| before.since);
        self.show_waiting(Some(WaitingStatus { reason, since, what_to_do: what_to_do.to_owned() }));
        message
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
    fn show(&self, plan: &Plan, frozen: &Frozen, outcome: &ApplyOutcome) {
        let braked = plan.braked.is_some();
        let held = match &plan.braked {
            Some(hold) => hold.as_ref().map_or(0, |hold| hold.objects.len()),
            // What is kept on account of one cluster is shown with that.
            None => outcome.held.len() + frozen.kept.values().filter(|kept| kept.because.is_none()).count(),
        };
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
                plan.what_to_do.to_owned()
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
            let what_to_do = match &kept.because {
                Some(cluster) => shown.frozen.get(cluster).map(|status| &status.what_to_do),
                None => shown.held.as_ref().map(|status| &status.what_to_do),
            };
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
            Err(error) => return self.put_off(&held, not_known(&error), ONCE_READABLE),
        };
        let mut plan = self.plan(&frozen).await;
        if let Some(Some(deletions)) = &plan.braked {
            match self.hold(deletions, &plan.reason).await {
                Ok(is_kept) => plan.again |= !is_kept,
                Err(error) => {
                    self.in_force.lock().await.not_applied();
                    let reason = format!("what the delete brake holds cannot be kept: {error}");
                    return self.put_off(&held, reason, MAKE_ROOM);
                }
            }
        }
        self.show_waiting(None);
        let outcome = self.cluster.apply(&frozen.in_force, plan.mode.clone()).await;
        self.in_force.lock().await.applied(&outcome);
        self.settle(&plan, &frozen, &outcome).await;
        self.show(&plan, &frozen, &outcome);
        self.show_frozen(&frozen);
        self.metrics.pull_time.observe(started.elapsed().as_secs_f64());
        self.metrics.output_objects.set(i64::try_from(output.len()).unwrap_or(i64::MAX));
        self.metrics.write_failures.inc_by(outcome.failed.len() as u64);
        for failure in self.retry.lock().attempted(&outcome.failed, !is_kept || plan.again, Instant::now()) {
            let expected = matches!(failure.error, ApplyError::NotOurs { .. });
            tracing::warn!(object = %failure.key, error = %failure.error, expected, "an object was not applied");
        }
        if let Some(held) = self.status.borrow().held.as_ref().filter(|_| plan.braked.is_none()) {
            tracing::warn!(held = held.objects, reason = held.reason, "deletions are held");
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

/// Whether the output lacks an object that is kept.
fn is_frozen(frozen: &Frozen, key: &ObjectKey) -> bool {
    frozen.kept.get(key).is_some_and(|kept| !kept.changed)
}

fn not_known(error: &ApplyError) -> String {
    format!("what is in force is not known: {error}")
}

mod hold;
#[cfg(test)]
mod tests;
