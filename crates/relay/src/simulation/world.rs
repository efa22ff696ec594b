use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_snapshot::Name;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::fixture;
use super::mirror::{Mirror, check};
use super::stream::{Machine, Pipe, Stream};
use super::summary::Summary;
use crate::wire::{Frame, Hello};
use crate::{Direction, End, Held, Memory, Presence, Received, Receiver, Sender, Sent, Session as _, Setup, Versions};

/// A mistake that the simulation has to find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    AppliesBeforeCommit,
    CountsFromWhatIsHeld,
}

struct Agent {
    cluster: Name,
    instance: u32,
    persists: bool,
    mirrors: BTreeMap<Direction, Mirror>,
    /// How far the clock of its machine is from the present time, microseconds.
    clock: i64,
    reconnect_at: BTreeMap<Direction, Duration>,
}

impl Agent {
    /// What the clock of its machine says, which may be wrong by hours.
    fn microseconds(&self, now: Duration) -> u64 {
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        u64::try_from(CLOCK_JUMP + self.clock + now).unwrap_or_default()
    }
}

pub(super) struct World {
    random: StdRng,
    now: Duration,
    agents: Vec<Agent>,
    streams: Vec<Stream>,
    presence: Presence<()>,
    outputs_from: Duration,
    damages: bool,
    defect: Option<Defect>,
    summary: Summary,
}

/// How far a clock may be from the present time: a day, in microseconds.
const CLOCK_JUMP: i64 = 24 * 3_600 * 1_000_000;

/// How many versions a sender notes on its disk ahead; few, so that it has to do it often.
const NOTED_AHEAD: u64 = 4;

const DIRECTIONS: [Direction; 2] = [Direction::Push, Direction::Pull];

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let agents = (0..if random.random_bool(0.3) { 2 } else { 1 })
            .map(|index| Agent {
                cluster: format!("cluster-{index}").into(),
                instance: 0,
                persists: random.random_bool(0.5),
                mirrors: DIRECTIONS.into_iter().map(|direction| (direction, Mirror::new(&mut random))).collect(),
                clock: random.random_range(-CLOCK_JUMP..CLOCK_JUMP),
                reconnect_at: BTreeMap::new(),
            })
            .collect();
        Self {
            now: Duration::ZERO,
            agents,
            streams: Vec::new(),
            presence: Presence::default(),
            outputs_from: Duration::ZERO,
            damages: random.random_bool(0.3),
            defect,
            summary: Summary::default(),
            random,
        }
    }

    pub(super) fn run(mut self) -> Result<Summary, String> {
        let actions = self.random.random_range(5..15);
        for _ in 0..actions {
            let gap = if self.random.random_bool(0.1) { 4_000 } else { 250 };
            let until = self.now + Duration::from_millis(self.random.random_range(0..gap));
            self.run_until(until)?;
            self.act();
        }
        self.damages = false;
        for stream in &mut self.streams {
            stream.up.deaf_until = stream.up.deaf_until.min(self.now);
            stream.down.deaf_until = stream.down.deaf_until.min(self.now);
        }
        let deadline = self.now + Duration::from_secs(90);
        while !self.converged() {
            if self.now >= deadline {
                return Err(format!("not converged 90 s after the last fault: {}", self.describe()));
            }
            self.run_until(self.now + Duration::from_millis(500))?;
        }
        Ok(self.summary)
    }

    fn act(&mut self) {
        let agent = self.random.random_range(0..self.agents.len());
        let direction = DIRECTIONS[self.random.random_range(0..2)];
        let stream = (!self.streams.is_empty()).then(|| self.random.random_range(0..self.streams.len()));
        match self.random.random_range(0..21) {
            0..10 => self.edit(agent, direction),
            10..14 => {
                if let Some(stream) = stream {
                    self.cut(stream);
                }
            }
            14..16 => self.crash_agent(agent),
            16 => self.crash_server(),
            17..19 => {
                if let Some(stream) = stream {
                    let until = self.now + Duration::from_millis(self.random.random_range(200..6_000));
                    let stream = &mut self.streams[stream];
                    let pipe = if self.random.random_bool(0.5) { &mut stream.up } else { &mut stream.down };
                    pipe.deaf_until = until;
                }
            }
            19 => {
                if let Some((_, server)) = stream.and_then(|stream| self.streams[stream].server.as_mut()) {
                    server.session().drain(self.now, "the server stops".to_owned());
                }
            }
            _ => {}
        }
    }

    fn edit(&mut self, agent: usize, direction: Direction) {
        let (now, outputs) = (self.now, self.outputs(direction));
        let Some(mirror) = self.agents[agent].mirrors.get_mut(&direction) else { return };
        mirror.edit(&mut self.random);
        for stream in self.streams.iter_mut().filter(|s| s.agent == agent && s.direction == direction) {
            let machine = match direction {
                Direction::Push => stream.client.as_mut(),
                Direction::Pull => stream.server.as_mut().map(|(_, machine)| machine).filter(|_| outputs),
            };
            if let Some(Machine::Sender(sender)) = machine {
                sender.set_target(now, Arc::clone(&mirror.truth));
            }
        }
    }

    /// False while the server has not made outputs again after a crash.
    fn outputs(&self, direction: Direction) -> bool {
        direction == Direction::Push || self.now >= self.outputs_from
    }

    fn some_delay(&mut self) -> Option<Duration> {
        // One side may learn of a lost connection only by its own deadline.
        self.random.random_bool(0.6).then(|| Duration::from_millis(self.random.random_range(0..1_500)))
    }

    fn cut(&mut self, index: usize) {
        let (one, two) = (self.some_delay(), self.some_delay());
        let stream = &mut self.streams[index];
        stream.up.cut(self.now, one, &mut self.random);
        stream.down.cut(self.now, two, &mut self.random);
    }

    fn crash_agent(&mut self, index: usize) {
        self.summary.agent_crashes += 1;
        for at in 0..self.streams.len() {
            if self.streams[at].agent == index && self.streams[at].client.is_some() {
                self.cut(at);
                self.streams[at].client = None;
            }
        }
        let restart = self.now + Duration::from_millis(self.random.random_range(0..2_000));
        let agent = &mut self.agents[index];
        agent.instance += 1;
        agent.clock = self.random.random_range(-CLOCK_JUMP..CLOCK_JUMP);
        let clock = agent.microseconds(self.now);
        for (direction, mirror) in &mut agent.mirrors {
            match direction {
                Direction::Push => {
                    mirror.memory = Memory { base: None, versions: Versions::after(mirror.noted.max(clock)) };
                }
                Direction::Pull if agent.persists => {
                    let held = mirror.held.take();
                    mirror.held = held.map(|held| Held::restored(Arc::clone(held.visible()), held.version()));
                }
                Direction::Pull => mirror.held = None,
            }
            agent.reconnect_at.insert(*direction, restart);
        }
    }

    fn crash_server(&mut self) {
        self.summary.server_crashes += 1;
        for at in 0..self.streams.len() {
            if self.streams[at].server.is_some() {
                self.cut(at);
                self.streams[at].server = None;
            }
        }
        self.presence = Presence::default();
        self.outputs_from = self.now + Duration::from_millis(self.random.random_range(0..2_000));
        for agent in &mut self.agents {
            for (direction, mirror) in &mut agent.mirrors {
                match direction {
                    // What comes in its place knows less, or nothing.
                    Direction::Push if mirror.commits.is_empty() || self.random.random_bool(0.5) => mirror.held = None,
                    Direction::Push => {
                        let at = self.random.random_range(0..mirror.commits.len());
                        self.summary.older_servers += u64::from(at + 1 < mirror.commits.len());
                        mirror.held = Some(mirror.commits[at].clone());
                    }
                    Direction::Pull => mirror.memory = Memory::default(),
                }
            }
        }
    }

    fn run_until(&mut self, until: Duration) -> Result<(), String> {
        loop {
            self.step()?;
            let mut next = until;
            for stream in &mut self.streams {
                next = next.min(stream.wake_at());
            }
            for at in self.agents.iter().flat_map(|agent| agent.reconnect_at.values()) {
                next = next.min(*at);
            }
            if self.outputs_from > self.now {
                next = next.min(self.outputs_from);
            }
            if self.now >= until {
                return Ok(());
            }
            // At least a millisecond, so that time goes on whatever a machine asks for.
            self.now = next.max(self.now + Duration::from_millis(1));
        }
    }

    fn step(&mut self) -> Result<(), String> {
        for agent in 0..self.agents.len() {
            for direction in DIRECTIONS {
                let due = self.agents[agent].reconnect_at.get(&direction).is_none_or(|at| *at <= self.now);
                let open =
                    self.streams.iter().any(|s| s.agent == agent && s.direction == direction && s.client.is_some());
                if due {
                    self.agents[agent].reconnect_at.insert(direction, Duration::MAX);
                    if !open {
                        self.connect(agent, direction);
                    }
                }
            }
        }
        for index in 0..self.streams.len() {
            self.step_stream(index)?;
        }
        self.streams.retain(|stream| !stream.is_dead());
        Ok(())
    }

    fn setup(&self, agent: usize, instance: String, peer: Option<Hello>) -> Setup {
        let limits = fixture::limits();
        let hello = Hello {
            cluster: self.agents[agent].cluster.clone(),
            instance,
            software_version: "0.1.0".to_owned(),
            max_object_bytes: limits.object_bytes as u64,
            max_chunk_bytes: limits.chunk_bytes as u64,
            ..Hello::default()
        };
        Setup { hello, peer, limits, timing: fixture::timing(), now: self.now }
    }

    fn machine(&mut self, setup: Setup, agent: usize, direction: Direction, sends: bool) -> Machine {
        let ready = self.outputs(direction);
        let defect = self.defect;
        let clock = self.agents[agent].microseconds(self.now);
        let mirror = &self.agents[agent].mirrors[&direction];
        if sends {
            let target = ready.then(|| Arc::clone(&mirror.truth));
            let mut memory = mirror.memory.clone();
            if direction == Direction::Push && defect != Some(Defect::CountsFromWhatIsHeld) {
                memory.versions.raise(clock);
            } else {
                memory.versions = Versions::default();
            }
            Machine::Sender(Box::new(Sender::new(setup, target, memory)))
        } else {
            let mut receiver = Receiver::new(setup, mirror.held.clone());
            receiver.applies_before_commit = defect == Some(Defect::AppliesBeforeCommit);
            Machine::Receiver(Box::new(receiver))
        }
    }

    fn connect(&mut self, agent: usize, direction: Direction) {
        let setup = self.setup(agent, format!("instance-{}", self.agents[agent].instance), None);
        let client = Some(self.machine(setup, agent, direction, direction == Direction::Push));
        let (up, down) = (Pipe::default(), Pipe::default());
        self.streams.push(Stream { agent, direction, client, server: None, up, down });
    }

    /// The server's side of a new stream: its first frame decides.
    fn accept(&mut self, index: usize, frame: Frame) {
        let (agent, direction) = (self.streams[index].agent, self.streams[index].direction);
        let Frame::Hello(hello) = frame else {
            self.streams[index].down.closed_at = Some(self.now);
            return;
        };
        match self.presence.claim(&hello.cluster, &hello.instance, direction, ()) {
            Ok((number, replaced)) => {
                if replaced.is_some() {
                    let older = |s: &&mut Stream| s.agent == agent && s.direction == direction;
                    for (_, machine) in self.streams.iter_mut().filter(older).filter_map(|s| s.server.as_mut()) {
                        machine.session().close(End::Superseded);
                    }
                }
                let setup = self.setup(agent, "server".to_owned(), Some(hello));
                let machine = self.machine(setup, agent, direction, direction == Direction::Pull);
                self.streams[index].server = Some((number, machine));
            }
            Err(_) => {
                self.summary.refused += 1;
                self.streams[index].down.closed_at = Some(self.now);
            }
        }
    }

    fn step_stream(&mut self, index: usize) -> Result<(), String> {
        let now = self.now;
        while let Some(read) = self.streams[index].up.read(now) {
            let refused = self.streams[index].down.closed_at.is_some();
            match (read, &mut self.streams[index].server) {
                (Ok(frame), Some((_, server))) => server.session().receive(now, frame),
                (Err(error), Some((_, server))) => server.session().close(End::Lost(error)),
                (Ok(frame), None) if !refused => self.accept(index, frame),
                (_, None) => {}
            }
            self.events(index)?;
        }
        while let Some(read) = self.streams[index].down.read(now) {
            match (read, &mut self.streams[index].client) {
                (Ok(frame), Some(client)) => client.session().receive(now, frame),
                (Err(error), Some(client)) => client.session().close(End::Lost(error)),
                (_, None) => {}
            }
            self.events(index)?;
        }
        let outputs = self.outputs(Direction::Pull);
        let stream = &mut self.streams[index];
        let truth = &self.agents[stream.agent].mirrors[&stream.direction].truth;
        let lost = || End::Lost("the connection is gone".to_owned());
        if let Some(client) = &mut stream.client {
            if stream.down.is_over(now) {
                client.session().close(lost());
            }
            client.session().tick(now);
            while stream.up.has_room()
                && let Some(frame) = client.session().transmit(now)
            {
                stream.up.write(now, &mut self.random, frame);
                stream.up.damage(self.damages, &mut self.random);
            }
        }
        if let Some((_, server)) = &mut stream.server {
            if stream.up.is_over(now) {
                server.session().close(lost());
            }
            if let (Machine::Sender(sender), true) = (&mut *server, outputs && now == self.outputs_from) {
                sender.set_target(now, Arc::clone(truth));
            }
            server.session().tick(now);
            while stream.down.has_room()
                && let Some(frame) = server.session().transmit(now)
            {
                stream.down.write(now, &mut self.random, frame);
                stream.down.damage(self.damages, &mut self.random);
            }
        }
        self.events(index)?;
        self.bury(index);
        Ok(())
    }

    /// Lets go of ends that are over.
    fn bury(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let (agent, direction) = (stream.agent, stream.direction);
        if let Some(client) = stream.client.take_if(|client| client.end().is_some()) {
            let end = client.end().map_or("", End::metric_label);
            *self.summary.ends.entry(end).or_default() += 1;
            stream.up.closed_at.get_or_insert(self.now);
            let wait = Duration::from_millis(self.random.random_range(50..1_500));
            self.agents[agent].reconnect_at.insert(direction, self.now + wait);
        }
        let stream = &mut self.streams[index];
        if let Some((number, server)) = stream.server.take_if(|(_, server)| server.end().is_some()) {
            let end = server.end().map_or("", End::metric_label);
            *self.summary.ends.entry(end).or_default() += 1;
            stream.down.closed_at.get_or_insert(self.now);
            self.presence.release(&self.agents[agent].cluster, direction, number);
        }
    }

    fn events(&mut self, index: usize) -> Result<(), String> {
        let stream = &mut self.streams[index];
        let (agent, direction) = (stream.agent, stream.direction);
        let Agent { cluster, mirrors, .. } = &mut self.agents[agent];
        let Some(mirror) = mirrors.get_mut(&direction) else { return Ok(()) };
        for machine in
            [stream.client.as_mut(), stream.server.as_mut().map(|(_, machine)| machine)].into_iter().flatten()
        {
            match machine {
                Machine::Sender(sender) => {
                    while let Some(event) = sender.event() {
                        match event {
                            Sent::Acknowledged { kind: Some(kind), .. } => {
                                *self.summary.commits.entry(kind).or_default() += 1;
                            }
                            Sent::Acknowledged { kind: None, .. } => self.summary.unchanged += 1,
                            Sent::Given(version) if version > mirror.noted => mirror.noted = version + NOTED_AHEAD,
                            _ => {}
                        }
                        mirror.memory = sender.memory();
                    }
                }
                Machine::Receiver(receiver) => {
                    if receiver.staged_bytes() > fixture::limits().staged_bytes {
                        return Err(format!("{} bytes are staged", receiver.staged_bytes()));
                    }
                    while let Some(event) = receiver.event() {
                        match event {
                            Received::Committed(held) => {
                                check(cluster, direction, &held, mirror)?;
                                self.summary.kept += (held.visible().len() - held.sent().len()) as u64;
                                mirror.commits.push(held.clone());
                                mirror.held = Some(held);
                            }
                            Received::Rejected { .. } => self.summary.nacks += 1,
                            Received::Opened(_) => {}
                        }
                    }
                    let (machine, owner) = (receiver.held().map(Held::digest), mirror.held.as_ref().map(Held::digest));
                    if receiver.end().is_none() && machine != owner {
                        return Err(format!("a receiver holds {machine:?} and its owner {owner:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn converged(&self) -> bool {
        let mut mirrors = self.agents.iter().flat_map(|agent| agent.mirrors.values());
        mirrors.all(|mirror| mirror.held.as_ref().is_some_and(|held| held.digest() == mirror.newest))
    }

    fn describe(&mut self) -> String {
        let streams: Vec<_> = self
            .streams
            .iter()
            .map(|s| {
                let ends = (s.client.as_ref().map(Machine::end), s.server.as_ref().map(|(_, machine)| machine.end()));
                format!("{} {:?} {ends:?}", s.agent, s.direction)
            })
            .collect();
        format!("at {:?}: {streams:?}", self.now)
    }
}
