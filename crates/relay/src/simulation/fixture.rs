use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use meshrelay_snapshot::{Completeness, Gvk, Object, Snapshot, SnapshotMeta};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use serde_json::json;

use crate::{Limits, Timing};

/// Names that objects have, and contents that each may have; the last content is over the limit.
const NAMES: usize = 24;
const CONTENTS: usize = 5;

/// Largest object that travels, bytes.
pub(super) const OBJECT_LIMIT: usize = 700;

pub(super) fn limits() -> Limits {
    Limits {
        object_bytes: OBJECT_LIMIT,
        chunk_bytes: 900,
        chunk_entries: 8,
        chunk_ratio: 500,
        staged_bytes: 64 * 1024,
        staged_entries: 1_000,
    }
}

pub(super) fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(1_000),
        peer_deadline: Duration::from_millis(3_000),
        write_stall: Duration::from_millis(2_000),
        answer_deadline: Duration::from_millis(4_000),
        drain_grace: Duration::from_millis(300),
        retry: Duration::from_millis(400),
    }
}

/// All objects there are, made once.
static OBJECTS: LazyLock<Vec<Vec<Arc<Object>>>> = LazyLock::new(|| {
    let object = |name: usize, content: usize| {
        let filler = if content + 1 == CONTENTS { 1_000 } else { 100 * content };
        let text: String =
            (0..filler).map(|at| char::from(b'a' + ((at * 7 + name * 3 + content) % 26) as u8)).collect();
        Arc::new(
            Object::from_value(&json!({
                "apiVersion": "v1", "kind": if name.is_multiple_of(3) { "Service" } else { "ConfigMap" },
                "metadata": {"name": format!("name-{name}"), "namespace": "n"}, "data": {"text": text},
            }))
            .unwrap(),
        )
    };
    (0..NAMES).map(|name| (0..CONTENTS).map(|content| object(name, content)).collect()).collect()
});

/// A snapshot whose bucket digests are known, from which all others start.
static EMPTY: LazyLock<Snapshot> = LazyLock::new(|| {
    let mut snapshot = Snapshot::new();
    let object = &OBJECTS[0][0];
    snapshot.insert(Arc::clone(object));
    snapshot.remove(object.key());
    snapshot.digest();
    snapshot
});

pub(super) fn start(random: &mut StdRng) -> Snapshot {
    let mut snapshot = EMPTY.clone();
    for _ in 0..random.random_range(0..12) {
        edit(&mut snapshot, random);
    }
    snapshot
}

/// A few changes at once, as one version.
pub(super) fn edit(snapshot: &mut Snapshot, random: &mut StdRng) {
    for _ in 0..random.random_range(1..6) {
        let name = random.random_range(0..NAMES);
        match random.random_range(0..10) {
            0..6 => {
                // Large objects are the exception.
                let contents = if random.random_range(0..6) == 0 { CONTENTS } else { CONTENTS - 1 };
                snapshot.insert(Arc::clone(&OBJECTS[name][random.random_range(0..contents)]));
            }
            6..9 => {
                snapshot.remove(OBJECTS[name][0].key());
            }
            _ => {
                let mut meta = SnapshotMeta::default();
                let state = if random.random_bool(0.5) { Completeness::Synced } else { Completeness::Listing };
                meta.completeness = BTreeMap::from([(Gvk::new("", "v1", "ConfigMap"), state)]);
                meta.facts.agent_version = (random.next_u32() % 3).to_string();
                snapshot.set_meta(meta);
            }
        }
    }
}
