use meshrelay_testbed::{Agent, Fleet, Redis, Server, WORKLOAD_CLUSTERS, Watcher, copy, difference, wait_for};

use crate::PROGRAMS;

/// Two servers with one Redis and the same authority; each has the agent of one cluster.
struct Plane {
    redis: Redis,
    servers: [Server; 2],
    agents: [Agent; 2],
}

impl Plane {
    fn start(fleet: &Fleet) -> Self {
        let redis = Redis::start(&[]);
        let one = replica(fleet, "server", &redis);
        // Replicas share secrets, as they would in a cluster.
        copy(&fleet.state("server"), &fleet.state("server2"));
        let two = replica(fleet, "server2", &redis);
        let agents = [("cluster1", &one), ("cluster2", &two)].map(|(cluster, server)| {
            fleet.bootstrap(cluster);
            Agent::start(fleet, cluster, server.relay, &[])
        });
        fleet.wait_until_converged();
        Self { redis, servers: [one, two], agents }
    }
}

fn replica(fleet: &Fleet, state: &str, redis: &Redis) -> Server {
    let (state, redis) = (fleet.state(state), redis.address());
    let state = state.to_str().unwrap();
    Server::start_at(fleet, fleet.any_port(), &["--state-directory", state, "--redis-address", &redis])
}

#[test]
fn replicas_translate_with_the_inputs_of_each_others_agents() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let plane = Plane::start(&fleet);
    for (server, connected) in plane.servers.iter().zip(["cluster1", "cluster2"]) {
        let count = server.endpoints.metric(&format!("relay_push_clients_connected{{cluster=\"{connected}\"}}"));
        assert_eq!(count, Some(1.0));
    }
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    fleet.shift_traffic(80, 60);
    fleet.wait_for_shifted_traffic(60);
    fleet.wait_until_converged();
    watcher.finish();
}

#[test]
fn an_agent_whose_replica_dies_goes_on_at_another_one() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut plane = Plane::start(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    plane.servers[1].process.kill();
    plane.agents[1].process.kill();
    plane.agents[1] = Agent::start(&fleet, "cluster2", plane.servers[0].relay, &[]);
    plane.servers[0].endpoints.wait_for_metric("relay_push_clients_connected{cluster=\"cluster2\"}", |n| n == 1.0);
    fleet.shift_traffic(80, 60);
    fleet.wait_for_shifted_traffic(60);
    fleet.wait_until_converged();
    watcher.finish();
}

#[test]
fn without_redis_translation_goes_on_and_a_new_redis_is_filled() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut plane = Plane::start(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    plane.redis.kill();
    for server in &plane.servers {
        server.process.line(&["the snapshot store is away"]);
    }
    // The cluster's own table and the server of its agent: nothing of another replica is needed.
    fleet.shift_traffic(80, 60);
    fleet.wait_for_shifted_traffic(60);
    plane.redis.restart();
    for server in &plane.servers {
        server.process.line(&["the snapshot store is back"]);
    }
    // A replica that knew nothing gets all inputs from the new Redis, and waits for nobody.
    let state = fleet.state("server3");
    copy(&fleet.state("server"), &state);
    let third = replica(&fleet, "server3", &plane.redis);
    for cluster in WORKLOAD_CLUSTERS {
        third.endpoints.wait_for_metric(&format!("gloo_mesh_safe_mode_active{{cluster=\"{cluster}\"}}"), |n| n == 0.0);
    }
    third.endpoints.wait_until_ready();
    fleet.wait_until_converged();
    watcher.finish();
}

#[test]
fn an_agent_that_comes_to_a_replica_with_older_inputs_keeps_what_follows_from_newer_ones() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let Plane { mut redis, servers: [mut one, two], agents: [mut first, second] } = Plane::start(&fleet);
    // Both agents at one replica, and no way to tell the other one.
    drop(second);
    let second = Agent::start(&fleet, "cluster2", one.relay, &[]);
    one.endpoints.wait_for_metric("relay_push_clients_connected{cluster=\"cluster2\"}", |n| n == 1.0);
    redis.kill();
    two.process.line(&["the snapshot store is away"]);
    let path = "cluster1/bookinfo-config.yaml";
    fleet.edit(path, &[("  - reviews.vd.internal\n", "  - reviews.vd.internal\n  - more.vd.internal\n")]);
    fleet.wait_until_converged();
    let expected = fleet.expected();
    assert!(expected["cluster2"].values().any(|text| text.contains("more.vd.internal")));
    let watcher = Watcher::over(&fleet, &["cluster2"]);

    // The replica that knew dies, and the agent that told it, too.
    first.process.kill();
    one.process.kill();
    drop(second);
    let second = Agent::start(&fleet, "cluster2", two.relay, &[]);
    wait_for("the agent to keep what is newer", || {
        let frozen = second.endpoints.status()["frozen"].clone();
        if frozen["cluster1"]["reason"].as_str().is_some_and(|reason| reason.contains("version")) {
            Ok(())
        } else {
            Err(frozen.to_string())
        }
    });
    watcher.finish();
    assert_eq!(difference(&expected["cluster2"], &fleet.applied("cluster2")), Ok(()));

    // It follows again as soon as the other agent has told what it knows.
    fleet.edit(path, &[("  - more.vd.internal\n", "")]);
    let _first = Agent::start(&fleet, "cluster1", two.relay, &[]);
    fleet.wait_until_converged();
    wait_for("nothing to be kept", || {
        let frozen = second.endpoints.status()["frozen"].clone();
        if frozen.as_object().is_some_and(|frozen| frozen.is_empty()) { Ok(()) } else { Err(frozen.to_string()) }
    });
}
