use std::time::Duration;

use meshrelay_store::SnapshotStore;
use serde_json::json;

use super::{Plane, wait_for};

/// Long enough to outlast any test.
const LONG: Duration = Duration::from_secs(600);
/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(300);

pub(crate) async fn live_state_goes_when_its_time_is_over(plane: &Plane) {
    assert!(plane.one.live().await.unwrap().is_empty());
    plane.one.set_live("replica-1", &json!({"clusters": ["a"]}), LONG).await.unwrap();
    plane.two.set_live("replica-2", &json!(1), SHORT).await.unwrap();
    plane.one.set_live("replica-1", &json!({"clusters": ["a", "b"]}), LONG).await.unwrap();
    let expected = json!({"replica-1": {"clusters": ["a", "b"]}});
    wait_for("the end of replica-2", async || {
        let live = serde_json::to_value(plane.one.live().await.unwrap()).unwrap();
        if live == expected { Ok(()) } else { Err(live.to_string()) }
    })
    .await;

    // Renewed in time, it stays; taken back, it goes at once.
    plane.two.set_live("replica-2", &json!(2), LONG).await.unwrap();
    assert_eq!(plane.one.live().await.unwrap()["replica-2"], json!(2));
    plane.two.set_live("replica-2", &json!(2), Duration::ZERO).await.unwrap();
    assert_eq!(serde_json::to_value(plane.one.live().await.unwrap()).unwrap(), expected);
}

pub(crate) async fn a_lease_has_one_holder_at_a_time(plane: &Plane) {
    let first = plane.one.acquire_lease("leader", "replica-1", LONG).await.unwrap();
    assert!(first.is_ours && first.holder == "replica-1" && first.expires_in <= LONG);
    assert!(first.expires_in > LONG / 2, "{first:?}");
    let other = plane.two.acquire_lease("leader", "replica-2", LONG).await.unwrap();
    assert!(!other.is_ours && other.holder == "replica-1" && other.token == first.token, "{other:?}");
    assert!(other.expires_in > LONG / 2 && other.expires_in <= LONG, "{other:?}");
    let renewed = plane.one.acquire_lease("leader", "replica-1", LONG).await.unwrap();
    assert!(renewed.is_ours && renewed.token == first.token, "{renewed:?}");
    assert!(plane.two.acquire_lease("another", "replica-2", LONG).await.unwrap().is_ours);

    assert!(!plane.two.release_lease("leader", "replica-2").await.unwrap(), "not the holder's to release");
    assert!(!plane.two.acquire_lease("leader", "replica-2", LONG).await.unwrap().is_ours);
    assert!(plane.one.release_lease("leader", "replica-1").await.unwrap());
    assert!(!plane.one.release_lease("leader", "replica-1").await.unwrap());
    assert!(plane.two.acquire_lease("leader", "replica-2", LONG).await.unwrap().is_ours);
}

pub(crate) async fn tokens_of_leases_grow(plane: &Plane) {
    let acquire = async |store: &dyn SnapshotStore, holder: &str, ttl| {
        wait_for("the lease", async || {
            let lease = store.acquire_lease("leader", holder, ttl).await.unwrap();
            if lease.is_ours { Ok(lease.token) } else { Err(format!("{lease:?}")) }
        })
        .await
    };
    let first = acquire(&*plane.one, "replica-1", SHORT).await;
    // It ends by itself, as when its holder has died.
    let second = acquire(&*plane.two, "replica-2", SHORT).await;
    let third = acquire(&*plane.one, "replica-1", LONG).await;
    assert!(plane.one.release_lease("leader", "replica-1").await.unwrap());
    let fourth = acquire(&*plane.one, "replica-1", LONG).await;
    assert!(first < second && second < third && third < fourth, "{first} {second} {third} {fourth}");
}
