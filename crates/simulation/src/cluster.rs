//! A cluster as its agent sees it: what it holds, and what is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meshrelay_cluster::{Applied, ApplyError, ApplyFailure, ApplyMode, ApplyOutcome, Cluster, ClusterView, Surplus};
use meshrelay_snapshot::{ContentHash, Name, Object, ObjectKey, Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::picture::content;
use crate::trace::{Context, note};

pub(crate) struct SimulatedCluster {
    name: Name,
    context: Arc<Context>,
    pub(crate) views: watch::Sender<Arc<ClusterView>>,
    applied: Mutex<BTreeMap<ObjectKey, Arc<Object>>>,
    /// The versions on record, and the digest of what was desired last.
    record: Mutex<(BTreeMap<Name, u64>, Option<ContentHash>)>,
    /// The API server refuses to list.
    pub(crate) is_unreadable: Mutex<bool>,
}

impl SimulatedCluster {
    pub(crate) fn new(name: &str, context: &Arc<Context>, view: Arc<ClusterView>) -> Self {
        Self {
            name: name.into(),
            context: Arc::clone(context),
            views: watch::Sender::new(view),
            applied: Mutex::default(),
            record: Mutex::default(),
            is_unreadable: Mutex::default(),
        }
    }

    pub(crate) fn applied(&self) -> BTreeMap<ObjectKey, Arc<Object>> {
        self.applied.lock().clone()
    }

    fn readable(&self) -> Result<(), ApplyError> {
        if !*self.is_unreadable.lock() {
            return Ok(());
        }
        Err(ApplyError::Unreadable { place: self.name.to_string(), reason: "the API server is away".to_owned() })
    }

    /// Each step takes its time now and then, and the agent may die meanwhile.
    async fn pause(&self) {
        let fate = self.context.fate(self.name.as_bytes().iter().map(|byte| u64::from(*byte)).sum());
        if fate.percent(15) {
            tokio::time::sleep(Duration::from_millis(1) + fate.millis(30)).await;
        }
    }

    async fn record(&self, desired: &Snapshot) -> Result<(), ApplyError> {
        let record = (desired.meta().basis.clone(), Some(desired.digest()));
        if *self.record.lock() != record {
            self.pause().await;
            self.readable()?;
            *self.record.lock() = record;
        }
        Ok(())
    }

    fn judge(&self, key: &ObjectKey, before: &Object, after: Option<&Object>) {
        let (before, after) = (content(before), after.map(content));
        let judged = self.context.oracle.lock().lost(&self.name, key, &before, after.as_deref());
        if let Err(failure) = judged {
            self.context.fail(failure);
        }
    }
}

impl Cluster for SimulatedCluster {
    fn name(&self) -> &Name {
        &self.name
    }

    fn watch(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.views.subscribe()
    }

    async fn apply(&self, desired: &Snapshot, mode: ApplyMode) -> ApplyOutcome {
        let mut outcome = ApplyOutcome::default();
        let recorded = self.record(desired).await;
        if let Err(error) = recorded {
            let failed = |object: &Arc<Object>| ApplyFailure { key: object.key().clone(), error: error.clone() };
            outcome.failed.extend(desired.sorted().into_iter().map(failed));
            return outcome;
        }
        {
            let applied = self.applied.lock();
            let is_as_before = |object: &Object| applied.get(object.key()).is_some_and(|is| is.hash() == object.hash());
            let objects = desired.iter().map(|object| (object.key(), content(object), !is_as_before(object)));
            self.context.oracle.lock().wanted(&self.name, desired.meta(), objects);
        }
        for object in desired.sorted() {
            let key = object.key();
            let before = self.applied.lock().get(key).cloned();
            if before.as_ref().is_some_and(|before| before.hash() == object.hash()) {
                outcome.unchanged += 1;
                continue;
            }
            self.pause().await;
            if let Err(error) = self.readable() {
                outcome.failed.push(ApplyFailure { key: key.clone(), error });
                continue;
            }
            if let Some(before) = &before {
                self.judge(key, before, Some(object));
            }
            self.applied.lock().insert(key.clone(), Arc::clone(object));
            outcome.applied.push(key.clone());
        }
        let rest: Vec<_> = self.applied.lock().keys().filter(|key| desired.get(key).is_none()).cloned().collect();
        for key in rest {
            if !mode.allows(&key) || *self.is_unreadable.lock() {
                outcome.held.push(key);
                continue;
            }
            self.pause().await;
            if let Some(before) = self.applied.lock().remove(&key) {
                self.judge(&key, &before, None);
            }
            outcome.deleted.push(key);
        }
        let (applied, deleted, held) = (outcome.applied.len(), outcome.deleted.len(), outcome.held.len());
        let basis: Vec<_> = desired.meta().basis.iter().map(|(name, version)| format!("{name}@{version}")).collect();
        note!(self.context, "{} applied {applied}, deleted {deleted}, held {held}: made from {basis:?}", self.name);
        outcome
    }

    async fn surplus(&self, desired: &Snapshot) -> Result<Surplus, ApplyError> {
        self.pause().await;
        self.readable()?;
        let applied = self.applied.lock();
        let objects: BTreeSet<_> = applied.keys().filter(|key| desired.get(key).is_none()).cloned().collect();
        Ok(Surplus { present: applied.len(), objects })
    }

    async fn current(&self) -> Result<Applied, ApplyError> {
        self.pause().await;
        self.readable()?;
        let mut snapshot: Snapshot = self.applied.lock().values().cloned().collect();
        let (basis, desired) = self.record.lock().clone();
        snapshot.set_meta(SnapshotMeta { basis, ..SnapshotMeta::default() });
        Ok(Applied { snapshot, desired })
    }
}
