use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use meshrelay_snapshot::{Name, Snapshot};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::drive::{Clock, Control, WRITE_AHEAD, Wires, drive};
use super::status::end_of;
use super::{Call, Issued, Registration, Traffic, Transport, proto};
use crate::wire::{Hello, codec};
use crate::{
    ApplyReport, Direction, End, Held, Limits, Memory, Received, Receiver, Refusal, RefusalReason, Sender, Sent,
    Session, Setup, Timing,
};
use proto::relay_client::RelayClient;

/// How long a client that ends a stream waits for the server to do the same, so that the reason gets through.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who an agent is.
#[derive(Clone)]
pub struct Identity {
    /// Name of its cluster.
    pub cluster: Name,
    /// Identifies the process for as long as it runs: another process of the cluster is a second agent.
    pub instance: String,
    /// Version of the agent.
    pub software_version: String,
    /// Token to present with every stream, where certificates are not used.
    pub token: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        let mut out = f.debug_struct("Identity");
        out.field("cluster", &self.cluster).field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// The agent's side of the relay: one call per stream. [`Reconnect`](super::Reconnect) keeps streams open.
#[derive(Clone, Debug)]
pub struct Client {
    identity: Identity,
    limits: Limits,
    timing: Timing,
    clock: Clock,
    traffic: Arc<Traffic>,
}

impl Client {
    /// A client that speaks for `identity`.
    pub fn new(identity: Identity, limits: Limits, timing: Timing) -> Self {
        Self { identity, limits, timing, clock: Clock::start(), traffic: Arc::default() }
    }

    /// What passed through all streams.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The deadlines that sessions work with.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Asks for a client certificate.
    ///
    /// # Errors
    /// [`End::Refused`] with the server's reason, or why there was no answer.
    pub async fn register(&self, channel: Channel, registration: Registration) -> Result<Issued, End> {
        let Registration { cluster, token, csr, agent_version } = registration;
        let request = proto::RegisterRequest { cluster, token, csr, agent_version };
        let mut client = RelayClient::new(channel);
        let answer = tokio::time::timeout(self.timing.peer_deadline, client.register(request)).await;
        let answer = answer.map_err(|_| End::PeerSilent(self.timing.peer_deadline))?;
        let response = answer.map_err(|status| end_of(&status))?.into_inner();
        Ok(Issued { certificate: response.certificate, ca_bundle: response.ca_bundle })
    }

    /// Asks whether streams would be let in now.
    ///
    /// # Errors
    /// [`End::Refused`] with the server's reason, or why there was no answer.
    pub async fn check(&self, server: impl Transport) -> Result<(), End> {
        let asked = server.check(self.call(), codec::encode_hello(self.hello()));
        let answer = tokio::time::timeout(self.timing.peer_deadline, asked).await;
        answer.map_err(|_| End::PeerSilent(self.timing.peer_deadline))?.map_err(|status| end_of(&status))
    }

    /// Pushes the newest of `inputs` until the stream ends or `stop` is cancelled.
    ///
    /// `memory` is what the stream before left; it is kept up to date. [`Sent::Given`] tells of a version before
    /// anything of it is sent, and `memory` has counted it by then. After a refusal because the cluster is not registered, what
    /// was given counts for nothing.
    pub async fn push(
        &self,
        server: impl Transport,
        inputs: &mut watch::Receiver<Option<Arc<Snapshot>>>,
        memory: &mut Memory,
        stop: &CancellationToken,
        mut on_event: impl FnMut(Sent),
    ) -> End {
        let target = inputs.borrow_and_update().clone();
        let session = Sender::new(self.setup(), target, memory.clone());
        let on_event = |session: &mut Sender, event: Sent| {
            if matches!(event, Sent::Acknowledged { .. } | Sent::Given(_)) {
                *memory = session.memory();
            }
            on_event(event);
        };
        let feed = |session: &mut Sender, now, target| session.set_target(now, target);
        let end = self.run(Direction::Push, server, session, inputs, stop, feed, on_event).await;
        if let End::Refused(Refusal { reason: RefusalReason::Deregistered | RefusalReason::UnknownCluster, .. }) = &end
        {
            // Servers that knew it take nothing from before, though another one may find it in the store.
            memory.versions.outdate();
        }
        end
    }

    /// Pulls versions into `held` and sends the newest of `reports` until the stream ends or `stop` is cancelled.
    pub async fn pull(
        &self,
        server: impl Transport,
        held: &mut Option<Held>,
        reports: &mut watch::Receiver<Option<ApplyReport>>,
        stop: &CancellationToken,
        mut on_event: impl FnMut(Received),
    ) -> End {
        let mut session = Receiver::new(self.setup(), held.clone());
        if let Some(report) = reports.borrow_and_update().clone() {
            session.report(report);
        }
        let on_event = |_: &mut Receiver, event: Received| {
            if let Received::Committed(committed) = &event {
                *held = Some(committed.clone());
            }
            on_event(event);
        };
        let feed = |session: &mut Receiver, _, report| session.report(report);
        self.run(Direction::Pull, server, session, reports, stop, feed, on_event).await
    }

    fn setup(&self) -> Setup {
        let (limits, timing) = (self.limits.clone(), self.timing.clone());
        Setup { hello: self.hello(), peer: None, limits, timing, now: self.clock.now() }
    }

    fn hello(&self) -> Hello {
        Hello {
            cluster: self.identity.cluster.clone(),
            instance: self.identity.instance.clone(),
            software_version: self.identity.software_version.clone(),
            max_object_bytes: self.limits.object_bytes as u64,
            max_chunk_bytes: self.limits.chunk_bytes as u64,
            ..Hello::default()
        }
    }

    fn call(&self) -> Call {
        Call { token: self.identity.token.clone(), message_bytes: self.limits.message_bytes() }
    }

    #[expect(clippy::too_many_arguments, reason = "the two directions differ in exactly these")]
    async fn run<S: Session, I: Clone>(
        &self,
        direction: Direction,
        server: impl Transport,
        mut session: S,
        inputs: &mut watch::Receiver<Option<I>>,
        stop: &CancellationToken,
        feed: impl Fn(&mut S, Duration, I),
        on_event: impl FnMut(&mut S, S::Event),
    ) -> End {
        let (outgoing, frames) = mpsc::channel(WRITE_AHEAD);
        // The server answers only after the hello, so that has to be on its way before the answer is awaited.
        while let Ok(permit) = outgoing.try_reserve()
            && let Some(frame) = session.transmit(self.clock.now())
        {
            let frame = codec::encode(frame);
            self.traffic.sent(&frame);
            permit.send(frame);
        }
        let opening = server.open(direction, self.call(), frames);
        let opened = tokio::select! {
            biased;
            opened = tokio::time::timeout(self.timing.peer_deadline, opening) => opened,
            () = stop.cancelled() => return End::Finished,
        };
        let mut incoming = match opened {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(status)) => return end_of(&status),
            Err(_) => return End::PeerSilent(self.timing.peer_deadline),
        };
        let (ender, mut control) = watch::channel(Control::Run);
        let stopping = async {
            stop.cancelled().await;
            ender.send_replace(Control::End(End::Finished));
            std::future::pending::<Infallible>().await
        };
        let wires = Wires {
            incoming: &mut incoming,
            outgoing: &outgoing,
            inputs,
            control: &mut control,
            traffic: &self.traffic,
            clock: self.clock,
            failed: end_of,
        };
        let end = tokio::select! {
            biased;
            never = stopping => match never {},
            end = Box::pin(drive(&mut session, wires, feed, on_event)) => end,
        };
        drop(outgoing);
        // A close frame of the server may still carry why it ends the stream; ours has to get through.
        let farewell = async { while let Some(Ok(_)) = incoming.next().await {} };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        end
    }
}
