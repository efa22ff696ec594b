use std::sync::Arc;

use meshrelay_snapshot::{ContentHash, Name, Snapshot};
use tokio::sync::watch;

use super::{Issued, Peer, Registration};
use crate::presence::Direction;
use crate::wire::{Hello, Withheld};
use crate::{ApplyReport, End, Held, NackReason, Refusal, TransferKind};

/// Decides whether an agent gets a client certificate, and signs it.
pub trait Registrar: Send + Sync + 'static {
    /// Answers a registration. The agent's version has been checked, nothing else.
    fn register(&self, registration: Registration, peer: Peer) -> impl Future<Output = Result<Issued, Refusal>> + Send;
}

/// The server behind the relay. All methods are called from within streams: they must not block.
pub trait Hub: Send + Sync + 'static {
    /// Decides whether a caller may use a stream: is its cluster registered, does it prove to be its agent?
    ///
    /// # Errors
    /// The refusal that the caller gets to see.
    fn authorize(&self, caller: &Caller) -> Result<(), Refusal>;

    /// What is held of the cluster's input, from [`Hub::on_input`] or from a store ([`Held::restored`]).
    fn held_input(&self, cluster: &Name) -> Option<Held>;

    /// A new version of the cluster's input was committed.
    fn on_input(&self, cluster: &Name, input: Held);

    /// The output for the cluster; `None` as long as there is nothing to say.
    fn outputs(&self, cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>>;

    /// What an agent that holds nothing ([`Notice::HoldsNothing`]) is given as long as there is no output: the last one, from
    /// before this process. `None` as long as it is not known.
    fn last_output(&self, _cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        watch::Sender::default().subscribe()
    }

    /// Something happened on a stream that status, metrics and logs should show.
    fn on_notice(&self, cluster: &Name, direction: Direction, notice: Notice);

    /// Somebody was refused; `cluster` is what they claimed to be.
    fn on_refused(&self, cluster: &str, refusal: &Refusal);
}

/// What happened on a stream.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An agent connected.
    Connected {
        /// What it says of itself.
        hello: Hello,
        /// What the transport knows of it.
        peer: Peer,
    },
    /// The stream ended.
    Disconnected(End),
    /// The agent holds this version of its output.
    Acknowledged {
        /// The version.
        version: u64,
        /// Its digest.
        digest: ContentHash,
        /// How it travelled; `None` if the agent held it already.
        kind: Option<TransferKind>,
    },
    /// The agent holds no output at all.
    HoldsNothing,
    /// Objects of the output that do not travel.
    Withheld(Arc<[Withheld]>),
    /// A transfer was refused, by the agent in a pull, by the server in a push.
    Rejected {
        /// Why.
        reason: NackReason,
        /// What was expected and found.
        message: String,
    },
    /// What came of applying an output.
    Applied(ApplyReport),
}

/// Who opens a stream.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the agent says of itself.
    pub hello: Hello,
    /// What the transport knows of it.
    pub peer: Peer,
    /// The token that came with the request (`authorization: Bearer …`), where certificates are not used.
    pub token: Option<String>,
    /// What the stream is for.
    pub direction: Direction,
    /// It opens none now, and asks whether it could.
    pub only_asks: bool,
}
