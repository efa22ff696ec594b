use std::sync::Arc;

use meshrelay_snapshot::{Object, Snapshot};
use meshrelay_store::{Changes, Cursor, SnapshotId, Stored, Subject, Written};
use serde_json::json;

use super::{DEADLINE, Plane};
use crate::sample;

pub(crate) async fn a_snapshot_comes_back_as_it_was_put(plane: &Plane) {
    let id = SnapshotId::input("cluster1");
    assert!(plane.two.load(&id, None).await.unwrap().is_none());
    assert!(plane.two.heads().await.unwrap().is_empty());

    let snapshot = sample::snapshot(500, |number| format!("content {number} ü \u{1F600}"));
    let extra = json!({"withheld": [{"name": "x", "bytes": 7}]});
    let put = Stored::new(u64::MAX - 1, snapshot, extra.clone(), "replica-1");
    assert_eq!(plane.one.put(&id, &put).await.unwrap(), Written::Stored);

    let loaded = plane.two.load(&id, None).await.unwrap().unwrap();
    assert_eq!(loaded.snapshot(), put.snapshot());
    assert_eq!(loaded.snapshot().digest(), put.snapshot().digest());
    assert_eq!((loaded.version(), loaded.writer(), loaded.extra()), (u64::MAX - 1, "replica-1", &extra));
    assert_eq!(plane.two.heads().await.unwrap(), [(id, put.head())].into());
    assert!(plane.two.load(&SnapshotId::output("cluster1"), None).await.unwrap().is_none());
}

pub(crate) async fn versions_only_grow(plane: &Plane) {
    let id = SnapshotId::output("cluster1");
    // 9 and 10: versions are numbers, not text.
    let (old, new) = (sample::version(9, "a"), sample::version(10, "b"));
    assert_eq!(plane.one.put(&id, &old).await.unwrap(), Written::Stored);
    assert_eq!(plane.two.put(&id, &old).await.unwrap(), Written::Same);
    assert_eq!(plane.two.put(&id, &new).await.unwrap(), Written::Stored);
    assert_eq!(plane.one.put(&id, &old).await.unwrap(), Written::Newer(new.head()));
    assert_eq!(plane.one.load(&id, None).await.unwrap().unwrap().digest(), new.digest());
    assert_eq!(plane.one.put(&id, &sample::version(1 << 60, "a")).await.unwrap(), Written::Stored);
    let one_less = sample::version((1 << 60) - 1, "a");
    assert!(matches!(plane.one.put(&id, &one_less).await.unwrap(), Written::Newer(_)));
}

pub(crate) async fn of_one_version_the_greater_digest_stays(plane: &Plane) {
    let mut versions = [sample::version(3, "a"), sample::version(3, "b"), sample::version(3, "c")];
    versions.sort_by_key(Stored::digest);
    let greatest = versions[2].head();
    for (cluster, order) in [("up", [0, 1, 2]), ("down", [2, 1, 0]), ("mixed", [1, 2, 0])] {
        let id = SnapshotId::input(cluster);
        for at in order {
            let written = plane.one.put(&id, &versions[at]).await.unwrap();
            assert!(matches!(written, Written::Stored | Written::Newer(_)), "{written:?}");
        }
        assert_eq!(plane.two.heads().await.unwrap()[&id], greatest, "{cluster}");
    }
}

pub(crate) async fn what_did_not_change_is_shared_with_the_base(plane: &Plane) {
    let id = SnapshotId::input("cluster1");
    let content = |version: u32| move |number| format!("{}", if number == 7 { version } else { 0 });
    plane.one.put(&id, &sample::stored(1, &sample::snapshot(1000, content(1)), "a")).await.unwrap();
    let base = plane.two.load(&id, None).await.unwrap().unwrap();
    // A snapshot that was made anew: it shares nothing with the one before but what it says.
    plane.one.put(&id, &sample::stored(2, &sample::snapshot(1000, content(2)), "a")).await.unwrap();

    let loaded = plane.two.load(&id, Some(&base)).await.unwrap().unwrap();
    assert_eq!(loaded.version(), 2);
    let is_shared =
        |object: &&Arc<Object>| base.snapshot().get(object.key()).is_some_and(|before| Arc::ptr_eq(before, object));
    assert_eq!(loaded.snapshot().iter().filter(is_shared).count(), 999);

    let again = plane.two.load(&id, Some(&loaded)).await.unwrap().unwrap();
    assert_eq!((again.version(), again.snapshot()), (2, loaded.snapshot()));
}

pub(crate) async fn snapshots_of_all_shapes_replace_each_other(plane: &Plane) {
    let id = SnapshotId::input("cluster1");
    let large = "x".repeat(3 << 20);
    let shapes = [
        sample::snapshot(0, |_| String::new()),
        sample::snapshot(3, |_| large.clone()),
        Arc::new(Snapshot::new()),
        sample::snapshot(2000, |number| number.to_string()),
        sample::snapshot(10, |number| number.to_string()),
        sample::snapshot(0, |_| String::new()),
    ];
    let mut base: Option<Stored> = None;
    for (version, shape) in (1..).zip(&shapes) {
        let put = Stored::new(version, Arc::clone(shape), json!([version]), "a");
        assert_eq!(plane.one.put(&id, &put).await.unwrap(), Written::Stored, "version {version}");
        for base in [None, base.as_ref()] {
            let loaded = plane.two.load(&id, base).await.unwrap().unwrap();
            assert_eq!((loaded.head(), loaded.extra()), (put.head(), put.extra()));
            assert_eq!(loaded.snapshot(), shape, "version {version}");
        }
        base = plane.two.load(&id, base.as_ref()).await.unwrap();
    }
}

pub(crate) async fn a_removed_snapshot_leaves_nothing(plane: &Plane) {
    let (id, other) = (SnapshotId::input("cluster1"), SnapshotId::input("cluster2"));
    plane.one.put(&other, &sample::version(1, "a")).await.unwrap();
    assert!(!plane.one.remove(&id).await.unwrap());
    plane.one.put(&id, &sample::version(5, "a")).await.unwrap();
    assert!(plane.two.remove(&id).await.unwrap());
    assert!(!plane.one.remove(&id).await.unwrap());
    assert!(plane.one.load(&id, None).await.unwrap().is_none());
    assert_eq!(plane.one.heads().await.unwrap().into_keys().collect::<Vec<_>>(), [other]);
    // The one that wrote it before has to notice too that nothing of it is left.
    let first = sample::version(1, "b");
    assert_eq!(plane.one.put(&id, &first).await.unwrap(), Written::Stored);
    assert_eq!(plane.two.load(&id, None).await.unwrap().unwrap().snapshot(), first.snapshot());
}

pub(crate) async fn a_secret_is_refused_by_name(plane: &Plane) {
    let id = SnapshotId::output("cluster1");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"},
        "data": {"password": "aHVudGVyMg=="}});
    let mut snapshot = Snapshot::clone(&sample::snapshot(3, |number| number.to_string()));
    snapshot.insert(Arc::new(Object::from_value(&secret).unwrap()));
    let error = plane.one.put(&id, &sample::stored(1, &Arc::new(snapshot.clone()), "a")).await.unwrap_err();
    assert_eq!(error.code(), "MR0910");
    assert!(error.to_string().contains("output:cluster1: Secret n/s"), "{error}");
    assert!(!format!("{error:?} {error}").contains("aHVudGVyMg"));
    assert!(plane.two.load(&id, None).await.unwrap().is_none());

    // A kind of that name in a group of somebody else is nobody's secret.
    let other = json!({"apiVersion": "x.io/v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}});
    snapshot.remove(Object::from_value(&secret).unwrap().key());
    snapshot.insert(Arc::new(Object::from_value(&other).unwrap()));
    assert_eq!(plane.one.put(&id, &sample::stored(1, &Arc::new(snapshot), "a")).await.unwrap(), Written::Stored);
}

pub(crate) async fn snapshots_of_one_cluster_do_not_touch_each_other(plane: &Plane) {
    let ids = [SnapshotId::input("cluster1"), SnapshotId::output("cluster1"), SnapshotId::reports("cluster1")];
    let Changes::CatchUp { cursor } = plane.two.changes(&Cursor::default(), DEADLINE).await.unwrap() else {
        panic!("a new cursor begins with catching up")
    };
    for (id, version) in ids.iter().zip(1..) {
        assert_eq!(plane.one.put(id, &sample::version(version, &id.to_string())).await.unwrap(), Written::Stored);
    }
    let Changes::News { changed, .. } = plane.two.changes(&cursor, DEADLINE).await.unwrap() else {
        panic!("nothing was lost")
    };
    let told = ids.iter().zip(1..).map(|(id, version)| (Subject::Snapshot(id.clone()), Some(version)));
    assert_eq!(changed, told.collect());
    assert_eq!(plane.two.heads().await.unwrap().keys().cloned().collect::<Vec<_>>(), ids);
    for (id, version) in ids.iter().zip(1..) {
        let loaded = plane.two.load(id, None).await.unwrap().unwrap();
        assert_eq!(loaded.digest(), sample::version(version, &id.to_string()).digest());
    }
    assert!(plane.two.remove(&ids[1]).await.unwrap());
    assert_eq!(plane.one.heads().await.unwrap().keys().collect::<Vec<_>>(), [&ids[0], &ids[2]]);
}
