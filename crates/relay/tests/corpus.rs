//! Replays the corpus of the fuzz target `wire_decode` (`fuzz/corpus/wire_decode`).

#[path = "../../../fuzz/harness/wire_decode.rs"]
mod wire_decode;

use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

#[test]
fn every_input_of_the_corpus_is_handled() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/wire_decode");
    let mut outcomes = BTreeMap::new();
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let outcome = wire_decode::run(&std::fs::read(&path).unwrap());
        outcomes.insert(path.file_name().unwrap().to_string_lossy().into_owned(), outcome);
    }
    // The seeds reach what they are named after; inputs that the fuzzer added only have to pass.
    for (name, commits, rejected, end) in [
        ("receiver-full", 1, 0, None),
        ("receiver-two-versions", 2, 0, None),
        ("receiver-withheld", 1, 0, None),
        ("receiver-buckets", 2, 0, None),
        ("receiver-bad-digest", 0, 1, None),
        ("receiver-bomb", 0, 1, None),
        ("receiver-bad-object", 0, 1, None),
        ("receiver-bad-base", 0, 1, None),
        ("receiver-chunk-first", 0, 0, Some("MR0221")),
        ("receiver-second-hello", 0, 0, Some("MR0221")),
        ("sender-unchanged", 1, 0, None),
        ("sender-acked", 1, 0, None),
        ("sender-nacked", 0, 1, None),
        ("sender-compared", 0, 0, None),
        ("sender-report", 0, 0, None),
        ("sender-drained", 0, 0, Some("")),
    ] {
        let outcome = outcomes.get(name).unwrap_or_else(|| panic!("no input {name} in the corpus"));
        let found = (outcome.commits, outcome.rejected, outcome.end.as_deref());
        assert_eq!(found, (commits, rejected, end), "{name}: {outcome:?}");
    }
}

#[test]
fn damaged_inputs_of_the_corpus_are_handled() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/wire_decode");
    let mut inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    let inputs: Vec<_> = inputs.into_iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..4_000 {
        let mut input = inputs[round % inputs.len()].clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..input.len().max(1));
            match random.random_range(0..4) {
                0 => input.truncate(at.max(1)),
                1 => input.extend_from_slice(&inputs[random.random_range(0..inputs.len())][1..]),
                2 => input.insert(at, random.next_u32() as u8),
                _ => input[at] ^= 1 << (random.next_u32() % 8),
            }
        }
        wire_decode::run(&input);
    }
}
