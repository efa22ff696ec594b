use std::sync::Arc;

use meshrelay_relay::grpc::{Client, Identity, Peer, Registration};
use meshrelay_relay::{Direction, End, Limits, Memory, Refusal, RefusalReason, Timing, generated as proto};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixture::*;

/// Opens a stream and gives the refusal that the client sees; the server must have seen the same.
async fn refused(server: &TestServer, identity: Identity, direction: Direction) -> Refusal {
    let client = Client::new(identity, Limits::default(), Timing::default());
    let stop = CancellationToken::new();
    let channel = channel(server.address);
    let (_inputs, mut inputs) = watch::channel(None);
    let (_reports, mut reports) = watch::channel(None);
    let end = match direction {
        Direction::Push => {
            patient("push", client.push(channel, &mut inputs, &mut Memory::default(), &stop, |_| {})).await
        }
        Direction::Pull => patient("pull", client.pull(channel, &mut None, &mut reports, &stop, |_| {})).await,
    };
    let End::Refused(refusal) = end else { panic!("expected a refusal, found {end:?}") };
    let seen = server.hub.refusals.borrow().iter().any(|(_, seen)| *seen == refusal);
    assert!(seen, "the server reports {refusal:?} too: {:?}", server.hub.refusals.borrow());
    refusal
}

#[tokio::test]
async fn every_refused_stream_says_why_on_both_sides() {
    let strict = || {
        let mut settings = settings();
        settings.require_certificate = true;
        settings
    };
    let me = || identity("east", "one");
    let cases: Vec<(RefusalReason, bool, Peer, Identity)> = vec![
        (RefusalReason::ForeignCertificate, true, certified("west", false), me()),
        (RefusalReason::ExpiredCertificate, true, certified("east", true), me()),
        (RefusalReason::NoCertificate, true, Peer::default(), me()),
        (RefusalReason::UnknownCluster, true, certified("north", false), identity("north", "one")),
        (RefusalReason::WrongToken, false, Peer::default(), Identity { token: Some("wrong".to_owned()), ..me() }),
        (RefusalReason::Version, false, Peer::default(), Identity { software_version: "1.6.0".to_owned(), ..me() }),
        (RefusalReason::Version, false, Peer::default(), Identity { software_version: "2.4.0".to_owned(), ..me() }),
    ];
    for (reason, certificates, peer, identity) in cases {
        let server = serve_with(TestHub::new(), if certificates { strict() } else { settings() }, peer).await;
        for direction in [Direction::Push, Direction::Pull] {
            let refusal = refused(&server, identity.clone(), direction).await;
            assert_eq!(refusal.reason, reason, "{refusal}");
            assert!(refusal.message.len() > 20 && !refusal.message.ends_with('.'), "{refusal}");
        }
        // Who only asks gets the same answer, and is not counted.
        let counted = server.hub.refusals.borrow().len();
        let client = Client::new(identity, Limits::default(), Timing::default());
        let asked = client.check(channel(server.address));
        let Err(End::Refused(refusal)) = patient("an answer", asked).await else { panic!("expected {reason:?}") };
        assert_eq!((refusal.reason, server.hub.refusals.borrow().len()), (reason, counted));
        assert_eq!(server.handle.open_streams(), 0);
    }
}

#[tokio::test]
async fn the_right_token_and_the_right_certificate_are_served() {
    let hub = TestHub::new();
    *hub.token.lock() = Some("secret".to_owned());
    let mut strict = settings();
    strict.require_certificate = true;
    let server = serve_with(Arc::clone(&hub), strict, certified("east", false)).await;
    let identity = Identity { token: Some("secret".to_owned()), ..identity("east", "one") };
    assert!(!format!("{identity:?}").contains("secret"), "secrets are not printed");
    let client = Client::new(identity, Limits::default(), Timing::default());
    let input = Arc::new(snapshot(3, 50));
    let (_inputs, mut inputs) = watch::channel(Some(Arc::clone(&input)));
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    patient("an answer", client.check(channel(server.address))).await.unwrap();
    let push = client.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {});
    tokio::select! {
        end = push => panic!("{end:?}"),
        _ = hub.wait_input("east", &input) => {}
    }
}

#[tokio::test]
async fn every_refused_registration_says_why_on_both_sides() {
    let server = serve(settings()).await;
    let client = client("east", "one");
    for reason in RefusalReason::ALL {
        let registration = Registration {
            cluster: "east".to_owned(),
            token: reason.code().to_owned(),
            csr: vec![1, 2, 3],
            agent_version: "1.4.0".to_owned(),
        };
        let end = patient("an answer", client.register(channel(server.address), registration)).await.unwrap_err();
        let refusal = Refusal::new(reason, "refused east as told");
        assert_eq!(end, End::Refused(refusal.clone()));
        assert_eq!(server.hub.refusals.borrow().last(), Some(&("east".to_owned(), refusal)));
    }
    let registration = |version: &str| Registration {
        cluster: "east".to_owned(),
        token: "good".to_owned(),
        csr: Vec::new(),
        agent_version: version.to_owned(),
    };
    let issued = client.register(channel(server.address), registration("1.5.0")).await.unwrap();
    assert_eq!((issued.certificate.as_str(), issued.ca_bundle.as_str()), ("certificate", "authorities"));
    let end = client.register(channel(server.address), registration("1.7.0")).await.unwrap_err();
    assert!(matches!(&end, End::Refused(refusal) if refusal.reason == RefusalReason::Version), "{end:?}");
}

#[tokio::test]
async fn a_second_agent_is_refused_while_the_first_is_alive() {
    let server = serve(settings()).await;
    let first = client("east", "one");
    let (_inputs, mut inputs) = watch::channel(Some(Arc::new(snapshot(3, 50))));
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let push = first.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {});
    let others = async {
        server.hub.wait_input("east", &snapshot(3, 50)).await;
        for direction in [Direction::Push, Direction::Pull] {
            let refusal = refused(&server, identity("east", "two"), direction).await;
            assert_eq!(refusal.reason, RefusalReason::SecondAgent);
            assert!(refusal.message.contains("one") && refusal.message.contains("two"), "{refusal}");
        }
        stop.cancel();
    };
    assert_eq!(tokio::join!(push, others).0, End::Finished, "the first is not disturbed");
    server.hub.wait_end(Direction::Push, |end| matches!(end, End::Closed { code, .. } if code.is_empty())).await;
    let second = client("east", "two");
    let (mut memory, stop) = (Memory::default(), CancellationToken::new());
    let stopper = async {
        server.hub.wait_notice("the second agent", |_, _, notice| {
            matches!(notice, meshrelay_relay::grpc::Notice::Connected { hello, .. } if hello.instance == "two")
        }).await;
        stop.cancel();
    };
    let push = second.push(channel(server.address), &mut inputs, &mut memory, &stop, |_| {});
    assert_eq!(tokio::join!(push, stopper).0, End::Finished, "the first is gone");
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_hello_is_refused() {
    let server = serve(settings()).await;
    let mut client = proto::relay_client::RelayClient::new(channel(server.address));
    let heartbeat = proto::Frame { body: Some(proto::frame::Body::Heartbeat(proto::Heartbeat {})) };
    for frames in [vec![heartbeat], vec![proto::Frame { body: None }], vec![]] {
        let status = client.push(futures::stream::iter(frames)).await.unwrap_err();
        let refusal = meshrelay_relay::grpc::refusal_of(&status).unwrap();
        assert_eq!(refusal.reason, RefusalReason::Handshake, "{refusal}");
    }
    assert_eq!(server.hub.refusals.borrow().len(), 3);
}
