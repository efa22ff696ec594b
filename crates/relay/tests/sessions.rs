//! The two ends of a stream against each other, frame by frame, without a transport.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use meshrelay_relay::wire::{Frame, Hello};
use meshrelay_relay::{
    ApplyReport, End, Held, Limits, Memory, NackReason, ProtocolError, Received, Receiver, RefusalReason, Sender, Sent,
    Session, Setup, Timing, TransferKind,
};
use meshrelay_snapshot::{Completeness, Gvk, Object, Snapshot};
use serde_json::json;

const START: Duration = Duration::from_secs(1_000);

fn object(name: &str, bytes: usize) -> Arc<Object> {
    let text = "x".repeat(bytes);
    let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"text": text}});
    Arc::new(Object::from_value(&value).unwrap())
}

fn snapshot(objects: &[(&str, usize)]) -> Arc<Snapshot> {
    Arc::new(objects.iter().map(|(name, bytes)| object(name, *bytes)).collect())
}

fn hello(instance: &str) -> Hello {
    Hello {
        cluster: "east".into(),
        instance: instance.to_owned(),
        software_version: "0.1.0".to_owned(),
        ..Hello::default()
    }
}

fn setup(instance: &str, peer: Option<&str>) -> Setup {
    Setup {
        hello: hello(instance),
        peer: peer.map(hello),
        limits: Limits::default(),
        timing: Timing::default(),
        now: START,
    }
}

/// An agent that pushes and a server that receives, with what each told its owner.
struct Pair {
    now: Duration,
    sender: Sender,
    receiver: Receiver,
    sent: Vec<Sent>,
    received: Vec<Received>,
    frames: usize,
}

impl Pair {
    fn new(target: Option<Arc<Snapshot>>, held: Option<Held>) -> Self {
        Self::with(setup("agent", None), setup("server", Some("agent")), target, Memory::default(), held)
    }

    fn with(agent: Setup, server: Setup, target: Option<Arc<Snapshot>>, memory: Memory, held: Option<Held>) -> Self {
        let (sender, receiver) = (Sender::new(agent, target, memory), Receiver::new(server, held));
        let mut pair = Self { now: START, sender, receiver, sent: Vec::new(), received: Vec::new(), frames: 0 };
        // The server was made from the agent's hello, so that one is already delivered.
        assert!(matches!(pair.sender.transmit(START), Some(Frame::Hello(_))));
        pair.events();
        pair
    }

    fn events(&mut self) {
        self.sent.extend(std::iter::from_fn(|| self.sender.event()));
        self.received.extend(std::iter::from_fn(|| self.receiver.event()));
    }

    /// Delivers frames until nobody has one, each changed by `change` on its way to the receiver.
    fn settle(&mut self, mut change: impl FnMut(&mut Frame)) {
        loop {
            let up = self.sender.transmit(self.now);
            if let Some(mut frame) = up.clone() {
                change(&mut frame);
                self.receiver.receive(self.now, frame);
            }
            let down = self.receiver.transmit(self.now);
            if let Some(frame) = down.clone() {
                self.sender.receive(self.now, frame);
            }
            self.frames += usize::from(up.is_some()) + usize::from(down.is_some());
            self.events();
            if up.is_none() && down.is_none() {
                return;
            }
        }
    }

    fn held(&self) -> &Snapshot {
        self.receiver.held().unwrap().visible()
    }

    fn kinds(&self) -> Vec<Option<TransferKind>> {
        let kind = |event: &Sent| match event {
            Sent::Acknowledged { kind, .. } => Some(*kind),
            _ => None,
        };
        self.sent.iter().filter_map(kind).collect()
    }

    fn nacks(&self) -> Vec<NackReason> {
        let reason = |event: &Sent| match event {
            Sent::Nacked { reason, .. } => Some(*reason),
            _ => None,
        };
        self.sent.iter().filter_map(reason).collect()
    }
}

#[test]
fn what_changes_during_a_transfer_becomes_one_version() {
    let mut pair = Pair::new(Some(snapshot(&[("a", 10)])), None);
    pair.settle(|_| {});
    for bytes in 11..200 {
        pair.sender.set_target(START, snapshot(&[("a", bytes), ("b", bytes)]));
    }
    pair.settle(|_| {});
    assert_eq!(pair.held(), &*snapshot(&[("a", 199), ("b", 199)]));
    // The first edit was under way when the others came: those are one version together.
    assert_eq!(pair.kinds(), [Some(TransferKind::Full), Some(TransferKind::Delta), Some(TransferKind::Delta)]);
    assert!(pair.sender.in_sync());
}

#[test]
fn an_empty_snapshot_is_a_version_too() {
    let mut pair = Pair::new(Some(snapshot(&[])), None);
    pair.settle(|_| {});
    assert_eq!(pair.kinds(), [Some(TransferKind::Full)], "nothing held and nothing to hold are not the same");
    assert!(pair.held().is_empty());
}

#[test]
fn a_sender_without_a_target_says_nothing_and_takes_nothing_away() {
    let held = snapshot(&[("a", 10)]);
    let mut pair = Pair::new(None, Some(Held::restored(Arc::clone(&held), 7)));
    pair.settle(|_| {});
    assert_eq!((pair.held(), pair.kinds().len()), (&*held, 0));
    let next = snapshot(&[("a", 10), ("b", 10)]);
    pair.sender.set_target(START, Arc::clone(&next));
    pair.settle(|_| {});
    assert_eq!((pair.held(), pair.receiver.held().unwrap().version()), (&*next, 8));
    assert_eq!(pair.kinds(), [Some(TransferKind::Buckets)]);
}

#[test]
fn without_a_target_only_a_peer_that_holds_nothing_is_given_what_there_was() {
    let (held, last) = (snapshot(&[("a", 10)]), snapshot(&[("b", 10)]));
    let says_nothing = |pair: &Pair| pair.sent.iter().any(|event| matches!(event, Sent::PeerHoldsNothing));
    let mut keeps = Pair::new(None, Some(Held::restored(Arc::clone(&held), 7)));
    keeps.sender.set_fallback(START, Arc::clone(&last));
    keeps.settle(|_| {});
    assert_eq!((keeps.held(), keeps.kinds().len()), (&*held, 0));
    assert!(!says_nothing(&keeps), "{:?}", keeps.sent);

    for early in [true, false] {
        let mut gets = Pair::new(None, None);
        if early {
            gets.sender.set_fallback(START, Arc::clone(&last));
        }
        gets.settle(|_| {});
        assert!(says_nothing(&gets), "{:?}", gets.sent);
        gets.sender.set_fallback(START, Arc::clone(&last));
        gets.settle(|_| {});
        assert_eq!((gets.held(), gets.kinds()), (&*last, vec![Some(TransferKind::Full)]));
        // Once there is a target, it counts.
        gets.sender.set_target(START, Arc::clone(&held));
        gets.settle(|_| {});
        gets.sender.set_fallback(START, Arc::clone(&last));
        gets.settle(|_| {});
        assert_eq!((gets.held(), gets.kinds().len()), (&*held, 2));
    }
}

#[test]
fn after_a_mismatch_the_buckets_travel_and_then_everything() {
    let (old, new) = (snapshot(&[("a", 10), ("b", 10)]), snapshot(&[("a", 20), ("b", 10)]));
    let held = || Some(Held::restored(Arc::clone(&old), 1));
    for damaged in 1..=3 {
        let agent = setup("agent", None);
        let server = setup("server", Some("agent"));
        let memory = Memory { base: Some(Arc::clone(&old)), ..Memory::default() };
        let mut pair = Pair::with(agent, server, Some(Arc::clone(&new)), memory, held());
        let mut commits = 0;
        pair.settle(|frame| {
            if let Frame::Commit(commit) = frame {
                commits += 1;
                if commits <= damaged {
                    commit.objects += 1;
                }
            }
        });
        assert_eq!(pair.nacks().len(), damaged);
        assert!(pair.nacks().iter().all(|reason| *reason == NackReason::DigestMismatch));
        let kinds = [TransferKind::Buckets, TransferKind::Full];
        if let Some(kind) = kinds.get(damaged - 1) {
            assert_eq!(pair.kinds(), [Some(*kind)]);
        } else {
            assert_eq!(pair.held(), &*old, "what was held stays");
            assert_eq!(pair.sender.wake_at(), START + Timing::default().retry, "it is tried again after a while");
            pair.now += Timing::default().retry;
            pair.sender.tick(pair.now);
            pair.settle(|_| {});
            assert_eq!(pair.kinds(), [Some(TransferKind::Full)]);
        }
        assert_eq!(pair.held(), &*new);
    }
}

#[test]
fn an_object_that_the_receiver_does_not_accept_stays_behind_until_it_changes() {
    let mut server = setup("server", Some("agent"));
    // It accepts less than it said in its hello.
    server.limits.object_bytes = 1_000;
    let old = snapshot(&[("a", 10), ("b", 10)]);
    let held = Some(Held::restored(Arc::clone(&old), 1));
    let target = snapshot(&[("a", 5_000), ("b", 20), ("c", 5_000)]);
    let mut pair = Pair::with(setup("agent", None), server, Some(target), Memory::default(), held);
    pair.settle(|_| {});
    assert_eq!(pair.nacks(), [NackReason::RefusedObjects]);
    assert_eq!(pair.held().get(object("a", 0).key()), old.get(object("a", 0).key()), "the accepted version stays");
    assert_eq!(pair.held().get(object("b", 0).key()), Some(&object("b", 20)), "the rest goes through");
    assert_eq!(pair.held().len(), 2);
    let state = &pair.held().meta().completeness[&Gvk::new("", "v1", "Secret")];
    assert!(
        matches!(state, Completeness::Incomplete(why) if why.contains("Secret a") && why.contains("refused")),
        "{state:?}"
    );
    let mut target = Snapshot::clone(&snapshot(&[("a", 30), ("b", 20)]));
    pair.sender.set_target(START, Arc::new(target.clone()));
    pair.settle(|_| {});
    assert_eq!(pair.held(), &target);
    // Absence is not the same as being withheld: now it goes.
    target.remove(object("a", 0).key());
    pair.sender.set_target(START, Arc::new(target.clone()));
    pair.settle(|_| {});
    assert_eq!(pair.held(), &target);
    assert_eq!(pair.nacks().len(), 1);
}

#[test]
fn a_transfer_over_what_the_receiver_stages_is_refused_and_costs_nothing() {
    let mut server = setup("server", Some("agent"));
    server.limits.staged_bytes = 3_000;
    let old = snapshot(&[("a", 10)]);
    let held = Some(Held::restored(Arc::clone(&old), 1));
    let mut agent = setup("agent", None);
    agent.limits.chunk_bytes = 1_000;
    let names: Vec<_> = (0..20).map(|name| name.to_string()).collect();
    let objects: Vec<_> = names.iter().map(|name| (name.as_str(), 500)).collect();
    let mut pair = Pair::with(agent, server, Some(snapshot(&objects)), Memory::default(), held);
    pair.settle(|_| {});
    assert!(!pair.nacks().is_empty() && pair.nacks().iter().all(|why| *why == NackReason::OversizeTransfer));
    assert_eq!((pair.held(), pair.receiver.staged_bytes()), (&*old, 0));
    assert!(pair.frames < 40, "it is not tried again at once: {} frames", pair.frames);
    pair.sender.set_target(START, snapshot(&[("a", 20)]));
    pair.now += Timing::default().retry;
    pair.sender.tick(pair.now);
    pair.settle(|_| {});
    assert_eq!(pair.held(), &*snapshot(&[("a", 20)]), "a smaller one goes through");
}

#[test]
fn idle_peers_keep_each_other_alive_and_a_silent_one_is_given_up() {
    let mut pair = Pair::new(Some(snapshot(&[("a", 10)])), None);
    pair.settle(|_| {});
    let before = pair.frames;
    for _ in 0..100 {
        pair.now = pair.sender.wake_at().min(pair.receiver.wake_at());
        pair.sender.tick(pair.now);
        pair.receiver.tick(pair.now);
        pair.settle(|_| {});
    }
    assert!(pair.sender.end().is_none() && pair.receiver.end().is_none());
    let (elapsed, heartbeat) = (pair.now - START, Timing::default().heartbeat);
    assert!(elapsed >= heartbeat * 40, "{elapsed:?}");
    let most = 2 * (elapsed.as_secs() / heartbeat.as_secs()) as usize + 2;
    assert!(pair.frames - before <= most, "{} frames in {elapsed:?}", pair.frames - before);
    // From now on nothing arrives.
    let deadline = pair.now + Timing::default().peer_deadline + heartbeat;
    while pair.receiver.end().is_none() && pair.now < deadline {
        pair.now += Duration::from_millis(100);
        pair.receiver.tick(pair.now);
        pair.receiver.transmit(pair.now);
    }
    assert_eq!(pair.receiver.end(), Some(&End::PeerSilent(Timing::default().peer_deadline)));
    assert_eq!(pair.held(), &*snapshot(&[("a", 10)]));
}

#[test]
fn a_peer_that_does_not_read_or_does_not_answer_is_cut_off() {
    let timing = Timing::default();
    let mut pair = Pair::new(Some(snapshot(&[("a", 10)])), None);
    pair.settle(|_| {});
    pair.sender.set_target(START, snapshot(&[("a", 20)]));
    // There is no room for its frames, although the peer lives.
    let mut now = START;
    while pair.sender.end().is_none() && now < START + timing.write_stall * 2 {
        now += Duration::from_secs(1);
        pair.sender.receive(now, Frame::Heartbeat);
        pair.sender.tick(now);
    }
    assert_eq!(pair.sender.end(), Some(&End::WriteStalled(timing.write_stall)));

    let mut pair = Pair::new(Some(snapshot(&[("a", 10)])), None);
    pair.settle(|_| {});
    pair.sender.set_target(START, snapshot(&[("a", 20)]));
    let mut now = START;
    let mut up = Vec::new();
    while pair.sender.end().is_none() && now < START + timing.answer_deadline * 2 {
        up.extend(std::iter::from_fn(|| pair.sender.transmit(now)));
        now += Duration::from_secs(1);
        pair.sender.receive(now, Frame::Heartbeat);
        pair.sender.tick(now);
    }
    assert!(matches!(pair.sender.end(), Some(End::AnswerOverdue { .. })), "{:?}", pair.sender.end());

    // The other way round: a transfer that does not go on.
    let begin = up.into_iter().find(|frame| matches!(frame, Frame::Begin(_))).unwrap();
    let mut now = START;
    pair.receiver.receive(now, begin);
    while pair.receiver.end().is_none() && now < START + timing.answer_deadline * 2 {
        now += Duration::from_secs(1);
        pair.receiver.receive(now, Frame::Heartbeat);
        pair.receiver.tick(now);
        pair.receiver.transmit(now);
    }
    assert!(matches!(pair.receiver.end(), Some(End::AnswerOverdue { .. })), "{:?}", pair.receiver.end());
}

#[test]
fn a_peer_that_asks_without_reading_the_answers_is_stopped() {
    let mut pair = Pair::new(None, None);
    for _ in 0..20 {
        pair.receiver.receive(START, Frame::Compare);
    }
    assert!(matches!(pair.receiver.end(), Some(End::Violation(ProtocolError::Unexpected { .. }))));
    assert!(std::iter::from_fn(|| pair.receiver.transmit(START)).count() <= 2, "what is queued is let go");
}

#[test]
fn peers_of_other_versions_and_clusters_refuse_each_other() {
    for (theirs, reason) in [
        (Hello { software_version: "0.3.0".to_owned(), ..hello("server") }, RefusalReason::Version),
        (Hello { protocol: 7..=9, ..hello("server") }, RefusalReason::Version),
        (Hello { cluster: "west".into(), ..hello("server") }, RefusalReason::Handshake),
    ] {
        let mut sender = Sender::new(setup("agent", None), Some(snapshot(&[])), Memory::default());
        sender.transmit(START);
        sender.receive(START, Frame::Hello(theirs));
        assert!(matches!(sender.end(), Some(End::Refused(refusal)) if refusal.reason == reason), "{:?}", sender.end());
        let told = sender.transmit(START);
        assert!(matches!(&told, Some(Frame::Close { code, .. }) if code == reason.code()), "{told:?}");
        assert_eq!(sender.transmit(START), None);
    }
}

#[test]
fn a_drained_agent_leaves_and_a_deaf_one_is_left() {
    let mut pair = Pair::new(Some(snapshot(&[("a", 10)])), None);
    pair.settle(|_| {});
    pair.receiver.drain(START, "this replica stops".to_owned());
    assert!(pair.receiver.end().is_none(), "the agent may finish");
    pair.settle(|_| {});
    assert_eq!(pair.sender.end(), Some(&End::Drained("this replica stops".to_owned())));
    assert!(pair.receiver.wake_at() <= START + Timing::default().drain_grace);
    pair.receiver.tick(START + Timing::default().drain_grace);
    assert!(matches!(pair.receiver.end(), Some(End::Drained(_))));
}

#[test]
fn only_the_newest_report_waits() {
    let mut pair = Pair::new(Some(snapshot(&[("a", 10)])), None);
    pair.settle(|_| {});
    let digest = pair.receiver.held().unwrap().digest();
    for applied in 1..=100 {
        pair.receiver.report(ApplyReport::new(1, digest, applied, Vec::new()));
    }
    pair.settle(|_| {});
    let reports: Vec<_> = pair.sent.iter().filter(|event| matches!(event, Sent::Report(_))).collect();
    assert!(matches!(reports[..], [Sent::Report(report)] if report.applied == 100), "{reports:?}");
}
