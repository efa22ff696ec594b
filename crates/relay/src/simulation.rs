//! Agents, a server and the links between them in one thread, driven by one seed: edits, delays, lost connections that
//! one side notices late, crashes, peers that stop reading, damaged frames.
//!
//! A failing seed is replayed with `MESHRELAY_SEED=<seed> cargo test -p meshrelay-relay simulation -- --nocapture`.

mod fixture;
mod mirror;
mod stream;
mod summary;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use self::summary::Summary;
use self::world::{Defect, World};

/// Seeds of an ordinary run; `MESHRELAY_SEEDS` asks for another number.
const SEEDS: u64 = 5_000;

fn run(seed: u64, defect: Option<Defect>) -> Result<Summary, String> {
    std::panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, defect).run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panicked: {}", text.unwrap_or_else(|| "see above".to_owned())))
    })
}

fn replay(seed: u64) -> String {
    format!("MESHRELAY_SEED={seed} cargo test -p meshrelay-relay simulation -- --nocapture")
}

#[test]
fn every_receiver_holds_one_committed_version_and_all_converge() {
    if let Ok(seed) = std::env::var("MESHRELAY_SEED") {
        let seed = seed.parse().expect("MESHRELAY_SEED is a number");
        println!("seed {seed}: {:?}", run(seed, None).unwrap_or_else(|failure| panic!("{failure}")));
        return;
    }
    let seeds = std::env::var("MESHRELAY_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        let work = || {
            let mut sum = Summary::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return sum;
                }
                match run(seed, None) {
                    Ok(summary) => sum.add(&summary),
                    Err(failure) => panic!("seed {seed}: {failure}\nreplay it with: {}", replay(seed)),
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(sum) => total.add(&sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    println!("{total:?}");
    // A simulation that never meets these situations proves nothing about them.
    for (what, count) in total.situations() {
        assert!(count >= seeds / 100, "only {count} times in {seeds} seeds: {what}; {total:?}");
    }
}

#[test]
fn the_simulation_finds_a_sender_that_counts_from_what_its_peer_holds() {
    let found = (0..500).filter_map(|seed| run(seed, Some(Defect::CountsFromWhatIsHeld)).err()).next();
    let failure = found.expect("a sender with this defect must be found within 500 seeds");
    assert!(failure.contains("came after version"), "{failure}");
}

#[test]
fn the_simulation_finds_a_receiver_that_applies_before_the_commit() {
    let found = (0..50).filter_map(|seed| run(seed, Some(Defect::AppliesBeforeCommit)).err()).next();
    let failure = found.expect("a receiver with this defect must be found within 50 seeds");
    assert!(failure.contains("was never the state of its cluster"), "{failure}");
}
