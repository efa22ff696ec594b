use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use meshrelay_agent::FollowRule;
use meshrelay_snapshot::{Frozen, SnapshotMeta, freeze};

use crate::situations::Situations;
use crate::trace::Context;
use crate::world::World;

/// Seeds of an ordinary run; `MESHRELAY_SEEDS` asks for another number.
const SEEDS: u64 = 2_000;

/// What is switched off: the simulation has to find that it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// All of the following, the window after a takeover, and the delete brake.
    OldBehaviour,
    /// Nobody waits for the inputs of warm clusters, and nobody doubts what lacks them: with neither a store nor a window
    /// after a takeover, which make up for it.
    NobodyIsWaitedFor,
    /// An input does not say what could not be read.
    DoubtsUnstated,
    /// Agents believe outputs that were made from older inputs than what they have in force.
    BasisIgnored,
}

impl Defect {
    /// How agents follow outputs.
    pub(crate) fn rule(self) -> FollowRule {
        match self {
            Self::DoubtsUnstated => FollowRule::default(),
            Self::OldBehaviour | Self::NobodyIsWaitedFor => FollowRule(|_, output, _| {
                let mut in_force = output.clone();
                in_force.set_meta(SnapshotMeta {
                    doubt: None,
                    doubts: BTreeMap::new(),
                    completeness: BTreeMap::new(),
                    ..output.meta().clone()
                });
                Frozen { in_force, ..Frozen::default() }
            }),
            Self::BasisIgnored => FollowRule(|before, output, own| {
                let mut before = before.clone();
                before.set_meta(SnapshotMeta { basis: BTreeMap::new(), ..before.meta().clone() });
                freeze(&before, output, own)
            }),
        }
    }
}

thread_local! {
    /// Panics on this thread: tasks swallow theirs.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

struct Run {
    outcome: Result<(), String>,
    situations: Situations,
    digest: String,
}

fn run(seed: u64, defect: Option<Defect>, prints: bool) -> Run {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
    PANICS.set(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (context, outcome) = runtime.block_on(async {
        let context = Arc::new(Context::new(seed, prints));
        let outcome = World::new(&context, defect).run().await;
        (context, outcome)
    });
    drop(runtime);
    let panics = PANICS.get();
    let outcome = outcome.and_then(|()| if panics == 0 { Ok(()) } else { Err(format!("{panics} panics, see above")) });
    let situations = context.situations.lock().clone();
    Run { outcome, situations, digest: context.digest() }
}

fn replay(seed: u64) -> String {
    format!("MESHRELAY_SEED={seed} cargo test -p meshrelay-simulation -- --nocapture")
}

/// Runs `work` for each seed on all processors; what it gives, in the order in which it was done.
fn for_each_seed<T: Send>(seeds: std::ops::Range<u64>, work: impl Fn(u64) -> T + Sync) -> Vec<(u64, T)> {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let one = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return done;
            }
            done.push((seed, work(seed)));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn nothing_that_is_wanted_is_ever_lost_and_in_the_end_all_is_as_it_should_be() {
    if let Ok(seed) = std::env::var("MESHRELAY_SEED") {
        let seed = seed.parse().expect("MESHRELAY_SEED is a number");
        let run = run(seed, None, true);
        println!("seed {seed}: {:?}, trace {}", run.situations, run.digest);
        return run.outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }
    let seeds = std::env::var("MESHRELAY_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    let runs = for_each_seed(0..seeds, |seed| {
        let run = run(seed, None, false);
        if let Err(failure) = &run.outcome {
            println!("seed {seed}: {}", failure.chars().take(700).collect::<String>());
        }
        run
    });
    let mut total = Situations::default();
    let mut failures: Vec<(u64, String)> = Vec::new();
    for (seed, Run { outcome, situations, .. }) in runs {
        total.add_all(&situations);
        failures.extend(outcome.err().map(|failure| (seed, failure)));
    }
    println!("{total:?}");
    failures.sort();
    if let Some((seed, failure)) = failures.first() {
        panic!("{} of {seeds} seeds fail; seed {seed}: {failure}\nreplay it with: {}", failures.len(), replay(*seed));
    }
    // A simulation that never meets these situations proves nothing about them.
    for (what, count) in total.all() {
        assert!(count >= seeds / 100, "only {count} times in {seeds} seeds: {what:?}; {total:?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..12 {
        let [one, two] = [(); 2].map(|()| run(seed, None, false));
        assert_eq!(one.digest, two.digest, "seed {seed} does not decide everything");
    }
}

#[test]
fn the_simulation_finds_what_is_lost_when_every_layer_is_off() {
    found(Defect::OldBehaviour, 100);
}

#[test]
fn the_simulation_finds_that_nobody_waits_for_inputs() {
    found(Defect::NobodyIsWaitedFor, 300);
}

#[test]
fn the_simulation_finds_inputs_that_do_not_say_what_they_lack() {
    found(Defect::DoubtsUnstated, 100);
}

#[test]
fn the_simulation_finds_agents_that_believe_whoever_is_behind() {
    found(Defect::BasisIgnored, 1_000);
}

/// Some seed shows the loss that a defect leads to.
fn found(defect: Defect, within: u64) {
    let lost = (0..within).step_by(AT_ONCE).find_map(|first| {
        let runs = for_each_seed(first..first + AT_ONCE as u64, |seed| run(seed, Some(defect), false).outcome.err());
        let mut failures = runs.into_iter().filter_map(|(seed, failure)| Some((seed, failure?)));
        failures.find(|(_, failure)| failure.contains("every complete picture"))
    });
    let (seed, failure) = lost.unwrap_or_else(|| panic!("{defect:?} must be found within {within} seeds"));
    println!("{defect:?}: seed {seed}: {failure}");
}

/// Seeds that are looked through before it is asked whether one of them was enough.
const AT_ONCE: usize = 20;
