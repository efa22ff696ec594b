//! What is between agents and servers: names, a balancer, connections that are slow, break, or die in silence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use meshrelay_agent::Dial;
use meshrelay_relay::Direction;
use meshrelay_relay::generated::{Frame, Hello};
use meshrelay_relay::grpc::{Call, Frames, Reply, Transport};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::trace::{Context, note};

/// Frames that are on their way at one time.
const ROOM: usize = 2;

/// How long an attempt to connect to nobody takes.
const CONNECT: Duration = Duration::from_secs(5);

/// How agents find servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One address, behind which a balancer chooses.
    Balancer,
    /// One name that stands for all replicas.
    Name,
    /// A list of addresses, one per server.
    List,
}

pub(crate) struct Network {
    context: Arc<Context>,
    pub(crate) topology: Topology,
    servers: Mutex<BTreeMap<usize, Arc<dyn Transport>>>,
    connections: Mutex<Vec<Arc<Line>>>,
    /// Pairs of an agent and a server that do not reach each other.
    partitions: Mutex<Vec<(usize, usize)>>,
}

/// One connection.
#[derive(Debug)]
struct Line {
    agent: usize,
    server: usize,
    /// Tells the connections of an agent apart.
    number: u64,
    /// What is written vanishes.
    is_dead: AtomicBool,
    /// Each side, once it sees the end.
    agent_sees: CancellationToken,
    server_sees: CancellationToken,
    /// Each frame takes up to so many milliseconds.
    latency: u64,
}

/// When each side of a connection that is cut learns of it; `None` never.
pub(crate) type Notices = (Option<Duration>, Option<Duration>);

impl Network {
    pub(crate) fn new(context: &Arc<Context>, topology: Topology) -> Self {
        Self {
            context: Arc::clone(context),
            topology,
            servers: Mutex::default(),
            connections: Mutex::default(),
            partitions: Mutex::default(),
        }
    }

    /// The addresses that agents are given.
    pub(crate) fn addresses(&self, servers: usize) -> String {
        match self.topology {
            Topology::Balancer => "balancer.example:9900".to_owned(),
            Topology::Name => "replicas.example:9900".to_owned(),
            Topology::List => (0..servers).map(|at| format!("server-{at}.example:9900")).collect::<Vec<_>>().join(","),
        }
    }

    pub(crate) fn serve(&self, server: usize, transport: Arc<dyn Transport>) {
        self.servers.lock().insert(server, transport);
    }

    /// Nobody answers there any more; connections end as `notices` say, for the agents.
    pub(crate) fn server_gone(&self, server: usize, notice: impl Fn() -> Option<Duration>) {
        self.servers.lock().remove(&server);
        self.cut(|line| line.server == server, || (notice(), Some(Duration::ZERO)));
    }

    pub(crate) fn agent_gone(&self, agent: usize, notice: impl Fn() -> Option<Duration>) {
        self.cut(|line| line.agent == agent, || (Some(Duration::ZERO), notice()));
    }

    /// Cuts the connections of one agent.
    pub(crate) fn cut_agent(&self, agent: usize, notices: impl Fn() -> Notices) {
        self.cut(|line| line.agent == agent, notices);
    }

    /// An agent and a server do not reach each other, until [`Network::heal`].
    pub(crate) fn part(&self, agent: usize, server: usize, notices: impl Fn() -> Notices) {
        self.partitions.lock().push((agent, server));
        self.cut(|line| (line.agent, line.server) == (agent, server), notices);
    }

    pub(crate) fn heal(&self) {
        self.partitions.lock().clear();
    }

    fn cut(&self, which: impl Fn(&Line) -> bool, notices: impl Fn() -> Notices) {
        let mut connections = self.connections.lock();
        connections.sort_by_key(|line| (line.agent, line.server, line.number));
        for line in connections.iter().filter(|line| which(line)) {
            line.is_dead.store(true, Ordering::Relaxed);
            let (agent, server) = notices();
            for (delay, token) in [(agent, &line.agent_sees), (server, &line.server_sees)] {
                match delay {
                    Some(Duration::ZERO) => token.cancel(),
                    Some(delay) => {
                        let token = token.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(delay).await;
                            token.cancel();
                        });
                    }
                    None => {}
                }
            }
        }
        connections.retain(|line| !line.is_dead.load(Ordering::Relaxed));
    }

    fn is_parted(&self, agent: usize, server: usize) -> bool {
        self.partitions.lock().contains(&(agent, server))
    }
}

/// The way of one agent to the servers.
pub(crate) struct Dialer {
    pub(crate) network: Arc<Network>,
    pub(crate) agent: usize,
    pub(crate) servers: usize,
    pub(crate) connections: AtomicU64,
}

const BALANCER: u8 = 200;

fn endpoint(server: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, server as u8], 9900))
}

impl Dial for Dialer {
    fn endpoints<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>, String>> {
        let found = match self.network.topology {
            Topology::Balancer => vec![SocketAddr::from(([10, 0, 0, BALANCER], 9900))],
            Topology::Name => (0..self.servers).map(endpoint).collect(),
            Topology::List => {
                (0..self.servers).filter(|at| address == format!("server-{at}.example:9900")).map(endpoint).collect()
            }
        };
        std::future::ready(Ok(found)).boxed()
    }

    fn connect<'a>(
        &'a self,
        _address: &'a str,
        endpoint: SocketAddr,
    ) -> BoxFuture<'a, Result<Arc<dyn Transport>, String>> {
        async move {
            let (network, context) = (&self.network, &self.network.context);
            tokio::time::sleep(Duration::from_millis(1)).await;
            let SocketAddr::V4(v4) = endpoint else { return Err("not an address of ours".to_owned()) };
            let at = v4.ip().octets()[3];
            let server = if at == BALANCER {
                let up: Vec<usize> = network.servers.lock().keys().copied().collect();
                let fate = context.fate(self.agent as u64);
                if up.is_empty() {
                    return Err("no server is up".to_owned());
                }
                up[fate.below(up.len() as u64) as usize]
            } else {
                usize::from(at)
            };
            if network.is_parted(self.agent, server) {
                tokio::time::sleep(CONNECT).await;
                return Err("no answer".to_owned());
            }
            let inner = network.servers.lock().get(&server).cloned().ok_or("connection refused")?;
            let fate = context.fate(100 + self.agent as u64);
            let line = Arc::new(Line {
                agent: self.agent,
                server,
                number: self.connections.fetch_add(1, Ordering::Relaxed),
                is_dead: AtomicBool::new(false),
                agent_sees: CancellationToken::new(),
                server_sees: CancellationToken::new(),
                latency: if fate.percent(10) { 1_500 } else { 12 },
            });
            network.connections.lock().push(Arc::clone(&line));
            note!(context, "agent {} connected to server {server}", self.agent);
            Ok(Arc::new(Wire { inner, line, context: Arc::clone(context) }) as Arc<dyn Transport>)
        }
        .boxed()
    }
}

/// A connection as a transport.
struct Wire {
    inner: Arc<dyn Transport>,
    line: Arc<Line>,
    context: Arc<Context>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("line", &self.line).finish_non_exhaustive()
    }
}

fn lost() -> Status {
    Status::unavailable("the connection is gone")
}

impl Line {
    /// Waits for an answer that may never come.
    async fn answer<T>(&self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let answered = async {
            let answer = answer.await;
            if self.is_dead.load(Ordering::Relaxed) { std::future::pending().await } else { answer }
        };
        tokio::select! {
            biased;
            () = self.agent_sees.cancelled() => Err(lost()),
            answer = answered => answer,
        }
    }
}

impl Transport for Wire {
    fn open(&self, direction: Direction, call: Call, frames: mpsc::Receiver<Frame>) -> Reply<Frames> {
        let (inner, line, context) = (Arc::clone(&self.inner), Arc::clone(&self.line), Arc::clone(&self.context));
        async move {
            let (up, arriving) = mpsc::channel(ROOM);
            let sees = line.server_sees.clone();
            let of = 10_000 + 1_000 * line.agent as u64 + 100 * (line.number % 10) + 10 * direction as u64;
            let frames = ReceiverStream::new(frames);
            tokio::spawn(carry(frames, up, None, Arc::clone(&line), sees, (Arc::clone(&context), of)));
            let stream = line.answer(inner.open(direction, call, arriving)).await?;
            let (down, arrived) = mpsc::channel(ROOM);
            let sees = line.agent_sees.clone();
            tokio::spawn(carry(stream, down, Some(Err(lost())), line, sees, (context, of + 1)));
            Ok(ReceiverStream::new(arrived).boxed())
        }
        .boxed()
    }

    fn check(&self, call: Call, hello: Hello) -> Reply<()> {
        let (inner, line) = (Arc::clone(&self.inner), Arc::clone(&self.line));
        async move { line.answer(inner.check(call, hello)).await }.boxed()
    }
}

/// Carries what one side writes to the other, which `sees` the end when it is told, and then `last`.
async fn carry<T>(
    mut from: impl Stream<Item = T> + Unpin,
    to: mpsc::Sender<T>,
    last: Option<T>,
    line: Arc<Line>,
    sees: CancellationToken,
    (context, of): (Arc<Context>, u64),
) {
    let is_dead = || line.is_dead.load(Ordering::Relaxed);
    let carried = async {
        while let Some(frame) = from.next().await {
            let fate = context.fate(of);
            if fate.percent(30) {
                tokio::time::sleep(fate.millis(line.latency)).await;
            }
            if !is_dead() && to.send(frame).await.is_err() {
                return;
            }
        }
        if is_dead() {
            // Nobody tells that the writer is gone.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = sees.cancelled() => {
            if let Some(last) = last {
                let _ = to.try_send(last);
            }
        }
        () = carried => {}
    }
}
