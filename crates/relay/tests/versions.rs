//! Several receivers of one sender that share what they hold now and then: whoever holds the greatest version holds the
//! newest snapshot, whatever else is lost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use meshrelay_relay::wire::{Hello, codec};
use meshrelay_relay::{
    End, Held, Limits, Memory, Received, Receiver, Sender, Sent, Session, Setup, Timing, TransferKind, Versions,
};
use meshrelay_snapshot::{Object, Snapshot};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

const SERVERS: usize = 3;

/// How many versions the sender notes ahead.
const AHEAD: u64 = 3;

fn snapshot(content: u8) -> Arc<Snapshot> {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{content}")}});
    Arc::new([Arc::new(Object::from_value(&value).unwrap())].into_iter().collect())
}

fn setup(instance: &str, peer: Option<&str>) -> Setup {
    let hello = |instance: &str| Hello {
        cluster: "east".into(),
        instance: instance.to_owned(),
        software_version: "0.1.0".to_owned(),
        ..Hello::default()
    };
    Setup {
        hello: hello(instance),
        peer: peer.map(hello),
        limits: Limits::default(),
        timing: Timing::default(),
        now: Duration::ZERO,
    }
}

/// What may happen. Few contents, so that old ones come back.
#[derive(Clone, Debug)]
enum Step {
    /// The cluster changes.
    Edit(u8),
    /// A session with one of the servers, which breaks after so many frames.
    Session(usize, usize),
    /// A server takes over what another one holds if that is newer, as through a store.
    Share(usize, usize),
    /// A server starts again with nothing.
    Forget(usize),
    /// The sender starts again, with a clock that says this.
    Restart(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let server = || 0..SERVERS;
    let step = prop_oneof![
        4 => (0..4_u8).prop_map(Step::Edit),
        6 => (server(), 0..20_usize).prop_map(|(server, frames)| Step::Session(server, frames)),
        2 => (server(), server()).prop_map(|(from, to)| Step::Share(from, to)),
        1 => server().prop_map(Step::Forget),
        2 => (0..40_u64).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    content: u8,
    memory: Memory,
    clock: u64,
    /// On the sender's disk.
    noted: u64,
    servers: [Option<Held>; SERVERS],
    /// What was committed anywhere, in that order.
    commits: Vec<(u64, u8)>,
}

impl World {
    fn session(&mut self, server: usize, frames: usize) {
        self.memory.versions.raise(self.clock);
        let mut sender = Sender::new(setup("agent", None), Some(snapshot(self.content)), self.memory.clone());
        let mut receiver = Receiver::new(setup("server", Some("agent")), self.servers[server].clone());
        // The server was made from it.
        sender.transmit(Duration::ZERO).unwrap();
        for _ in 0..frames {
            if let Some(frame) = sender.transmit(Duration::ZERO) {
                receiver.receive(Duration::ZERO, frame);
            } else if let Some(frame) = receiver.transmit(Duration::ZERO) {
                sender.receive(Duration::ZERO, frame);
            } else {
                break;
            }
            while let Some(event) = sender.event() {
                if let Sent::Given(version) = event
                    && version > self.noted
                {
                    self.noted = version + AHEAD;
                }
            }
            while let Some(event) = receiver.event() {
                if let Received::Committed(held) = event {
                    self.commits.push((held.version(), self.content));
                    self.servers[server] = Some(held);
                }
            }
        }
        assert!(matches!(sender.end(), None | Some(End::Finished)));
        self.memory = sender.memory();
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Edit(content) => self.content = content,
            Step::Session(server, frames) => self.session(server, frames),
            Step::Share(from, to) => {
                let version = |held: &Option<Held>| held.as_ref().map_or(0, Held::version);
                if version(&self.servers[from]) > version(&self.servers[to]) {
                    self.servers[to] = self.servers[from].clone();
                }
            }
            Step::Forget(server) => self.servers[server] = None,
            Step::Restart(clock) => {
                self.clock = clock;
                self.memory = Memory { base: None, versions: Versions::after(self.noted.max(clock)) };
            }
        }
    }
}

proptest! {
    #[test]
    fn the_greatest_version_is_the_newest_snapshot_whatever_servers_know_and_clocks_say(steps in steps()) {
        let mut world = World {
            content: 0, memory: Memory::default(), clock: 0, noted: 0, servers: Default::default(), commits: Vec::new(),
        };
        for step in &steps {
            world.run(step);
            let ordered = world.commits.windows(2).all(|pair| pair[0].0 < pair[1].0);
            prop_assert!(ordered, "{:?}", world.commits);
        }
        // A whole session with any server makes its word the one that counts for all.
        world.session(0, usize::MAX);
        let newest = world.servers.iter().flatten().max_by_key(|held| held.version()).unwrap();
        prop_assert_eq!(newest.digest(), snapshot(world.content).digest());
    }
}

#[test]
fn content_that_is_held_under_an_old_version_gets_a_new_one_and_does_not_travel() {
    let held = Held::restored(snapshot(1), 7);
    let memory = Memory { base: None, versions: Versions::after(50) };
    let mut sender = Sender::new(setup("agent", None), Some(snapshot(1)), memory);
    let mut receiver = Receiver::new(setup("server", Some("agent")), Some(held));
    // The server was made from it.
    sender.transmit(Duration::ZERO).unwrap();
    let mut bytes = 0;
    loop {
        if let Some(frame) = sender.transmit(Duration::ZERO) {
            bytes += codec::encode(frame.clone()).encoded_len();
            receiver.receive(Duration::ZERO, frame);
        } else if let Some(frame) = receiver.transmit(Duration::ZERO) {
            sender.receive(Duration::ZERO, frame);
        } else {
            break;
        }
    }
    assert_eq!(receiver.held().map(Held::version), Some(51));
    assert!(bytes < 400, "{bytes}");
    let acknowledged = std::iter::from_fn(|| sender.event()).filter_map(|event| match event {
        Sent::Acknowledged { version, kind, .. } => Some((version, kind)),
        _ => None,
    });
    assert_eq!(acknowledged.collect::<Vec<_>>(), [(51, Some(TransferKind::Delta))]);
}
