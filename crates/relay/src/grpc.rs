//! The protocol over gRPC: thin shells around [`Sender`](crate::Sender) and [`Receiver`](crate::Receiver).
//!
//! Transport security is the caller's: the server takes who the peer is from a [`Peer`] in the request's extensions, the
//! client takes a ready [`Transport`], such as a channel.

mod client;
mod drive;
mod hub;
mod reconnect;
mod server;
mod status;
mod streams;
mod traffic;
mod transport;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use meshrelay_snapshot::Name;
use tonic::transport::{Endpoint, Server};

pub use client::{Client, Identity};
pub use hub::{Caller, Hub, Notice, Registrar};
pub use reconnect::{Applier, Connection, Connections, Progress, Reconnect};
pub use server::{RelayService, ServerSettings};
pub use status::{CODE_HEADER, end_of, refusal_of, to_status};
pub use streams::RelayHandle;
pub use traffic::Traffic;
pub use transport::{Call, Frames, Reply, Transport};

use crate::generated as proto;

/// A peer that does not answer an HTTP/2 ping for this long has no connection any more; the protocol's own heartbeats
/// find out whether it has a session.
const PING_DEADLINE: Duration = Duration::from_secs(20);
/// Idle time before a ping.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Room for one chunk under way per stream, so that throughput does not suffer on links with a long delay.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Push and pull at the same time.
const CONNECTION_WINDOW: u32 = 2 * STREAM_WINDOW;
/// Streams of one connection: push, pull, register, and their successors while the old ones end.
const MAX_STREAMS: u32 = 16;

/// What the transport knows of the peer of a request: put it into the request's extensions, for instance as the
/// connect info of the accepted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Who the verified client certificate names; `None` without one.
    pub certificate: Option<Certified>,
    /// Where the connection comes from.
    pub source: Option<SocketAddr>,
}

/// What a client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The cluster that it names.
    pub cluster: Name,
    /// True if it is past its life; then it serves to register anew and for nothing else.
    pub expired: bool,
    /// End of its life, seconds since 1970.
    pub ends: i64,
}

/// What an agent asks for when it registers.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    /// Name of the cluster, not yet checked.
    pub cluster: String,
    /// Shared or single-use token; empty if an expired certificate is to speak for the agent.
    pub token: String,
    /// Certificate signing request, DER.
    pub csr: Vec<u8>,
    /// Version of the agent.
    pub agent_version: String,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("Registration").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What a registered agent gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Chain of the client certificate, PEM, leaf first.
    pub certificate: String,
    /// The authorities to trust for the server, PEM.
    pub ca_bundle: String,
}

/// Sets what the relay needs of an HTTP/2 server: pings that find dead connections, windows, few streams.
pub fn tune_server<L>(server: Server<L>) -> Server<L> {
    server
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_DEADLINE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
}

/// Sets what the relay needs of an HTTP/2 client, as [`tune_server`].
pub fn tune_endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}
