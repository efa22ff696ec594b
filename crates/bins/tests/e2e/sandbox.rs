use meshrelay_testbed::{Fleet, Process, WORKLOAD_CLUSTERS, Watcher, command};

use crate::PROGRAMS;

fn start(fleet: &Fleet) -> Process {
    let mut command = command(PROGRAMS.meshctl);
    command.args(["sandbox", fleet.argument(), "--relay-address", &fleet.any_port().to_string()]);
    Process::start("the sandbox", command)
}

#[test]
fn an_edited_route_table_changes_the_virtual_service() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut sandbox = start(&fleet);
    fleet.wait_until_converged();
    assert!(fleet.traffic_is_shifted(80));
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    fleet.shift_traffic(80, 60);
    fleet.wait_for_shifted_traffic(60);
    fleet.wait_until_converged();
    watcher.finish();
    sandbox.signal("INT");
    assert_eq!(sandbox.ended().code(), Some(0));
    sandbox.line(&["stopped; the outputs are in"]);
    fleet.wait_until_converged();
}

#[test]
fn a_broken_file_is_shown_with_its_place_and_nothing_is_deleted() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let mut sandbox = start(&fleet);
    fleet.wait_until_converged();
    sandbox.line(&["no problems"]);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    let before = fleet.applied("cluster1");
    fleet.edit("cluster1/gateways-config.yaml", &[("  listeners:\n", "  listeners\n")]);
    let shown = sandbox.line(&["cluster1/gateways-config.yaml:35:3: ", "MR0410"]);
    assert!(shown.contains("the last good state of this file stays in force"), "{shown}");
    // An edit of another file goes through meanwhile, so what is seen below is not just an old picture.
    fleet.shift_traffic(80, 55);
    fleet.wait_for_shifted_traffic(55);
    assert!(fleet.applied("cluster1").keys().eq(before.keys()));
    let mark = sandbox.mark();
    fleet.edit("cluster1/gateways-config.yaml", &[("  listeners\n", "  listeners:\n")]);
    sandbox.line_since(mark, &["no problems"]);
    fleet.wait_until_converged();
    watcher.finish();
    sandbox.signal("TERM");
    assert_eq!(sandbox.ended().code(), Some(0));
}
