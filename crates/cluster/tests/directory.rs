//! The directory adapter as its users see it: through the port.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshrelay_cluster::{ApplyMode, Cluster, ClusterView, DirectoryCluster, DirectoryOptions, output_folder};
use meshrelay_snapshot::{Object, Snapshot, SnapshotMeta};
use serde_json::json;
use tokio::sync::watch;

/// Longest that a test waits for something to happen before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

async fn open(fleet: &Path) -> DirectoryCluster {
    fs::create_dir_all(fleet.join("one")).unwrap();
    DirectoryCluster::open(DirectoryOptions {
        poll: Duration::from_millis(10),
        settle: Duration::from_millis(5),
        ..DirectoryOptions::new("one", fleet.join("one"), output_folder(fleet, "one"))
    })
    .await
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n")
}

async fn wait_for(views: &mut watch::Receiver<Arc<ClusterView>>, wanted: impl Fn(&ClusterView) -> bool) {
    let seen = tokio::time::timeout(PATIENCE, views.wait_for(|view| wanted(view))).await;
    assert!(seen.is_ok_and(|seen| seen.is_ok()), "never seen, last: {:?}", views.borrow());
}

fn names(view: &ClusterView) -> Vec<String> {
    let services = view.snapshot.sorted().into_iter().filter(|object| object.key().gvk.kind == "Service");
    services.map(|object| object.key().name.to_string()).collect()
}

#[tokio::test]
async fn changes_are_seen_live_and_a_bad_edit_loses_nothing() {
    let fleet = tempfile::tempdir().unwrap();
    let file = fleet.path().join("one/a.yaml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, service("a")).unwrap();
    let cluster = open(fleet.path()).await;
    let mut views = cluster.watch();
    assert_eq!(names(&views.borrow()), ["a"], "the first view is complete");

    fs::write(fleet.path().join("one/b.yaml"), service("b")).unwrap();
    wait_for(&mut views, |view| names(view) == ["a", "b"]).await;
    fs::write(&file, "apiVersion: v1\nkind Service\n").unwrap();
    wait_for(&mut views, |view| !view.problems.is_empty()).await;
    assert_eq!(names(&views.borrow()), ["a", "b"]);
    assert_eq!(
        views.borrow().problems[0].to_string(),
        "one/a.yaml:2:1: expected `key: value`, found `kind Service` (MR0410); the last good state of this file \
         stays in force"
    );
    fs::write(&file, service("c")).unwrap();
    wait_for(&mut views, |view| names(view) == ["b", "c"] && view.problems.is_empty()).await;
    fs::rename(&file, fleet.path().join("one/z.yaml")).unwrap();
    fs::remove_file(fleet.path().join("one/b.yaml")).unwrap();
    wait_for(&mut views, |view| names(view) == ["c"]).await;
}

/// Changes of files and folders are seen one after the other.
async fn assert_seen(options: DirectoryOptions) {
    let folder = options.folder.clone();
    fs::create_dir_all(&folder).unwrap();
    let cluster = DirectoryCluster::open(options).await;
    let mut views = cluster.watch();
    fs::write(folder.join("a.yaml"), service("a")).unwrap();
    wait_for(&mut views, |view| names(view) == ["a"]).await;
    fs::write(folder.join("new"), service("b")).unwrap();
    fs::rename(folder.join("new"), folder.join("a.yaml")).unwrap();
    wait_for(&mut views, |view| names(view) == ["b"]).await;
    for _ in 0..2 {
        fs::create_dir(folder.join("below")).unwrap();
        fs::write(folder.join("below/c.yaml"), service("c")).unwrap();
        wait_for(&mut views, |view| names(view) == ["b", "c"]).await;
        fs::write(folder.join("below/c.yaml"), service("d")).unwrap();
        wait_for(&mut views, |view| names(view) == ["b", "d"]).await;
        fs::remove_dir_all(folder.join("below")).unwrap();
        wait_for(&mut views, |view| names(view) == ["b"]).await;
    }
}

#[tokio::test]
async fn changes_are_seen_by_looking_alone() {
    let fleet = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("one", fleet.path().join("one"), output_folder(fleet.path(), "one"));
    let poll = Duration::from_millis(10);
    assert_seen(DirectoryOptions { poll, settle: poll / 2, hints: false, ..options }).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn changes_are_seen_by_hints_alone() {
    let fleet = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("one", fleet.path().join("one"), output_folder(fleet.path(), "one"));
    // Longer than the test waits.
    assert_seen(DirectoryOptions { poll: PATIENCE * 60, ..options }).await;
}

fn desired(objects: &[(&str, u32)]) -> Snapshot {
    let object = |(name, content): &(&str, u32)| {
        let value = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"content": content}});
        Arc::new(Object::from_value(&value).unwrap())
    };
    objects.iter().map(object).collect()
}

#[tokio::test]
async fn only_what_is_ours_is_overwritten_or_deleted_and_only_when_told() {
    let fleet = tempfile::tempdir().unwrap();
    let cluster = open(fleet.path()).await;
    let shop = output_folder(fleet.path(), "one").join("shop");
    fs::create_dir_all(&shop).unwrap();
    let users =
        "# mine\napiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {name: b, namespace: shop}\n";
    fs::write(shop.join("virtualservice-b.yaml"), users).unwrap();
    fs::write(shop.join("notes.txt"), "mine too").unwrap();

    let outcome = cluster.apply(&desired(&[("a", 1), ("b", 1), ("c", 1)]), ApplyMode::Complete).await;
    assert_eq!(outcome.applied.len(), 2);
    assert_eq!(outcome.failed.len(), 1);
    let message = outcome.failed[0].error.to_string();
    assert!(message.contains("virtualservice-b.yaml, found one without our labels"), "{message}");
    let text = fs::read_to_string(shop.join("virtualservice-a.yaml")).unwrap();
    for label in [
        "agent.gloo.solo.io: gloo-mesh",
        "owner.gloo.solo.io/name: gloo-mesh",
        "relay.solo.io/cluster: one",
        "cluster.multicluster.solo.io: one",
    ] {
        assert!(text.contains(label), "{text}");
    }

    // Nothing goes while the output may be incomplete, and what did not change is not written again.
    let before = fs::metadata(shop.join("virtualservice-a.yaml")).unwrap().modified().unwrap();
    let outcome = cluster.apply(&desired(&[("a", 1)]), ApplyMode::AddOnly).await;
    assert_eq!((outcome.unchanged, outcome.held.len(), outcome.deleted.len()), (1, 1, 0));
    assert!(shop.join("virtualservice-c.yaml").exists());
    assert_eq!(fs::metadata(shop.join("virtualservice-a.yaml")).unwrap().modified().unwrap(), before);

    // A file that a user made their own is theirs.
    fs::write(shop.join("virtualservice-c.yaml"), users.replace("name: b", "name: c")).unwrap();
    let outcome = cluster.apply(&desired(&[("a", 2)]), ApplyMode::Complete).await;
    assert_eq!((outcome.applied.len(), outcome.deleted.len()), (1, 0));
    assert_eq!(fs::read_to_string(shop.join("virtualservice-b.yaml")).unwrap(), users);
    assert!(shop.join("virtualservice-c.yaml").exists());
    let outcome = cluster.apply(&Snapshot::new(), ApplyMode::Complete).await;
    assert_eq!(outcome.deleted.len(), 1);
    assert!(!shop.join("virtualservice-a.yaml").exists());
    assert!(shop.join("notes.txt").exists());
}

#[tokio::test]
async fn another_process_goes_on_where_the_last_one_stopped() {
    let fleet = tempfile::tempdir().unwrap();
    let wanted = desired(&[("a", 1), ("b", 1)]);
    let first = open(fleet.path()).await;
    assert_eq!(first.current().await.unwrap().snapshot, Snapshot::new());
    first.apply(&wanted, ApplyMode::Complete).await;
    drop(first);
    let second = open(fleet.path()).await;
    assert_eq!(second.current().await.unwrap().snapshot, wanted);
    let outcome = second.apply(&wanted, ApplyMode::Complete).await;
    assert_eq!((outcome.unchanged, outcome.applied.len()), (2, 0));
    // What somebody damaged is put right, and what is no longer wanted goes although another process made it.
    let file = output_folder(fleet.path(), "one").join("shop/virtualservice-a.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("content: 1", "content: 7")).unwrap();
    let outcome = second.apply(&desired(&[("a", 1)]), ApplyMode::Complete).await;
    assert_eq!((outcome.applied.len(), outcome.deleted.len()), (1, 1));
    assert_eq!(second.current().await.unwrap().snapshot, desired(&[("a", 1)]));
    assert_eq!(second.name(), "one");
}

#[tokio::test]
async fn the_versions_that_objects_were_made_from_are_on_record_before_the_first_of_them() {
    let fleet = tempfile::tempdir().unwrap();
    let made_from = |objects: &[(&str, u32)], version: u64| {
        let mut wanted = desired(objects);
        wanted.set_meta(SnapshotMeta { basis: [("east".into(), version)].into(), ..SnapshotMeta::default() });
        wanted
    };
    let first = open(fleet.path()).await;
    first.apply(&made_from(&[("a", 1)], 4), ApplyMode::Complete).await;
    drop(first);
    let second = open(fleet.path()).await;
    assert_eq!(second.current().await.unwrap().snapshot, made_from(&[("a", 1)], 4));
    // No versions, no objects: whoever reads the folder would take them for older than they are.
    let record = output_folder(fleet.path(), "one").join(".meshrelay-in-force");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let outcome = second.apply(&made_from(&[("b", 1)], 5), ApplyMode::Complete).await;
    assert_eq!((outcome.applied.len(), outcome.deleted.len(), outcome.failed.len()), (0, 0, 1));
    assert!(outcome.failed[0].error.to_string().contains(".meshrelay-in-force"), "{outcome:?}");
    second.current().await.unwrap_err();
    fs::remove_dir(&record).unwrap();
    let outcome = second.apply(&made_from(&[("b", 1)], 5), ApplyMode::Complete).await;
    assert_eq!((outcome.applied.len(), outcome.deleted.len(), outcome.failed.len()), (1, 1, 0));
    assert_eq!(second.current().await.unwrap().snapshot, made_from(&[("b", 1)], 5));
    // So is what was wanted, whether it could be written or not.
    let recorded = second.current().await.unwrap().desired;
    assert_eq!(recorded, Some(made_from(&[("b", 1)], 5).digest()));
    second.apply(&desired(&[("c", 1)]), ApplyMode::AddOnly).await;
    let third = open(fleet.path()).await;
    assert_eq!(third.current().await.unwrap().desired, Some(desired(&[("c", 1)]).digest()));
    third.apply(&Snapshot::new(), ApplyMode::Complete).await;
    assert_eq!(third.current().await.unwrap().desired, Some(Snapshot::new().digest()));
    // A record without it is one of an earlier version.
    fs::write(&record, "cluster: one\nbasis: {east: 5}\n").unwrap();
    let earlier = third.current().await.unwrap();
    assert_eq!((earlier.desired, earlier.snapshot.meta().basis["east"]), (None, 5));
    // A damaged record is no record that there is nothing.
    fs::write(&record, "cluster: [").unwrap();
    let error = second.current().await.unwrap_err().to_string();
    assert!(error.contains(".meshrelay-in-force") && error.contains("delete it"), "{error}");
}
