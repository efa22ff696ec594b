use serde_json::json;

use super::*;

fn object(kind: &str, name: &str, content: u32) -> Arc<Object> {
    let group = if kind == "AuthorizationPolicy" { "security.istio.io" } else { "networking.istio.io" };
    Arc::new(
        Object::from_value(&json!({
            "apiVersion": format!("{group}/v1beta1"), "kind": kind,
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": "a"}}, "spec": {"content": content},
        }))
        .unwrap(),
    )
}

fn snapshot(objects: &[(&str, &str, u32)]) -> Snapshot {
    objects.iter().map(|(kind, name, content)| object(kind, name, *content)).collect()
}

fn applier(folder: &Path) -> Applier {
    Applier::new(folder.to_owned(), "one".into())
}

fn kinds(keys: &[ObjectKey]) -> Vec<&str> {
    keys.iter().map(|key| key.gvk.kind.as_str()).collect()
}

const ALL: [(&str, &str, u32); 5] = [
    ("AuthorizationPolicy", "e", 1),
    ("VirtualService", "d", 1),
    ("Gateway", "c", 1),
    ("ServiceEntry", "b", 1),
    ("DestinationRule", "a", 1),
];

#[test]
fn created_in_the_order_of_dependencies_and_deleted_in_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut applier = applier(folder.path());
    let outcome = applier.apply(&snapshot(&ALL), ApplyMode::Complete);
    let order = ["DestinationRule", "ServiceEntry", "Gateway", "VirtualService", "AuthorizationPolicy"];
    assert_eq!(kinds(&outcome.applied), order);
    let outcome = applier.apply(&Snapshot::new(), ApplyMode::Complete);
    let order = ["AuthorizationPolicy", "VirtualService", "Gateway", "DestinationRule", "ServiceEntry"];
    assert_eq!(kinds(&outcome.deleted), order);
    assert!(!folder.path().join("shop").exists(), "the folder goes with its last file");
}

#[test]
fn only_what_may_go_is_deleted_and_the_rest_is_held() {
    let folder = tempfile::tempdir().unwrap();
    applier(folder.path()).apply(&snapshot(&ALL), ApplyMode::Complete);
    // The other version of the API is the same object.
    let mut wanted = object("Gateway", "c", 1).value();
    wanted["apiVersion"] = json!("networking.istio.io/v1");
    let wanted: Snapshot = [Arc::new(Object::from_value(&wanted).unwrap())].into_iter().collect();
    let mut restarted = applier(folder.path());
    let surplus = restarted.surplus(&wanted).unwrap();
    assert_eq!((surplus.present, surplus.objects.len()), (5, 4));
    let may_go = |key: &&ObjectKey| ["VirtualService", "ServiceEntry"].contains(&key.gvk.kind.as_str());
    let only = surplus.objects.iter().filter(may_go).cloned().chain([ObjectKey::default()]).collect();
    let outcome = restarted.apply(&wanted, ApplyMode::Only(Arc::new(only)));
    assert_eq!(kinds(&outcome.deleted), ["VirtualService", "ServiceEntry"]);
    assert_eq!(kinds(&outcome.held), ["AuthorizationPolicy", "DestinationRule"]);
    let surplus = restarted.surplus(&wanted).unwrap();
    assert_eq!(
        (surplus.present, surplus.objects.into_iter().collect::<BTreeSet<_>>()),
        (3, outcome.held.into_iter().collect())
    );
}

#[test]
fn stopped_after_any_step_every_file_is_whole_and_the_next_apply_converges() {
    let (before, after) =
        (snapshot(&ALL), snapshot(&[ALL[0], ("VirtualService", "d", 2), ("Gateway", "c", 2), ("Sidecar", "f", 1)]));
    let valid: Vec<_> = before.iter().chain(after.iter()).map(|object| object.hash()).collect();
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        applier(folder.path()).apply(&before, ApplyMode::Complete);
        let mut crashing = applier(folder.path());
        let plan = crashing.plan(&after, &ApplyMode::Complete, &mut ApplyOutcome::default());
        let total = plan.len();
        for step in plan.into_iter().take(steps) {
            crashing.execute(step).unwrap();
        }
        fs::create_dir_all(folder.path().join("shop")).unwrap();
        fs::write(folder.path().join("shop/.meshrelay-7.tmp"), "apiVersion: v1\nki").unwrap();
        drop(crashing);

        let mut restarted = applier(folder.path());
        let held = restarted.current().unwrap().snapshot;
        assert!(held.iter().all(|object| valid.contains(&object.hash())), "after {steps} steps: {held:?}");
        restarted.apply(&after, ApplyMode::Complete);
        assert_eq!(restarted.current().unwrap().snapshot, after, "after {steps} steps");
        let files = fs::read_dir(folder.path().join("shop")).unwrap().count();
        assert_eq!(files, after.len(), "nothing else is left after {steps} steps");
        if steps > total {
            return;
        }
    }
}

#[test]
fn an_empty_file_in_the_way_is_replaced_and_anything_else_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    fs::create_dir_all(shop.join("virtualservice-folder.yaml")).unwrap();
    fs::write(shop.join("gateway-empty.yaml"), "").unwrap();
    fs::write(shop.join("gateway-broken.yaml"), "{").unwrap();
    let desired = snapshot(&[
        ("Gateway", "empty", 1),
        ("Gateway", "broken", 1),
        ("Sidecar", "zeros", 1),
        ("VirtualService", "folder", 1),
        ("VirtualService", "free", 1),
    ]);
    fs::write(shop.join("sidecar-zeros.yaml"), [0; 512]).unwrap();
    let outcome = applier(folder.path()).apply(&desired, ApplyMode::Complete);
    let applied: BTreeSet<_> = outcome.applied.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(applied, ["empty", "free", "zeros"].into());
    let failed: Vec<_> = outcome.failed.iter().map(|failure| failure.key.name.as_str()).collect();
    assert_eq!(failed, ["broken", "folder"]);
    let not_ours = |failure: &ApplyFailure| matches!(failure.error, ApplyError::NotOurs { .. });
    assert!(outcome.failed.iter().all(not_ours), "{outcome:?}");
    assert_eq!(fs::read_to_string(shop.join("gateway-broken.yaml")).unwrap(), "{");
}

#[test]
fn what_is_applied_is_known_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let desired = snapshot(&ALL);
    applier(folder.path()).apply(&desired, ApplyMode::Complete);
    let place = folder.path().join("shop/gateway-c.yaml");
    let text = fs::read_to_string(&place).unwrap();
    let (broken, theirs) = (format!("{text}  [\n"), text.replace("relay.solo.io/cluster: one", "of: me") + "  [\n");
    // One of ours that somebody broke.
    fs::write(&place, &broken).unwrap();
    let mut restarted = applier(folder.path());
    let error = restarted.current().unwrap_err().to_string();
    assert!(error.contains("gateway-c.yaml") && error.contains("repair it, or delete it"), "{error}");
    restarted.surplus(&Snapshot::new()).unwrap_err();
    let outcome = restarted.apply(&desired, ApplyMode::Complete);
    assert_eq!((kinds(&outcome.applied).contains(&"Gateway"), outcome.failed), (true, Vec::new()), "written anew");
    assert_eq!(restarted.current().unwrap().snapshot, desired);
    // What is not ours is theirs to break.
    fs::write(&place, theirs).unwrap();
    assert_eq!(applier(folder.path()).current().unwrap().snapshot.len(), 4);
    fs::remove_file(&place).unwrap();
    // A namespace that cannot be looked at: a link that leads to itself is one even for root.
    #[cfg(unix)]
    {
        let namespace = folder.path().join("loop");
        std::os::unix::fs::symlink(&namespace, &namespace).unwrap();
        let error = applier(folder.path()).current().unwrap_err().to_string();
        assert!(error.contains("loop"), "{error}");
    }
}

#[test]
fn one_object_under_two_versions_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut value = object("Gateway", "a", 1).value();
    value["apiVersion"] = json!("networking.istio.io/v1");
    let other = Arc::new(Object::from_value(&value).unwrap());
    let desired: Snapshot = [object("Gateway", "a", 1), other].into_iter().collect();
    let outcome = applier(folder.path()).apply(&desired, ApplyMode::Complete);
    assert_eq!((outcome.applied.len(), outcome.failed.len()), (1, 1));
    assert!(outcome.failed[0].error.to_string().ends_with("networking.istio.io/v1 is in force (MR0422)"));
}

#[cfg(unix)]
#[test]
fn secrets_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}});
    let desired: Snapshot = [Arc::new(Object::from_value(&secret).unwrap())].into_iter().collect();
    applier(folder.path()).apply(&desired, ApplyMode::Complete);
    let mode = fs::metadata(folder.path().join("n/secret-a.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
