//! What is in force in the cluster: the last output, and what is kept beside it while not everything is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use meshrelay_cluster::{Applied, ApplyError, ApplyOutcome, Cluster};
use meshrelay_process::machine;
use meshrelay_relay::Held;
use meshrelay_snapshot::{Frozen, Name, Snapshot, freeze, is_doubtful};

use crate::held_output::HeldOutputFile;
use crate::status::FrozenStatus;

/// How what is in force follows an output: see [`freeze`], which it is by default.
#[derive(Clone, Copy)]
pub struct FollowRule(pub fn(before: &Snapshot, output: &Snapshot, own: &Name) -> Frozen);

impl Default for FollowRule {
    fn default() -> Self {
        Self(freeze)
    }
}

impl std::fmt::Debug for FollowRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FollowRule")
    }
}

/// What is in force, here and on disk.
pub(crate) struct InForce {
    /// There while what is in force is not the last output.
    file: HeldOutputFile,
    /// As far as it is known.
    snapshot: Option<Arc<Snapshot>>,
    /// Whether it is all that the cluster has of us. There can be more: what was to be deleted and was not.
    is_all: bool,
    /// Whether the cluster was looked at. What is on disk may be lost, or older: the disk was full.
    was_read: bool,
    rule: FollowRule,
}

impl InForce {
    /// Reads it back; `output` is the last output as it is on disk. Whether any of it counts, the cluster knows.
    pub(crate) fn load(state_directory: &Path, cluster: &Name, output: Option<&Held>) -> Self {
        let file = HeldOutputFile::in_force(state_directory, cluster.clone());
        let snapshot = match file.load() {
            // The other one was written without it.
            Ok(Some(in_force)) if output.is_none_or(|output| output.version() != in_force.version()) => None,
            Ok(Some(in_force)) => Some(Arc::clone(in_force.visible())),
            Ok(None) => output.map(|output| Arc::clone(output.visible())),
            Err(error) => {
                tracing::warn!(%error, "what is in force cannot be read back; the cluster itself is looked at");
                None
            }
        };
        Self { file, snapshot, is_all: false, was_read: false, rule: FollowRule::default() }
    }

    /// Follows outputs by another rule.
    #[must_use]
    pub(crate) fn with_rule(self, rule: FollowRule) -> Self {
        Self { rule, ..self }
    }

    /// Looks at the cluster. What it has counts, with what is known to be in force beside it; what was read back from disk is
    /// known to be only if the cluster has on record that it was applied last: the disk may have been full since, or another's, or
    /// is ahead because the process died before it applied anything. True if it is known.
    pub(crate) async fn look(&mut self, cluster: &impl Cluster) -> Result<bool, ApplyError> {
        let Applied { snapshot: mut all, desired } = cluster.current().await?;
        let known = self.snapshot.clone().unwrap_or_default();
        // A cluster that has nothing of us, and does not know of anything, is a new one.
        let is_new = all.is_empty() && desired.is_none();
        let is_known = self.was_read || is_new || (self.snapshot.is_some() && desired == Some(known.digest()));
        let mut meta = known.meta().clone();
        for (name, recorded) in &all.meta().basis {
            if meta.basis.get(name).is_none_or(|newest| newest < recorded) {
                meta.set_basis(name, *recorded, None);
            }
        }
        if is_known {
            known.iter().for_each(|object| drop(all.insert(Arc::clone(object))));
        } else {
            // It is not on record.
            meta.carried_inputs.clear();
        }
        all.set_meta(meta);
        self.snapshot = Some(Arc::new(all));
        self.was_read = true;
        Ok(is_known)
    }

    /// What is in force after an output. An error says why the cluster, which is looked at first, cannot be read: then nothing
    /// may be applied.
    pub(crate) async fn follow(&mut self, output: &Held, cluster: &impl Cluster) -> Result<Frozen, ApplyError> {
        let wanted = output.visible();
        let known = self.snapshot.clone().unwrap_or_default();
        if !self.was_read || (!self.is_all && is_doubtful(&known, wanted)) {
            self.look(cluster).await?;
        }
        let before = self.snapshot.take().unwrap_or_default();
        let frozen = (self.rule.0)(&before, wanted, cluster.name());
        self.snapshot = Some(Arc::new(frozen.in_force.clone()));
        Ok(frozen)
    }

    /// It was applied.
    pub(crate) fn applied(&mut self, outcome: &ApplyOutcome) {
        self.is_all = outcome.held.is_empty() && outcome.failed.is_empty();
    }

    /// It was not: the cluster can have more than what is known to be in force.
    pub(crate) fn not_applied(&mut self) {
        self.is_all = false;
    }

    /// Keeps it on disk. Before the output itself: an agent that dies in between repeats the step from either.
    pub(crate) async fn keep(&self, output: &Held) -> std::io::Result<()> {
        let Some(in_force) = self.snapshot.clone().filter(|in_force| **in_force != **output.visible()) else {
            return Ok(());
        };
        let (file, held) = (self.file.clone(), Held::restored(in_force, output.version()));
        blocking(move || file.store(&held)).await
    }

    /// Removes what is on disk, once the output that is there is in force as it is.
    pub(crate) async fn forget(&self, output: &Held) -> std::io::Result<()> {
        if self.snapshot.as_ref().is_none_or(|in_force| **in_force != **output.visible()) {
            return Ok(());
        }
        self.remove().await
    }

    /// Removes what is on disk.
    pub(crate) async fn remove(&self) -> std::io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.remove()).await
    }
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    machine::blocking(work).await.flatten()
}

/// What to tell about what is kept, by the cluster that it waits for.
pub(crate) fn describe(
    frozen: &Frozen,
    before: &BTreeMap<Name, FrozenStatus>,
    now: Timestamp,
) -> BTreeMap<Name, FrozenStatus> {
    let mut described: BTreeMap<Name, FrozenStatus> = BTreeMap::new();
    for kept in frozen.kept.values() {
        let Some(cluster) = &kept.because else { continue };
        let entry = described.entry(cluster.clone()).or_insert_with(|| FrozenStatus {
            deletions: 0,
            changes: 0,
            reason: kept.reason.clone(),
            since: before.get(cluster).map_or(now, |before| before.since),
            what_to_do: format!(
                "it goes on by itself once all of cluster {cluster} is known again: look at its agent; if the cluster is \
                 gone for good, delete its KubernetesCluster"
            ),
        });
        *(if kept.changed { &mut entry.changes } else { &mut entry.deletions }) += 1;
    }
    described
}
