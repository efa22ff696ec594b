use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_pki::tls::TlsMode;
use meshrelay_relay::grpc::{Caller, Hub, Notice};
use meshrelay_relay::{Direction, End, Held, Outcome, Refusal, RefusalReason};
use meshrelay_snapshot::{Delta, Name, Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::doubts::Doubts;
use crate::inputs::Inputs;
use crate::metrics::ReasonLabel;
use crate::registrar::unknown_cluster;
use crate::replicas::{Rebalancing, StoredOutputs, connected};
use crate::state_file::StateFile;
use crate::warm::{self, WarmClusters};
use crate::{ClusterStatus, HeldDeletions, Metrics, ServerStatus};

/// How many of an agent's messages on objects that stay are looked at for the reasons: nearly all say the same.
const MESSAGES: usize = 1_000;

/// What streams read and write: inputs in, outputs out, status beside.
pub(crate) struct ServerHub {
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) outputs: Mutex<BTreeMap<Name, watch::Sender<Option<Arc<Snapshot>>>>>,
    pub(crate) status: Arc<watch::Sender<ServerStatus>>,
    pub(crate) metrics: Metrics,
    pub(crate) tls_mode: TlsMode,
    pub(crate) pki: Option<Arc<meshrelay_pki::registration::Registrar>>,
    /// Who is let in, where there are other replicas.
    pub(crate) rebalancing: Option<Arc<Rebalancing>>,
    /// Outputs in the store, where there is one.
    pub(crate) stored_outputs: Option<Arc<StoredOutputs>>,
    /// The file with the clusters that are warm, and what it says. Locked from the look at which are until it says so.
    pub(crate) warm_file: Mutex<(StateFile, WarmClusters)>,
}

impl ServerHub {
    /// Publishes outputs, made from inputs of these versions; a cluster whose output did not change is left alone. With doubts
    /// the outputs say that absence of what depends on these clusters is no order to delete.
    pub(crate) fn publish(
        &self,
        outputs: &BTreeMap<Name, Arc<Snapshot>>,
        doubts: &Doubts,
        versions: &BTreeMap<Name, u64>,
    ) {
        // One that was removed since would not be forgotten again.
        for (cluster, output) in outputs.iter().filter(|(cluster, _)| self.inputs.is_registered(cluster)) {
            let sender = self.output_of(cluster);
            let mut output = Snapshot::clone(output);
            output.set_meta(doubts.stated(output.meta(), versions));
            // By content: an equal output does not travel, so no report on it would come.
            let is_news = sender.borrow().as_ref().is_none_or(|published| {
                is_news(published, &output, || {
                    self.status.borrow().clusters.get(cluster).is_some_and(|of| of.held.is_some())
                })
            });
            if !is_news {
                continue;
            }
            let output = Arc::new(output);
            // In one step, so that no report on the output before counts for this one.
            self.status.send_modify(|status| {
                sender.send_replace(Some(Arc::clone(&output)));
                if let Some(status) = status.clusters.get_mut(cluster) {
                    status.output_objects = output.len();
                    // An agent that restarts may hold and have applied it already, before we knew that it is wanted.
                    status.applied = status.applied_digest == Some(output.digest());
                }
            });
        }
        if let Some(stored) = &self.stored_outputs {
            stored.changed();
        }
    }

    /// The output of a cluster, if there is one.
    pub(crate) fn published(&self, cluster: &Name) -> Option<Arc<Snapshot>> {
        self.outputs.lock().get(cluster)?.borrow().clone()
    }

    /// Whether translation has given outputs.
    pub(crate) fn has_published(&self) -> bool {
        self.outputs.lock().values().any(|output| output.borrow().is_some())
    }

    /// Forgets a cluster that is no longer registered.
    pub(crate) fn forget(&self, cluster: &Name) {
        self.outputs.lock().remove(cluster);
        if let Some(stored) = &self.stored_outputs {
            stored.forget(cluster);
        }
        let label = Metrics::cluster(cluster);
        self.metrics.input_withheld.remove(&label);
        self.metrics.withheld.remove(&label);
        self.metrics.write_failures.remove(&label);
        self.keep_warm();
        self.status.send_modify(|status| drop(status.clusters.remove(cluster)));
    }

    /// Writes the clusters that are warm, if the file says something else.
    pub(crate) fn keep_warm(&self) {
        let mut file = self.warm_file.lock();
        self.store_warm(&mut file, self.inputs.warm());
    }

    /// Takes the first input of a cluster, which is warm from now on.
    fn set_first(&self, cluster: &Name, input: Held, objects: usize) {
        let mut file = self.warm_file.lock();
        let mut warm = self.inputs.warm();
        let since = *warm.entry(cluster.clone()).or_insert_with(|| self.inputs.clock.now());
        if self.inputs.is_registered(cluster) {
            // On disk before anything is made from it: a server that dies in between waits for this cluster.
            self.store_warm(&mut file, warm);
            tracing::info!(%cluster, objects, "the agent sent its first input snapshot");
        }
        self.inputs.set(cluster, input, since);
    }

    fn store_warm(&self, (file, kept): &mut (StateFile, WarmClusters), warm: WarmClusters) {
        if *kept == warm {
            return;
        }
        match file.store(&warm) {
            Ok(()) => *kept = warm,
            Err(error) => {
                tracing::error!(%error, "cannot note which clusters are warm; after a restart others are waited for");
            }
        }
    }

    /// Shows in the status what is known of every registered cluster.
    pub(crate) fn show_known(&self) {
        let all = self.inputs.known();
        self.status.send_if_modified(|status| {
            let mut changed = false;
            for (cluster, known) in all {
                let Some(status) = status.clusters.get_mut(&cluster) else { continue };
                let conditions = [warm::cluster_warm(known.registered, known.warm)];
                let (version, objects) = known.input.unwrap_or_default();
                changed |= status.conditions != conditions
                    || status.input_unreadable != known.unreadable
                    || (status.input_version, status.input_objects) != (version, objects);
                status.warm = known.warm.is_some();
                status.conditions = conditions.into();
                status.has_input = known.input.is_some();
                status.input_unreadable = known.unreadable;
                (status.input_version, status.input_objects) = (version, objects);
            }
            changed
        });
    }

    fn output_of(&self, cluster: &Name) -> watch::Sender<Option<Arc<Snapshot>>> {
        self.outputs.lock().entry(cluster.clone()).or_insert_with(|| watch::Sender::new(None)).clone()
    }

    fn update(&self, cluster: &Name, change: impl FnOnce(&mut ClusterStatus)) {
        self.status.send_modify(|status| {
            // A refused stranger must not fill the table.
            if let Some(cluster) = status.clusters.get_mut(cluster) {
                change(cluster);
            }
        });
    }
}

/// Whether an output has to travel. That it was made from newer inputs is news only for an agent that keeps something: it may
/// have been waiting for them.
fn is_news(published: &Snapshot, output: &Snapshot, agent_keeps: impl FnOnce() -> bool) -> bool {
    let (before, meta) = (published.meta(), output.meta());
    let but_for_basis = SnapshotMeta { basis: before.basis.clone(), ..meta.clone() };
    let Delta { upserts, removes, .. } = output.diff(published);
    let is_same = upserts.is_empty() && removes.is_empty() && but_for_basis == *before;
    !is_same || (before.basis != meta.basis && agent_keeps())
}

impl Hub for ServerHub {
    fn authorize(&self, caller: &Caller) -> Result<(), Refusal> {
        let cluster = &caller.hello.cluster;
        if !self.inputs.is_registered(cluster) {
            return Err(unknown_cluster(cluster));
        }
        if self.tls_mode == TlsMode::SimpleTls {
            let token = caller.token.as_deref().unwrap_or_default();
            if !self.pki.as_ref().is_some_and(|pki| pki.is_shared_token(token)) {
                let message = "expected the relay token of this server with the stream, found another one or none";
                return Err(Refusal::new(RefusalReason::WrongToken, message));
            }
        }
        // An agent that would come from another plane is welcome: one of the replicas takes it.
        if let Some(rebalancing) = self.rebalancing.as_ref().filter(|_| !caller.only_asks) {
            let own = connected(&self.status.borrow()).into_keys().collect();
            rebalancing.admit(&own, cluster, caller.peer.source)?;
        }
        Ok(())
    }

    fn held_input(&self, cluster: &Name) -> Option<Held> {
        self.inputs.held(cluster)
    }

    fn on_input(&self, cluster: &Name, input: Held) {
        let objects = input.visible().len();
        let withheld = input.withheld();
        let count = i64::try_from(withheld.len()).unwrap_or(i64::MAX);
        self.metrics.input_withheld.get_or_create(&Metrics::cluster(cluster)).set(count);
        for object in withheld {
            tracing::warn!(%cluster, reason = object.reason(), "an object of the input did not travel");
        }
        let is_known = |reason: &&str| {
            let held = self.inputs.held(cluster);
            held.is_some_and(|held| held.visible().meta().is_stale_for(reason))
        };
        if let Some(reason) = input.visible().meta().any_doubt().filter(|reason| !is_known(reason)) {
            tracing::warn!(%cluster, reason, "not all of the input could be read: what is missing stays as it was");
        }
        if let Some(since) = self.inputs.warm_since(cluster) {
            self.inputs.set(cluster, input, since);
        } else {
            self.set_first(cluster, input, objects);
        }
        self.show_known();
    }

    fn outputs(&self, cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.output_of(cluster).subscribe()
    }

    fn last_output(&self, cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let stored = self.stored_outputs.as_ref().map(|stored| stored.last(cluster));
        stored.unwrap_or_else(|| watch::Sender::default().subscribe())
    }

    fn on_notice(&self, cluster: &Name, direction: Direction, notice: Notice) {
        let label = Metrics::cluster(cluster);
        let set = |status: &mut ClusterStatus, on| match direction {
            Direction::Push => status.pushing = on,
            Direction::Pull => status.pulling = on,
        };
        match notice {
            Notice::Connected { hello, .. } => {
                self.update(cluster, |status| {
                    set(status, true);
                    status.agent_version = hello.software_version;
                    status.connected_at = Some(self.inputs.clock.now());
                    status.last_error.clear();
                });
                if let Some(stored) = &self.stored_outputs {
                    stored.changed();
                }
            }
            Notice::HoldsNothing => {
                if let Some(stored) = &self.stored_outputs {
                    stored.holds_nothing(cluster);
                }
            }
            // Its successor is connected already.
            Notice::Disconnected(End::Superseded) => {}
            Notice::Disconnected(end) => {
                if let End::Refused(refusal) = &end {
                    self.metrics.refused(refusal);
                }
                self.update(cluster, |status| {
                    set(status, false);
                    status.last_error = end.to_string();
                });
            }
            Notice::Acknowledged { .. } => {}
            Notice::Withheld(objects) => {
                let count = i64::try_from(objects.len()).unwrap_or(i64::MAX);
                self.metrics.withheld.get_or_create(&label).set(count);
                for object in objects.iter() {
                    tracing::error!(%cluster, object = %object.key, bytes = object.bytes, "an object of the output is too large");
                }
            }
            Notice::Rejected { reason, message } => {
                self.metrics.rejected.get_or_create(&ReasonLabel { reason: reason.code() }).inc();
                self.update(cluster, |status| status.last_error = message);
            }
            Notice::Applied(report) => {
                let failed = report.results.iter().filter(|result| result.outcome == Outcome::Failed).count();
                self.metrics.write_failures.get_or_create(&label).inc_by(failed as u64);
                let held = report.results.into_iter().filter(|result| result.outcome == Outcome::Held);
                let messages: Vec<String> = held.map(|result| result.message).collect();
                let reasons: BTreeSet<&String> = messages.iter().take(MESSAGES).collect();
                let reasons = reasons.into_iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
                let held = (!messages.is_empty()).then_some((messages.len(), reasons));
                let output = self.output_of(cluster);
                if held.is_some() {
                    // It may wait for inputs that are here by now, and changed nothing else.
                    self.inputs.look_again();
                }
                self.update(cluster, |status| {
                    let since = status.held.take().map_or_else(|| self.inputs.clock.now(), |before| before.since);
                    status.held = held.map(|(objects, reason)| HeldDeletions { objects, reason, since });
                    let newest = output.borrow().as_ref().map(|output| output.digest());
                    status.applied_digest = Some(report.digest);
                    status.applied = newest == Some(report.digest);
                    status.failed_objects = failed;
                });
            }
        }
    }

    fn on_refused(&self, cluster: &str, refusal: &Refusal) {
        self.metrics.refused(refusal);
        if refusal.reason != RefusalReason::AtCapacity {
            self.update(&Name::from(cluster), |status| status.last_error = refusal.to_string());
        }
    }
}
