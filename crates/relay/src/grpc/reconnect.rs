use std::sync::Arc;

use meshrelay_snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Client, Transport};
use crate::{ApplyReport, End, Held, Memory, Received, Sent, Versions};

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

/// A connection to a server, as streams need it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What streams are opened on.
    pub server: Arc<dyn Transport>,
    /// Tells connections of one [`Connections`] apart.
    pub number: u64,
    /// Cancelled when its streams are to end: the connection is of no use, or another server is better.
    pub gone: CancellationToken,
}

/// Where streams get their connections from. The streams of an agent share one at a time, so that one server serves both.
pub trait Connections: Send + Sync {
    /// The present connection, or a new one, which takes as long as it has to: the waits between attempts are within.
    /// The message of a failed attempt is for a person.
    fn connect(&self) -> impl Future<Output = Result<Connection, String>> + Send;

    /// A stream ended. Unless the owner wanted it, the connection is of no use any more.
    fn ended(&self, connection: &Connection, end: &End);
}

/// What happens to a stream that is kept open.
#[derive(Debug)]
pub enum Progress<E> {
    /// Something happened on the open stream.
    Event(E),
    /// The stream ended, or could not be opened, for this reason. It is opened again.
    Ended(End),
}

/// Keeps streams of a client open: opens them again after each end.
#[derive(Debug)]
pub struct Reconnect<'a, C> {
    /// The client.
    pub client: &'a Client,
    /// Gives connections, so that renewed certificates, other replicas and other servers come into use.
    pub connections: &'a C,
    /// Ends it all.
    pub stop: CancellationToken,
}

impl<C: Connections> Reconnect<'_, C> {
    /// Pushes the newest of `inputs` until stopped. Versions go on after `versions`, and are never below what `floor`
    /// says when a stream begins.
    pub async fn push(
        self,
        mut inputs: watch::Receiver<Option<Arc<Snapshot>>>,
        versions: Versions,
        floor: impl Fn() -> u64 + Send,
        mut on_progress: impl FnMut(Progress<Sent>) + Send,
    ) {
        let mut memory = Memory { base: None, versions };
        while let Some(connection) = self.connection(&mut on_progress).await {
            memory.versions.raise(floor());
            let (server, gone) = (Arc::clone(&connection.server), &connection.gone);
            let on_event = |event| on_progress(Progress::Event(event));
            let end = self.client.push(server, &mut inputs, &mut memory, gone, on_event).await;
            self.ended(&connection, end, &mut on_progress);
        }
    }

    /// Pulls versions and applies them until stopped. `held` is what was kept by the last process; it is applied at
    /// once, so that a cluster is kept up without a server too.
    pub async fn pull(
        self,
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
                    biased;
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
            while let Some(connection) = self.connection(&mut on_progress).await {
                let on_event = |event| {
                    if let Received::Committed(held) = &event {
                        newest.send_replace(Some(held.clone()));
                    }
                    on_progress(Progress::Event(event));
                };
                let (server, gone) = (Arc::clone(&connection.server), &connection.gone);
                let end = self.client.pull(server, &mut held, &mut reports, gone, on_event).await;
                self.ended(&connection, end, &mut on_progress);
            }
        };
        tokio::select! {
            biased;
            () = pull => {}
            () = apply => {}
        }
        debug_assert!(stop.is_cancelled());
    }

    /// The next connection; `None` when stopped.
    async fn connection<E>(&self, on_progress: &mut impl FnMut(Progress<E>)) -> Option<Connection> {
        loop {
            let connected = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                connected = self.connections.connect() => connected,
            };
            match connected {
                Ok(connection) => return Some(connection),
                Err(message) => {
                    let end = End::Lost(message);
                    tracing::warn!(code = end.code(), %end, "no stream to the server");
                    on_progress(Progress::Ended(end));
                }
            }
        }
    }

    fn ended<E>(&self, connection: &Connection, end: End, on_progress: &mut impl FnMut(Progress<E>)) {
        if !connection.gone.is_cancelled() && end.sends_away() {
            tracing::info!(code = end.code(), %end, "the server sends the agent to another replica");
        } else if !connection.gone.is_cancelled() {
            tracing::warn!(code = end.code(), %end, "the stream to the server ended");
        }
        // First, so that what it says about a certificate is known when the next connection is made.
        on_progress(Progress::Ended(end.clone()));
        self.connections.ended(connection, &end);
    }
}
