use meshrelay_testbed::Redis;

use crate::plane::Plane;

const WINDOW: [&str; 2] = ["--safe-start-window", "2"];

const REFUSES: &str = "the snapshot store refuses: translation goes on with what is in memory";

/// Edits while Redis refuses writes, and says so somewhere, until it is mended.
fn refused(redis: Redis, breaks: impl Fn(&Redis), mends: impl Fn(&Redis), told: [&str; 2]) {
    let mut plane = Plane::start_with(2, &WINDOW, redis);
    breaks(&plane.redis);
    plane.edit(80, 60);
    let home = plane.home("cluster1");
    plane.server(home).process.line(&told);
    plane.server(home).endpoints.wait_for_metric("gloo_mesh_redis_sync_err_total", |n| n > 0.0);
    // An agent that goes over to the replica that could not be told brings what it has.
    plane.kill_server(home);
    plane.wait_until_connected("cluster1", None);
    plane.edit(60, 45);
    let other = plane.server(1 - home);
    other.process.line(&told);
    let mark = other.process.mark();
    mends(&plane.redis);
    let again = if told[0] == REFUSES { "the snapshot store does it again" } else { "the snapshot store is back" };
    other.process.line_since(mark, &[again]);
    plane.start_server(home);
    plane.edit(45, 30);
    plane.settles();
}

#[test]
fn redis_is_full() {
    let breaks = |redis: &Redis| drop(redis.run("CONFIG SET maxmemory 1"));
    let mends = |redis: &Redis| drop(redis.run("CONFIG SET maxmemory 0"));
    refused(Redis::start(&["--maxmemory-policy", "noeviction"]), breaks, mends, [REFUSES, "MR0904"]);
}

#[test]
fn redis_cannot_save_and_takes_no_more() {
    // Where the dump should go is a folder.
    let redis = Redis::start(&["--save", "3600 1", "--dbfilename", "dump"]);
    std::fs::create_dir(redis.directory().join("dump")).unwrap();
    let breaks = |redis: &Redis| {
        redis.run("BGSAVE");
        meshrelay_testbed::wait_for("a save that failed", || match redis.info("rdb_last_bgsave_status").as_str() {
            "err" => Ok(()),
            other => Err(other.to_owned()),
        });
    };
    let mends = |redis: &Redis| drop(redis.run("CONFIG SET stop-writes-on-bgsave-error no"));
    refused(redis, breaks, mends, [REFUSES, "MR0906"]);
}

#[test]
fn redis_is_a_replica_after_a_failover_that_nobody_heard_of() {
    let breaks = |redis: &Redis| drop(redis.run("REPLICAOF 127.0.0.1 1"));
    let mends = |redis: &Redis| drop(redis.run("REPLICAOF NO ONE"));
    refused(Redis::start(&[]), breaks, mends, ["redis is away", "MR0905"]);
}
