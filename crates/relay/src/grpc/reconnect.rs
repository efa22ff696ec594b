use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::Client;
use crate::{ApplyReport, Backoff, End, Held, Memory, Received, Sent, Versions};

/// Puts output versions into a cluster.
pub trait Applier: Send + Sync {
    /// Applies a version and keeps it for the next start. While this runs newer versions wait; only the newest of them
    /// is applied then.
    fn apply(&self, held: Held) -> impl Future<Output = ApplyReport> + Send;

    /// Ends when there is a reason to apply the same version again.
    fn due(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What happens to a stream that is kept open.
#[derive(Debug)]
pub enum Progress<E> {
    /// Something happened on the open stream.
    Event(E),
    /// The stream ended, or could not be opened.
    Ended {
        /// Why.
        end: End,
        /// When the next attempt is made.
        retry_in: Duration,
    },
}

/// Keeps streams of a client open: connects anew with growing waits after each end.
///
/// `connect` gives the channel for the next attempt, so that renewed certificates and other replicas come into use.
#[derive(Debug)]
pub struct Reconnect<'a, C> {
    /// The client.
    pub client: &'a Client,
    /// Gives a channel, or says why there is none.
    pub connect: C,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Ends it all.
    pub stop: CancellationToken,
}

impl<C, F> Reconnect<'_, C>
where
    C: FnMut() -> F + Send,
    F: Future<Output = Result<Channel, String>> + Send,
{
    /// Pushes the newest of `inputs` until stopped. Versions go on after `versions`, and are never below what `floor`
    /// says when a stream begins.
    pub async fn push(
        mut self,
        mut inputs: watch::Receiver<Option<Arc<Snapshot>>>,
        versions: Versions,
        floor: impl Fn() -> u64 + Send,
        mut on_progress: impl FnMut(Progress<Sent>) + Send,
    ) {
        let mut memory = Memory { base: None, versions };
        while let Some(channel) = self.channel(&mut on_progress).await {
            let started = tokio::time::Instant::now();
            memory.versions.raise(floor());
            let end = self
                .client
                .push(channel, &mut inputs, &mut memory, &self.stop, |event| on_progress(Progress::Event(event)))
                .await;
            self.wait(end, started.elapsed(), &mut on_progress).await;
        }
    }

    /// Pulls versions and applies them until stopped. `held` is what was kept by the last process; it is applied at
    /// once, so that a cluster is kept up without a server too.
    pub async fn pull(
        mut self,
        mut held: Option<Held>,
        applier: &impl Applier,
        mut on_progress: impl FnMut(Progress<Received>) + Send,
    ) {
        let (newest, mut versions) = watch::channel(held.clone());
        let (reported, mut reports) = watch::channel(None);
        versions.mark_changed();
        let stop = self.stop.clone();
        let apply = async {
            let mut any = false;
            loop {
                tokio::select! {
                    changed = versions.changed() => if changed.is_err() { return },
                    () = applier.due(), if any => {}
                }
                any = true;
                let version = versions.borrow_and_update().clone();
                if let Some(version) = version {
                    reported.send_replace(Some(applier.apply(version).await));
                }
            }
        };
        let pull = async {
            while let Some(channel) = self.channel(&mut on_progress).await {
                let started = tokio::time::Instant::now();
                let on_event = |event| {
                    if let Received::Committed(held) = &event {
                        newest.send_replace(Some(held.clone()));
                    }
                    on_progress(Progress::Event(event));
                };
                let end = self.client.pull(channel, &mut held, &mut reports, &self.stop, on_event).await;
                self.wait(end, started.elapsed(), &mut on_progress).await;
            }
        };
        tokio::select! {
            () = pull => {}
            () = apply => {}
        }
        debug_assert!(stop.is_cancelled());
    }

    /// The next channel; `None` when stopped.
    async fn channel<E>(&mut self, on_progress: &mut impl FnMut(Progress<E>)) -> Option<Channel> {
        loop {
            let stop = self.stop.clone();
            let connected = tokio::select! {
                connected = (self.connect)() => connected,
                () = stop.cancelled() => return None,
            };
            if stop.is_cancelled() {
                return None;
            }
            match connected {
                Ok(channel) => return Some(channel),
                Err(message) => self.wait(End::Lost(message), Duration::ZERO, on_progress).await,
            }
        }
    }

    async fn wait<E>(&mut self, end: End, lasted: Duration, on_progress: &mut impl FnMut(Progress<E>)) {
        if lasted > self.client.timing().heartbeat {
            // It worked for a while: what happened now is new.
            self.backoff.reset();
        }
        let retry_in = self.backoff.next_wait();
        if !self.stop.is_cancelled() {
            tracing::warn!(code = end.code(), %end, ?retry_in, "the stream to the server ended");
        }
        on_progress(Progress::Ended { end, retry_in });
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
