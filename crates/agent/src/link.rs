//! The agent's connection: one at a time, to one of its servers, for all of its streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use meshrelay_relay::grpc::{Client, Connection, Connections, Transport};
use meshrelay_relay::{End, RefusalReason};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::Dial;
use crate::servers::{Next, Parting, Servers};
use crate::takeover::Takeover;
use crate::{AgentStatus, Metrics};

/// How long a preferred server may take to say whether it would have the agent: it says so from memory.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// Keeps the connection.
pub(crate) struct Link {
    addresses: Vec<String>,
    dial: Arc<dyn Dial>,
    client: Arc<Client>,
    takeover: Arc<Takeover>,
    metrics: Metrics,
    status: Arc<watch::Sender<AgentStatus>>,
    stop: CancellationToken,
    started: Instant,
    state: Mutex<State>,
    /// Held by whoever connects, for all who wait for it.
    connecting: tokio::sync::Mutex<()>,
    /// There is a connection or there is none any more.
    changed: Notify,
}

struct State {
    servers: Servers,
    open: Option<Connection>,
    connections: u64,
    /// The server that was connected last.
    last: Option<usize>,
}

impl Link {
    #[expect(clippy::too_many_arguments, reason = "it wires what the agent consists of")]
    pub(crate) fn new(
        addresses: Vec<String>,
        dial: Arc<dyn Dial>,
        client: Arc<Client>,
        takeover: Arc<Takeover>,
        metrics: Metrics,
        status: Arc<watch::Sender<AgentStatus>>,
        stop: CancellationToken,
        seed: u64,
    ) -> Self {
        let servers = Servers::new(addresses.len(), seed);
        let state = Mutex::new(State { servers, open: None, connections: 0, last: None });
        let (connecting, changed, started) = (tokio::sync::Mutex::default(), Notify::new(), Instant::now());
        Self { addresses, dial, client, takeover, metrics, status, stop, started, state, connecting, changed }
    }

    /// Asks the servers that are preferred to the connected one how they are, and returns when one is well, until stopped.
    pub(crate) async fn prefer(&self) {
        let stopped = self.stop.cancelled();
        tokio::pin!(stopped);
        loop {
            let at = self.state.lock().servers.probe_at();
            let due = tokio::time::sleep_until(at.map_or_else(Instant::now, |at| self.started + at));
            tokio::select! {
                biased;
                () = &mut stopped => return,
                () = self.changed.notified() => continue,
                () = due, if at.is_some() => {}
            }
            let asked = self.state.lock().servers.probe(self.now());
            let Some(server) = asked else { continue };
            let answer = tokio::select! {
                biased;
                answer = tokio::time::timeout(CHECK_DEADLINE, self.check(server)) => answer,
                () = &mut stopped => return,
            };
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_DEADLINE.as_secs())));
            if let Err(reason) = &answer {
                tracing::debug!(server = self.addresses[server], reason, "the preferred server is not back yet");
            }
            let now = self.now();
            let mut state = self.state.lock();
            state.servers.probed(now, server, answer.is_ok());
            let Some(server) = state.servers.returns(now) else { continue };
            state.servers.leave(now, server);
            let connection = state.open.take();
            drop(state);
            tracing::info!(server = self.addresses[server], "the preferred server is well again: returning to it");
            self.disconnected();
            if let Some(connection) = connection {
                connection.gone.cancel();
            }
        }
    }

    /// Asks a server at all of its addresses at once: one that says nothing must not take the time of the others.
    async fn check(&self, server: usize) -> Result<(), String> {
        let address = &self.addresses[server];
        let ask = |endpoint| async move {
            let server = self.dial.connect(address, endpoint).await?;
            self.client.check(server).await.map_err(|end| end.to_string())
        };
        let mut answers: FuturesUnordered<_> = self.dial.endpoints(address).await?.into_iter().map(ask).collect();
        let mut reasons = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => return Ok(()),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    /// Connects to a server at one of its addresses.
    async fn dial(&self, server: usize) -> Result<(Arc<dyn Transport>, SocketAddr), String> {
        let found = self.dial.endpoints(&self.addresses[server]).await?;
        self.dial_one_of(server, found).await
    }

    async fn dial_one_of(
        &self,
        server: usize,
        found: Vec<SocketAddr>,
    ) -> Result<(Arc<dyn Transport>, SocketAddr), String> {
        let address = &self.addresses[server];
        let order = self.state.lock().servers.order(server, self.now(), found);
        let mut reasons = Vec::new();
        for endpoint in order {
            let connected = match self.dial.prepare(address, endpoint).await {
                Ok(()) => self.dial.connect(address, endpoint).await,
                Err(reason) => Err(reason),
            };
            match connected {
                Ok(channel) => return Ok((channel, endpoint)),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    fn connected(&self, server: usize, endpoint: SocketAddr, transport: Arc<dyn Transport>) -> Connection {
        let (now, address) = (self.now(), &self.addresses[server]);
        self.takeover.served_by(address);
        let mut state = self.state.lock();
        state.connections += 1;
        let connection = Connection { server: transport, number: state.connections, gone: self.stop.child_token() };
        state.servers.connected(now, server, endpoint);
        state.open = Some(connection.clone());
        let before = state.last.replace(server);
        drop(state);
        if before.is_some_and(|before| before != server) {
            self.metrics.server_changes.inc();
        }
        self.metrics.server(address).set(1);
        let endpoint = endpoint.to_string();
        tracing::info!(server = address, endpoint, "connected");
        self.status.send_modify(|status| {
            status.server = Some(if *address == endpoint { endpoint } else { format!("{address} ({endpoint})") });
        });
        self.changed.notify_one();
        connection
    }

    fn disconnected(&self) {
        for address in &self.addresses {
            self.metrics.server(address).set(0);
        }
        self.status.send_modify(|status| status.server = None);
        self.changed.notify_one();
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Connections for Link {
    async fn connect(&self) -> Result<Connection, String> {
        let _one = self.connecting.lock().await;
        let server = loop {
            if let Some(open) = &self.state.lock().open {
                return Ok(open.clone());
            }
            let next = self.state.lock().servers.next(self.now());
            match next {
                Next::Connect(server) => break server,
                Next::Wait(until) => tokio::time::sleep_until(self.started + until).await,
            }
        };
        match self.dial(server).await {
            Ok((channel, endpoint)) => Ok(self.connected(server, endpoint, channel)),
            Err(reason) => {
                let now = self.now();
                self.state.lock().servers.unreachable(now, server);
                Err(reason)
            }
        }
    }

    fn ended(&self, connection: &Connection, end: &End) {
        let parting = match end {
            End::Refused(refusal) if refusal.reason == RefusalReason::AtCapacity => Parting::Full,
            end if end.sends_away() => Parting::SentAway,
            _ => Parting::Broken,
        };
        let now = self.now();
        let mut state = self.state.lock();
        // Otherwise its other stream ended before, or the agent left it.
        if connection.gone.is_cancelled() || state.open.as_ref().is_none_or(|open| open.number != connection.number) {
            return;
        }
        state.servers.ended(now, parting);
        state.open = None;
        drop(state);
        self.disconnected();
        connection.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use meshrelay_pki::ClientTls;
    use meshrelay_relay::grpc::Identity;
    use meshrelay_relay::{Limits, Refusal, Timing};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connector::{Connector, Dialer};

    fn link(folder: &std::path::Path) -> Link {
        let connector = Connector::new("server.example", &ClientTls::Insecure, Metrics::default()).unwrap();
        link_over(folder, Arc::new(Dialer { connector, certificate: None }))
    }

    fn link_over(folder: &std::path::Path, dial: Arc<dyn Dial>) -> Link {
        let identity = Identity {
            cluster: "one".into(),
            instance: "test".to_owned(),
            software_version: "0.1.0".to_owned(),
            token: None,
        };
        Link::new(
            vec!["replicas.example:9900".to_owned(), "other.example:9900".to_owned()],
            dial,
            Arc::new(Client::new(identity, Limits::default(), Timing::default())),
            Arc::new(Takeover::open(folder, Duration::from_secs(180))),
            Metrics::default(),
            Arc::new(watch::Sender::new(AgentStatus::default())),
            CancellationToken::new(),
            7,
        )
    }

    /// A name with two addresses, of which the first never says anything.
    #[derive(Default)]
    struct OneIsSilent {
        other_asked: Notify,
    }

    impl Dial for OneIsSilent {
        fn endpoints<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>, String>> {
            let endpoints = [1, 2].map(|last| SocketAddr::from(([192, 0, 2, last], 9900)));
            std::future::ready(Ok(endpoints.to_vec())).boxed()
        }

        fn connect<'a>(
            &'a self,
            _: &'a str,
            endpoint: SocketAddr,
        ) -> BoxFuture<'a, Result<Arc<dyn Transport>, String>> {
            if endpoint.to_string().starts_with("192.0.2.1:") {
                return std::future::pending().boxed();
            }
            self.other_asked.notify_one();
            std::future::ready(Err("it is busy".to_owned())).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_says_nothing_does_not_keep_the_others_from_being_asked() {
        let (folder, dial) = (tempfile::tempdir().unwrap(), Arc::new(OneIsSilent::default()));
        let link = link_over(folder.path(), Arc::clone(&dial) as Arc<dyn Dial>);
        let checked = tokio::time::timeout(CHECK_DEADLINE, link.check(0)).await;
        assert!(checked.is_err(), "one of them may still answer");
        tokio::time::timeout(CHECK_DEADLINE, dial.other_asked.notified()).await.expect("the other was asked too");
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_tried_and_one_that_sends_away_last() {
        let folder = tempfile::tempdir().unwrap();
        let link = link(folder.path());
        let listener = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let (one, two, gone) = (listener().await, listener().await, listener().await);
        let [one_at, two_at, gone_at] = [&one, &two, &gone].map(|listener| listener.local_addr().unwrap());
        drop(gone);
        let (channel, first) = link.dial_one_of(0, vec![gone_at, one_at, two_at]).await.unwrap();
        assert!(first != gone_at);
        let connection = link.connected(0, first, channel);
        assert_eq!(link.connect().await.unwrap().number, connection.number, "both streams get the same");
        let shown = link.status.borrow().server.clone();
        assert_eq!(shown, Some(format!("replicas.example:9900 ({first})")));

        let full = End::Refused(Refusal::new(RefusalReason::AtCapacity, "this replica has its share"));
        link.ended(&connection, &full);
        link.ended(&connection, &End::Lost("the other stream ended too".to_owned()));
        assert!(connection.gone.is_cancelled() && link.status.borrow().server.is_none());
        let (_, second) = link.dial_one_of(0, vec![gone_at, one_at, two_at]).await.unwrap();
        assert!(second != gone_at && second != first);
        let reasons = link.dial_one_of(0, vec![gone_at]).await.unwrap_err();
        assert!(reasons.contains(&format!("cannot connect to replicas.example:9900 ({gone_at})")), "{reasons}");
    }
}
