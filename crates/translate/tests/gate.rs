//! The gate against the documented rules of safe mode, and against a plain account of what happened.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meshrelay_snapshot::Name;
use meshrelay_translate::GateEvent::{
    InputLost, InputPresent, Removed, Settings, SkipWarming, StoreUnread, Time, Warm,
};
use meshrelay_translate::{Gate, GateEvent, GateSettings, Registered, Verdict, ways_out};
use proptest::prelude::*;

const SAFE: GateSettings = GateSettings { safe_mode: true, safe_start_window: Duration::from_secs(90) };
const WINDOW: GateSettings = GateSettings { safe_mode: false, safe_start_window: Duration::from_secs(180) };
const NO_WINDOW: GateSettings = GateSettings { safe_mode: false, safe_start_window: Duration::ZERO };

fn registered(cluster: &str) -> GateEvent {
    GateEvent::Registered { cluster: cluster.into(), skip_warming: false }
}

fn skipped(cluster: &str) -> GateEvent {
    GateEvent::Registered { cluster: cluster.into(), skip_warming: true }
}

fn at(seconds: u64) -> GateEvent {
    Time(Duration::from_secs(seconds))
}

fn warm(cluster: &str) -> GateEvent {
    Warm(cluster.into())
}

fn present(cluster: &str) -> GateEvent {
    InputPresent(cluster.into())
}

fn lost(cluster: &str) -> GateEvent {
    InputLost(cluster.into())
}

/// What a row of the table expects: who is waited for since and until when (seconds), or who is left out.
#[derive(Debug)]
enum Expected {
    Translates,
    Without(&'static [&'static str]),
    Halts(&'static [&'static str], u64, Option<u64>),
    /// The store is waited for, and nobody else is known to be missing.
    HaltsForStore(u64, Option<u64>),
}

impl Expected {
    fn verdict(&self) -> Verdict {
        let names = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect::<BTreeSet<_>>();
        match self {
            Self::Translates => Verdict::Translate { without: BTreeSet::new() },
            Self::Without(clusters) => Verdict::Translate { without: names(clusters) },
            Self::Halts(clusters, since, until) => Verdict::Halt {
                waiting_for: names(clusters),
                for_store: false,
                since: Duration::from_secs(*since),
                until: until.map(Duration::from_secs),
            },
            Self::HaltsForStore(since, until) => Verdict::Halt {
                waiting_for: BTreeSet::new(),
                for_store: true,
                since: Duration::from_secs(*since),
                until: until.map(Duration::from_secs),
            },
        }
    }
}

#[test]
fn every_documented_rule_of_safe_mode_holds() {
    use Expected::{Halts, HaltsForStore, Translates, Without};
    // A server that restarts finds both clusters registered and warm, and knows the input of neither.
    let restart = || vec![registered("one"), registered("two"), warm("one"), warm("two")];
    let with = |further: &[GateEvent]| [restart(), further.to_vec()].concat();
    let removed = || Removed("two".into());
    let skip = |skip| SkipWarming("two".into(), skip);
    #[rustfmt::skip]
    let table: Vec<(&str, GateSettings, Vec<GateEvent>, Expected)> = vec![
        ("only a complete set of inputs is translated", SAFE, with(&[present("one"), present("two")]), Translates),
        ("when store and server restart together and some agents are back, translation halts", SAFE,
            with(&[present("one")]), Halts(&["two"], 0, None)),
        ("it goes on when the last agent has come back and its input is there", SAFE,
            with(&[present("one"), at(500), present("two")]), Translates),
        ("in safe mode it halts for as long as it takes", SAFE,
            with(&[present("one"), at(10_000_000)]), Halts(&["two"], 0, None)),
        ("in safe mode the window counts for nothing", SAFE, with(&[at(91)]), Halts(&["one", "two"], 0, None)),
        ("an agent that merely disconnects holds nobody up: its input is still there", SAFE,
            with(&[present("one"), present("two"), at(60)]), Translates),
        ("an input that is lost later halts translation too", SAFE,
            with(&[present("one"), present("two"), at(60), lost("one"), at(70)]), Halts(&["one"], 60, None)),
        ("inside of the window the same holds as in safe mode", WINDOW,
            with(&[present("one"), at(179)]), Halts(&["two"], 0, Some(180))),
        ("the window ends early when all are there", WINDOW,
            with(&[present("one"), at(20), present("two")]), Translates),
        ("after the window translation goes on with what is there", WINDOW,
            with(&[present("one"), at(180)]), Without(&["two"])),
        ("the window is over for good: what is lost later halts nothing", WINDOW,
            with(&[present("one"), present("two"), at(181), lost("one")]), Without(&["one"])),
        ("a window of zero waits for nobody", NO_WINDOW, with(&[]), Without(&["one", "two"])),
        ("with safe mode off the window takes effect", SAFE, with(&[at(50), Settings(WINDOW)]),
            Halts(&["one", "two"], 0, Some(180))),
        ("with safe mode on, it does not, even after it was over", WINDOW,
            with(&[at(200), Settings(SAFE)]), Halts(&["one", "two"], 200, None)),
        ("a cluster with skipWarming triggers nothing", SAFE,
            vec![registered("one"), skipped("two"), warm("one"), warm("two"), present("one")], Translates),
        ("skipWarming that is set later ends the wait", SAFE, with(&[present("one"), at(9), skip(true)]), Translates),
        ("skipWarming that is taken back includes the cluster again", SAFE,
            with(&[present("one"), skip(true), at(9), skip(false)]), Halts(&["two"], 9, None)),
        ("a cluster that is registered and has never connected is not included", SAFE,
            vec![registered("one"), registered("two"), present("one")], Translates),
        ("it is included from its first snapshot on", SAFE,
            vec![registered("one"), present("one"), at(5), lost("one")], Halts(&["one"], 5, None)),
        ("ClusterWarm is final: one that lost its input and agent stays included", SAFE,
            with(&[present("one"), present("two"), lost("two"), at(7), present("one")]), Halts(&["two"], 0, None)),
        ("a first snapshot that another process received counts (the condition is on the resource)", SAFE,
            vec![registered("one"), warm("one")], Halts(&["one"], 0, None)),
        ("way out 1: the agent comes back", SAFE, with(&[at(900), present("one"), present("two")]), Translates),
        ("way out 2: the KubernetesCluster is removed", SAFE, with(&[present("one"), removed()]), Translates),
        ("way out 3: the cluster is excluded", SAFE, with(&[present("one"), skip(true)]), Translates),
        ("who is registered anew begins anew", SAFE,
            with(&[present("one"), removed(), registered("two")]), Translates),
        ("nobody waits for a stranger", SAFE, vec![warm("two"), lost("two")], Translates),
        ("a halt that goes on for another cluster has lasted since its start", SAFE,
            with(&[at(3), present("one"), at(8), lost("one"), present("two"), at(9)]), Halts(&["one"], 0, None)),
        ("who knows nothing looks into the store first", WINDOW,
            vec![StoreUnread(true), registered("one"), at(3)], HaltsForStore(0, Some(180))),
        ("in safe mode for as long as it takes", SAFE,
            vec![StoreUnread(true), registered("one"), at(10_000)], HaltsForStore(0, None)),
        ("without a window for a moment", NO_WINDOW,
            vec![StoreUnread(true), registered("one"), warm("two"), at(9)], HaltsForStore(0, Some(10))),
        ("and not longer", NO_WINDOW,
            vec![StoreUnread(true), registered("one"), warm("one"), at(10)], Without(&["one"])),
        ("once it was read, the clusters count", WINDOW,
            vec![StoreUnread(true), registered("one"), registered("two"), at(1), warm("two"), StoreUnread(false)],
            Halts(&["two"], 0, Some(180))),
        ("and nobody else", SAFE, vec![StoreUnread(true), registered("one"), at(1), StoreUnread(false)], Translates),
    ];
    for (rule, settings, events, expected) in table {
        let mut gate = Gate::new(settings);
        events.into_iter().for_each(|event| gate.on(event));
        assert_eq!(gate.verdict(), expected.verdict(), "{rule}");
    }
}

#[test]
fn a_cluster_that_is_removed_and_registered_again_between_two_looks_begins_anew() {
    let mut gate = Gate::new(SAFE);
    let clusters = |warm| BTreeMap::from([("one".into(), Registered { warm, ..Registered::default() })]);
    gate.follow(&clusters(true));
    assert_eq!(gate.verdict(), Expected::Halts(&["one"], 0, None).verdict());
    gate.follow(&clusters(false));
    assert_eq!(gate.verdict(), Expected::Translates.verdict());
}

#[test]
fn the_ways_out_are_three_and_name_each_cluster() {
    let clusters: Vec<Name> = vec!["west".into(), "east".into()];
    let text = ways_out(&clusters);
    for name in ["west", "east"] {
        for way in ["bring the agent of", "delete the KubernetesCluster", "skipWarming: true in the KubernetesCluster"]
        {
            assert!(text.contains(&format!("{way} {name}")), "{text}");
        }
    }
    assert_eq!(ways_out(&[]), "");
}

/// What happened, told in the plainest way.
#[derive(Clone, Default)]
struct Account {
    /// Warm, skipped, present, of those that are registered.
    clusters: BTreeMap<Name, (bool, bool, bool)>,
    unread: bool,
    now: Duration,
}

impl Account {
    fn on(&mut self, event: &GateEvent) {
        match event.clone() {
            GateEvent::Registered { cluster, skip_warming } => {
                self.clusters.entry(cluster).or_default().1 = skip_warming;
            }
            Removed(cluster) => drop(self.clusters.remove(&cluster)),
            SkipWarming(cluster, skip) => self.change(&cluster, |known| known.1 = skip),
            Warm(cluster) => self.change(&cluster, |known| known.0 = true),
            InputPresent(cluster) => self.change(&cluster, |known| (known.0, known.2) = (true, true)),
            InputLost(cluster) => self.change(&cluster, |known| known.2 = false),
            Time(now) => self.now = self.now.max(now),
            StoreUnread(unread) => self.unread = unread,
            Settings(_) => {}
        }
    }

    fn change(&mut self, cluster: &Name, change: impl FnOnce(&mut (bool, bool, bool))) {
        if let Some(known) = self.clusters.get_mut(cluster) {
            change(known);
        }
    }

    fn registered(&self) -> BTreeMap<Name, Registered> {
        let describe = |&(warm, skip_warming, present): &_| Registered { warm, skip_warming, present };
        self.clusters.iter().map(|(name, known)| (name.clone(), describe(known))).collect()
    }
}

fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(Name::from)
}

fn settings() -> impl Strategy<Value = GateSettings> {
    (any::<bool>(), 0..100_u64)
        .prop_map(|(safe_mode, seconds)| GateSettings { safe_mode, safe_start_window: Duration::from_secs(seconds) })
}

fn event() -> impl Strategy<Value = GateEvent> {
    prop_oneof![
        4 => (name(), prop::bool::weighted(0.2)).prop_map(|(cluster, skip_warming)| GateEvent::Registered { cluster, skip_warming }),
        1 => name().prop_map(Removed),
        2 => (name(), any::<bool>()).prop_map(|(name, skip)| SkipWarming(name, skip)),
        3 => name().prop_map(Warm),
        3 => name().prop_map(InputPresent),
        3 => name().prop_map(InputLost),
        1 => any::<bool>().prop_map(StoreUnread),
        3 => (0..150_u64).prop_map(|seconds| Time(Duration::from_secs(seconds))),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_gate_keeps_its_promises(
        settings in settings(), changed in prop::option::of((0..60_usize, settings())), events in prop::collection::vec(event(), 0..60),
    ) {
        let mut in_force = settings;
        let (mut gate, mut account) = (Gate::new(settings), Account::default());
        let mut halted_since = None;
        for (step, event) in events.into_iter().enumerate() {
            if let Some((when, settings)) = changed && when == step {
                in_force = settings;
                gate.on(Settings(settings));
                if let Verdict::Translate { .. } = gate.verdict() {
                    halted_since = None;
                }
            }
            account.on(&event);
            gate.on(event);
            // Never connected, removed and skipped clusters are in no such set.
            let missing: BTreeSet<Name> = account.clusters.iter()
                .filter(|(_, (warm, skip, present))| *warm && !skip && !present).map(|(name, _)| name.clone()).collect();
            let over = !in_force.safe_mode && account.now >= in_force.safe_start_window;
            let enough = in_force.safe_start_window.max(Duration::from_secs(10));
            let unread = account.unread && (in_force.safe_mode || account.now < enough);
            match gate.verdict() {
                Verdict::Translate { without } => {
                    prop_assert!(missing.is_empty() || over, "{missing:?} are missing at {:?}", account.now);
                    prop_assert!(!unread, "nobody knows who is missing");
                    prop_assert_eq!(without, missing);
                    halted_since = None;
                }
                Verdict::Halt { waiting_for, for_store, since, until } => {
                    prop_assert!(for_store || !waiting_for.is_empty());
                    prop_assert_eq!(waiting_for, missing);
                    prop_assert_eq!(for_store, unread);
                    prop_assert!(for_store || !over, "the window is never prolonged");
                    let window = if for_store { enough } else { in_force.safe_start_window };
                    prop_assert_eq!(until, (!in_force.safe_mode).then_some(window));
                    prop_assert!(since <= account.now);
                    let begun = *halted_since.get_or_insert(since);
                    prop_assert_eq!(since, begun, "a halt keeps its start");
                }
            }
        }
    }

    #[test]
    fn following_the_clusters_is_the_same_as_hearing_of_every_change(
        settings in settings(), events in prop::collection::vec((event(), any::<bool>()), 0..60),
    ) {
        let (mut hearing, mut following, mut account) = (Gate::new(settings), Gate::new(settings), Account::default());
        for (event, look) in events {
            account.on(&event);
            hearing.on(event);
            following.on(Time(account.now));
            following.on(StoreUnread(account.unread));
            if look {
                following.follow(&account.registered());
                let who = |gate: &Gate| match gate.verdict() {
                    Verdict::Translate { without } => (false, without),
                    Verdict::Halt { waiting_for, .. } => (true, waiting_for),
                };
                prop_assert_eq!(who(&hearing), who(&following));
            }
        }
    }
}
