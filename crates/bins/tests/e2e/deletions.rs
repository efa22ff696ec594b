use meshrelay_testbed::{Agent, Endpoints, Fleet, Watcher, difference, install, wait_for};
use serde_json::Value;

use crate::PROGRAMS;
use crate::restarts::external_services;

/// Far more than a third of what the example generates.
const SERVICES: usize = 40;

/// Objects of the many services that are applied.
fn applied(fleet: &Fleet) -> usize {
    fleet.applied("cluster1").keys().filter(|path| path.contains("many-")).count()
}

fn held(endpoints: Endpoints) -> Option<Value> {
    let (code, text) = endpoints.health("/status");
    assert_eq!(code, 200);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["cluster"], "cluster1");
    Some(status["held"].clone()).filter(|held| !held.is_null())
}

/// Waits until the many services are gone from one cluster; the other holds them by itself.
fn wait_until_gone(fleet: &Fleet) {
    let expected = fleet.expected().remove("cluster1").unwrap();
    wait_for("the outputs of cluster1", || difference(&expected, &fleet.applied("cluster1")));
    assert_eq!(applied(fleet), 0);
}

fn wait_until_held(agent: &Agent) -> Value {
    wait_for("held deletions", || held(agent.endpoints).ok_or_else(|| "none".to_owned()))
}

#[test]
fn an_output_that_takes_much_away_waits_for_approval_over_restarts() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (mut server, [mut one, _two]) = install(&fleet);
    fleet.write("cluster1/many.yaml", &external_services(SERVICES));
    fleet.wait_until_converged();
    let many = applied(&fleet);
    assert!(many >= SERVICES);

    let watcher = Watcher::over(&fleet, &["cluster1", "cluster2"]);
    std::fs::remove_file(fleet.folder().join("cluster1/many.yaml")).unwrap();
    let held = wait_until_held(&one);
    assert_eq!(held["objects"], many);
    one.process.line(&["deletions wait for meshctl approve", "MR0705"]);
    let metric = "meshrelay_agent_deletions_held{reason=\"brake\"}";
    one.endpoints.wait_for_metric(metric, |n| n == many as f64);
    let (code, text) = one.endpoints.health("/readyz");
    assert!(code == 200 && text.contains("MR0705"), "{code}: {text}");
    // What is wanted still comes.
    fleet.shift_traffic(80, 70);
    fleet.wait_for_shifted_traffic(70);

    // Neither a new agent nor a new server takes the output for a first one.
    one.process.kill();
    let one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    assert_eq!(wait_until_held(&one)["since"], held["since"]);
    server.restart(&fleet);
    fleet.shift_traffic(70, 55);
    fleet.wait_for_shifted_traffic(55);
    assert_eq!((wait_until_held(&one)["since"].clone(), applied(&fleet)), (held["since"].clone(), many));
    wait_for("what the server knows of it", || {
        let answer = PROGRAMS.meshctl(&["get", "clusters", "--server", &server.endpoints.url()]);
        let line = answer.stdout.lines().find(|line| line.starts_with(" cluster1") || line.starts_with("cluster1"));
        let line = line.ok_or_else(|| format!("{}{}", answer.stdout, answer.stderr))?;
        if line.contains(&format!("{many} objects")) { Ok(()) } else { Err(line.to_owned()) }
    });
    watcher.finish();

    let state = fleet.state("cluster1");
    let approve = |further: &[&str]| {
        let mut arguments = vec!["approve", "--cluster", "cluster1", "--state-directory", state.to_str().unwrap()];
        arguments.extend(further);
        PROGRAMS.meshctl(&arguments)
    };
    let page = PROGRAMS.meshctl(&["agent", "status", "--agent", &one.endpoints.url()]);
    assert!(page.code == 0 && page.stdout.contains("meshctl approve --cluster cluster1"), "{}", page.stdout);
    let dry = approve(&["--dry-run"]);
    assert_eq!((dry.code, dry.stdout.lines().count()), (0, many), "{}", dry.stderr);
    let other = approve(&["--digest", "0123456789ab"]);
    assert!(other.code == 1 && other.stderr.contains("MR0806"), "{}", other.stderr);
    assert_eq!(applied(&fleet), many);

    let digest = wait_until_held(&one)["digest"].as_str().unwrap().to_owned();
    let approved = approve(&["--digest", &digest]);
    assert_eq!((approved.code, approved.stdout), (0, dry.stdout), "{}", approved.stderr);
    wait_until_gone(&fleet);
    one.endpoints.wait_for_metric(metric, |n| n == 0.0);
    assert_eq!(one.endpoints.health("/readyz"), (200, "ready\n".to_owned()));
    let again = approve(&[]);
    assert!(again.code == 1 && again.stderr.contains("holds no deletions"), "{}", again.stderr);
}

#[test]
fn an_approval_of_an_agent_that_is_down_is_carried_out_when_it_is_back() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [mut one, _two]) = install(&fleet);
    fleet.write("cluster1/many.yaml", &external_services(SERVICES));
    fleet.wait_until_converged();
    std::fs::remove_file(fleet.folder().join("cluster1/many.yaml")).unwrap();
    wait_until_held(&one);
    one.process.kill();
    let answer = PROGRAMS.meshctl(&[
        "approve",
        "--cluster",
        "cluster1",
        "--state-directory",
        fleet.state("cluster1").to_str().unwrap(),
    ]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(applied(&fleet) >= SERVICES);
    let _one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    wait_until_gone(&fleet);
}

#[test]
fn an_agent_that_lost_what_it_kept_does_not_take_its_first_output_for_all_there_is() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [mut one, _two]) = install(&fleet);
    fleet.write("cluster1/many.yaml", &external_services(SERVICES));
    fleet.wait_until_converged();
    let many = applied(&fleet);
    one.process.kill();
    let state = fleet.state("cluster1");
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_file(fleet.folder().join("cluster1/many.yaml")).unwrap();
    let watcher = Watcher::over(&fleet, &["cluster1"]);
    let one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    assert_eq!(wait_until_held(&one)["objects"], many);
    // What it cannot read is no reason to believe anything either.
    std::fs::write(state.join("deletions-held.json"), "{").unwrap();
    drop(one);
    let one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    one.process.line(&["it is not known which deletions are held"]);
    assert_eq!(wait_until_held(&one)["objects"], many);
    watcher.finish();
}

#[test]
fn a_hold_ends_by_itself_when_the_objects_are_wanted_again_or_the_brake_is_off() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [mut one, _two]) = install(&fleet);
    fleet.write("cluster1/many.yaml", &external_services(SERVICES));
    fleet.wait_until_converged();
    let path = fleet.folder().join("cluster1/many.yaml");
    std::fs::remove_file(&path).unwrap();
    wait_until_held(&one);
    fleet.write("cluster1/many.yaml", &external_services(SERVICES));
    let metric = "meshrelay_agent_deletions_held{reason=\"brake\"}";
    one.endpoints.wait_for_metric(metric, |n| n == 0.0);
    fleet.wait_until_converged();
    assert!(held(one.endpoints).is_none() && applied(&fleet) >= SERVICES);

    one.process.kill();
    let _one = Agent::start(&fleet, "cluster1", server.relay, &["--delete-brake", "false"]);
    std::fs::remove_file(&path).unwrap();
    wait_until_gone(&fleet);
}
