//! Readiness that can say what it waits for: a process is ready when every [`BlockReady`] is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// The tasks that a process still waits for. Clones share the same state.
#[derive(Clone, Debug)]
pub struct Readiness {
    pending: Arc<Mutex<BTreeSet<String>>>,
    ready: Arc<watch::Sender<bool>>,
    notes: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

/// Keeps the process unready until dropped.
#[derive(Debug)]
#[must_use = "the task counts as done when this is dropped"]
pub struct BlockReady {
    task: String,
    readiness: Readiness,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { pending: Arc::default(), ready: Arc::new(watch::Sender::new(true)), notes: Arc::default() }
    }
}

impl Readiness {
    /// A process that waits for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process becomes unready until the returned guard is dropped. `task` says what is waited for, such as
    /// `first translation`.
    pub fn register_task(&self, task: impl Into<String>) -> BlockReady {
        let task = task.into();
        self.pending.lock().insert(task.clone());
        self.ready.send_replace(false);
        BlockReady { task, readiness: self.clone() }
    }

    /// The tasks that are waited for, in the order of their names.
    pub fn pending(&self) -> Vec<String> {
        self.pending.lock().iter().cloned().collect()
    }

    /// Says something that a person should know although the process is ready; `None` takes it back. `about` tells notes
    /// apart.
    pub fn note(&self, about: &'static str, note: Option<String>) {
        let mut notes = self.notes.lock();
        match note {
            Some(note) => drop(notes.insert(about, note)),
            None => drop(notes.remove(about)),
        }
    }

    /// The notes, in the order of what they are about.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().values().cloned().collect()
    }

    /// Waits until nothing is pending.
    pub async fn ready(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        let mut pending = self.readiness.pending.lock();
        pending.remove(&self.task);
        tracing::info!(task = self.task, still_waiting = pending.len(), "task complete");
        self.readiness.ready.send_replace(pending.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_ready_when_nothing_is_pending() {
        let readiness = Readiness::new();
        readiness.ready().await;
        let first = readiness.register_task("first listing");
        let second = readiness.register_task("first translation");
        assert_eq!(readiness.pending(), ["first listing", "first translation"]);
        drop(first);
        assert_eq!(readiness.pending(), ["first translation"]);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        drop(second);
        waiting.await.unwrap();
    }
}
