use std::fs::File;
use std::process::Stdio;

use meshrelay_testbed::{Endpoints, Fleet, install};

use crate::PROGRAMS;
use crate::prometheus::{rules, tool};

#[test]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let output = tool("promtool").args(arguments).current_dir(rules()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("SUCCESS"), "{told}");
    }
    // A rule that nothing tests may as well not be there.
    let read = |file: &str| std::fs::read_to_string(rules().join(file)).unwrap();
    let (written, tested) = (read("alerts.yaml"), read("alerts_test.yaml"));
    let alerts: Vec<&str> = written.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 12);
    let documented = std::fs::read_to_string(rules().join("../../docs/alerts.md")).unwrap();
    for alert in alerts {
        assert!(tested.contains(alert), "alerts_test.yaml says nothing of {alert}");
        assert!(documented.contains(&format!("`{alert}`")), "docs/alerts.md says nothing of {alert}");
    }
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [one, _two]) = install(&fleet);
    // Something in every family that has labels.
    fleet.edit("cluster1/bookinfo-config.yaml", &[("weight: 20\n", "weight: 50\n")]);
    meshrelay_testbed::wait_for("the error in the RouteTable", || {
        let text = server.endpoints.metrics();
        if text.contains("translation_error{") { Ok(()) } else { Err(text) }
    });
    for endpoints in [server.endpoints, one.endpoints] {
        // Names that dashboards know are kept although their unit is abbreviated.
        let is_known = |line: &&String| {
            line.strip_prefix("gloo_mesh_").is_some_and(|rest| {
                rest.split_once("_time_sec ")
                    .is_some_and(|(_, told)| told == "metric names should not contain abbreviated units")
            })
        };
        let (known, others): (Vec<_>, Vec<_>) = lint(endpoints).into_iter().partition(|line| is_known(&line));
        assert!(known.len() >= 2, "{known:?}");
        assert_eq!(others, [""; 0]);
    }
}

/// What promtool says about the metrics of a program.
fn lint(endpoints: Endpoints) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    let text = endpoints.metrics();
    assert!(text.contains("# HELP") && text.lines().count() > 20, "{text}");
    std::fs::write(&file, &text).unwrap();
    let mut promtool = tool("promtool");
    let output = promtool.args(["check", "metrics"]).stdin(Stdio::from(File::open(&file).unwrap())).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    // 1 is for what cannot be parsed, 3 for what could be better.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{told}\n{text}");
    told.lines().map(str::to_owned).collect()
}
