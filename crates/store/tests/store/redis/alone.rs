//! The suite over one server, and what can be seen of the store from the server's side.

use std::collections::BTreeSet;
use std::io::Write as _;

use meshrelay_store::{SnapshotId, SnapshotStore as _, Written};
use redis::{Value, from_redis_value};
use serde_json::json;

use super::{alone, connected, settings, suite};
use crate::conformance::{Plane, cases, each_a_test};
use crate::sample;
use meshrelay_testbed::Redis;

async fn plane() -> Plane {
    let server = Redis::start(&[]);
    let settings = settings(server.address());
    let (one, two) = (connected(&settings, "test").await, connected(&settings, "test").await);
    Plane { one, two, server: Box::new(server) }
}

cases!(each_a_test, plane);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_behaves_as_redis_does() {
    let Some(server) = Redis::valkey() else {
        // Past what the test harness keeps to itself: whoever reads the output sees it, and `cargo xtask test` counts it.
        let told = "\nSKIPPED valkey: there is no valkey-server; `cargo xtask setup` installs it where Debian has it";
        return writeln!(std::io::stdout(), "{told}").unwrap();
    };
    assert_eq!(server.info("server_name"), "valkey");
    suite(&settings(server.address())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planes_share_a_server_without_seeing_each_other() {
    let (server, one) = alone(&[]).await;
    let two = connected(&settings(server.address()), "other").await;
    let id = SnapshotId::input("cluster1");
    one.put(&id, &sample::version(1, "a")).await.unwrap();
    one.put_document("d", None, &json!(1)).await.unwrap();
    one.set_live("replica", &json!(1), std::time::Duration::from_secs(600)).await.unwrap();
    assert!(two.load(&id, None).await.unwrap().is_none());
    assert!(two.heads().await.unwrap().is_empty() && two.documents().await.unwrap().is_empty());
    assert!(two.live().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_the_chosen_one() {
    let server = Redis::start(&[]);
    let mut settings = settings(server.address());
    settings.db = 2;
    connected(&settings, "test").await.put_document("d", None, &json!(1)).await.unwrap();
    assert_eq!(server.run("DBSIZE"), Value::Int(0));
    assert!(server.info("db2").starts_with("keys="));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_of_a_plane_have_its_hash_tag() {
    let (server, store) = alone(&[]).await;
    let id = SnapshotId::output("cluster1");
    store.put(&id, &sample::version(1, "a")).await.unwrap();
    store.put_document("reports/cluster1", None, &json!(1)).await.unwrap();
    store.set_live("replica", &json!(1), std::time::Duration::from_secs(600)).await.unwrap();
    store.acquire_lease("leader", "replica", std::time::Duration::from_secs(600)).await.unwrap();
    let keys: BTreeSet<String> = from_redis_value(server.run("KEYS *")).unwrap();
    let names = [
        "changes",
        "document:reports/cluster1",
        "documents",
        "heads",
        "lease:leader",
        "live",
        "output:cluster1",
        "store",
    ];
    assert_eq!(keys, names.map(|name| format!("{{meshrelay:test}}:{name}")).into());
    // What is only for a time goes by itself when nobody is left to remove it.
    for key in ["live", "lease:leader"] {
        let left: i64 = from_redis_value(server.run(&format!("PTTL {{meshrelay:test}}:{key}"))).unwrap();
        assert!((1..=600_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_buckets_that_differ_travel() {
    let (server, store) = alone(&[]).await;
    let id = SnapshotId::input("cluster1");
    // Text that does not compress well, so that sizes say something.
    let content = |change: u32| {
        move |number: u32| {
            let seed = if number == 700 { number ^ change } else { number };
            format!("{:?}", meshrelay_snapshot::ContentHash::of(&seed.to_le_bytes()).to_string().repeat(3))
        }
    };
    let bytes = |name: &str| server.info(name).parse::<u64>().unwrap();
    let (sent, read) = (bytes("total_net_input_bytes"), bytes("total_net_output_bytes"));
    store.put(&id, &sample::stored(1, &sample::snapshot(1000, content(0)), "a")).await.unwrap();
    let whole = bytes("total_net_input_bytes") - sent;
    assert!(whole > 60_000, "{whole}");
    let base = store.load(&id, None).await.unwrap().unwrap();
    let whole_read = bytes("total_net_output_bytes") - read;
    assert!(whole_read > 60_000, "{whole_read}");

    let (sent, read) = (bytes("total_net_input_bytes"), bytes("total_net_output_bytes"));
    let new = sample::stored(2, &sample::snapshot(1000, content(1)), "a");
    assert_eq!(store.put(&id, &new).await.unwrap(), Written::Stored);
    let loaded = store.load(&id, Some(&base)).await.unwrap().unwrap();
    assert_eq!(loaded.snapshot(), new.snapshot());
    let (sent, read) = (bytes("total_net_input_bytes") - sent, bytes("total_net_output_bytes") - read);
    // The digests of all buckets are 8 KiB, both when the change is written and when the reader shows what it has.
    assert!(sent < 25_000 && sent < whole / 2, "{sent} of {whole}");
    assert!(read < 30_000 && read < whole_read / 2, "{read} of {whole_read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_redis_forgot_are_sent_again() {
    let (server, store) = alone(&[]).await;
    for version in 1..4 {
        server.run("SCRIPT FLUSH");
        let put = sample::version(version, "a");
        assert_eq!(store.put(&SnapshotId::input("cluster1"), &put).await.unwrap(), Written::Stored);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_named() {
    let (server, store) = alone(&[]).await;
    let id = SnapshotId::input("cluster1");
    store.put(&id, &sample::version(1, "a")).await.unwrap();
    let Value::Array(fields) = server.run("HKEYS {meshrelay:test}:input:cluster1") else { panic!("no fields") };
    let buckets = fields.into_iter().map(|field| from_redis_value::<String>(field).unwrap());
    let bucket = buckets.filter(|field| field.len() == 3 && field.starts_with('b')).min().unwrap();
    server.run(&format!("HSET {{meshrelay:test}}:input:cluster1 {bucket} damaged"));
    let error = store.load(&id, None).await.unwrap_err();
    assert_eq!(error.code(), "MR0911");
    assert!(error.to_string().starts_with("input:cluster1 in the store cannot be read"), "{error}");
    // Another version heals it, as all others can go on meanwhile.
    store.put(&SnapshotId::input("cluster2"), &sample::version(1, "a")).await.unwrap();
    store.remove(&id).await.unwrap();
    store.put(&id, &sample::version(1, "a")).await.unwrap();
    assert!(store.load(&id, None).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layout_of_another_version_is_left_alone() {
    let server = Redis::start(&[]);
    server.run("HSET {meshrelay:test}:store epoch e format 2 number 5 token 5");
    let store = meshrelay_store::RedisStore::start(settings(server.address()), "test").unwrap();
    let error = super::faults::error_while_away(&store, "MR0911").await;
    assert!(error.to_string().contains("another version"), "{error}");
    assert_eq!(store.heads().await.unwrap_err(), error);
}
