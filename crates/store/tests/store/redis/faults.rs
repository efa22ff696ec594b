//! What a store has to bear: servers that die, stall, forget, or refuse.

use std::sync::Arc;
use std::time::Duration;

use meshrelay_store::{
    Changes, Cursor, Reach, RedisStore, SnapshotId, SnapshotStore, Span, StoreError, Stored, Subject, Written,
};
use redis::Value;
use serde_json::json;
use tokio::time::timeout;

use super::{alone, connected, reaches, settings};
use crate::conformance::{DEADLINE, wait_for};
use crate::sample;
use meshrelay_testbed::{Redis, free_port};

/// Waits until the store is away for the reason with that code.
pub(crate) async fn error_while_away(store: &RedisStore, code: &str) -> StoreError {
    wait_for(format!("the store to be away with {code}"), async || match &store.health().borrow().reach {
        Reach::Away { error, .. } if error.code() == code && !error.to_string().contains("no attempt") => {
            Ok(error.clone())
        }
        other => Err(format!("{other:?}")),
    })
    .await
}

async fn until_away(store: &RedisStore) {
    let mut health = store.health();
    timeout(DEADLINE, health.wait_for(|health| !health.is_connected())).await.expect("it stays connected").unwrap();
}

async fn cursor(store: &dyn SnapshotStore) -> Cursor {
    match store.changes(&Cursor::default(), Duration::ZERO).await.unwrap() {
        Changes::CatchUp { cursor } => cursor,
        news => panic!("expected to catch up first, found {news:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_an_error_at_once() {
    let store = RedisStore::start(settings(format!("127.0.0.1:{}", free_port())), "test").unwrap();
    // The limit is a minute: who waits for that in vain does not get here.
    let error = timeout(DEADLINE / 2, store.heads()).await.expect("an answer").unwrap_err();
    assert_eq!(error.code(), "MR0900");
    let error = error_while_away(&store, "MR0900").await;
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(store.health().borrow().epoch, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_empty_is_another_store() {
    let (mut server, one) = alone(&[]).await;
    let two = connected(&settings(server.address()), "test").await;
    let (id, mine) = (SnapshotId::input("cluster1"), sample::version(7, "a"));
    one.put(&id, &mine).await.unwrap();
    let before = cursor(&*two).await;
    let (epoch, lease) =
        (one.health().borrow().epoch.clone(), one.acquire_lease("leader", "a", DEADLINE).await.unwrap());
    let revision = match one.put_document("d", None, &json!(1)).await.unwrap() {
        meshrelay_store::DocumentWritten::Stored(revision) => revision,
        other => panic!("{other:?}"),
    };

    server.kill();
    until_away(&one).await;
    let error = one.put(&id, &mine).await.unwrap_err();
    assert_eq!(error.code(), "MR0900");
    server.restart();
    reaches(&one).await;
    reaches(&two).await;
    assert_ne!(one.health().borrow().epoch, epoch);
    assert_eq!(one.health().borrow().epoch, two.health().borrow().epoch);
    assert!(two.heads().await.unwrap().is_empty());

    // Who reads is told to catch up, and who has it writes it back.
    let Changes::CatchUp { cursor } = two.changes(&before, Duration::ZERO).await.unwrap() else {
        panic!("expected to catch up");
    };
    assert_eq!(one.put(&id, &mine).await.unwrap(), Written::Stored);
    let Changes::News { changed, .. } = two.changes(&cursor, DEADLINE).await.unwrap() else { panic!("expected news") };
    assert_eq!(changed, [(Subject::Snapshot(id.clone()), Some(7))].into());
    assert_eq!(two.load(&id, None).await.unwrap().unwrap().snapshot(), mine.snapshot());

    // What the former store gave out is not given out again.
    let conflict = one.put_document("d", Some(revision), &json!(2)).await.unwrap();
    assert_eq!(conflict, meshrelay_store::DocumentWritten::Conflict(None));
    assert!(two.acquire_lease("leader", "b", DEADLINE).await.unwrap().token > lease.token);
    assert!(matches!(one.put_document("d", None, &json!(2)).await.unwrap(),
        meshrelay_store::DocumentWritten::Stored(newer) if newer > revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_emptied_while_it_runs_is_another_store() {
    let (server, store) = alone(&[]).await;
    let id = SnapshotId::input("cluster1");
    store.put(&id, &sample::version(7, "a")).await.unwrap();
    let before = cursor(&*store).await;
    let epoch = store.health().borrow().epoch.clone();
    server.run("FLUSHALL");
    let mut health = store.health();
    timeout(DEADLINE, health.wait_for(|health| health.is_connected() && health.epoch != epoch)).await.unwrap().unwrap();
    assert_eq!(store.put(&id, &sample::version(7, "a")).await.unwrap(), Written::Stored);
    wait_for("being told to catch up", async || match store.changes(&before, Duration::ZERO).await {
        Ok(Changes::CatchUp { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_changes_ends_when_the_server_dies() {
    let (mut server, store) = alone(&[]).await;
    let cursor = cursor(&*store).await;
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.changes(&cursor, DEADLINE * 10).await }
    });
    server.kill();
    let error = timeout(DEADLINE, waiting).await.expect("the wait goes on").unwrap().unwrap_err();
    assert_eq!(error.code(), "MR0900");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_with_its_data_goes_on() {
    let (mut server, store) = alone(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let (id, mine) = (SnapshotId::input("cluster1"), sample::version(7, "a"));
    store.put(&id, &mine).await.unwrap();
    let epoch = store.health().borrow().epoch.clone();
    server.kill();
    until_away(&store).await;
    server.restart();
    reaches(&store).await;
    // Another instance may lack the last writes; this one does not.
    assert_ne!(store.health().borrow().epoch, epoch);
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().snapshot(), mine.snapshot());
    assert_eq!(store.put(&id, &mine).await.unwrap(), Written::Same);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_is_an_error_in_time() {
    let server = Redis::start(&[]);
    let mut settings = settings(server.address());
    settings.connection.read_timeout = Span::millis(200);
    settings.connection.write_timeout = Span::millis(200);
    let store = connected(&settings, "test").await;
    let id = SnapshotId::input("cluster1");
    let put = sample::version(1, "a");
    // A busy machine may need longer than the short limit; the pause is what must not be waited for.
    wait_for("a first write", async || store.put(&id, &put).await.map_err(|error| error.to_string())).await;
    // Long enough for all three calls; whoever waits for its end gets no error.
    server.run("CLIENT PAUSE 4000 ALL");
    for error in [
        timeout(DEADLINE, store.put(&id, &sample::version(2, "a"))).await.expect("an answer").unwrap_err(),
        timeout(DEADLINE, store.load(&id, None)).await.expect("an answer").unwrap_err(),
        timeout(DEADLINE, store.changes(&Cursor::default(), Duration::ZERO)).await.expect("an answer").unwrap_err(),
    ] {
        assert!(["MR0900", "MR0901"].contains(&error.code()), "{error}");
    }
    reaches(&store).await;
    wait_for("writing again", async || {
        store.put(&id, &sample::version(2, "a")).await.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_not_noticed_by_calls() {
    let (server, store) = alone(&[]).await;
    let id = SnapshotId::input("cluster1");
    for version in 1..20 {
        server.run("CLIENT KILL TYPE normal SKIPME yes");
        let written = store.put(&id, &sample::version(version, "a")).await;
        // The answer can be lost after the write was done; then the second attempt finds it there.
        assert!(matches!(written, Ok(Written::Stored | Written::Same)), "{written:?}");
    }
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().version(), 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_memory_is_told_and_nothing_is_half_written() {
    let (server, store) = alone(&["--maxmemory-policy", "noeviction"]).await;
    let id = SnapshotId::input("cluster1");
    let (old, new) = (sample::version(1, "a"), sample::version(2, "a"));
    store.put(&id, &old).await.unwrap();
    let cursor = cursor(&*store).await;
    server.run("CONFIG SET maxmemory 1");
    for error in [
        store.put(&id, &new).await.unwrap_err(),
        store.put(&SnapshotId::input("cluster2"), &new).await.unwrap_err(),
        store.put_document("d", None, &json!(1)).await.unwrap_err(),
        store.set_live("replica", &json!(1), DEADLINE).await.unwrap_err(),
        store.acquire_lease("leader", "replica", DEADLINE).await.unwrap_err(),
    ] {
        assert_eq!(error, StoreError::OutOfMemory);
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    // It is no reason to be away: reading goes on, and so does removing, which helps.
    assert!(store.health().borrow().is_connected());
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().snapshot(), old.snapshot());
    assert_eq!(store.heads().await.unwrap().len(), 1);
    assert_eq!(store.document("d").await.unwrap(), None);
    let Changes::News { changed, cursor } = store.changes(&cursor, Duration::ZERO).await.unwrap() else {
        panic!("expected news");
    };
    assert!(changed.is_empty(), "{changed:?}");
    assert!(store.remove(&id).await.unwrap());
    server.run("CONFIG SET maxmemory 0");
    let Changes::News { changed, .. } = store.changes(&cursor, DEADLINE).await.unwrap() else {
        panic!("expected news")
    };
    assert_eq!(changed, [(Subject::Snapshot(id.clone()), None)].into());
    assert_eq!(store.put(&id, &new).await.unwrap(), Written::Stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_told_from_a_master() {
    let (master, store) = alone(&[]).await;
    store.put(&SnapshotId::input("cluster1"), &sample::version(1, "a")).await.unwrap();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let error_text =
        wait_for("the replica to be in step", async || match replica.info("master_link_status").as_str() {
            "up" => Ok(()),
            other => Err(other.to_owned()),
        });
    error_text.await;
    let store = RedisStore::start(settings(replica.address()), "test").unwrap();
    error_while_away(&store, "MR0905").await;
    let error = store.put(&SnapshotId::input("cluster2"), &sample::version(1, "a")).await.unwrap_err();
    assert_eq!(error.code(), "MR0905");
    assert!(error.to_string().contains("masterName"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_save_is_told() {
    let (server, store) = alone(&["--save", "3600", "1", "--enable-protected-configs", "yes"]).await;
    let data = server.directory().join("data");
    std::fs::create_dir(&data).unwrap();
    server.run(&format!("CONFIG SET dir {}", data.display()));
    std::fs::remove_dir(&data).unwrap();
    let _ = server.try_run("BGSAVE");
    wait_for("the save to fail", async || {
        let (status, running) = (server.info("rdb_last_bgsave_status"), server.info("rdb_bgsave_in_progress"));
        if status == "err" && running == "0" { Ok(()) } else { Err(format!("{status} {running}")) }
    })
    .await;
    let error = store.put(&SnapshotId::input("cluster1"), &sample::version(1, "a")).await.unwrap_err();
    assert_eq!(error.code(), "MR0906");
    assert!(store.health().borrow().is_connected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_store_leaves_no_connection() {
    let (server, store) = alone(&[]).await;
    let second = connected(&settings(server.address()), "other").await;
    second.heads().await.unwrap();
    let ours = || -> usize {
        let Value::BulkString(list) = server.run("CLIENT LIST TYPE normal") else { panic!("no list") };
        String::from_utf8_lossy(&list).lines().filter(|line| line.contains(" addr=127.0.0.1:")).count()
    };
    assert_eq!(ours(), 4, "two of each: for calls and for waiting");
    drop((store, second));
    wait_for("connections to end", async || match ours() {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_after_a_restart_in_the_middle() {
    let (mut server, store) = alone(&[]).await;
    let id = SnapshotId::input("cluster1");
    let writing = async {
        for version in 1..=300 {
            let put: Stored = sample::version(version, "a");
            wait_for("a write", async || store.put(&id, &put).await.map_err(|error| error.to_string())).await;
        }
    };
    let disturbing = async {
        wait_for("some versions", async || {
            let head = store.heads().await.ok().and_then(|heads| heads.get(&id).cloned());
            head.filter(|head| head.version > 20).ok_or_else(|| "fewer".to_owned())
        })
        .await;
        server.kill();
        server.restart();
    };
    tokio::join!(writing, disturbing);
    reaches(&store).await;
    let last = sample::version(300, "a");
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().head(), last.head());
}
