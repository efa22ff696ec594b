//! The loop that translates whenever an input has changed and the gate is open.

mod gate;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_api::status::Approval;
use meshrelay_process::machine::blocking;
use meshrelay_process::readiness::BlockReady;
use meshrelay_snapshot::Name;
use meshrelay_translate::{Inputs, Reports, Severity, Translation, Translator};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::gate::Answer;
use crate::doubts::Doubts;
use crate::hub::ServerHub;
use crate::metrics::{FindingCounts, FindingLabels};
use crate::{Metrics, ServerStatus};

pub(crate) use self::gate::SafeMode;
pub(crate) use self::memory::Memory;

/// After a failed write of a state file, when it is tried again.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// How a translation is made of inputs of these versions. A simulation watches what is made of what, and remembers it.
#[derive(Clone)]
pub struct Translate(pub(crate) Arc<How>);

type How = dyn Fn(&mut Translator, &Inputs, &BTreeMap<Name, u64>) -> Translation + Send + Sync;

impl Default for Translate {
    fn default() -> Self {
        Self::new(|translator, inputs, _| translator.translate(inputs))
    }
}

impl std::fmt::Debug for Translate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Translate").finish_non_exhaustive()
    }
}

impl Translate {
    /// Translates as `how` says, which leaves the translator as a translation would.
    pub fn new(
        how: impl Fn(&mut Translator, &Inputs, &BTreeMap<Name, u64>) -> Translation + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(how))
    }
}

pub(crate) struct TranslationLoop {
    pub(crate) hub: Arc<ServerHub>,
    pub(crate) safe_mode: SafeMode,
    pub(crate) translator: Translator,
    pub(crate) memory: Memory,
    /// The newest reports, for whoever keeps them.
    pub(crate) reports: watch::Sender<Option<Arc<Reports>>>,
    pub(crate) stop: CancellationToken,
}

impl TranslationLoop {
    /// Runs until stopped. `ready` is released with the first translation, or once it waits for agents.
    pub(crate) async fn run(self, ready: BlockReady) {
        let Self { hub, mut safe_mode, mut translator, mut memory, reports, stop } = self;
        let metrics = hub.metrics.clone();
        let mut changes = hub.inputs.changes();
        let mut ready = Some(ready);
        // When the first change was made that is not in the outputs yet.
        let mut waiting = None;
        loop {
            let newest = *changes.borrow_and_update();
            let changed_at = *waiting.get_or_insert(newest);
            let again_at = match safe_mode.ask() {
                Answer::Wait { until, for_clusters } => {
                    if for_clusters {
                        // Agents may reach only those that are ready.
                        drop(ready.take());
                    }
                    until
                }
                Answer::Translate { inputs, versions, doubts } => {
                    let begun = Instant::now();
                    report_doubts(&hub, &doubts);
                    let outcome;
                    // They travel to a blocking thread and back.
                    let mut work = pin!(blocking(move || {
                        let outcome = memory.translate(&mut translator, &inputs, &versions);
                        (memory, translator, versions, outcome)
                    }));
                    let mut next = None;
                    let done = loop {
                        tokio::select! {
                            biased;
                            done = &mut work => break done,
                            Ok(()) = changes.changed(), if next.is_none() => next = Some(*changes.borrow()),
                        }
                    };
                    if next.is_some() {
                        changes.mark_changed();
                    }
                    let versions;
                    match done {
                        Ok(done) => (memory, translator, versions, outcome) = done,
                        Err(error) => {
                            // The memory is lost with the thread; a process that starts anew is better than one
                            // that serves what may be wrong.
                            tracing::error!(%error, "translation failed");
                            return stop.cancel();
                        }
                    }
                    match outcome {
                        Ok(translation) => {
                            hub.publish(&translation.outputs, &doubts, &versions);
                            reports.send_if_modified(|kept| {
                                let newest = &translation.reports;
                                let changed = kept.as_ref().is_none_or(|kept| !Arc::ptr_eq(kept, newest));
                                if changed {
                                    *kept = Some(Arc::clone(newest));
                                }
                                changed
                            });
                            observe(&hub, &metrics, &translation, begun, changed_at);
                            waiting = next;
                            drop(ready.take());
                            None
                        }
                        Err(error) => {
                            tracing::error!(%error, "cannot keep the state of translation; the outputs are not published yet");
                            Some(Instant::now() + WRITE_RETRY)
                        }
                    }
                }
            };
            let again = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }
}

fn report_doubts(hub: &ServerHub, doubts: &Doubts) {
    let of_clusters = doubts.clusters.values().map(|doubt| doubt.reason.as_str());
    let reasons: BTreeSet<&str> = doubts.everything.as_deref().into_iter().chain(of_clusters).collect();
    let doubt = (!reasons.is_empty()).then(|| reasons.into_iter().collect::<Vec<_>>().join("; "));
    if hub.status.borrow().deletions_held == doubt {
        return;
    }
    match &doubt {
        Some(reason) => {
            tracing::warn!(reason, "what depends on a cluster that is not known completely is kept for now")
        }
        None => tracing::info!("the inputs are complete: what is no longer wanted is deleted"),
    }
    hub.status.send_modify(|status| {
        let since = status.deletions_held_since.take().unwrap_or_else(|| hub.inputs.clock.now());
        status.deletions_held_since = doubt.is_some().then_some(since);
        status.deletions_held = doubt;
    });
}

fn observe(hub: &ServerHub, metrics: &Metrics, translation: &Translation, begun: Instant, changed_at: Instant) {
    let took = begun.elapsed();
    metrics.translation_time.observe(took.as_secs_f64());
    metrics.reconciler_time.observe(changed_at.elapsed().as_secs_f64());
    metrics.units_recomputed.inc_by(translation.stats.recomputed as u64);
    let (mut errors, mut warnings) = (FindingCounts::new(), FindingCounts::new());
    let mut problem_resources = 0;
    let mut findings = Vec::new();
    for (resource, report) in translation.reports.iter() {
        problem_resources += usize::from(report.approval() != Approval::Accepted);
        let room = ServerStatus::FINDINGS.saturating_sub(findings.len());
        findings.extend(report.messages.iter().take(room).map(|message| {
            format!("{resource}: {} {}: {}", message.severity.approval().as_str(), message.code, message.text)
        }));
        for (workspace, severity) in &report.workspaces {
            let found = match severity {
                None => continue,
                Some(Severity::Warning) => &mut warnings,
                Some(_) => &mut errors,
            };
            let labels = FindingLabels { workspace: workspace.to_string(), gvk: resource.key.gvk.to_string() };
            *found.entry(labels).or_default() += 1;
        }
    }
    metrics.show_findings(errors, warnings);
    let stats = translation.stats;
    tracing::debug!(?took, units = stats.units, recomputed = stats.recomputed, objects = stats.objects, "translated");
    hub.status.send_modify(|status| {
        status.translated_at = Some(hub.inputs.clock.now());
        status.translation_time = took;
        status.stats = stats;
        status.translations += 1;
        status.problem_resources = problem_resources;
        status.findings = findings;
        status.earlier_reports = None;
    });
}
