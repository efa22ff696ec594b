//! What the replicas of a management plane tell each other through the store: the inputs of each other's agents, and
//! what translation remembers.
//!
//! A replica writes what its own agents send, and takes over what is newer than what it holds. Versions are counted by
//! the agents, so "newer" means the same to every replica, whatever its clock says and however long the store was away.

mod health;
mod inputs;
mod memory;
#[cfg(test)]
mod tests;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use meshrelay_store::{Changes, SnapshotStore, StoreError};
use tokio_util::sync::CancellationToken;

use self::health::StoreHealth;
use self::inputs::SharedInputs;
use self::unread::{Part, Unread};
use crate::Metrics;
use crate::inputs::Inputs;

pub(crate) use self::inputs::WARM;
pub(crate) use self::memory::{RightTree, Shareable, SharedMemory};

/// How long the store is asked to wait for changes: a bound for calls that hang, not for how fast changes are seen.
const FEED_WAIT: Duration = Duration::from_secs(2);

/// After a failed call, when it is made again.
const RETRY: Duration = Duration::from_millis(500);

/// What is done with the store, for the log.
const FOLLOWING: &str = "following changes";

/// The part of a replica that reads and writes the store.
pub(crate) struct Sharing {
    store: Arc<dyn SnapshotStore>,
    inputs: Arc<Inputs>,
    shared_inputs: SharedInputs,
    memory: Arc<SharedMemory>,
    health: StoreHealth,
}

impl Sharing {
    pub(crate) fn new(
        store: Arc<dyn SnapshotStore>,
        inputs: Arc<Inputs>,
        memory: Arc<SharedMemory>,
        metrics: Metrics,
        replica: impl Into<String>,
    ) -> Self {
        inputs.expect_store();
        let health = StoreHealth::new(Arc::clone(&store), metrics.clone());
        let shared_inputs = SharedInputs::new(Arc::clone(&store), Arc::clone(&inputs), metrics, replica.into());
        Self { store, inputs, shared_inputs, memory, health }
    }

    /// Writes and follows until stopped. A store that is away stops neither agents nor translation: both go on with what
    /// is in memory, and what could not be written is written when it is back.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (inputs, health) = (self.shared_inputs.write(&self.health), self.health.watch());
        let all = async { tokio::join!(inputs, self.write_memory(), self.follow(), health) };
        stop.run_until_cancelled(all).await;
    }

    /// Writes what translation remembers.
    async fn write_memory(&self) {
        let mut unwritten = self.memory.unwritten();
        loop {
            unwritten.borrow_and_update();
            match self.memory.write(&*self.store).await {
                Ok(is_news) => {
                    if is_news {
                        self.inputs.look_again();
                    }
                    if unwritten.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.health.failed("writing what translation remembers", &error);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes over what others write.
    async fn follow(&self) {
        let mut unread = Unread::default();
        let mut registered = self.inputs.registrations();
        loop {
            // Marked as seen only where it is acted on: it may come while something else is done.
            if registered.has_changed().unwrap_or_default() {
                registered.borrow_and_update();
                unread.start_over();
            }
            tokio::select! {
                biased;
                done = self.step(&mut unread) => match done {
                    Ok(()) => self.health.works(FOLLOWING),
                    Err(error) => {
                        self.health.failed(FOLLOWING, &error);
                        tokio::time::sleep(RETRY).await;
                    }
                },
                // What others had written of a cluster before it was registered here has been passed over.
                changed = registered.changed() => match changed {
                    Ok(()) => unread.start_over(),
                    Err(_) => return,
                },
            }
        }
    }

    /// Waits for changes and reads what changed, and what could not be read before. Fails if nothing can be read for now.
    async fn step(&self, unread: &mut Unread) -> Result<(), StoreError> {
        match self.store.changes(&unread.cursor, unread.wait(FEED_WAIT)).await? {
            Changes::News { changed, cursor } => unread.add(changed.into_keys().filter_map(Part::of), cursor),
            Changes::CatchUp { cursor } => {
                let knows_registered = self.inputs.knows_registered();
                unread.add_all(self.shared_inputs.compare().await?, cursor, knows_registered);
            }
        }
        while let Some(part) = unread.next() {
            let what = part.to_string();
            let read = self.read(&part).await;
            // Of a store that is away nothing is known to be unreadable.
            if let Err(error @ StoreError::Unreachable { .. }) = read {
                return Err(error);
            }
            if let Part::Input(cluster) = &part {
                self.inputs.note_unreadable(cluster, read.as_ref().err().map(ToString::to_string));
            }
            match read {
                Ok(()) => {
                    self.health.works(&what);
                    unread.done(&part);
                }
                Err(error) => {
                    self.health.failed(&what, &error);
                    unread.failed(part);
                    // It may be the store, which is given time.
                    if let StoreError::Timeout { .. } = error {
                        return Err(error);
                    }
                }
            }
        }
        if unread.is_read() {
            self.inputs.store_is_read();
        }
        Ok(())
    }

    async fn read(&self, part: &Part) -> Result<(), StoreError> {
        match part {
            Part::Warm => self.shared_inputs.read_warm().await,
            Part::Memory => self.memory.read_all(&*self.store).await,
            Part::Document(name) => {
                if self.memory.read(&*self.store, name).await? {
                    self.inputs.look_again();
                }
                Ok(())
            }
            Part::Input(cluster) if self.inputs.is_registered(cluster) => self.shared_inputs.read_one(cluster).await,
            // Read when it is registered.
            Part::Input(_) => Ok(()),
        }
    }
}
