use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_relay::grpc::{
    Caller, Certified, Client, Hub, Identity, Issued, Notice, Peer, Registrar, Registration, RelayHandle, RelayService,
    ServerSettings, tune_endpoint, tune_server,
};
use meshrelay_relay::{Direction, End, Held, Limits, Refusal, RefusalReason, Timing};
use meshrelay_snapshot::{Completeness, Gvk, Name, Object, ObjectKey, Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};

/// Longest wait for anything: only a failing test gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A `ConfigMap` with `bytes` of text that does not compress much.
pub(crate) fn object(name: usize, bytes: usize, seed: u64) -> Arc<Object> {
    let mut random = StdRng::seed_from_u64(seed ^ (name as u64) << 32);
    let text: String = (0..bytes).map(|_| char::from(random.random_range(b'!'..=b'~'))).collect();
    let value = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("name-{name}"), "namespace": "n"},
        "data": {"text": text.replace(['"', '\\'], "_")},
    });
    Arc::new(Object::from_value(&value).unwrap())
}

pub(crate) fn key(name: usize) -> ObjectKey {
    ObjectKey::new(Gvk::new("", "v1", "ConfigMap"), "n", format!("name-{name}"))
}

pub(crate) fn snapshot(objects: usize, bytes: usize) -> Snapshot {
    let mut snapshot: Snapshot = (0..objects).map(|name| object(name, bytes, 1)).collect();
    let mut meta = SnapshotMeta::default();
    meta.completeness.insert(Gvk::new("", "v1", "ConfigMap"), Completeness::Synced);
    snapshot.set_meta(meta);
    snapshot
}

pub(crate) fn changed(snapshot: &Snapshot, name: usize, bytes: usize, seed: u64) -> Arc<Snapshot> {
    let mut next = snapshot.clone();
    next.insert(object(name, bytes, seed));
    Arc::new(next)
}

/// A hub that remembers everything and knows the clusters it was told.
pub(crate) struct TestHub {
    pub(crate) clusters: Mutex<BTreeSet<Name>>,
    pub(crate) token: Mutex<Option<String>>,
    pub(crate) inputs: watch::Sender<BTreeMap<Name, Held>>,
    pub(crate) outputs: Mutex<BTreeMap<Name, watch::Sender<Option<Arc<Snapshot>>>>>,
    pub(crate) last: watch::Sender<Option<Arc<Snapshot>>>,
    pub(crate) notices: watch::Sender<Vec<(Name, Direction, Notice)>>,
    pub(crate) refusals: watch::Sender<Vec<(String, Refusal)>>,
}

impl TestHub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            clusters: Mutex::new(["east", "west"].map(Name::from).into()),
            token: Mutex::default(),
            inputs: watch::Sender::default(),
            outputs: Mutex::default(),
            last: watch::Sender::default(),
            notices: watch::Sender::default(),
            refusals: watch::Sender::default(),
        })
    }

    pub(crate) fn output(&self, cluster: &str) -> watch::Sender<Option<Arc<Snapshot>>> {
        self.outputs.lock().entry(cluster.into()).or_default().clone()
    }

    pub(crate) fn input(&self, cluster: &str) -> Option<Held> {
        self.inputs.borrow().get(cluster).cloned()
    }

    pub(crate) async fn wait_input(&self, cluster: &str, wanted: &Snapshot) -> Held {
        let mut inputs = self.inputs.subscribe();
        let ready = inputs.wait_for(|inputs| inputs.get(cluster).is_some_and(|held| **held.visible() == *wanted));
        patient("the input of the server", ready).await.unwrap()[cluster].clone()
    }

    pub(crate) async fn wait_notice(&self, what: &str, wanted: impl Fn(&Name, Direction, &Notice) -> bool) {
        let mut notices = self.notices.subscribe();
        let ready = notices.wait_for(|all| all.iter().any(|(cluster, way, notice)| wanted(cluster, *way, notice)));
        patient(what, ready).await.unwrap();
    }

    pub(crate) async fn wait_connects(&self, count: usize) {
        let mut notices = self.notices.subscribe();
        let connected = |all: &Vec<(_, _, Notice)>| {
            all.iter().filter(|(_, _, notice)| matches!(notice, Notice::Connected { .. })).count() >= count
        };
        patient("connections", notices.wait_for(connected)).await.unwrap();
    }

    pub(crate) async fn wait_end(&self, direction: Direction, wanted: impl Fn(&End) -> bool) {
        let matches =
            |way, notice: &Notice| way == direction && matches!(notice, Notice::Disconnected(end) if wanted(end));
        self.wait_notice("the end of a stream", |_, way, notice| matches(way, notice)).await;
    }
}

pub(crate) async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

impl Hub for TestHub {
    fn authorize(&self, caller: &Caller) -> Result<(), Refusal> {
        let cluster = &caller.hello.cluster;
        if !self.clusters.lock().contains(cluster) {
            return Err(Refusal::new(RefusalReason::UnknownCluster, format!("no cluster {cluster} is registered")));
        }
        if *self.token.lock() == caller.token {
            return Ok(());
        }
        Err(Refusal::new(RefusalReason::WrongToken, "expected the token of this fleet, found another one"))
    }

    fn held_input(&self, cluster: &Name) -> Option<Held> {
        self.input(cluster)
    }

    fn on_input(&self, cluster: &Name, input: Held) {
        self.inputs.send_modify(|inputs| {
            inputs.insert(cluster.clone(), input);
        });
    }

    fn outputs(&self, cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.output(cluster).subscribe()
    }

    fn last_output(&self, _cluster: &Name) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.last.subscribe()
    }

    fn on_notice(&self, cluster: &Name, direction: Direction, notice: Notice) {
        self.notices.send_modify(|notices| notices.push((cluster.clone(), direction, notice)));
    }

    fn on_refused(&self, cluster: &str, refusal: &Refusal) {
        self.refusals.send_modify(|refusals| refusals.push((cluster.to_owned(), refusal.clone())));
    }
}

/// Refuses what the test wants refused; the token says what that is.
pub(crate) struct TestRegistrar;

impl Registrar for TestRegistrar {
    async fn register(&self, registration: Registration, _: Peer) -> Result<Issued, Refusal> {
        match RefusalReason::from_code(&registration.token) {
            Some(reason) => Err(Refusal::new(reason, format!("refused {} as told", registration.cluster))),
            None => Ok(Issued { certificate: "certificate".to_owned(), ca_bundle: "authorities".to_owned() }),
        }
    }
}

pub(crate) struct TestServer {
    pub(crate) hub: Arc<TestHub>,
    pub(crate) handle: RelayHandle,
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl TestServer {
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn settings() -> ServerSettings {
    ServerSettings { require_certificate: false, software_version: "1.4.0".to_owned(), ..ServerSettings::default() }
}

pub(crate) async fn serve(settings: ServerSettings) -> TestServer {
    serve_with(TestHub::new(), settings, Peer::default()).await
}

/// A server on a free port, for which every connection comes from `peer`.
pub(crate) async fn serve_with(hub: Arc<TestHub>, settings: ServerSettings, peer: Peer) -> TestServer {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = RelayService::new(TestRegistrar, Arc::clone(&hub), settings);
    let handle = service.handle();
    let service = InterceptedService::new(service.into_server(), move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(peer.clone());
        Ok(request)
    });
    let server = tune_server(Server::builder()).add_service(service);
    let task = tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    TestServer { hub, handle, address, task }
}

pub(crate) fn certified(cluster: &str, expired: bool) -> Peer {
    Peer { certificate: Some(Certified { cluster: cluster.into(), expired, ends: 0 }), source: None }
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    tune_endpoint(Endpoint::from_shared(format!("http://{address}")).unwrap()).connect_lazy()
}

pub(crate) fn identity(cluster: &str, instance: &str) -> Identity {
    Identity {
        cluster: cluster.into(),
        instance: instance.to_owned(),
        software_version: "1.4.0".to_owned(),
        token: None,
    }
}

pub(crate) fn client(cluster: &str, instance: &str) -> Client {
    Client::new(identity(cluster, instance), Limits::default(), Timing::default())
}
