use meshrelay_testbed::Redis;

use crate::plane::Plane;
use crate::quotes::Log;
use crate::quotes::redis_refuses::*;

const WINDOW: [&str; 2] = ["--safe-start-window", "2"];

/// Edits while Redis refuses writes, and says so somewhere, until it is mended.
fn refused(redis: Redis, breaks: impl Fn(&Redis), mends: impl Fn(&Redis), [refuses, again]: [Log; 2]) {
    let mut plane = Plane::start_with(2, &WINDOW, redis);
    breaks(&plane.redis);
    plane.edit(80, 60);
    let home = plane.home("cluster1");
    refuses.said_by(&plane.server(home).process);
    FAILURES.is(|n| n > 0.0, plane.server(home).endpoints);
    // An agent that goes over to the replica that could not be told brings what it has.
    plane.kill_server(home);
    plane.wait_until_connected("cluster1", None);
    plane.edit(60, 45);
    let other = plane.server(1 - home);
    refuses.said_by(&other.process);
    let mark = other.process.mark();
    mends(&plane.redis);
    again.said_since(mark, &other.process, &[]);
    plane.start_server(home);
    plane.edit(45, 30);
    plane.settles();
}

#[test]
fn redis_is_full() {
    let breaks = |redis: &Redis| drop(redis.run("CONFIG SET maxmemory 1"));
    let mends = |redis: &Redis| drop(redis.run("CONFIG SET maxmemory 0"));
    refused(Redis::start(&["--maxmemory-policy", "noeviction"]), breaks, mends, [FULL, DOES_IT_AGAIN]);
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
    refused(redis, breaks, mends, [CANNOT_SAVE, DOES_IT_AGAIN]);
}

#[test]
fn redis_is_a_replica_after_a_failover_that_nobody_heard_of() {
    let breaks = |redis: &Redis| drop(redis.run("REPLICAOF 127.0.0.1 1"));
    let mends = |redis: &Redis| drop(redis.run("REPLICAOF NO ONE"));
    refused(Redis::start(&[]), breaks, mends, [REPLICA, BACK]);
}
