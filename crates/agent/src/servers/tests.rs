use proptest::prelude::*;

use super::*;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn endpoint(server: usize, replica: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, u8::try_from(server).unwrap(), replica], 9900))
}

/// Servers in a world in which time passes: `up` says whether a server can be connected to, and `serves` whether it keeps
/// whom it let in.
struct World<'a> {
    servers: Servers,
    now: Duration,
    connected: Option<usize>,
    up: &'a dyn Fn(usize, Duration) -> bool,
    /// Attempts to connect, and connections that were made, with the time.
    attempts: Vec<(usize, Duration)>,
    connections: Vec<(usize, Duration)>,
}

impl<'a> World<'a> {
    fn new(count: usize, seed: u64, up: &'a dyn Fn(usize, Duration) -> bool) -> Self {
        let servers = Servers::new(count, seed);
        Self { servers, now: Duration::ZERO, connected: None, up, attempts: Vec::new(), connections: Vec::new() }
    }

    /// A step of a tenth of a second.
    fn step(&mut self) {
        let now = self.now;
        if let Some(server) = self.connected
            && !(self.up)(server, now)
        {
            self.connected = None;
            self.servers.ended(now, Parting::Broken);
        }
        while self.connected.is_none()
            && let Next::Connect(server) = self.servers.next(now)
        {
            self.attempts.push((server, now));
            if (self.up)(server, now) {
                self.servers.order(server, now, vec![endpoint(server, 1)]);
                self.servers.connected(now, server, endpoint(server, 1));
                self.connected = Some(server);
                self.connections.push((server, now));
            } else {
                self.servers.unreachable(now, server);
            }
        }
        while let Some(server) = self.servers.probe(now) {
            assert!(Some(server) < self.connected, "only preferred servers are asked");
            self.servers.probed(now, server, (self.up)(server, now));
        }
        if let Some(server) = self.servers.returns(now) {
            assert!((self.up)(server, now));
            self.servers.leave(now, server);
            self.connected = None;
        }
        self.now += Duration::from_millis(100);
    }

    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            self.step();
        }
    }
}

#[test]
fn the_first_server_is_preferred_and_the_next_one_serves_while_it_is_away() {
    let up = |server, now| server == 1 || !(seconds(60)..seconds(120)).contains(&now);
    let mut world = World::new(2, 7, &up);
    world.run_until(seconds(300));
    let [(0, first), (1, second), (0, third)] = world.connections[..] else { panic!("{:?}", world.connections) };
    assert_eq!(first, Duration::ZERO);
    assert!(second - seconds(60) < seconds(1), "{second:?}");
    let returned = third - seconds(120);
    assert!(returned >= STEADY && returned < LONGEST_PROBE + 2 * STEADY + PROBE, "{returned:?}");
}

#[test]
fn a_server_that_comes_and_goes_is_not_returned_to() {
    for period in [4, 10, 20] {
        let up = |server, now: Duration| server == 1 || (now.as_secs() / period).is_multiple_of(2);
        let mut world = World::new(2, period, &up);
        world.run_until(seconds(3_600));
        let moves = world.connections.len();
        assert!(moves <= 8, "{moves} moves in an hour with a period of {period} s: {:?}", world.connections);
        assert_eq!(world.connected, Some(1));
    }
}

#[test]
fn a_replica_that_sends_away_is_tried_after_the_others_and_the_server_before_the_next() {
    let mut servers = Servers::new(2, 3);
    let replicas = || vec![endpoint(0, 1), endpoint(0, 2), endpoint(0, 3), endpoint(0, 2)];
    let mut now = Duration::ZERO;
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert_eq!(servers.next(now), Next::Connect(0));
        let order = servers.order(0, now, replicas());
        assert_eq!(order.len(), 3);
        assert!(!seen.contains(&order[0]), "{order:?} after {seen:?}");
        seen.push(order[0]);
        servers.connected(now, 0, order[0]);
        servers.ended(now, Parting::SentAway);
        let Next::Wait(until) = servers.next(now) else { panic!("there is a jitter") };
        assert!(until <= now + SENT_AWAY_JITTER);
        now = until;
    }
    // All of them have no room.
    servers.order(0, now, replicas());
    servers.connected(now, 0, seen[0]);
    servers.ended(now, Parting::SentAway);
    assert_eq!(servers.next(now), Next::Connect(1));
    // Later they may have.
    now += AVOIDED;
    servers.connected(now, 1, endpoint(1, 1));
    servers.ended(now, Parting::Broken);
    assert_eq!(servers.next(now), Next::Connect(0));
}

#[test]
fn replicas_are_chosen_at_random() {
    let first = |seed| Servers::new(1, seed).order(0, Duration::ZERO, (0..4).map(|at| endpoint(0, at)).collect())[0];
    let chosen: std::collections::BTreeSet<_> = (0..64).map(first).collect();
    assert_eq!(chosen.len(), 4);
}

#[test]
fn a_server_that_takes_the_connection_and_then_refuses_is_not_better_than_none() {
    let mut servers = Servers::new(2, 5);
    let mut tries = [0; 2];
    let mut now = Duration::ZERO;
    while now < seconds(60) {
        match servers.next(now) {
            Next::Connect(server) => {
                tries[server] += 1;
                servers.connected(now, server, endpoint(server, 1));
                servers.ended(now, Parting::Broken);
            }
            Next::Wait(until) => now = until,
        }
    }
    assert!(tries.iter().all(|tries| (8..20).contains(tries)), "{tries:?}");
}

/// When each server is down, as times of a thousand seconds at most.
fn outages() -> impl Strategy<Value = Vec<Vec<(u64, u64)>>> {
    let outage = (0..1_000_u64, 1..400_u64);
    prop::collection::vec(prop::collection::vec(outage, 0..6), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_agent_is_soon_with_the_best_server_and_never_tries_without_end(outages in outages(), seed: u64) {
        let up = |server: usize, now: Duration| {
            !outages[server].iter().any(|(from, lasts)| (seconds(*from)..seconds(from + lasts)).contains(&now))
        };
        let mut world = World::new(outages.len(), seed, &up);
        let mut alone = Duration::ZERO;
        while world.now < seconds(1_400) {
            let (now, some) = (world.now, (0..outages.len()).any(|server| up(server, world.now)));
            world.step();
            // Whoever is there is found within the longest wait, and a little for the step.
            alone = if world.connected.is_none() && some { alone + Duration::from_millis(100) } else { Duration::ZERO };
            prop_assert!(alone <= LONGEST_RETRY + seconds(1), "alone for {alone:?} at {now:?}: {:?}", world.attempts);
        }
        // All outages are over: the preferred one is returned to in the end, and never left again.
        world.run_until(seconds(1_400) + LONGEST_STEADY + LONGEST_PROBE + 4 * PROBE);
        prop_assert_eq!(world.connected, Some(0));
        let connections = world.connections.len();
        world.run_until(world.now + seconds(600));
        prop_assert_eq!(world.connections.len(), connections);
        for (server, outages) in outages.iter().enumerate() {
            let attempts = world.attempts.iter().filter(|(at, _)| *at == server).count();
            // Each outage costs the few quick attempts of a new backoff, and then one per five to ten seconds.
            let most = 12 * (outages.len() + 1) + 2_400 / 5;
            prop_assert!(attempts <= most, "{attempts} attempts at server {server}");
        }
    }
}

#[test]
fn one_address_with_full_replicas_behind_it_is_tried_a_few_times_before_another_server() {
    let mut servers = Servers::new(2, 3);
    let (mut now, mut tries) = (Duration::ZERO, 0);
    while let Next::Connect(server) = servers.next(now) {
        if server == 1 {
            break;
        }
        servers.order(0, now, vec![endpoint(0, 1)]);
        servers.connected(now, 0, endpoint(0, 1));
        // The replica that it was with asked it to go; what it reaches then is full.
        servers.ended(now, if tries == 0 { Parting::SentAway } else { Parting::Full });
        tries += 1;
        if let Next::Wait(until) = servers.next(now) {
            assert!(until <= now + seconds(1), "at once");
            now = until;
        }
    }
    assert_eq!(tries, 6);
    assert!(now <= seconds(6));
}
