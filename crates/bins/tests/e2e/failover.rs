use meshrelay_testbed::{Agent, Fleet, Proxy, Server, WORKLOAD_CLUSTERS, Watcher, copy, wait_for};

use crate::PROGRAMS;

/// Two management planes over the same resources, with the same authority; the agents prefer the first.
struct Planes {
    one: Server,
    two: Server,
    agents: [Agent; 2],
}

/// The second plane has what an operator gives it: certificates and tokens, allocations, and which clusters are warm.
fn second(fleet: &Fleet) -> Server {
    copy(&fleet.state("server"), &fleet.state("second"));
    start_second(fleet, fleet.any_port())
}

fn start_second(fleet: &Fleet, relay: std::net::SocketAddr) -> Server {
    Server::start_at(fleet, relay, &["--state-directory", fleet.state("second").to_str().unwrap()])
}

fn install(fleet: &Fleet, further: &[&str]) -> Planes {
    let one = Server::start(fleet);
    let agents = WORKLOAD_CLUSTERS.map(|cluster| Agent::install(fleet, cluster, &one));
    fleet.wait_until_converged();
    drop(agents);
    let two = second(fleet);
    let agents = WORKLOAD_CLUSTERS.map(|cluster| Agent::start_with(fleet, cluster, &[one.relay, two.relay], further));
    let planes = Planes { one, two, agents };
    planes.wait_until_served_by(&planes.one);
    planes
}

impl Planes {
    /// Waits until both agents have both streams with a server, by its own word and theirs.
    fn wait_until_served_by(&self, server: &Server) {
        for (agent, cluster) in self.agents.iter().zip(WORKLOAD_CLUSTERS) {
            let name = format!("meshrelay_agent_server_connected{{server=\"{}\"}}", server.relay);
            agent.endpoints.wait_for_metric(&name, |n| n == 1.0);
            for direction in ["push", "pull"] {
                let name = format!("relay_{direction}_clients_connected{{cluster=\"{cluster}\"}}");
                server.endpoints.wait_for_metric(&name, |n| n == 1.0);
            }
        }
    }
}

#[test]
fn agents_go_over_to_the_next_server_and_come_back_and_nothing_disappears() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut planes = install(&fleet, &[]);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    assert_eq!(planes.two.endpoints.metric("relay_push_clients_connected{cluster=\"cluster1\"}"), None);

    planes.one.process.kill();
    planes.wait_until_served_by(&planes.two);
    fleet.shift_traffic(80, 65);
    fleet.wait_for_shifted_traffic(65);

    // It needs a while of being well, and then everything is as it was.
    let relay = planes.one.relay;
    planes.one = Server::start_at(&fleet, relay, &[]);
    planes.wait_until_served_by(&planes.one);
    planes.two.process.kill();
    fleet.shift_traffic(65, 40);
    fleet.wait_for_shifted_traffic(40);
    fleet.wait_until_converged();
    for agent in &planes.agents {
        agent.process.line(&["the preferred server is well again", &relay.to_string()]);
        assert_eq!(agent.endpoints.metric("meshrelay_agent_server_changes_total"), Some(2.0));
        agent.endpoints.wait_until_ready();
    }
    watcher.finish();
}

#[test]
fn agents_leave_a_server_that_stops_before_it_is_gone() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut planes = install(&fleet, &[]);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    planes.one.process.signal("TERM");
    planes.wait_until_served_by(&planes.two);
    assert!(planes.one.process.ended().success());
    fleet.shift_traffic(80, 30);
    fleet.wait_for_shifted_traffic(30);
    watcher.finish();
}

#[test]
fn a_server_that_falls_silent_is_left_although_its_connection_stands() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let one = Server::start(&fleet);
    for cluster in WORKLOAD_CLUSTERS {
        fleet.bootstrap(cluster);
    }
    let proxy = Proxy::to(one.relay);
    let two = second(&fleet);
    let agent = Agent::start_with(&fleet, "cluster1", &[proxy.address, two.relay], &[]);
    one.endpoints.wait_for_metric("relay_pull_clients_connected{cluster=\"cluster1\"}", |n| n == 1.0);
    one.endpoints.wait_for_metric("meshrelay_input_objects{cluster=\"cluster1\"}", |n| n > 0.0);
    proxy.silence();
    // Found out by heartbeats, which are three times ten seconds.
    two.endpoints.wait_for_metric("relay_pull_clients_connected{cluster=\"cluster1\"}", |n| n == 1.0);
    two.endpoints.wait_for_metric("meshrelay_input_objects{cluster=\"cluster1\"}", |n| n > 0.0);
    assert!(agent.process.has_line(&["the stream to the server ended"]));
}

#[test]
fn a_server_that_takes_over_is_not_believed_at_once_about_what_is_gone() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    // As long as it takes to see that nothing goes, and short enough to see that it does.
    let mut planes = install(&fleet, &["--takeover-window", "15"]);
    let route =
        |fleet: &Fleet| fleet.applied("cluster1").keys().any(|path| path.contains("virtualservice-routetable-reviews"));
    assert!(route(&fleet));
    planes.one.process.kill();
    planes.wait_until_served_by(&planes.two);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    // What is left when the table is gone lacks its route.
    fleet.edit("cluster1/bookinfo-config.yaml", &[("expose: \"true\"", "expose: \"false\"")]);
    planes.agents[0].endpoints.wait_for_metric("meshrelay_agent_deletions_held{reason=\"incomplete\"}", |n| n > 0.0);
    planes.agents[0].process.line(&["deletions are held", "took over"]);
    watcher.finish();
    let expected = fleet.expected().remove("cluster1").unwrap();
    wait_for("the end of the window", || meshrelay_testbed::difference(&expected, &fleet.applied("cluster1")));
    planes.agents[0].endpoints.wait_for_metric("meshrelay_agent_deletions_held{reason=\"incomplete\"}", |n| n == 0.0);
}
