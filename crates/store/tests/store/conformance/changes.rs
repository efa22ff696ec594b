use std::collections::BTreeMap;
use std::time::Duration;

use meshrelay_store::{Changes, Cursor, SnapshotId, SnapshotStore, Subject};
use serde_json::json;

use super::{DEADLINE, FEED, Plane};
use crate::sample;

/// The end of the feed, for one who comes new.
pub(crate) async fn caught_up(store: &dyn SnapshotStore) -> Cursor {
    match store.changes(&Cursor::default(), DEADLINE).await.unwrap() {
        Changes::CatchUp { cursor } => cursor,
        news => panic!("expected to catch up first, found {news:?}"),
    }
}

async fn news(store: &dyn SnapshotStore, cursor: &mut Cursor, wait: Duration) -> BTreeMap<Subject, Option<u64>> {
    match store.changes(cursor, wait).await.unwrap() {
        Changes::News { changed, cursor: next } => {
            *cursor = next;
            changed
        }
        other => panic!("expected news, found {other:?}"),
    }
}

pub(crate) async fn the_feed_tells_what_others_changed(plane: &Plane) {
    let (input, output) = (SnapshotId::input("cluster1"), SnapshotId::output("cluster1"));
    plane.one.put(&input, &sample::version(1, "a")).await.unwrap();
    let mut cursor = caught_up(&*plane.two).await;
    assert_eq!(news(&*plane.two, &mut cursor, Duration::ZERO).await, BTreeMap::new());

    plane.one.put(&input, &sample::version(2, "a")).await.unwrap();
    plane.one.put(&input, &sample::version(2, "a")).await.unwrap();
    plane.one.put(&output, &sample::version(8, "a")).await.unwrap();
    plane.one.put(&input, &sample::version(3, "a")).await.unwrap();
    plane.one.put_document("d", None, &json!(1)).await.unwrap();
    let revision = plane.one.document("d").await.unwrap().unwrap().revision;
    let expected = BTreeMap::from([
        (Subject::Snapshot(input.clone()), Some(3)),
        (Subject::Snapshot(output.clone()), Some(8)),
        (Subject::Document("d".to_owned()), Some(revision)),
    ]);
    let start = cursor.clone();
    assert_eq!(news(&*plane.two, &mut cursor, DEADLINE).await, expected);
    assert_eq!(news(&*plane.two, &mut start.clone(), DEADLINE).await, expected, "a cursor can be used again");
    assert_eq!(news(&*plane.two, &mut cursor, Duration::ZERO).await, BTreeMap::new());

    plane.one.remove(&output).await.unwrap();
    plane.one.remove(&output).await.unwrap();
    plane.one.remove_document("d", None).await.unwrap();
    plane.one.put(&input, &sample::version(1, "a")).await.unwrap();
    // What is only for a time is not in the feed.
    plane.one.set_live("replica", &json!(1), DEADLINE).await.unwrap();
    plane.one.acquire_lease("leader", "replica", DEADLINE).await.unwrap();
    let expected = BTreeMap::from([(Subject::Snapshot(output), None), (Subject::Document("d".to_owned()), None)]);
    assert_eq!(news(&*plane.two, &mut cursor, DEADLINE).await, expected);
}

pub(crate) async fn a_wait_ends_with_a_change_or_with_its_time(plane: &Plane) {
    let mut cursor = caught_up(&*plane.two).await;
    assert_eq!(news(&*plane.two, &mut cursor, Duration::from_millis(30)).await, BTreeMap::new());
    for version in 1..=5 {
        let put = async {
            tokio::task::yield_now().await;
            plane.one.put_document("d", None, &json!(version)).await.unwrap();
        };
        let (changed, ()) = tokio::join!(news(&*plane.two, &mut cursor, DEADLINE), put);
        let revision = plane.one.document("d").await.unwrap().unwrap().revision;
        assert_eq!(changed, [(Subject::Document("d".to_owned()), Some(revision))].into());
    }
    // Several may wait on one store.
    let (mut first, mut second) = (cursor.clone(), cursor.clone());
    let one = json!(1);
    let (one, two, _) = tokio::join!(
        news(&*plane.two, &mut first, DEADLINE),
        news(&*plane.two, &mut second, DEADLINE),
        plane.two.put_document("e", None, &one),
    );
    assert!(one == two && one.len() == 1, "{one:?} {two:?}");
}

pub(crate) async fn who_is_too_far_behind_catches_up(plane: &Plane) {
    let mut behind = caught_up(&*plane.two).await;
    plane.one.put_document("first", None, &json!(0)).await.unwrap();
    let mut at_first = behind.clone();
    news(&*plane.two, &mut at_first, DEADLINE).await;
    // A feed may keep more than it was told to, but not ten times as much.
    for number in 0..10 * FEED {
        plane.one.put_document(&format!("d{}", number % 7), None, &json!(number)).await.unwrap();
    }
    for cursor in [&mut behind, &mut at_first] {
        match plane.two.changes(cursor, DEADLINE).await.unwrap() {
            Changes::CatchUp { cursor: next } => *cursor = next,
            found => panic!("expected to catch up, found {found:?}"),
        }
        assert_eq!(news(&*plane.two, &mut cursor.clone(), Duration::ZERO).await, BTreeMap::new());
    }
    // What the feed does keep is told.
    for number in 0..FEED - 1 {
        plane.one.put_document("last", None, &json!(number)).await.unwrap();
    }
    assert_eq!(news(&*plane.two, &mut behind, DEADLINE).await.len(), 1);
}
