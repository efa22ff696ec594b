use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn names(count: usize) -> BTreeSet<Name> {
    (0..count).map(|number| Name::from(format!("c{number}"))).collect()
}

/// Other replicas that said at that second that they have these agents.
fn said(second: u64, others: &[(&str, BTreeSet<Name>)]) -> BTreeMap<String, Said> {
    let at = Timestamp::from_second(second.try_into().unwrap()).unwrap();
    let said = |clusters: &BTreeSet<Name>| Said { at, clusters: clusters.clone(), translates: true };
    others.iter().map(|(name, clusters)| ((*name).to_owned(), said(clusters))).collect()
}

/// One that has heard of the same others for a minute.
fn settled(others: &[(&str, BTreeSet<Name>)]) -> Rebalance {
    let mut one = Rebalance::new(RebalanceSettings::default(), 1);
    for second in (0..=60).step_by(3) {
        one.heard(at(second), said(second, others));
    }
    one
}

#[test]
fn a_part_of_the_excess_goes_at_a_time_and_never_more_than_the_excess() {
    let own = names(100);
    let mut one = settled(&[("b", BTreeSet::new())]);
    assert_eq!(one.send_away(at(60), &own).len(), 5, "a tenth of the share");
    assert_eq!(one.send_away(at(61), &own).len(), 0, "and no more for a while");
    let mut one = settled(&[("b", BTreeSet::new())]);
    assert_eq!(one.send_away(at(60), &names(2)).len(), 1);
    let mut one = settled(&[("b", BTreeSet::new())]);
    assert_eq!(one.send_away(at(60), &names(1)).len(), 0, "one agent has to be somewhere");
    let others: BTreeSet<Name> = (200..300).map(|number| Name::from(format!("c{number}"))).collect();
    for (own, sent) in [(100, 0), (122, 0), (125, 12)] {
        let mut one = settled(&[("b", others.clone())]);
        assert_eq!(one.send_away(at(60), &names(own)).len(), sent, "{own} against 100");
    }
}

#[test]
fn nobody_is_moved_while_it_is_not_known_who_is_where() {
    let own = names(10);
    let none: &[(&str, BTreeSet<Name>)] = &[];
    let empty = [("b", BTreeSet::new())];
    assert_eq!(settled(none).send_away(at(60), &own).len(), 0, "there is no other");

    let mut new = settled(none);
    new.heard(at(60), said(60, &empty));
    for second in 61..90 {
        new.heard(at(second), said(second, &empty));
        assert_eq!(new.send_away(at(second), &own).len(), 0, "one has just come");
    }
    new.heard(at(90), said(90, &empty));
    assert_eq!(new.send_away(at(90), &own).len(), 1);

    let mut silent = settled(&empty);
    assert_eq!(silent.send_away(at(68), &own).len(), 0, "it says nothing any more");
    silent.heard(at(69), said(60, &empty));
    assert_eq!(silent.send_away(at(69), &own).len(), 0, "what is read is what it said before");
    silent.heard(at(70), said(70, &empty));
    assert_eq!(silent.send_away(at(70), &own).len(), 1);

    let mut away = settled(&empty);
    away.lost();
    assert_eq!(away.send_away(at(61), &own).len(), 0, "the store is away");
    away.heard(at(62), said(62, &empty));
    assert_eq!(away.send_away(at(62), &own).len(), 0, "and has only just come back");

    let mut stale = settled(&[("b", [own.first().unwrap().clone()].into())]);
    assert_eq!(stale.send_away(at(60), &own).len(), 0, "it says to have one that is here: it may have died");
    stale.heard(at(61), said(61, &empty));
    assert_eq!(stale.send_away(at(61), &own).len(), 1);

    let mut halted = said(61, &empty);
    halted.values_mut().for_each(|said| said.translates = false);
    let mut one = settled(&empty);
    one.heard(at(61), halted);
    assert_eq!(one.send_away(at(61), &own).len(), 0, "it has nothing to give to an agent");

    let mut off = settled(&empty);
    off.settings.enabled = false;
    assert_eq!(off.send_away(at(60), &own).len(), 0);
    assert_eq!(off.admit(at(60), &own, &"new".into(), None), Ok(()));
}

#[test]
fn an_agent_is_refused_where_the_share_is_full_and_gets_in_after_a_few_tries() {
    let (own, new) = (names(10), Name::from("new"));
    let source = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let mut one = settled(&[("b", BTreeSet::new())]);
    for port in 1..=3 {
        // Both of its streams get the same answer.
        for _ in 0..2 {
            let refused = one.admit(at(60), &own, &new, source(port)).unwrap_err();
            assert!(refused.contains("serves 10 clusters") && refused.contains("2 replicas"), "{refused}");
        }
    }
    assert_eq!(one.admit(at(60), &own, &new, source(4)), Ok(()), "all ways lead here");
    assert_eq!(one.admit(at(60), &own, own.first().unwrap(), source(5)), Ok(()), "it is here already");
    assert!(one.admit(at(61), &own, &"another".into(), source(6)).is_err());

    let full: BTreeSet<Name> = (20..30).map(|number| Name::from(format!("c{number}"))).collect();
    let mut equal = settled(&[("b", full.clone())]);
    assert_eq!(equal.admit(at(60), &own, &new, source(1)), Ok(()), "nobody has room");
    let one_of_b = full.first().unwrap().clone();
    assert_eq!(equal.admit(at(60), &own, &one_of_b, source(1)), Ok(()), "its replica may have died");
}

#[test]
fn an_agent_that_came_back_is_left_alone_longer_each_time() {
    let own = names(2);
    let mut one = settled(&[("b", BTreeSet::new())]);
    let mut sent: Vec<u64> = Vec::new();
    // Whoever is sent away comes back at once, as if all ways led here.
    for second in 60..6 * 3600 {
        one.heard(at(second), said(second, &[("b", BTreeSet::new())]));
        sent.extend(one.send_away(at(second), &own).iter().map(|_| second));
    }
    assert!(sent.len() >= 6, "{sent:?}");
    assert!(sent.len() <= 20, "in six hours: {sent:?}");
    assert!(sent.last().unwrap() - sent[sent.len() - 3] > 3600, "{sent:?}");
}

#[test]
fn no_setting_is_too_long() {
    let mut one = settled(&[("b", BTreeSet::new())]);
    one.settings.interval = Span(Duration::MAX);
    assert_eq!(one.send_away(at(60), &names(4)).len(), 1);
    assert_eq!(one.send_away(at(1 << 20), &names(4)).len(), 0);
    one.settings.settle = Span(Duration::MAX);
    assert_eq!(one.admit(at(60), &names(4), &"new".into(), None), Ok(()));
}

/// Replicas behind a balancer that gives each connection to any of them, in steps of a second.
struct World {
    replicas: Vec<Option<Replica>>,
    /// What those that died said last, and until when the store tells it.
    ghosts: BTreeMap<usize, (u64, Said)>,
    /// Agents that connect at that second.
    coming: Vec<(u64, Name)>,
    random: StdRng,
    second: u64,
    sent: usize,
    refused: usize,
    ports: u16,
}

struct Replica {
    rebalance: Rebalance,
    own: BTreeSet<Name>,
    /// What it told the store last.
    said: Said,
    /// In which of three seconds it speaks and listens.
    phase: u64,
}

impl World {
    fn new(at_first: &[usize], count: usize, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let mut world = Self {
            replicas: Vec::new(),
            ghosts: BTreeMap::new(),
            coming: Vec::new(),
            random,
            second: 0,
            sent: 0,
            refused: 0,
            ports: 1,
        };
        for index in 0..count {
            let is_here = |(_, place): &(usize, &usize)| **place % count == index;
            let own = at_first.iter().enumerate().filter(is_here).map(|(number, _)| format!("c{number}").into());
            let replica = world.start(own.collect());
            world.replicas.push(Some(replica));
        }
        world
    }

    fn start(&mut self, own: BTreeSet<Name>) -> Replica {
        let rebalance = Rebalance::new(RebalanceSettings::default(), self.random.random());
        let said = Said { at: Timestamp::UNIX_EPOCH, clusters: own.clone(), translates: true };
        Replica { rebalance, own, said, phase: self.random.random_range(0..3) }
    }

    fn alive(&self) -> impl Iterator<Item = (usize, &Replica)> {
        self.replicas.iter().enumerate().filter_map(|(index, replica)| Some((index, replica.as_ref()?)))
    }

    fn step(&mut self) {
        self.second += 1;
        let now = at(self.second);
        let time = Timestamp::from_second(self.second.try_into().unwrap()).unwrap();
        for index in 0..self.replicas.len() {
            let ghosts = self.ghosts.iter().filter(|(_, (until, _))| self.second < *until);
            let ghosts = ghosts.map(|(other, (_, said))| (other.to_string(), said.clone()));
            let others = self.alive().filter(|(other, _)| *other != index);
            let said = others.map(|(other, replica)| (other.to_string(), replica.said.clone())).chain(ghosts).collect();
            let Some(replica) = &mut self.replicas[index] else { continue };
            if self.second % 3 == replica.phase {
                replica.said = Said { at: time, clusters: replica.own.clone(), translates: true };
                replica.rebalance.heard(now, said);
            }
            let going = replica.rebalance.send_away(now, &replica.own);
            self.sent += going.len();
            for name in going {
                assert!(replica.own.remove(&name), "only who is here is sent away");
                self.coming.push((self.second + 1, name));
            }
        }
        let alive: Vec<usize> = self.alive().map(|(index, _)| index).collect();
        let (now_coming, later) =
            std::mem::take(&mut self.coming).into_iter().partition(|(when, _)| *when <= self.second);
        self.coming = later;
        let now_coming: Vec<(u64, Name)> = now_coming;
        for (_, name) in now_coming {
            let place = alive[self.random.random_range(0..alive.len())];
            let replica = self.replicas[place].as_mut().unwrap();
            self.ports = self.ports.wrapping_add(1);
            let source = Some(SocketAddr::from(([127, 0, 0, 1], self.ports)));
            if replica.rebalance.admit(now, &replica.own, &name, source).is_ok() {
                replica.own.insert(name);
            } else {
                self.refused += 1;
                self.coming.push((self.second + self.random.random_range(1..3), name));
            }
        }
    }

    /// Kills a replica; what it said is told for a while, and its agents connect again.
    fn die(&mut self, index: usize) {
        let Replica { own, said, .. } = self.replicas[index].take().unwrap();
        self.ghosts.insert(index, (self.second + 9, said));
        self.coming.extend(own.into_iter().map(|name| (self.second + 1, name)));
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.step();
        }
    }

    fn counts(&self) -> Vec<usize> {
        self.alive().map(|(_, replica)| replica.own.len()).collect()
    }

    /// How many more than their share replicas have, all together.
    fn excess(&self) -> usize {
        let counts = self.counts();
        let share = counts.iter().sum::<usize>().div_ceil(counts.len());
        counts.iter().map(|count| count.saturating_sub(share)).sum()
    }

    /// Everybody is somewhere, and nobody has much more than its share.
    fn is_balanced(&self, agents: usize) -> bool {
        let counts = self.counts();
        let share = agents.div_ceil(counts.len());
        let most = share + (share * PERCENT).div_ceil(100).max(1) - 1;
        counts.iter().sum::<usize>() == agents && counts.iter().all(|count| *count <= most)
    }
}

/// Most moves for an excess: where an agent goes is left to chance, so some come back to where they were sent away.
fn most_moves(excess: usize) -> usize {
    4 * excess + 12
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn agents_spread_whatever_the_start_and_then_stay_where_they_are(
        count in 2_usize..=5, at_first in prop::collection::vec(0_usize..5, 0..80), crowd in any::<bool>(), seed: u64,
    ) {
        let agents = at_first.len();
        let at_first = if crowd { vec![0; agents] } else { at_first };
        let mut world = World::new(&at_first, count, seed);
        let excess = world.excess();
        world.run(900);
        prop_assert!(world.is_balanced(agents), "{:?}", world.counts());
        prop_assert!(world.sent <= most_moves(excess), "{} sent away for an excess of {excess}", world.sent);
        let sent = world.sent;
        world.run(600);
        prop_assert_eq!(world.sent, sent, "nobody is sent away any more");
    }

    #[test]
    fn a_replica_that_dies_and_comes_back_moves_few_and_leaves_nobody_outside(
        count in 2_usize..=5, agents in 2_usize..80, seed: u64,
    ) {
        let places: Vec<usize> = (0..agents).collect();
        let mut world = World::new(&places, count, seed);
        world.run(120);
        prop_assert_eq!(world.sent, 0, "they are spread");
        world.die(0);
        world.run(20);
        prop_assert_eq!(world.counts().iter().sum::<usize>(), agents, "all are in within a few tries");
        prop_assert_eq!((world.refused, world.sent), (0, 0), "nobody is turned away from what is left, nor sent to the dead");
        // Where an agent goes is left to chance, and one that comes back is left alone for some minutes.
        world.run(900);
        prop_assert!(world.is_balanced(agents), "{:?}", world.counts());
        let back = world.start(BTreeSet::new());
        world.replicas[0] = Some(back);
        let (excess, sent) = (world.excess(), world.sent);
        world.run(900);
        prop_assert!(world.is_balanced(agents), "{:?}", world.counts());
        prop_assert!(world.sent - sent <= most_moves(excess), "{} for an excess of {excess}", world.sent - sent);
        let sent = world.sent;
        world.run(900);
        prop_assert_eq!(world.sent, sent);
    }
}

#[test]
fn a_hundred_agents_with_one_of_two_replicas_are_spread_after_about_two_minutes() {
    for seed in 0..10 {
        let mut world = World::new(&[0; 100], 2, seed);
        while !world.is_balanced(100) {
            world.step();
            assert!(world.second <= 180, "{:?}", world.counts());
        }
        assert!(world.second >= 90, "{} s: that is a storm", world.second);
        assert!(world.sent <= 60, "{} were sent", world.sent);
    }
}
