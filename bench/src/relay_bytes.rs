//! Bytes on the relay.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use meshrelay_relay::grpc::{
    Caller, Client, Hub, Identity, Issued, Notice, Peer, Registrar, Registration, RelayService, ServerSettings,
    Traffic, tune_endpoint, tune_server,
};
use meshrelay_relay::{Direction, End, Held, Limits, Memory, Received, Refusal, RefusalReason, Sent, Timing};
use meshrelay_snapshot::{ContentHash, Name, Object, Snapshot};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};

use crate::fleet::{self, Size};
use crate::summary::line;

const CLUSTER: &str = "c000";

/// Keeps inputs and offers one output.
struct Store {
    held: Mutex<BTreeMap<Name, Held>>,
    output: watch::Sender<Option<Arc<Snapshot>>>,
    /// Digest of the output that the agent is known to hold.
    acknowledged: watch::Sender<Option<ContentHash>>,
}

impl Hub for Store {
    fn authorize(&self, _: &Caller) -> Result<(), Refusal> {
        Ok(())
    }

    fn held_input(&self, cluster: &Name) -> Option<Held> {
        self.held.lock().get(cluster).cloned()
    }

    fn on_input(&self, cluster: &Name, input: Held) {
        self.held.lock().insert(cluster.clone(), input);
    }

    fn outputs(&self, _: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.output.subscribe()
    }

    fn on_notice(&self, _: &Name, direction: Direction, notice: Notice) {
        if let (Direction::Pull, Notice::Acknowledged { digest, .. }) = (direction, notice) {
            self.acknowledged.send_replace(Some(digest));
        }
    }

    fn on_refused(&self, _: &str, _: &Refusal) {}
}

struct NoRegistrar;

impl Registrar for NoRegistrar {
    async fn register(&self, _: Registration, _: Peer) -> Result<Issued, Refusal> {
        Err(Refusal::new(RefusalReason::WrongToken, "expected no registration here, found one"))
    }
}

pub(crate) fn run(sizes: &[usize]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    line("messages as they travel, compressed, without the framing of HTTP/2 and TLS")?;
    sizes.iter().try_for_each(|&objects| runtime.block_on(measure(objects)))
}

/// A snapshot of a cluster with that many objects.
fn snapshot(objects: usize) -> anyhow::Result<Snapshot> {
    let size = Size {
        clusters: 1,
        services: objects.div_ceil(3),
        routes: 20,
        destinations: 0,
        federated: 0,
        isolation: false,
        seed: 1,
    };
    let fleet = fleet::generate(&size)?;
    let all = fleet.clusters.get(CLUSTER).context("no such cluster")?;
    // The RouteTables come last in the order of keys and are to be among them: one of them is edited.
    let route = |object: &&Arc<Object>| object.key().gvk.kind == "RouteTable";
    let routes: Vec<_> = all.sorted().into_iter().filter(route).cloned().collect();
    let rest = all.sorted().into_iter().filter(|object| !route(object)).take(objects.saturating_sub(routes.len()));
    Ok(rest.cloned().chain(routes.iter().cloned()).collect())
}

fn edited(snapshot: &Snapshot, edit: usize) -> anyhow::Result<Arc<Snapshot>> {
    let mut next = snapshot.clone();
    let services = snapshot.iter().filter(|object| object.key().gvk.kind == "Service").count().max(1);
    let replaced = next.insert(Arc::new(Object::from_value(&fleet::route_table(0, 0, services, edit))?));
    replaced.context("the edited object was not there before")?;
    Ok(Arc::new(next))
}

async fn measure(objects: usize) -> anyhow::Result<()> {
    let first = snapshot(objects)?;
    let bodies: usize = first.iter().map(|object| object.pieces().len()).sum();
    let count = first.len();
    let first = edited(&first, 0)?;
    let (second, third) = (edited(&first, 1)?, edited(&first, 2)?);
    let hub = Arc::new(Store {
        held: Mutex::default(),
        output: watch::Sender::new(None),
        acknowledged: watch::Sender::new(None),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let settings = ServerSettings { require_certificate: false, ..ServerSettings::default() };
    let service = RelayService::new(NoRegistrar, Arc::clone(&hub), settings);
    let server = tune_server(Server::builder()).add_service(service.into_server());
    let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    line(&format!("{count} objects, {bodies} bytes of JSON"))?;

    let mut memory = Memory::default();
    let mut push = Push { address, memory: &mut memory };
    print("push: first, whole", push.measure(&[&first]).await?)?;
    let unchanged = push.measure(&[&first]).await?;
    print("push: reconnect, unchanged", unchanged)?;
    print("push: one changed object", push.measure(&[&first, &second]).await?.beside(unchanged))?;
    print("push: reconnect, one changed meanwhile", push.measure(&[&third]).await?)?;
    let mut memory = Memory::default();
    let mut push = Push { address, memory: &mut memory };
    print("push: new process, unchanged", push.measure(&[&third]).await?)?;
    push.memory.base = None;
    print("push: new process, one changed meanwhile", push.measure(&[&second]).await?)?;

    let mut held = None;
    let mut pull = Pull { address, hub: &hub, held: &mut held };
    print("pull: first, whole", pull.measure(&[&first]).await?)?;
    let unchanged = pull.measure(&[&first]).await?;
    print("pull: reconnect, unchanged", unchanged)?;
    print("pull: one changed object", pull.measure(&[&first, &second]).await?.beside(unchanged))?;
    print("pull: reconnect, one changed meanwhile", pull.measure(&[&third]).await?)?;
    serving.abort();
    Ok(())
}

/// Bytes from and to the agent, in messages.
#[derive(Clone, Copy)]
struct Bytes {
    from_agent: u64,
    to_agent: u64,
    messages: u64,
}

impl Bytes {
    fn of(traffic: &Traffic) -> Self {
        Self {
            from_agent: traffic.bytes_out(),
            to_agent: traffic.bytes_in(),
            messages: traffic.frames_out() + traffic.frames_in(),
        }
    }

    /// Without what a connection costs anyway.
    fn beside(self, connection: Self) -> Self {
        Self {
            from_agent: self.from_agent.saturating_sub(connection.from_agent),
            to_agent: self.to_agent.saturating_sub(connection.to_agent),
            messages: self.messages.saturating_sub(connection.messages),
        }
    }
}

fn print(what: &str, bytes: Bytes) -> anyhow::Result<()> {
    let Bytes { from_agent, to_agent, messages } = bytes;
    let sum = from_agent + to_agent;
    line(&format!("  {what:42} {sum:10} bytes  ({from_agent} from the agent, {to_agent} to it, {messages} messages)"))
}

fn client() -> Client {
    let identity = Identity {
        cluster: CLUSTER.into(),
        instance: "bench".to_owned(),
        software_version: meshrelay_process::VERSION.to_owned(),
        token: None,
    };
    Client::new(identity, Limits::default(), Timing::default())
}

fn channel(address: SocketAddr) -> anyhow::Result<Channel> {
    Ok(tune_endpoint(Endpoint::from_shared(format!("http://{address}"))?).connect_lazy())
}

fn expect_finished(end: &End) -> anyhow::Result<()> {
    if *end != End::Finished {
        bail!("expected the stream to end when told, found {end}");
    }
    Ok(())
}

/// One stream after the other.
struct Push<'a> {
    address: SocketAddr,
    memory: &'a mut Memory,
}

impl Push<'_> {
    /// Bytes of a stream over which these inputs go one after the other.
    async fn measure(&mut self, inputs: &[&Arc<Snapshot>]) -> anyhow::Result<Bytes> {
        let (client, stop) = (client(), CancellationToken::new());
        let mut left = inputs.iter();
        let (offered, mut newest) = watch::channel(left.next().map(|input| Arc::clone(input)));
        let on_event = |event| {
            if let Sent::Acknowledged { .. } = event {
                match left.next() {
                    Some(input) => drop(offered.send_replace(Some(Arc::clone(input)))),
                    None => stop.cancel(),
                }
            }
        };
        let end = client.push(channel(self.address)?, &mut newest, self.memory, &stop, on_event).await;
        expect_finished(&end)?;
        Ok(Bytes::of(client.traffic()))
    }
}

/// One stream after the other.
struct Pull<'a> {
    address: SocketAddr,
    hub: &'a Store,
    held: &'a mut Option<Held>,
}

impl Pull<'_> {
    /// Bytes of a stream over which these outputs go one after the other.
    async fn measure(&mut self, outputs: &[&Arc<Snapshot>]) -> anyhow::Result<Bytes> {
        let (client, stop) = (client(), CancellationToken::new());
        let (_reports, mut reports) = watch::channel(None);
        let mut acknowledged = self.hub.acknowledged.subscribe();
        let (meeting, mut met) = watch::channel(false);
        self.hub.acknowledged.send_replace(None);
        self.hub.output.send_replace(outputs.first().map(|output| Arc::clone(output)));
        let offering = async {
            for output in outputs {
                self.hub.output.send_replace(Some(Arc::clone(output)));
                acknowledged.wait_for(|digest| *digest == Some(output.digest())).await?;
            }
            // What the server says of itself may still be on its way.
            met.wait_for(|met| *met).await?;
            stop.cancel();
            anyhow::Ok(())
        };
        let pull = client.pull(channel(self.address)?, self.held, &mut reports, &stop, |event| {
            if matches!(event, Received::Opened(_)) {
                meeting.send_replace(true);
            }
        });
        let (end, offered) = tokio::join!(pull, offering);
        offered?;
        expect_finished(&end)?;
        Ok(Bytes::of(client.traffic()))
    }
}
