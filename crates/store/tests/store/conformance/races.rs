use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshrelay_snapshot::{ContentHash, Snapshot};
use meshrelay_store::{Changes, Cursor, SnapshotId, SnapshotStore, Stored, Subject, Written};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::{DEADLINE, Plane};
use crate::sample;

pub(crate) async fn two_writers_end_with_the_same(plane: &Plane) {
    const VERSIONS: u64 = 30;
    let id = SnapshotId::input("cluster1");
    let write = async |store: &dyn SnapshotStore, writer: &str| {
        for version in 1..=VERSIONS {
            store.put(&id, &sample::version(version, writer)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write(&*plane.one, "a"), write(&*plane.two, "b"));
    let mut last = [sample::version(VERSIONS, "a"), sample::version(VERSIONS, "b")];
    last.sort_by_key(Stored::digest);
    let loaded = plane.one.load(&id, None).await.unwrap().unwrap();
    assert_eq!((loaded.head(), loaded.snapshot()), (last[1].head(), last[1].snapshot()));
    assert_eq!(plane.two.heads().await.unwrap()[&id], last[1].head());
}

/// Follows the feed as a replica does, until it has seen the document that ends it.
async fn follow(store: &dyn SnapshotStore) -> BTreeMap<SnapshotId, Stored> {
    let mut cursor = Cursor::default();
    let mut held: BTreeMap<SnapshotId, Stored> = BTreeMap::new();
    loop {
        let (ids, ended) = match store.changes(&cursor, DEADLINE).await.unwrap() {
            Changes::CatchUp { cursor: next } => {
                cursor = next;
                let heads = store.heads().await.unwrap();
                held.retain(|id, _| heads.contains_key(id));
                (heads.into_keys().collect(), store.document("end").await.unwrap().is_some())
            }
            Changes::News { changed, cursor: next } => {
                cursor = next;
                let mut ids = Vec::new();
                let mut ended = false;
                for subject in changed.into_keys() {
                    match subject {
                        Subject::Snapshot(id) => ids.push(id),
                        Subject::Document(name) => ended |= name == "end",
                    }
                }
                (ids, ended)
            }
        };
        for id in ids {
            match store.load(&id, held.get(&id)).await.unwrap() {
                Some(stored) => held.insert(id, stored),
                None => held.remove(&id),
            };
        }
        if ended {
            return held;
        }
    }
}

pub(crate) async fn followers_end_with_what_is_there(plane: &Plane) {
    let write = async |store: &dyn SnapshotStore, writer: &str| {
        for version in 1..=60 {
            let id = SnapshotId::input(format!("cluster{}", version % 4));
            if version % 10 == 0 {
                store.remove(&id).await.unwrap();
            } else {
                store.put(&id, &sample::version(version, writer)).await.unwrap();
            }
        }
    };
    let writers = async {
        tokio::join!(write(&*plane.one, "a"), write(&*plane.two, "b"));
        plane.one.put_document("end", None, &Value::Null).await.unwrap();
    };
    let (one, two, ()) = tokio::join!(follow(&*plane.one), follow(&*plane.two), writers);
    let heads = plane.one.heads().await.unwrap();
    assert!(!heads.is_empty());
    for held in [one, two] {
        let held: BTreeMap<_, _> = held.into_iter().map(|(id, stored)| (id, stored.head())).collect();
        assert_eq!(held, heads);
    }
}

/// One step of a writer: which objects the next version has, and what they say.
type Step = Vec<(u8, u8)>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = proptest::collection::vec((0u8..60, 0u8..4), 0..40);
    proptest::collection::vec(step, 1..12)
}

fn snapshot_of(step: &Step) -> Arc<Snapshot> {
    let object = |(name, content): &(u8, u8)| sample::object(&format!("s{name}"), &content.to_string());
    Arc::new(step.iter().map(object).collect())
}

/// Random versions by two writers at once, while readers read with and without a base.
pub(crate) async fn readers_never_see_a_mix(plane: &Plane) {
    let cases = Config::default().cases.min(24);
    let mut runner = TestRunner::new(Config::default());
    for case in 0..cases {
        let id = SnapshotId::input(format!("cluster{case}"));
        let [one, two] = [(); 2].map(|()| steps().new_tree(&mut runner).unwrap().current());
        let writing = AtomicBool::new(true);
        let write = async |store: &dyn SnapshotStore, steps: &[Step], writer: &str| {
            for (version, step) in (1..).zip(steps) {
                let put = sample::stored(version, &snapshot_of(step), writer);
                let written = store.put(&id, &put).await.unwrap();
                if let Written::Newer(head) = written {
                    assert!((head.version, head.digest) > (version, put.digest()), "{head:?}");
                }
                tokio::task::yield_now().await;
            }
        };
        let mut written: Vec<(u64, ContentHash)> = Vec::new();
        for steps in [&one, &two] {
            written.extend((1..).zip(steps.iter().map(|step| snapshot_of(step).digest())));
        }
        let read = async |store: &dyn SnapshotStore| {
            let mut base: Option<Stored> = None;
            let mut seen = 0;
            while writing.load(Ordering::Relaxed) {
                let (with, without) =
                    (store.load(&id, base.as_ref()).await.unwrap(), store.load(&id, None).await.unwrap());
                for stored in [with, without].into_iter().flatten() {
                    let found = (stored.version(), stored.snapshot().digest());
                    assert!(written.contains(&found), "case {case}: {found:?} was never written: {one:?} {two:?}");
                    assert_eq!(stored.digest(), found.1);
                    let before = base.as_ref().map(|base| (base.version(), base.digest()));
                    assert!(before <= Some(found), "case {case}: {found:?} after {before:?}");
                    base = Some(stored);
                    seen += 1;
                }
                tokio::task::yield_now().await;
            }
            seen
        };
        let writers = async {
            tokio::join!(write(&*plane.one, &one, "a"), write(&*plane.two, &two, "b"));
            writing.store(false, Ordering::Relaxed);
        };
        let ((), _, _) = tokio::join!(writers, read(&*plane.one), read(&*plane.two));
        let last = plane.one.load(&id, None).await.unwrap().unwrap();
        assert_eq!(Some((last.version(), last.digest())), written.into_iter().max(), "case {case}: {one:?} {two:?}");
    }
}
