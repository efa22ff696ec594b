//! Which of several servers an agent is connected to, and when it tries which: a state machine without clock, randomness and
//! sockets. Time is the time since some fixed moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use meshrelay_relay::Backoff;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// First wait after a lost connection: short, because most losses are restarts.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// Longest wait between attempts: a server that comes back is found within it.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// A connection that lasted so long was a good one: a heartbeat went each way.
const GOOD: Duration = Duration::from_secs(10);

/// Agents that are sent away are so at one moment, and come to the other replicas within this time.
const SENT_AWAY_JITTER: Duration = Duration::from_secs(1);

/// How long a replica that sent the agent away is tried after the others: as long as it may take to stop, and more.
const AVOIDED: Duration = Duration::from_secs(30);

/// How often in a row an agent that was sent away comes back to full replicas before it tries another server: behind one
/// address there may be several, and each lets it in after three refusals.
const FULL: usize = 5;

/// Time between two questions to a preferred server that answers.
const PROBE: Duration = Duration::from_secs(5);

/// Longest time between two questions to one that does not.
const LONGEST_PROBE: Duration = Duration::from_secs(60);

/// How long a preferred server has to answer before the agent returns: longer than the 10 s that Kubernetes waits before it
/// starts a container again that has crashed for the first time.
const STEADY: Duration = Duration::from_secs(15);

/// How long at most, after it failed again and again.
const LONGEST_STEADY: Duration = Duration::from_secs(15 * 60);

/// A server that served so long has earned the shortest wait again. One that was returned to and did not waits twice as
/// long next time.
const SETTLED: Duration = Duration::from_secs(10 * 60);

/// What is to be done next while there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try to connect to the server of that index.
    Connect(usize),
    /// Nothing until then.
    Wait(Duration),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The server asked to go to another replica.
    SentAway,
    /// The replica has its share of agents, and another one has room.
    Full,
    /// Anything else.
    Broken,
}

/// Servers in order of preference.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: Vec<Server>,
    current: Option<Current>,
    random: StdRng,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    server: usize,
    endpoint: SocketAddr,
    since: Duration,
    /// The agent left another server for it.
    returned: bool,
}

#[derive(Debug)]
struct Server {
    backoff: Backoff,
    again: Again,
    /// How often in a row replicas sent the agent away.
    sent_away: usize,
    /// Number of addresses that its name stood for last.
    endpoints: usize,
    avoided: BTreeMap<SocketAddr, Duration>,
    probe_at: Duration,
    probe_backoff: Backoff,
    /// It did not answer when it was asked last, while another one was connected.
    away: bool,
    /// Since when it answers, while another one is connected.
    well_since: Option<Duration>,
    steady: Duration,
    /// The agent has left another server for it, and is not connected yet.
    returning: bool,
}

/// When a server is tried again.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// Then, and no other server before: it is likely to be there.
    First(Duration),
    /// Then at the earliest; others are tried meanwhile.
    After(Duration),
}

impl Servers {
    /// So many servers, the preferred first; the same seed gives the same waits.
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let server = |_| Server {
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY, random.next_u64()),
            again: Again::First(Duration::ZERO),
            sent_away: 0,
            endpoints: 1,
            avoided: BTreeMap::new(),
            probe_at: Duration::ZERO,
            probe_backoff: Backoff::new(PROBE, LONGEST_PROBE, random.next_u64()),
            away: false,
            well_since: None,
            steady: STEADY,
            returning: false,
        };
        let servers = (0..count).map(server).collect();
        Self { servers, current: None, random }
    }

    /// What to do while there is no connection.
    pub(crate) fn next(&self, now: Duration) -> Next {
        let mut wait = Duration::MAX;
        for (index, server) in self.servers.iter().enumerate() {
            match server.again {
                Again::First(at) | Again::After(at) if at <= now => return Next::Connect(index),
                Again::First(at) => return Next::Wait(at.min(wait)),
                Again::After(at) => wait = wait.min(at),
            }
        }
        Next::Wait(wait)
    }

    /// The order in which the addresses of a server are tried: at random, so that agents spread over replicas, and those
    /// that sent the agent away last.
    pub(crate) fn order(&mut self, index: usize, now: Duration, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Some(server) = self.servers.get_mut(index) else { return found };
        found.sort_unstable();
        found.dedup();
        server.endpoints = found.len().max(1);
        server.avoided.retain(|_, until| *until > now);
        found.shuffle(&mut self.random);
        found.sort_by_key(|endpoint| server.avoided.contains_key(endpoint));
        found
    }

    /// A server could not be connected to, at none of its addresses.
    pub(crate) fn unreachable(&mut self, now: Duration, index: usize) {
        if let Some(server) = self.servers.get_mut(index) {
            server.again = Again::After(now + server.backoff.next_wait());
            let returned = std::mem::take(&mut server.returning);
            server.judge_return(returned, Duration::ZERO);
        }
    }

    /// There is a connection.
    pub(crate) fn connected(&mut self, now: Duration, server: usize, endpoint: SocketAddr) {
        let returned = self.servers.get_mut(server).is_some_and(|server| std::mem::take(&mut server.returning));
        self.current = Some(Current { server, endpoint, since: now, returned });
        for preferred in self.servers.iter_mut().take(server) {
            (preferred.well_since, preferred.away) = (None, false);
            preferred.probe_at = now + preferred.probe_backoff.next_wait();
        }
    }

    /// The connection ended, or was of no use.
    pub(crate) fn ended(&mut self, now: Duration, parting: Parting) {
        for preferred in self.servers.iter_mut().take(self.current.map_or(0, |current| current.server)) {
            if preferred.away {
                // The one that was connected is likely to be back first.
                preferred.again = Again::After(now + 2 * FIRST_RETRY);
            }
        }
        let Some(Current { server, endpoint, since, returned }) = self.current.take() else { return };
        let (jitter, lasted) = (self.random.random_range(0.0..1.0), now.saturating_sub(since));
        let Some(server) = self.servers.get_mut(server) else { return };
        if lasted >= GOOD {
            server.backoff.reset();
            server.sent_away = 0;
        }
        server.judge_return(returned, lasted);
        server.again = match parting {
            Parting::SentAway | Parting::Full => {
                server.avoided.insert(endpoint, now + AVOIDED);
                server.sent_away += 1;
                // One name or address may stand for several replicas: each gets its chance before another server does.
                let least = if parting == Parting::Full { FULL } else { 0 };
                if server.sent_away <= server.endpoints.max(least) {
                    Again::First(now + SENT_AWAY_JITTER.mul_f64(jitter))
                } else {
                    server.sent_away = 0;
                    Again::After(now + server.backoff.next_wait())
                }
            }
            Parting::Broken if lasted >= GOOD => Again::First(now + server.backoff.next_wait()),
            Parting::Broken => Again::After(now + server.backoff.next_wait()),
        };
    }

    /// The preferred servers: those before the one that is connected, and when the next one is to be asked how it is.
    pub(crate) fn probe_at(&self) -> Option<Duration> {
        self.preferred().iter().map(|server| server.probe_at).min()
    }

    /// The preferred server that is to be asked now.
    pub(crate) fn probe(&self, now: Duration) -> Option<usize> {
        self.preferred().iter().position(|server| server.probe_at <= now)
    }

    /// What a preferred server answered; `false` if it did not, or does not want the agent.
    pub(crate) fn probed(&mut self, now: Duration, index: usize, good: bool) {
        let Some(server) = self.servers.get_mut(index) else { return };
        if good {
            server.probe_backoff.reset();
            server.well_since.get_or_insert(now);
            server.probe_at = now + PROBE;
        } else {
            server.well_since = None;
            server.probe_at = now + server.probe_backoff.next_wait();
        }
        server.away = !good;
    }

    /// The preferred server that has answered for long enough to return to it.
    pub(crate) fn returns(&self, now: Duration) -> Option<usize> {
        let steady = |server: &Server| server.well_since.is_some_and(|since| now >= since + server.steady);
        self.preferred().iter().position(steady)
    }

    /// Gives up the connection for a preferred server.
    pub(crate) fn leave(&mut self, now: Duration, index: usize) {
        if let Some(current) = self.current.take()
            && let Some(server) = self.servers.get_mut(current.server)
        {
            server.again = Again::First(now);
            server.backoff.reset();
        }
        if let Some(server) = self.servers.get_mut(index) {
            server.again = Again::First(now);
            server.returning = true;
        }
    }

    fn preferred(&self) -> &[Server] {
        let count = self.current.map_or(0, |current| current.server);
        self.servers.get(..count).unwrap_or_default()
    }
}

impl Server {
    /// Makes a server that was returned to too early wait longer the next time.
    fn judge_return(&mut self, returned: bool, lasted: Duration) {
        if lasted >= SETTLED {
            self.steady = STEADY;
        } else if returned {
            self.steady = self.steady.saturating_mul(2).min(LONGEST_STEADY);
        }
    }
}

#[cfg(test)]
mod tests;
