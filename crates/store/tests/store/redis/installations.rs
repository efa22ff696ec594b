//! Installations of several servers: Sentinels with their master, a Redis Cluster.

use meshrelay_store::{RedisStore, SnapshotId, SnapshotStore as _, Written};
use serde_json::json;
use tokio::time::timeout;

use super::faults::error_while_away;
use super::security::{PERMISSIONS, login};
use super::{connected, reaches, settings, suite};
use crate::conformance::{DEADLINE, wait_for};
use crate::sample;
use meshrelay_testbed::{Redis, free_port};

const PASSWORD: &str = "hunter2";

/// What a user has to be permitted in a Redis Cluster beside the rest.
pub(crate) const OF_A_CLUSTER: &str = "+cluster|slots";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_new_master() {
    let password = ["--requirepass", PASSWORD, "--masterauth", PASSWORD];
    let mut master = Redis::start(&password);
    let port = master.port.to_string();
    let replica = Redis::start(&[&password[..], &["--replicaof", "127.0.0.1", &port]].concat());
    wait_for("the replica to follow", async || match replica.info("master_link_status").as_str() {
        "up" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    // Only now: a Sentinel looks for replicas when it begins, and then not for ten seconds.
    let sentinel = Redis::sentinel("plane", master.port, PASSWORD);
    let mut settings = settings(format!("127.0.0.1:{},{}", free_port(), sentinel.address()));
    settings.connection.master_name = "plane".to_owned();
    settings.auth.enabled = true;
    settings.auth.password_file = master.directory().join("password");
    std::fs::write(&settings.auth.password_file, PASSWORD).unwrap();

    let store = connected(&settings, "test").await;
    let (id, mine) = (SnapshotId::input("cluster1"), sample::version(7, "a"));
    store.put(&id, &mine).await.unwrap();
    let token = store.acquire_lease("leader", "a", DEADLINE).await.unwrap().token;
    let epoch = store.health().borrow().epoch.clone();
    wait_for("the replica to have it all", async || {
        let (ours, its) = (master.info("master_repl_offset"), replica.info("master_repl_offset"));
        let known = sentinel.info("master0");
        if ours == its && known.contains("slaves=1") { Ok(()) } else { Err(format!("{ours} {its} {known}")) }
    })
    .await;

    master.kill();
    let mut health = store.health();
    let moved = health.wait_for(|health| health.is_connected() && health.epoch != epoch);
    timeout(DEADLINE, moved).await.expect("no new master").unwrap();
    // What the former master handed on is there; whoever holds something newer writes it.
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().snapshot(), mine.snapshot());
    assert_eq!(store.put(&id, &mine).await.unwrap(), Written::Same);
    assert_eq!(store.put(&id, &sample::version(8, "a")).await.unwrap(), Written::Stored);
    assert_eq!(store.acquire_lease("leader", "a", DEADLINE).await.unwrap().token, token);
    assert_eq!(replica.info("role"), "master");

    // The former master comes back as a replica, and nobody writes to it.
    master.restart();
    wait_for("the former master to follow", async || match master.info("role").as_str() {
        "slave" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(store.put(&id, &sample::version(9, "a")).await.unwrap(), Written::Stored);
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().version(), 9);

    // A name that no Sentinel watches.
    settings.connection.master_name = "other".to_owned();
    let store = RedisStore::start(settings, "test").unwrap();
    let error = error_while_away(&store, "MR0914").await;
    assert!(error.to_string().contains("\"other\""), "{error}");
}

/// Three masters that share all slots, and a replica of each wanted one.
fn cluster() -> Vec<Redis> {
    let nodes: Vec<_> = (0..4)
        .map(|_| {
            let bus = free_port().to_string();
            Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"])
        })
        .collect();
    for (at, node) in nodes.iter().enumerate() {
        node.run(&format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1));
        if at < 3 {
            let (from, to) = (at * 16384 / 3, (at + 1) * 16384 / 3 - 1);
            node.run(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"));
        }
        let bus: String = redis::from_redis_value(node.run("CONFIG GET cluster-port"))
            .map(|values: Vec<String>| values[1].clone())
            .unwrap();
        nodes[0].run(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port));
    }
    nodes
}

async fn agrees(nodes: &[Redis], words: &str) {
    wait_for(format!("all nodes to say {words}"), async || {
        for node in nodes {
            let info: String = redis::from_redis_value(node.run("CLUSTER INFO")).unwrap();
            if !words.split(' ').all(|word| info.lines().any(|line| line == word)) {
                return Err(info);
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_is_one_store() {
    let mut nodes = cluster();
    agrees(&nodes, "cluster_state:ok cluster_known_nodes:4 cluster_size:3").await;
    for node in &nodes {
        node.run(&format!("ACL SETUSER plane reset on >{PASSWORD} ~{{meshrelay:*}}:* {PERMISSIONS} {OF_A_CLUSTER}"));
    }
    let of_one = login(&nodes[0], "plane", PASSWORD);
    let mut of_all = of_one.clone();
    of_all.address = nodes.iter().map(Redis::address).collect::<Vec<_>>().join(",");
    suite(&of_all).await;

    // Planes are spread over nodes; each is on one.
    let used = nodes[..3].iter().filter(|node| node.run("DBSIZE") != redis::Value::Int(0)).count();
    assert!(used > 1, "{used}");

    // The address of any node leads to the cluster.
    let store = connected(&of_one, "test").await;
    let (id, mine) = (SnapshotId::input("cluster1"), sample::version(7, "a"));
    store.put(&id, &mine).await.unwrap();
    assert_eq!(connected(&of_all, "test").await.load(&id, None).await.unwrap().unwrap().version(), 7);

    // The node that has the plane dies, and its replica takes over.
    let epoch = store.health().borrow().epoch.clone();
    let key = redis::Value::Int(1);
    let owner =
        nodes[..3].iter().position(|node| node.try_run("EXISTS {meshrelay:test}:store").ok() == Some(key.clone()));
    let owner = owner.expect("no node has the plane");
    let name: String = redis::from_redis_value(nodes[owner].run("CLUSTER MYID")).unwrap();
    nodes[3].run(&format!("CLUSTER REPLICATE {name}"));
    wait_for("the replica to have it all", async || {
        let (ours, its) = (nodes[owner].info("master_repl_offset"), nodes[3].info("master_repl_offset"));
        let link = nodes[3].info("master_link_status");
        if ours == its && link == "up" { Ok(()) } else { Err(format!("{ours} {its} {link}")) }
    })
    .await;
    nodes[owner].kill();
    let mut health = store.health();
    let moved = health.wait_for(|health| health.is_connected() && health.epoch != epoch);
    timeout(DEADLINE, moved).await.expect("no new master").unwrap();
    reaches(&store).await;
    assert_eq!(nodes[3].info("role"), "master");
    wait_for("writing again", async || {
        store.put(&id, &sample::version(8, "a")).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(store.load(&id, None).await.unwrap().unwrap().version(), 8);
    store.put_document("d", None, &json!(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_without_slots_is_told() {
    let node = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]);
    let store = RedisStore::start(settings(node.address()), "test").unwrap();
    wait_for("being away", async || match &store.health().borrow().reach {
        meshrelay_store::Reach::Away { error, .. } if ["MR0900", "MR0908"].contains(&error.code()) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
