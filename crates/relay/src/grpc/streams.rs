use std::collections::BTreeMap;
use std::sync::Arc;

use meshrelay_snapshot::{Name, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Traffic;
use super::drive::Control;
use crate::presence::{Direction, Presence};
use crate::{End, Refusal};

/// The streams that are open, for those who want to end them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) presence: Mutex<Presence<watch::Sender<Control>>>,
    /// What each agent is known to hold of its output, kept to make deltas from after a reconnect.
    pub(super) bases: Mutex<BTreeMap<Name, Arc<Snapshot>>>,
    pub(super) draining: Mutex<Option<String>>,
    pub(super) cut: CancellationToken,
    pub(super) traffic: Traffic,
}

/// Ends streams from outside and tells what passed.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    streams: Arc<Streams>,
}

impl RelayHandle {
    pub(super) fn new(streams: &Arc<Streams>) -> Self {
        Self { streams: Arc::clone(streams) }
    }

    /// Ends the streams of a cluster and tells its agent why, as when it is no longer registered.
    pub fn disconnect(&self, cluster: &str, refusal: &Refusal) {
        self.streams.bases.lock().remove(cluster);
        for stream in self.streams.presence.lock().streams_of(cluster) {
            stream.send_replace(Control::End(End::Refused(refusal.clone())));
        }
    }

    /// Asks all agents to connect to another replica, and refuses new streams from now on.
    pub fn drain(&self, message: &str) {
        *self.streams.draining.lock() = Some(message.to_owned());
        for stream in self.streams.presence.lock().streams() {
            stream.send_replace(Control::Drain(message.to_owned()));
        }
    }

    /// Asks the agent of a cluster to connect to another replica.
    pub fn drain_cluster(&self, cluster: &str, message: &str) {
        for stream in self.streams.presence.lock().streams_of(cluster) {
            stream.send_replace(Control::Drain(message.to_owned()));
        }
    }

    /// Ends all streams at once and tells nobody, as when the process dies.
    pub fn cut(&self) {
        self.streams.cut.cancel();
    }

    /// Number of open streams.
    pub fn open_streams(&self) -> usize {
        self.streams.presence.lock().streams().count()
    }

    /// What passed through all streams.
    pub fn traffic(&self) -> &Traffic {
        &self.streams.traffic
    }
}

/// The place of a stream among those that are open, given back whatever becomes of it.
pub(super) struct Claim {
    streams: Arc<Streams>,
    cluster: Name,
    direction: Direction,
    number: u64,
}

impl Claim {
    pub(super) fn new(streams: &Arc<Streams>, cluster: &Name, direction: Direction, number: u64) -> Self {
        Self { streams: Arc::clone(streams), cluster: cluster.clone(), direction, number }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.streams.presence.lock().release(&self.cluster, self.direction, self.number);
    }
}
