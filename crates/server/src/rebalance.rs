//! How agents spread over replicas: whom a replica asks to go to another one, and whom it does not let in. A state machine
//! without sockets and clock; time is the time since some fixed moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_snapshot::Name;
use meshrelay_store::Span;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// Settings of how agents spread over replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RebalanceSettings {
    /// Agents of a replica that has more than its share are asked to go to another one.
    pub enabled: bool,
    /// How long the replicas have to be the same ones before anybody is asked.
    pub settle: Span,
    /// Time between two times that a replica asks some of its agents.
    pub interval: Span,
}

impl Default for RebalanceSettings {
    fn default() -> Self {
        // A rolling restart is over, and its agents are back, before anybody is moved again.
        Self { enabled: true, settle: Span::millis(30_000), interval: Span::millis(10_000) }
    }
}

/// A replica of which nothing new was heard for so long may be gone: nobody is sent there. Twice the time in which replicas
/// say how they are, and a little.
const FRESH: Duration = Duration::from_secs(8);

/// How much more than its share a replica may have, of a hundred, and the part of its share that it asks at one time.
const PERCENT: usize = 10;

/// Longest time between two times that agents are asked, whatever the settings say: for ever, for all purposes.
const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How often in a row an agent is refused at most: where all ways lead here, it has to get in.
const REFUSALS: u32 = 3;

/// Refusals that are further apart than this are not in a row: an agent waits 10 s at most between attempts.
const ROW: Duration = Duration::from_secs(60);

/// How long an agent is left alone after it was sent away. If it came back all the same, twice as long the next time.
const LEFT_ALONE: Duration = Duration::from_secs(5 * 60);

/// How long at most.
const LONGEST_LEFT_ALONE: Duration = Duration::from_secs(4 * 60 * 60);

/// How long an agent may take to connect again after it was sent away.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// What another replica said of itself last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// When, by its clock: tells one word from the next.
    pub(crate) at: Timestamp,
    /// The clusters whose agents are connected to it.
    pub(crate) clusters: BTreeSet<Name>,
    /// It translates: an agent that comes gets an output.
    pub(crate) translates: bool,
}

#[derive(Debug)]
struct Other {
    said: Said,
    /// When it said something new.
    heard_at: Duration,
}

impl Other {
    /// It says to have an agent that is here: it has not spoken since that left it, and may be gone.
    fn may_be_gone(&self, own: &BTreeSet<Name>) -> bool {
        !self.said.clusters.is_disjoint(own)
    }
}

#[derive(Debug)]
struct SentAway {
    at: Duration,
    left_alone: Duration,
}

#[derive(Debug)]
struct Refused {
    at: Duration,
    times: u32,
    source: Option<SocketAddr>,
}

/// What one replica knows, and what it did.
#[derive(Debug)]
pub(crate) struct Rebalance {
    settings: RebalanceSettings,
    /// `None` while the store is away.
    others: Option<BTreeMap<String, Other>>,
    /// Since when the replicas are the same.
    same_since: Duration,
    next_at: Duration,
    sent_away: BTreeMap<Name, SentAway>,
    refused: BTreeMap<Name, Refused>,
    random: StdRng,
}

/// How agents are spread, as far as one replica knows.
struct Spread {
    own: usize,
    /// Of each other replica that has fewer agents than its share: how many fewer.
    room: usize,
    /// How many each would have if all had the same.
    share: usize,
    replicas: usize,
}

impl Rebalance {
    /// The same seed gives the same choices.
    pub(crate) fn new(settings: RebalanceSettings, seed: u64) -> Self {
        Self {
            settings,
            others: None,
            same_since: Duration::ZERO,
            next_at: Duration::ZERO,
            sent_away: BTreeMap::new(),
            refused: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The store told how the other replicas are.
    pub(crate) fn heard(&mut self, now: Duration, said: BTreeMap<String, Said>) {
        let mut before = self.others.take();
        if before.as_ref().is_none_or(|before| !before.keys().eq(said.keys())) {
            self.same_since = now;
        }
        let mut other = |name: &str, said: Said| {
            let before = before.as_mut().and_then(|before| before.remove(name));
            let heard_at = before.filter(|before| before.said.at == said.at).map_or(now, |before| before.heard_at);
            Other { said, heard_at }
        };
        self.others = Some(said.into_iter().map(|(name, said)| (name.clone(), other(&name, said))).collect());
    }

    /// The store did not answer: nobody knows who is where.
    pub(crate) fn lost(&mut self) {
        self.others = None;
    }

    /// The other replicas, if what is known of them is new and they have been the same ones for long enough.
    fn settled(&self, now: Duration) -> Option<&BTreeMap<String, Other>> {
        let others = self.others.as_ref()?;
        let known = |other: &Other| other.said.translates && now < other.heard_at + FRESH;
        let is_settled = self.settings.enabled
            && !others.is_empty()
            && now >= self.same_since.saturating_add(self.settings.settle.0)
            && others.values().all(known);
        is_settled.then_some(others)
    }

    /// How agents are spread; `coming` is one that is on its way here.
    fn spread(others: &BTreeMap<String, Other>, own: &BTreeSet<Name>, coming: Option<&Name>) -> Spread {
        // Who is here or comes has left the others, whatever they said before.
        let is_there = |name: &&Name| !own.contains(*name) && coming != Some(*name);
        let count = |other: &Other| other.said.clusters.iter().filter(is_there).count();
        let replicas = others.len() + 1;
        let total = others.values().map(count).sum::<usize>() + own.len() + usize::from(coming.is_some());
        let share = total.div_ceil(replicas);
        let alive = others.values().filter(|other| !other.may_be_gone(own));
        let room = alive.map(|other| share.saturating_sub(count(other))).sum();
        Spread { own: own.len(), room, share, replicas }
    }

    /// The agents to send away now; `own` are those that are connected.
    pub(crate) fn send_away(&mut self, now: Duration, own: &BTreeSet<Name>) -> Vec<Name> {
        let Some(others) = self.settled(now) else { return Vec::new() };
        if now < self.next_at || others.values().any(|other| other.may_be_gone(own)) {
            return Vec::new();
        }
        let spread = Self::spread(others, own, None);
        let jitter = self.random.random_range(0.75..1.25);
        self.next_at = now + self.settings.interval.0.min(LONGEST_INTERVAL).mul_f64(jitter);
        let a_part = (spread.share * PERCENT).div_ceil(100).max(1);
        let excess = spread.own.saturating_sub(spread.share);
        if excess < a_part {
            return Vec::new();
        }
        self.sent_away.retain(|_, sent| now < sent.at + 2 * sent.left_alone);
        let may_go = |name: &&Name| self.sent_away.get(*name).is_none_or(|sent| now >= sent.at + sent.left_alone);
        let mut going: Vec<Name> = own.iter().filter(may_go).cloned().collect();
        going.shuffle(&mut self.random);
        going.truncate(excess.min(spread.room).min(a_part));
        for name in &going {
            let before = self.sent_away.get(name).map(|sent| sent.left_alone.saturating_mul(2));
            let left_alone = before.unwrap_or(LEFT_ALONE).min(LONGEST_LEFT_ALONE);
            self.sent_away.insert(name.clone(), SentAway { at: now, left_alone });
        }
        going
    }

    /// Whether the agent of a cluster is let in that is not connected yet; otherwise why not. `source` is the other end of its
    /// connection, which both of its streams share.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        own: &BTreeSet<Name>,
        cluster: &Name,
        source: Option<SocketAddr>,
    ) -> Result<(), String> {
        let Some(others) = self.settled(now) else { return Ok(()) };
        if own.contains(cluster) {
            return Ok(());
        }
        let Spread { own: count, room, share, replicas } = Self::spread(others, own, Some(cluster));
        if count < share || room == 0 {
            return Ok(());
        }
        let was_sent = self.sent_away.get(cluster).is_some_and(|sent| now < sent.at + ON_ITS_WAY);
        let left_its_place =
            |other: &Other| other.said.clusters.contains(cluster) && other.said.clusters.len() <= share;
        if !was_sent && others.values().any(left_its_place) {
            // Nobody sent it away from there, so there may be nobody any more.
            return Ok(());
        }
        self.refused.retain(|_, refused| now < refused.at + ROW);
        let refused = self.refused.entry(cluster.clone()).or_insert(Refused { at: now, times: 0, source: None });
        if refused.times == 0 || source.is_none() || refused.source != source {
            if refused.times >= REFUSALS {
                return Ok(());
            }
            *refused = Refused { at: now, times: refused.times + 1, source };
        }
        Err(format!(
            "this replica serves {count} clusters, which is its share with {replicas} replicas, and another one has room; \
             connect again"
        ))
    }
}

#[cfg(test)]
mod tests;
