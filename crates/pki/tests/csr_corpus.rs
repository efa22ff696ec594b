//! Replays the fuzzing corpus of the signing-request check: `good-*` must pass, `bad-*` must be refused; and mutates it.
#![allow(clippy::unwrap_used, reason = "in a test, also in its helpers, a failure is a panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use meshrelay_pki::{ClusterName, check_csr};
use proptest::prelude::*;

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/csr_check");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

fn cluster() -> ClusterName {
    ClusterName::new("cluster1").unwrap()
}

#[test]
fn the_corpus_is_judged_as_its_names_say() {
    let (mut good, mut bad) = (0, 0);
    for (name, bytes) in corpus() {
        let result = check_csr(&bytes, &cluster());
        // Files that a fuzzer has found have other names and need only not panic.
        if name.starts_with("good-") {
            good += 1;
            assert!(result.is_ok(), "{name}: {result:?}");
        } else if name.starts_with("bad-") {
            bad += 1;
            assert!(result.is_err(), "{name} passed");
        }
    }
    assert!(good >= 4 && bad >= 10, "the corpus is there: {good} good, {bad} bad");
}

/// The public keys of the requests that pass: no change of bytes may make another one pass.
static GOOD_KEYS: LazyLock<Vec<[u8; 32]>> = LazyLock::new(|| {
    corpus().values().filter_map(|bytes| check_csr(bytes, &cluster()).ok()).map(|csr| csr.key_fingerprint()).collect()
});
static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus().into_values().collect());

proptest! {
    #[test]
    fn mutated_requests_neither_panic_nor_pass_with_a_new_key(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        cuts in any::<[prop::sample::Index; 2]>(),
        splice in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = first.get(&CORPUS).clone();
        if splice {
            let other = second.get(&CORPUS);
            bytes.truncate(cuts[0].index(bytes.len() + 1));
            bytes.extend_from_slice(&other[cuts[1].index(other.len() + 1)..]);
        }
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Ok(csr) = check_csr(&bytes, &cluster()) {
            prop_assert!(GOOD_KEYS.contains(&csr.key_fingerprint()));
        }
    }
}
