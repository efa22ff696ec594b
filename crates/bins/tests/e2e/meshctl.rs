use std::fs;

use meshrelay_testbed::{Fleet, WORKLOAD_CLUSTERS, command, difference, run, yaml_files};

use crate::PROGRAMS;

const ANY_PORT: [&str; 2] = ["--relay-address", "127.0.0.1:0"];

#[test]
fn the_sandbox_applies_what_translate_writes() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let answer = PROGRAMS.meshctl(&["sandbox", fleet.argument(), "--once", ANY_PORT[0], ANY_PORT[1]]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("no problems"), "{}", answer.stdout);
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    let answer = PROGRAMS.meshctl(&["translate", fleet.argument(), "-o", out]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for cluster in WORKLOAD_CLUSTERS {
        let written = yaml_files(&std::path::Path::new(out).join(cluster));
        assert!(written.len() >= 10, "{written:?}");
        difference(&written, &fleet.applied(cluster)).unwrap();
    }
    let reports = fs::read_to_string(format!("{out}/reports.yaml")).unwrap();
    assert_eq!(reports, fleet.read(".meshrelay/reports.yaml"));

    let same = PROGRAMS.meshctl(&["translate", fleet.argument(), "-o", out, "--diff"]);
    assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{}", same.stderr);
    let before = yaml_files(out.as_ref());
    fleet.shift_traffic(80, 70);
    let changed = PROGRAMS.meshctl(&["translate", fleet.argument(), "-o", out, "--diff"]);
    assert_eq!(changed.code, 1, "{}", changed.stderr);
    assert!(changed.stdout.contains("-      weight: 80\n+      weight: 70\n"), "{}", changed.stdout);
    assert_eq!(changed.stdout.matches("+++ ").count(), 1, "one file differs: {}", changed.stdout);
    difference(&before, &yaml_files(out.as_ref())).unwrap();
    let new = PROGRAMS.meshctl(&["translate", fleet.argument(), "-o", &format!("{out}/none"), "--diff"]);
    assert!(new.code == 1 && new.stdout.contains("--- /dev/null"), "{}", new.stdout);
}

#[test]
fn the_sandbox_without_a_fleet_brings_the_example_and_keeps_what_was_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = || {
        let mut command = command(PROGRAMS.meshctl);
        run(command.args(["sandbox", "--once"]).args(ANY_PORT).current_dir(folder.path()))
    };
    let answer = sandbox();
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let services = || yaml_files(&folder.path().join("meshrelay-bookinfo/.meshrelay/cluster1/bookinfo-frontends"));
    assert!(services().values().any(|text| text.contains("weight: 80\n")));
    let config = folder.path().join("meshrelay-bookinfo/cluster1/bookinfo-config.yaml");
    let edited = fs::read_to_string(&config).unwrap().replace("weight: 80", "weight: 75").replace(": 20", ": 25");
    fs::write(&config, &edited).unwrap();
    assert_eq!(sandbox().code, 0);
    assert_eq!(fs::read_to_string(&config).unwrap(), edited);
    assert!(services().values().any(|text| text.contains("weight: 75\n")), "the second start applies the edit");
}

#[test]
fn strict_fails_for_what_is_not_accepted() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    assert_eq!(PROGRAMS.meshctl(&["translate", fleet.argument(), "--strict"]).code, 0);
    fleet.edit("cluster1/bookinfo-config.yaml", &[("weight: 20\n", "weight: 50\n")]);
    let answer = PROGRAMS.meshctl(&["translate", fleet.argument()]);
    assert_eq!(answer.code, 0, "without --strict the rest counts: {}", answer.stderr);
    assert!(answer.stderr.contains("RouteTable cluster1/bookinfo-frontends/reviews"), "{}", answer.stderr);
    assert!(answer.stdout.contains("kind: Gateway"), "{}", answer.stdout);
    assert_eq!(PROGRAMS.meshctl(&["translate", fleet.argument(), "--strict"]).code, 3);

    let fleet = Fleet::bookinfo(PROGRAMS);
    fleet.edit("cluster1/gateways-config.yaml", &[("  listeners:\n", "  listeners\n")]);
    let answer = PROGRAMS.meshctl(&["translate", fleet.argument(), "--strict"]);
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("cluster1/gateways-config.yaml:35:3: "), "{}", answer.stderr);
}

#[test]
fn wrong_arguments_and_folders_are_told_apart_and_say_what_to_do() {
    for wrong in [
        vec!["translate"],
        vec!["translate", "fleet", "--diff"],
        vec!["version", "-o", "xml"],
        vec!["sandbox", "--relay-address", "somewhere"],
        vec!["frobnicate"],
        vec![],
    ] {
        let answer = PROGRAMS.meshctl(&wrong);
        assert_eq!(answer.code, 2, "{wrong:?}: {}", answer.stderr);
        assert_eq!(answer.stdout, "", "{wrong:?}");
        assert!(answer.stderr.contains("--help") || answer.stderr.contains("Usage"), "{wrong:?}: {}", answer.stderr);
    }
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let missing = format!("{empty}/missing");
    for subcommand in ["translate", "sandbox"] {
        let answer = PROGRAMS.meshctl(&[subcommand, &missing]);
        assert_eq!(answer.code, 1);
        assert!(answer.stderr.contains(&missing), "{}", answer.stderr);
        assert!(answer.stderr.contains("give the folder of a fleet"), "{}", answer.stderr);
        assert!(!std::path::Path::new(&missing).exists(), "{subcommand} made nothing there");
    }
    let answer = PROGRAMS.meshctl(&["translate", empty]);
    assert!(answer.code == 1 && answer.stderr.contains("expected one sub-folder of YAML"), "{}", answer.stderr);
    fs::create_dir(format!("{empty}/cluster1")).unwrap();
    let answer = PROGRAMS.meshctl(&["translate", empty]);
    assert!(answer.code == 1 && answer.stderr.contains("managementCluster in fleet.yaml"), "{}", answer.stderr);
}

#[test]
fn version_and_completions_are_for_machines() {
    let answer = PROGRAMS.meshctl(&["version", "-o", "json"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    let version: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(version["client"]["version"], env!("CARGO_PKG_VERSION"));
    let answer = PROGRAMS.meshctl(&["completion", "bash"]);
    assert_eq!(answer.code, 0);
    for subcommand in ["sandbox", "translate", "version", "completion"] {
        assert!(answer.stdout.contains(subcommand), "{subcommand}");
    }
    for shell in ["zsh", "fish"] {
        assert!(PROGRAMS.meshctl(&["completion", shell]).stdout.contains("sandbox"), "{shell}");
    }
}
