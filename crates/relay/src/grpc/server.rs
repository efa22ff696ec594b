use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use meshrelay_snapshot::{Name, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::drive::{Clock, Control, WRITE_AHEAD, Wires, drive};
use super::status::{end_of_client, status_of, to_status};
use super::streams::{Claim, RelayHandle, Streams};
use super::{Call, Caller, Frames, Hub, Notice, Peer, Registrar, Registration, Reply, Transport, proto};
use crate::presence::Direction;
use crate::wire::{Frame, Hello, codec};
use crate::{
    ApplyReport, End, Limits, Memory, Received, Receiver, Refusal, RefusalReason, Sender, Sent, Setup, Timing,
    check_software, negotiate,
};

/// How the service works.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Identifies this process in hellos.
    pub instance: String,
    /// Version of the server.
    pub software_version: String,
    /// True if streams need a valid client certificate of their cluster.
    pub require_certificate: bool,
    /// What streams may hold.
    pub limits: Limits,
    /// Deadlines of streams.
    pub timing: Timing,
    /// How long a new stream may take to say hello.
    pub hello_deadline: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            instance: "server".to_owned(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            require_certificate: true,
            limits: Limits::default(),
            timing: Timing::default(),
            hello_deadline: Duration::from_secs(10),
        }
    }
}

struct Shared<R, H> {
    registrar: R,
    hub: Arc<H>,
    settings: ServerSettings,
    streams: Arc<Streams>,
    clock: Clock,
}

/// The relay's gRPC service.
pub struct RelayService<R, H> {
    shared: Arc<Shared<R, H>>,
}

impl<R, H> Clone for RelayService<R, H> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R, H> std::fmt::Debug for RelayService<R, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayService").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// A stream whose caller was accepted.
struct Accepted {
    setup: Setup,
    cluster: Name,
    claim: Claim,
    control: watch::Receiver<Control>,
    incoming: Frames,
    outgoing: mpsc::Sender<proto::Frame>,
    status: oneshot::Sender<Status>,
}

impl<R: Registrar, H: Hub> RelayService<R, H> {
    /// A service in front of `hub`.
    pub fn new(registrar: R, hub: Arc<H>, settings: ServerSettings) -> Self {
        let (streams, clock) = (Arc::default(), Clock::start());
        Self { shared: Arc::new(Shared { registrar, hub, settings, streams, clock }) }
    }

    /// Ends streams from outside and tells what passed.
    pub fn handle(&self) -> RelayHandle {
        RelayHandle::new(&self.shared.streams)
    }

    /// The service for a router, with the limits on messages that the settings imply.
    pub fn into_server(self) -> proto::relay_server::RelayServer<Self> {
        let limit = self.shared.settings.limits.message_bytes();
        proto::relay_server::RelayServer::new(self).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }
}

impl<R: Registrar, H: Hub> Shared<R, H> {
    fn refuse(&self, cluster: &str, refusal: &Refusal) -> Status {
        let (code, reason) = (refusal.reason.code(), &refusal.message);
        if refusal.reason == RefusalReason::AtCapacity {
            tracing::info!(cluster, code, reason, "sent a caller to another replica");
        } else {
            tracing::warn!(cluster, code, reason, "refused a caller");
        }
        self.hub.on_refused(cluster, refusal);
        to_status(refusal)
    }

    async fn hello(&self, incoming: &mut Frames) -> Result<Hello, Refusal> {
        let refuse = |found: String| {
            let message = format!("expected a hello within {:?}, found {found}", self.settings.hello_deadline);
            Refusal::new(RefusalReason::Handshake, message)
        };
        let first = tokio::time::timeout(self.settings.hello_deadline, incoming.next()).await;
        let frame = match first {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Err(refuse("the end of the stream".to_owned())),
            Ok(Some(Err(status))) => return Err(refuse(status.message().to_owned())),
            Err(_) => return Err(refuse("nothing".to_owned())),
        };
        self.streams.traffic.received(&frame);
        match codec::decode(frame) {
            Ok(Frame::Hello(hello)) => Ok(hello),
            Ok(frame) => Err(refuse(format!("a {} frame", frame.name()))),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    fn check(&self, caller: &Caller, ours: &Hello) -> Result<(), Refusal> {
        let claimed = &caller.hello.cluster;
        if let Some(message) = &*self.streams.draining.lock() {
            return Err(Refusal::new(RefusalReason::Draining, message));
        }
        negotiate(ours, &caller.hello)?;
        match &caller.peer.certificate {
            Some(certificate) if certificate.cluster != *claimed => {
                let message = format!(
                    "expected the certificate of cluster {claimed}, found the one of cluster {}",
                    certificate.cluster
                );
                return Err(Refusal::new(RefusalReason::ForeignCertificate, message));
            }
            Some(certificate) if certificate.expired => {
                let message = format!(
                    "expected a valid certificate of cluster {claimed}, found one that has expired; the agent has to \
                     register again"
                );
                return Err(Refusal::new(RefusalReason::ExpiredCertificate, message));
            }
            None if self.settings.require_certificate => {
                let message = format!("expected a client certificate of cluster {claimed}, found none; register first");
                return Err(Refusal::new(RefusalReason::NoCertificate, message));
            }
            _ => {}
        }
        self.hub.authorize(caller)
    }

    /// Answers whether streams would be let in.
    fn answer(&self, hello: Option<proto::Hello>, (peer, token): (Peer, Option<String>)) -> Result<(), Status> {
        let decoded = codec::decode(proto::Frame { body: hello.map(proto::frame::Body::Hello) });
        let hello = match decoded {
            Ok(Frame::Hello(hello)) => hello,
            other => {
                let found = other.map_or_else(|error| error.to_string(), |frame| format!("a {} frame", frame.name()));
                let message = format!("expected a hello in the question, found {found}");
                return Err(to_status(&Refusal::new(RefusalReason::Handshake, message)));
            }
        };
        let ours = self.our_hello(&hello.cluster);
        let caller = Caller { hello, peer, token, direction: Direction::Push, only_asks: true };
        // Whoever asks again and again while it is served elsewhere is no refused caller to count and log.
        self.check(&caller, &ours).map_err(|refusal| to_status(&refusal))
    }

    /// Lets a stream in and serves it.
    async fn open(
        self: Arc<Self>,
        direction: Direction,
        caller: (Peer, Option<String>),
        frames: Frames,
    ) -> Result<Frames, Status> {
        let (accepted, stream) = self.accept(frames, caller, direction).await?;
        let cut = self.streams.cut.clone();
        tokio::spawn(async move {
            let served = async {
                match direction {
                    Direction::Push => self.run_push(accepted).await,
                    Direction::Pull => self.run_pull(accepted).await,
                }
            };
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = served => {}
            }
        });
        Ok(stream)
    }

    fn our_hello(&self, cluster: &Name) -> Hello {
        Hello {
            cluster: cluster.clone(),
            instance: self.settings.instance.clone(),
            software_version: self.settings.software_version.clone(),
            max_object_bytes: self.settings.limits.object_bytes as u64,
            max_chunk_bytes: self.settings.limits.chunk_bytes as u64,
            ..Hello::default()
        }
    }

    async fn accept(
        &self,
        mut incoming: Frames,
        (peer, token): (Peer, Option<String>),
        direction: Direction,
    ) -> Result<(Accepted, Frames), Status> {
        let hello = self.hello(&mut incoming).await.map_err(|refusal| self.refuse("", &refusal))?;
        let cluster = hello.cluster.clone();
        let ours = self.our_hello(&cluster);
        let caller = Caller { hello: hello.clone(), peer: peer.clone(), token, direction, only_asks: false };
        let (end, control) = watch::channel(Control::Run);
        let claim = self
            .check(&caller, &ours)
            .and_then(|()| self.streams.presence.lock().claim(&cluster, &hello.instance, direction, end));
        let (number, replaced) = claim.map_err(|refusal| self.refuse(&cluster, &refusal))?;
        let claim = Claim::new(&self.streams, &cluster, direction, number);
        if let Some(older) = replaced {
            // Only when the older stream can commit nothing any more does the newer look at what is held.
            older.send_replace(Control::End(End::Superseded));
            older.closed().await;
        }
        let (outgoing, frames) = mpsc::channel(WRITE_AHEAD);
        let (status, ended) = oneshot::channel();
        let tail = futures::stream::once(ended).filter_map(async |status| status.ok().map(Err));
        let stream: Frames = Box::pin(ReceiverStream::new(frames).map(Ok).chain(tail));
        let setup = Setup {
            hello: ours,
            peer: Some(hello.clone()),
            limits: self.settings.limits.clone(),
            timing: self.settings.timing.clone(),
            now: self.clock.now(),
        };
        tracing::info!(%cluster, direction = direction.label(), version = %hello.software_version, "agent connected");
        self.hub.on_notice(&cluster, direction, Notice::Connected { hello, peer });
        Ok((Accepted { setup, cluster, claim, control, incoming, outgoing, status }, stream))
    }

    fn finish(&self, accepted: Accepted, direction: Direction, end: End) {
        let cluster = accepted.cluster;
        tracing::info!(%cluster, direction = direction.label(), code = end.code(), %end, "agent disconnected");
        if let Some(status) = status_of(&end) {
            // The client may be gone; then nobody is there to be told.
            let _ = accepted.status.send(status);
        }
        self.hub.on_notice(&cluster, direction, Notice::Disconnected(end));
        // The place is free only now: a notice that an agent is connected again has to come after this one.
        drop(accepted.claim);
        // Only now may a stream that replaces this one look at what is held.
        drop(accepted.control);
    }

    async fn run_push(self: Arc<Self>, mut accepted: Accepted) {
        let cluster = accepted.cluster.clone();
        let mut receiver = Receiver::new(accepted.setup.clone(), self.hub.held_input(&cluster));
        let (_never, mut inputs) = watch::channel(None::<ApplyReport>);
        let wires = Wires {
            incoming: &mut accepted.incoming,
            outgoing: &accepted.outgoing,
            inputs: &mut inputs,
            control: &mut accepted.control,
            traffic: &self.streams.traffic,
            clock: self.clock,
            failed: end_of_client,
        };
        let on_event = |_: &mut Receiver, event| match event {
            Received::Opened(_) => {}
            Received::Committed(held) => self.hub.on_input(&cluster, held),
            Received::Rejected { reason, message } => {
                tracing::warn!(%cluster, code = reason.code(), message, "refused a transfer");
                self.hub.on_notice(&cluster, Direction::Push, Notice::Rejected { reason, message });
            }
        };
        let end = drive(&mut receiver, wires, |receiver, _, report| receiver.report(report), on_event).await;
        self.finish(accepted, Direction::Push, end);
    }

    async fn run_pull(self: Arc<Self>, mut accepted: Accepted) {
        let cluster = accepted.cluster.clone();
        let mut outputs = self.hub.outputs(&cluster);
        let target = outputs.borrow_and_update().clone();
        let base = self.streams.bases.lock().get(&cluster).cloned();
        let memory = Memory { base, ..Memory::default() };
        let mut sender = Sender::new(accepted.setup.clone(), target, memory);
        let mut last = self.hub.last_output(&cluster);
        last.mark_changed();
        let (either, mut wanted) = watch::channel(None);
        let wires = Wires {
            incoming: &mut accepted.incoming,
            outgoing: &accepted.outgoing,
            inputs: &mut wanted,
            control: &mut accepted.control,
            traffic: &self.streams.traffic,
            clock: self.clock,
            failed: end_of_client,
        };
        let on_event = |sender: &mut Sender, event| {
            let notice = match event {
                Sent::Opened(_) | Sent::Given(_) => return,
                Sent::Acknowledged { version, digest, kind } => {
                    if let Some(base) = sender.memory().base {
                        self.streams.bases.lock().insert(cluster.clone(), base);
                    }
                    Notice::Acknowledged { version, digest, kind }
                }
                Sent::PeerHoldsNothing => Notice::HoldsNothing,
                Sent::Withheld(withheld) => Notice::Withheld(withheld),
                Sent::Nacked { reason, message } => {
                    tracing::warn!(%cluster, code = reason.code(), message, "the agent refused a transfer");
                    Notice::Rejected { reason, message }
                }
                Sent::Report(report) => Notice::Applied(report),
            };
            self.hub.on_notice(&cluster, Direction::Pull, notice);
        };
        let feed = |sender: &mut Sender, now, wanted| match wanted {
            Wanted::Output(output) => sender.set_target(now, output),
            Wanted::Last(last) => sender.set_fallback(now, last),
        };
        let end = tokio::select! {
            biased;
            end = drive(&mut sender, wires, feed, on_event) => end,
            never = follow(outputs, last, either) => match never {},
        };
        self.finish(accepted, Direction::Pull, end);
    }
}

/// What an agent is to hold.
#[derive(Clone)]
enum Wanted {
    /// The output.
    Output(Arc<Snapshot>),
    /// The last one, while there is no other and it holds nothing.
    Last(Arc<Snapshot>),
}

/// Makes one of two: the output as soon as there is one.
async fn follow(
    mut outputs: watch::Receiver<Option<Arc<Snapshot>>>,
    mut last: watch::Receiver<Option<Arc<Snapshot>>>,
    either: watch::Sender<Option<Wanted>>,
) -> Infallible {
    loop {
        tokio::select! {
            biased;
            Ok(()) = outputs.changed() => if let Some(output) = outputs.borrow_and_update().clone() {
                either.send_replace(Some(Wanted::Output(output)));
            },
            Ok(()) = last.changed() => if let (Some(last), None) = (&*last.borrow_and_update(), &*outputs.borrow()) {
                either.send_replace(Some(Wanted::Last(Arc::clone(last))));
            },
            else => return std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl<R: Registrar, H: Hub> proto::relay_server::Relay for RelayService<R, H> {
    type PushStream = Frames;
    type PullStream = Frames;

    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let shared = &self.shared;
        let peer = peer_of(&request);
        let proto::RegisterRequest { cluster, token, csr, agent_version } = request.into_inner();
        let answer = match check_software(&shared.settings.software_version, &agent_version) {
            Ok(()) => {
                let registration = Registration { cluster: cluster.clone(), token, csr, agent_version };
                shared.registrar.register(registration, peer).await
            }
            Err(refusal) => Err(refusal),
        };
        let issued = answer.map_err(|refusal| shared.refuse(&cluster, &refusal))?;
        tracing::info!(cluster, "registered an agent");
        Ok(Response::new(proto::RegisterResponse { certificate: issued.certificate, ca_bundle: issued.ca_bundle }))
    }

    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckResponse>, Status> {
        let caller = (peer_of(&request), bearer(&request));
        self.shared.answer(request.into_inner().hello, caller)?;
        Ok(Response::new(proto::CheckResponse {}))
    }

    async fn push(&self, request: Request<Streaming<proto::Frame>>) -> Result<Response<Frames>, Status> {
        let caller = (peer_of(&request), bearer(&request));
        let frames = request.into_inner().boxed();
        Ok(Response::new(Arc::clone(&self.shared).open(Direction::Push, caller, frames).await?))
    }

    async fn pull(&self, request: Request<Streaming<proto::Frame>>) -> Result<Response<Frames>, Status> {
        let caller = (peer_of(&request), bearer(&request));
        let frames = request.into_inner().boxed();
        Ok(Response::new(Arc::clone(&self.shared).open(Direction::Pull, caller, frames).await?))
    }
}

/// The service within its own process: callers have no certificate and come from nowhere.
impl<R: Registrar, H: Hub> Transport for RelayService<R, H> {
    fn open(&self, direction: Direction, call: Call, frames: mpsc::Receiver<proto::Frame>) -> Reply<Frames> {
        let shared = Arc::clone(&self.shared);
        async move {
            shared.open(direction, (Peer::default(), call.token), ReceiverStream::new(frames).map(Ok).boxed()).await
        }
        .boxed()
    }

    fn check(&self, call: Call, hello: proto::Hello) -> Reply<()> {
        let answer = self.shared.answer(Some(hello), (Peer::default(), call.token));
        std::future::ready(answer).boxed()
    }
}

fn peer_of<T>(request: &Request<T>) -> Peer {
    let stated = request.extensions().get::<Peer>().cloned();
    stated.unwrap_or_else(|| Peer { certificate: None, source: request.remote_addr() })
}

fn bearer<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("authorization")?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}
