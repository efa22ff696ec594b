use meshrelay_testbed::{Fleet, WORKLOAD_CLUSTERS, Watcher, install};

use crate::PROGRAMS;

/// More than the 2 MiB that an object may have.
const TOO_MUCH: usize = 3 * 1024 * 1024;

#[test]
fn an_object_over_the_limit_is_left_out_and_the_rest_goes_through() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [one, _two]) = install(&fleet);
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    let theirs = "meshrelay_agent_withheld_objects";
    let ours = "meshrelay_input_withheld_objects{cluster=\"cluster1\"}";

    // No agent sends ConfigMaps, so one of any size harms nobody.
    let text = "x".repeat(TOO_MUCH);
    let metadata = "metadata:\n  name: large\n  namespace: bookinfo-backends\n";
    fleet.write(
        "cluster1/large-map.yaml",
        &format!("apiVersion: v1\nkind: ConfigMap\n{metadata}data:\n  text: {text}\n"),
    );
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);
    assert_eq!(one.endpoints.metric(theirs), Some(0.0));

    let service = |note: &str| {
        format!(
            "apiVersion: v1\nkind: Service\n{metadata}  annotations:\n    note: {note}\nspec:\n  ports:\n  - port: 80\n    name: http\n"
        )
    };
    fleet.write("cluster1/large.yaml", &service(&text));
    one.endpoints.wait_for_metric(theirs, |n| n == 1.0);
    server.endpoints.wait_for_metric(ours, |n| n == 1.0);
    for process in [&one.process, &server.process] {
        let told = process.line(&["bookinfo-backends", "large", "over the limit of 2097152 bytes"]);
        assert!(told.len() < 1_000, "the log names the object and does not show it");
    }
    fleet.shift_traffic(70, 55);
    fleet.wait_for_shifted_traffic(55);

    fleet.write("cluster1/large.yaml", &service("short"));
    one.endpoints.wait_for_metric(theirs, |n| n == 0.0);
    server.endpoints.wait_for_metric(ours, |n| n == 0.0);
    fleet.wait_until_converged();
    watcher.finish();
}
