use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_relay::grpc::{Applier, Client, Connection, Connections, Notice, Progress, Reconnect};
use meshrelay_relay::wire::{Frame, HeldClaim, Hello, codec};
use meshrelay_relay::{
    ApplyReport, Direction, End, Held, Limits, Memory, Refusal, RefusalReason, Sent, Timing, Versions,
    generated as proto,
};
use meshrelay_snapshot::Snapshot;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::fixture::*;

async fn pull_until(client: &Client, server: &TestServer, wanted: &Snapshot) {
    let (mut held, stop) = (None, CancellationToken::new());
    let (_reports, mut reports) = watch::channel(None);
    let on_event = |event| {
        if let meshrelay_relay::Received::Committed(held) = event
            && **held.visible() == *wanted
        {
            stop.cancel();
        }
    };
    let pull = client.pull(channel(server.address), &mut held, &mut reports, &stop, on_event);
    assert_eq!(patient("a pull", pull).await, End::Finished);
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_cut_off_and_holds_nobody_up() {
    let mut settings = settings();
    settings.timing.write_stall = Duration::from_millis(300);
    let server = serve(settings).await;
    let output = snapshot(300, 60_000);
    for cluster in ["east", "west"] {
        server.hub.output(cluster).send_replace(Some(Arc::new(output.clone())));
    }
    // Opens a pull stream and never reads from it.
    let (out, frames) = mpsc::channel(8);
    let hello = Hello {
        cluster: "east".into(),
        instance: "one".to_owned(),
        software_version: "1.4.0".to_owned(),
        ..Hello::default()
    };
    out.send(codec::encode(Frame::Hello(hello))).await.unwrap();
    out.send(codec::encode(Frame::Held(HeldClaim::default()))).await.unwrap();
    let mut raw = proto::relay_client::RelayClient::new(channel(server.address));
    let _deaf = raw.pull(ReceiverStream::new(frames)).await.unwrap();

    pull_until(&client("west", "one"), &server, &output).await;
    server
        .hub
        .wait_notice("the end of the deaf stream", |cluster, _, notice| {
            *cluster == "east" && matches!(notice, Notice::Disconnected(End::WriteStalled(_)))
        })
        .await;
    // The same cluster comes back, as another process even, and goes on.
    pull_until(&client("east", "two"), &server, &output).await;
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timing = Timing { peer_deadline: Duration::from_millis(200), ..Timing::default() };
    let agent = Client::new(identity("east", "one"), Limits::default(), timing.clone());
    let (_inputs, mut inputs) = watch::channel(None);
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let push = agent.push(channel(listener.local_addr().unwrap()), &mut inputs, &mut memory, &stop, |_| {});
    assert_eq!(patient("the end", push).await, End::PeerSilent(timing.peer_deadline));
}

#[tokio::test]
async fn a_deregistered_cluster_and_a_draining_server_end_streams_with_the_reason() {
    let server = serve(settings()).await;
    let agent = client("east", "one");
    let (_inputs, mut inputs) = watch::channel(Some(Arc::new(snapshot(3, 50))));
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let refusal = Refusal::new(RefusalReason::Deregistered, "cluster east is no longer registered");
    let ending = async {
        let held = server.hub.wait_input("east", &snapshot(3, 50)).await;
        server.handle.disconnect("east", &refusal);
        held
    };
    let push = agent.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {});
    let (end, before) = patient("the end", async { tokio::join!(push, ending) }).await;
    assert_eq!(end, End::Refused(refusal));

    let (given, mut versions) = watch::channel(0);
    let ending = async {
        let newer = versions.wait_for(|version| *version > before.version());
        assert!(newer.await.is_ok(), "what it gave before it was deregistered counts for nothing");
        server.handle.drain("this replica stops");
    };
    let push = agent.push(channel(server.address), &mut inputs, &mut memory, &stop, |event| {
        if let Sent::Given(version) = event {
            given.send_replace(version);
        }
    });
    let (end, ()) = patient("the end", async { tokio::join!(push, ending) }).await;
    assert_eq!(end, End::Drained("this replica stops".to_owned()));
    let end = patient("a refusal", agent.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {})).await;
    assert!(
        end.sends_away() && matches!(&end, End::Refused(refusal) if refusal.reason == RefusalReason::Draining),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_newer_stream_of_the_same_process_replaces_the_older() {
    let server = serve(settings()).await;
    let agent = client("east", "one");
    let (_inputs, inputs) = watch::channel(Some(Arc::new(snapshot(3, 50))));
    let stop = CancellationToken::new();
    let stream = async || {
        let (mut inputs, mut memory) = (inputs.clone(), Memory::default());
        agent.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {}).await
    };
    let newer = async {
        server.hub.wait_input("east", &snapshot(3, 50)).await;
        stream().await
    };
    let older = async {
        let end = stream().await;
        server.hub.wait_end(Direction::Push, |end| *end == End::Superseded).await;
        server.hub.wait_connects(2).await;
        stop.cancel();
        end
    };
    let (older, newer) = patient("both", async { tokio::join!(older, newer) }).await;
    assert_eq!(older, End::Superseded);
    assert_eq!(newer, End::Finished);
}

#[derive(Default)]
struct TestApplier {
    applied: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Applier for TestApplier {
    async fn apply(&self, held: Held) -> ApplyReport {
        self.applied.send_replace(Some(Arc::clone(held.visible())));
        ApplyReport::new(held.version(), held.digest(), held.visible().len() as u64, Vec::new())
    }
}

/// A new connection for each stream, to whatever the address is.
struct To {
    address: Arc<Mutex<SocketAddr>>,
    stop: CancellationToken,
}

impl Connections for To {
    async fn connect(&self) -> Result<Connection, String> {
        tokio::task::yield_now().await;
        Ok(Connection { server: Arc::new(channel(*self.address.lock())), number: 0, gone: self.stop.clone() })
    }

    fn ended(&self, _: &Connection, _: &End) {}
}

#[tokio::test]
async fn streams_come_back_after_the_server_did() {
    let agent = client("east", "one");
    let stop = CancellationToken::new();
    let server = serve(settings()).await;
    let address = Arc::new(Mutex::new(server.address));
    let connections = To { address: Arc::clone(&address), stop: stop.clone() };
    let reconnect = || Reconnect { client: &agent, connections: &connections, stop: stop.clone() };
    let applier = TestApplier::default();
    let (inputs_in, inputs) = watch::channel(Some(Arc::new(snapshot(30, 50))));
    let ends = Mutex::new(Vec::new());
    let push = reconnect().push(
        inputs,
        Versions::default(),
        || 0,
        |progress| {
            if let Progress::Ended(end) = progress {
                ends.lock().push(end);
            }
        },
    );
    let pull = reconnect().pull(Some(Held::restored(Arc::new(snapshot(5, 50)), 1)), &applier, |_| {});
    let checks = async {
        let mut applied = applier.applied.subscribe();
        applied.wait_for(|applied| applied.as_deref() == Some(&snapshot(5, 50))).await.unwrap();
        server.hub.wait_input("east", &snapshot(30, 50)).await;
        server.hub.output("east").send_replace(Some(Arc::new(snapshot(6, 50))));
        applied.wait_for(|applied| applied.as_deref() == Some(&snapshot(6, 50))).await.unwrap();
        server.stop();
        server.handle.disconnect("east", &Refusal::new(RefusalReason::Internal, "the server of this test stops"));
        let next = serve(settings()).await;
        *address.lock() = next.address;
        inputs_in.send_replace(Some(Arc::new(snapshot(31, 50))));
        next.hub.wait_input("east", &snapshot(31, 50)).await;
        next.hub.output("east").send_replace(Some(Arc::new(snapshot(7, 50))));
        applied.wait_for(|applied| applied.as_deref() == Some(&snapshot(7, 50))).await.unwrap();
        next.hub
            .wait_notice("a report", |_, _, notice| matches!(notice, Notice::Applied(report) if report.applied == 7))
            .await;
        stop.cancel();
    };
    patient("all", async { tokio::join!(push, pull, checks) }).await;
    assert!(ends.lock().len() >= 2, "{:?}", ends.lock());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let agent = client("east", "one");
    let (_inputs, mut inputs) = watch::channel(None);
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let end = patient("the end", agent.push(channel(address), &mut inputs, &mut memory, &stop, |_| {})).await;
    assert!(matches!(&end, End::Lost(why) if why.to_lowercase().contains("connection refused")), "{end:?}");
}

#[tokio::test]
async fn a_caller_who_leaves_while_it_waits_does_not_keep_its_place() {
    let server = serve(settings()).await;
    let agent = client("east", "one");
    let (_inputs, inputs) = watch::channel(Some(Arc::new(snapshot(3, 50))));
    // Many streams of one process replace each other and are given up at once.
    for _ in 0..20 {
        let (mut inputs, mut memory, stop) = (inputs.clone(), Memory::default(), CancellationToken::new());
        let push = agent.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {});
        let _ = tokio::time::timeout(Duration::from_millis(3), push).await;
    }
    let next = client("east", "two");
    let served = async {
        loop {
            let (mut inputs, mut memory, stop) = (inputs.clone(), Memory::default(), CancellationToken::new());
            let on_event = |event| {
                if matches!(event, meshrelay_relay::Sent::Acknowledged { .. }) {
                    stop.cancel();
                }
            };
            let push = next.push(channel(server.address), &mut inputs, &mut memory, &stop, on_event);
            match push.await {
                End::Finished => break,
                End::Refused(refusal) if refusal.reason == RefusalReason::SecondAgent => tokio::task::yield_now().await,
                end => panic!("{end:?}"),
            }
        }
    };
    patient("the next agent to be served", served).await;
}
