use std::sync::Arc;

use meshrelay_relay::grpc::{Client, Notice};
use meshrelay_relay::{
    ApplyReport, Direction, End, Held, Limits, Memory, ObjectResult, Outcome, Received, Sent, Timing, TransferKind,
};
use meshrelay_snapshot::{Completeness, Gvk, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixture::*;
use crate::proxy::Proxy;

/// Pushes until the server has acknowledged `wanted`; gives how it travelled.
async fn push_until(
    client: &Client,
    address: std::net::SocketAddr,
    input: &Arc<Snapshot>,
    memory: &mut Memory,
) -> Option<TransferKind> {
    let stop = CancellationToken::new();
    let (_inputs, mut inputs) = watch::channel(Some(Arc::clone(input)));
    let mut travelled = None;
    let on_event = |event| {
        if let Sent::Acknowledged { kind, .. } = event {
            travelled = Some(kind);
            stop.cancel();
        }
    };
    let end = patient("a push", client.push(channel(address), &mut inputs, memory, &stop, on_event)).await;
    assert_eq!(end, End::Finished);
    travelled.unwrap()
}

#[tokio::test]
async fn what_travels_follows_what_changed() {
    let server = serve(settings()).await;
    let proxy = Proxy::before(server.address).await;
    let (agent, mut memory) = (client("east", "one"), Memory::default());
    let input = Arc::new(snapshot(1_000, 400));

    let kind = push_until(&agent, proxy.address, &input, &mut memory).await;
    let full = proxy.take();
    assert_eq!(kind, Some(TransferKind::Full));
    server.hub.wait_input("east", &input).await;
    assert!(full > 100_000, "{full}");

    let kind = push_until(&agent, proxy.address, &input, &mut memory).await;
    let unchanged = proxy.take();
    assert_eq!(kind, None, "nothing travels");
    assert!(unchanged < 5_000, "an unchanged reconnect took {unchanged} bytes");

    let input = changed(&input, 7, 400, 2);
    let kind = push_until(&agent, proxy.address, &input, &mut memory).await;
    let delta = proxy.take();
    assert_eq!(kind, Some(TransferKind::Delta));
    assert!(delta < 5_000, "a reconnect with one change took {delta} bytes");
    server.hub.wait_input("east", &input).await;

    // A new process does not know what the server holds: the buckets tell.
    let (agent, mut memory) = (client("east", "two"), Memory::default());
    let input = changed(&input, 8, 400, 3);
    let kind = push_until(&agent, proxy.address, &input, &mut memory).await;
    let buckets = proxy.take();
    assert_eq!(kind, Some(TransferKind::Buckets));
    assert!(buckets < 20_000, "a new process with one change took {buckets} bytes");
    server.hub.wait_input("east", &input).await;
    println!("bytes: full {full}, unchanged {unchanged}, one change {delta}, new process with one change {buckets}");
}

#[tokio::test]
async fn one_change_on_an_open_stream_costs_about_its_own_size() {
    let server = serve(settings()).await;
    let agent = client("east", "one");
    let first = Arc::new(snapshot(1_000, 400));
    let (inputs_in, mut inputs) = watch::channel(Some(Arc::clone(&first)));
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let push = agent.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {});
    let edits = async {
        server.hub.wait_input("east", &first).await;
        let before = agent.traffic().bytes_out();
        let next = changed(&first, 7, 400, 2);
        inputs_in.send_replace(Some(Arc::clone(&next)));
        server.hub.wait_input("east", &next).await;
        let bytes = agent.traffic().bytes_out() - before;
        assert!(bytes < 1_000, "one change of 500 bytes took {bytes}");
        assert!(server.handle.traffic().bytes_in() >= agent.traffic().bytes_out());
        stop.cancel();
    };
    patient("a push", async { tokio::join!(push, edits) }).await;
}

#[tokio::test]
async fn outputs_arrive_and_their_results_return() {
    let server = serve(settings()).await;
    let output = server.hub.output("east");
    output.send_replace(Some(Arc::new(snapshot(50, 100))));
    let agent = client("east", "one");
    let (reports_in, mut reports) = watch::channel(None);
    let (mut held, stop) = (None, CancellationToken::new());
    let on_event = |event| {
        if let Received::Committed(held) = event {
            let held: Held = held;
            let failed = ObjectResult { key: key(3), outcome: Outcome::Failed, message: "not accepted".to_owned() };
            let applied = held.visible().len() as u64 - 1;
            reports_in.send_replace(Some(ApplyReport::new(held.version(), held.digest(), applied, vec![failed])));
        }
    };
    let pull = agent.pull(channel(server.address), &mut held, &mut reports, &stop, on_event);
    let next = changed(&snapshot(50, 100), 60, 100, 1);
    let checks = async {
        let report_of = |objects: u64| {
            move |_: &_, _, notice: &Notice| {
                matches!(notice, Notice::Applied(report)
                if report.applied == objects && report.results.len() == 1 && report.results[0].key == key(3))
            }
        };
        server.hub.wait_notice("the first report", report_of(49)).await;
        output.send_replace(Some(Arc::clone(&next)));
        server.hub.wait_notice("the second report", report_of(50)).await;
        stop.cancel();
    };
    patient("a pull", async { tokio::join!(pull, checks) }).await;
    assert_eq!(held.unwrap().visible(), &next);
}

#[tokio::test]
async fn an_object_over_the_limit_stays_behind_alone_and_keeps_its_version() {
    let server = serve(settings()).await;
    let limits = Limits { object_bytes: 10_000, ..Limits::default() };
    let agent = Client::new(identity("east", "one"), limits, Timing::default());
    let first = snapshot(20, 100);
    let (inputs_in, mut inputs) = watch::channel(Some(Arc::new(first.clone())));
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let withheld = watch::Sender::new(Vec::new());
    let on_event = |event| {
        if let Sent::Withheld(objects) = event {
            withheld.send_replace(objects.to_vec());
        }
    };
    let push = agent.push(channel(server.address), &mut inputs, &mut memory, &stop, on_event);
    let checks = async {
        server.hub.wait_input("east", &first).await;
        let mut next = first.clone();
        next.insert(object(3, 20_000, 2));
        next.insert(object(30, 20_000, 2));
        next.insert(object(31, 100, 2));
        inputs_in.send_replace(Some(Arc::new(next.clone())));
        let mut seen = server.hub.inputs.subscribe();
        let ready = seen.wait_for(|inputs| inputs["east"].visible().get(&key(31)).is_some());
        let held = patient("the rest", ready).await.unwrap()["east"].clone();
        assert_eq!(held.visible().get(&key(3)), first.get(&key(3)), "the last version that fitted stays");
        assert_eq!(held.visible().get(&key(30)), None, "what never fitted is not there");
        let state = held.visible().meta().completeness[&Gvk::new("", "v1", "ConfigMap")].clone();
        let Completeness::Incomplete(reason) = state else { panic!("{state:?}") };
        assert!(reason.contains("n/name-3 ") && reason.contains("n/name-30") && reason.contains("10000"), "{reason}");
        assert_eq!(held.withheld().len(), 2);
        assert_eq!(withheld.borrow().as_slice(), held.withheld(), "both sides can say so");
        // Once it fits again, all is as if nothing had happened.
        let last = changed(&first, 3, 100, 3);
        inputs_in.send_replace(Some(Arc::clone(&last)));
        let held = server.hub.wait_input("east", &last).await;
        assert!(held.withheld().is_empty());
        stop.cancel();
    };
    patient("a push", async { tokio::join!(push, checks) }).await;
    assert!(withheld.borrow().is_empty());
}

#[tokio::test]
async fn a_server_that_lost_everything_gets_it_again_and_an_agent_keeps_what_it_has() {
    let input = Arc::new(snapshot(200, 100));
    let (agent, mut memory) = (client("east", "one"), Memory::default());
    let server = serve(settings()).await;
    push_until(&agent, server.address, &input, &mut memory).await;
    server.stop();
    let server = serve(settings()).await;
    let kind = push_until(&agent, server.address, &input, &mut memory).await;
    assert_eq!(kind, Some(TransferKind::Full));
    server.hub.wait_input("east", &input).await;

    // The new server has no output yet: the agent keeps what it holds.
    let mut held = Some(Held::restored(Arc::clone(&input), 5));
    let (_reports, mut reports) = watch::channel(None);
    let stop = CancellationToken::new();
    let pull = agent.pull(channel(server.address), &mut held, &mut reports, &stop, |_| {});
    let output = changed(&input, 3, 100, 9);
    let checks = async {
        server
            .hub
            .wait_notice("the agent", |_, way, notice| {
                way == Direction::Pull && matches!(notice, Notice::Connected { .. })
            })
            .await;
        server.hub.output("east").send_replace(Some(Arc::clone(&output)));
        server.hub.wait_notice("an acknowledgement", |_, way, notice| {
            way == Direction::Pull
                && matches!(notice, Notice::Acknowledged { version, kind: Some(TransferKind::Buckets), .. } if *version > 5)
        }).await;
        stop.cancel();
    };
    patient("a pull", async { tokio::join!(pull, checks) }).await;
    assert_eq!(held.unwrap().visible(), &output);
}

#[tokio::test]
async fn as_long_as_there_is_no_output_an_agent_that_holds_nothing_gets_the_last_one() {
    let server = serve(settings()).await;
    let (last, output) = (Arc::new(snapshot(20, 100)), changed(&snapshot(20, 100), 3, 100, 9));
    for (cluster, before) in [("east", None), ("west", Some(Held::restored(Arc::new(snapshot(5, 100)), 5)))] {
        server.hub.last.send_replace(None);
        let (agent, mut held, stop) = (client(cluster, "one"), before.clone(), CancellationToken::new());
        let (_reports, mut reports) = watch::channel(None);
        let committed = watch::Sender::new(Vec::new());
        let mut commits = committed.subscribe();
        let on_event = |event| {
            if let Received::Committed(held) = event {
                let held: Held = held;
                committed.send_modify(|all| all.push(Arc::clone(held.visible())));
            }
        };
        let pull = agent.pull(channel(server.address), &mut held, &mut reports, &stop, on_event);
        let checks = async {
            let is_ours = |name: &meshrelay_snapshot::Name, way| name.as_str() == cluster && way == Direction::Pull;
            let said = |name: &_, way, notice: &Notice| is_ours(name, way) && matches!(notice, Notice::HoldsNothing);
            let connected =
                |name: &_, way, notice: &Notice| is_ours(name, way) && matches!(notice, Notice::Connected { .. });
            if before.is_none() {
                server.hub.wait_notice("an agent that holds nothing", said).await;
                server.hub.last.send_replace(Some(Arc::clone(&last)));
                patient("the last output", commits.wait_for(|all| !all.is_empty())).await.unwrap();
            } else {
                server.hub.wait_notice("the agent", connected).await;
                server.hub.last.send_replace(Some(Arc::clone(&last)));
            }
            server.hub.output(cluster).send_replace(Some(Arc::clone(&output)));
            patient("the output", commits.wait_for(|all| all.last() == Some(&output))).await.unwrap();
            stop.cancel();
        };
        patient("a pull", async { tokio::join!(pull, checks) }).await;
        let all = committed.borrow().clone();
        let expected =
            if before.is_none() { vec![Arc::clone(&last), Arc::clone(&output)] } else { vec![output.clone()] };
        assert_eq!(all, expected, "{cluster}");
    }
}
