use std::net::TcpListener;

use meshrelay_testbed::{Agent, Answer, Fleet, Server, TOKEN_FILE, WORKLOAD_CLUSTERS, command, install, run};

use crate::PROGRAMS;

const SERVER: &str = PROGRAMS.server;
const AGENT: &str = PROGRAMS.agent;

#[test]
fn an_agent_is_not_ready_before_the_server_has_what_it_sends() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    // The certificates, and a port at which nobody listens.
    let mut server = Server::start(&fleet);
    fleet.bootstrap("cluster1");
    server.process.kill();
    let agent = Agent::start(&fleet, "cluster1", server.relay, &[]);
    let told = agent.process.line(&["no stream to the server"]);
    assert!(told.contains(&format!("cannot connect to {}", server.relay)), "{told}");
    let waiting = "waiting for the server to hold the first input snapshot\n".to_owned();
    assert_eq!(agent.endpoints.health("/readyz"), (503, waiting.clone()));
    assert_eq!(agent.endpoints.health("/"), (503, waiting));
    assert_eq!(agent.endpoints.health("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(agent.endpoints.metric("meshrelay_agent_push_connected"), Some(0.0));
    server.restart(&fleet);
    agent.endpoints.wait_until_ready();
    agent.endpoints.wait_for_metric("meshrelay_agent_push_connected", |n| n == 1.0);
    server.endpoints.wait_until_ready();
}

#[test]
fn metrics_have_the_names_that_dashboards_know() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [one, _two]) = install(&fleet);
    for cluster in WORKLOAD_CLUSTERS {
        for name in ["relay_push_clients_connected", "relay_pull_clients_connected", "relay_push_clients_warmed"] {
            server.endpoints.wait_for_metric(&format!("{name}{{cluster=\"{cluster}\"}}"), |n| n == 1.0);
        }
    }
    let text = server.endpoints.metrics();
    for name in [
        "gloo_mesh_translation_time_sec_count",
        "gloo_mesh_reconciler_time_sec_bucket{le=\"80.0\"}",
        "meshrelay_output_objects{cluster=\"cluster1\"}",
        "meshrelay_relay_received_bytes_total",
        "meshrelay_units_recomputed_total",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    let text = one.endpoints.metrics();
    for name in [
        "gloo_mesh_relay_client_delta_push_time_sec_count",
        "gloo_mesh_relay_client_delta_pull_time_sec_count",
        "gloo_mesh_relay_client_delta_push_err_total 0",
        "gloo_mesh_relay_client_delta_pull_err_total 0",
        "meshrelay_agent_client_certificate_expiry_timestamp_seconds ",
        "object_write_fails_total 0",
    ] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    // Most of a year is left of the certificate that has just been issued.
    let ends = one.endpoints.metric("meshrelay_agent_client_certificate_expiry_timestamp_seconds").unwrap();
    assert!(ends - jiff::Timestamp::now().as_second() as f64 > 360.0 * 86_400.0);

    fleet.edit("cluster1/bookinfo-config.yaml", &[("weight: 20\n", "weight: 50\n")]);
    let errors = "translation_error{workspace=\"bookinfo\",gvk=";
    server.endpoints.wait_for_metric("meshrelay_output_objects{cluster=\"cluster1\"}", |n| n > 0.0);
    meshrelay_testbed::wait_for("the error in the RouteTable", || {
        let text = server.endpoints.metrics();
        let found = text.lines().any(|line| line.starts_with(errors) && line.contains("RouteTable"));
        if found { Ok(()) } else { Err(text) }
    });
}

#[test]
fn sigterm_ends_everything_cleanly_with_agents_connected() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (mut server, [mut one, two]) = install(&fleet);
    one.process.signal("TERM");
    assert_eq!(one.process.ended().code(), Some(0));
    one.process.line(&["\"message\":\"stopped\""]);
    let mark = server.process.mark();
    server.process.signal("TERM");
    assert_eq!(server.process.ended().code(), Some(0));
    server.process.line_since(mark, &["\"message\":\"stopped\""]);
    // The agent was asked to leave, and did, before the server closed the line.
    let told = two.process.line(&["the server is stopping"]);
    assert!(told.contains("drains"), "{told}");
    let mut two = two;
    two.process.signal("INT");
    assert_eq!(two.process.ended().code(), Some(0), "also without a server");
    fleet.wait_until_converged();
}

#[test]
fn settings_come_from_flags_then_the_environment_then_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.yaml");
    let file = file.to_str().unwrap();
    let secret = "a-token-that-is-nobodys-business";
    std::fs::write(
        file,
        format!("namespace: of-the-file\nsafeMode: true\ntoken: {secret}\nmanagementCluster: filed\n"),
    )
    .unwrap();
    let mut given = command(SERVER);
    given.args(["--settings", file, "--print-config", "--safe-start-window", "7", "--management-cluster", "flagged"]);
    given.envs([("POD_NAMESPACE", "of-the-environment"), ("MANAGEMENT_CLUSTER", "ignored")]);
    let Answer { code, stdout, stderr } = run(&mut given);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for line in [
        "namespace: of-the-environment",
        "safeMode: true",
        "safeStartWindow: 7",
        "managementCluster: flagged",
        "tlsMode: mtls",
        "maxObjectBytes: 2097152",
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line} in\n{stdout}");
    }
    assert!(!stdout.contains(secret));
    // What is printed is a settings file again.
    let printed = folder.path().join("printed.yaml");
    std::fs::write(&printed, &stdout).unwrap();
    let again = run(command(SERVER).arg("--settings").arg(&printed).arg("--print-config"));
    assert_eq!((again.code, again.stdout), (0, stdout), "{}", again.stderr);

    let agent = run(command(AGENT)
        .args(["--print-config", "--cluster", "west", "--directory", "fleet/west"])
        .envs([("RELAY_TOKEN", secret), ("RELAY_SERVER_ADDRESS", "server.example:9900")]));
    assert_eq!(agent.code, 0, "{}", agent.stderr);
    for line in ["cluster: west", "serverAddress: server.example:9900", "outputDirectory: fleet/.meshrelay/west"] {
        assert!(agent.stdout.lines().any(|found| found.replace('"', "") == line), "{line} in\n{}", agent.stdout);
    }
    assert!(!agent.stdout.contains(secret));
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |text: &str| {
        let file = folder.path().join("settings.yaml");
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let refused = |program: &str, arguments: &[&str], parts: &[&str]| {
        let answer = run(command(program).args(arguments).current_dir(folder.path()));
        assert_eq!(answer.code, 1, "{arguments:?}: {}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "{part} in {}", answer.stderr);
        }
    };
    let file = settings("safeMode: true\nsafemode: true\n");
    refused(SERVER, &["--settings", &file], &["MR0002", "settings.yaml", "line 2", "safemode"]);
    let file = settings("cluster: west\nserverAdress: x\n");
    refused(AGENT, &["--settings", &file], &["MR0002", "line 2", "serverAdress"]);
    let file = settings("relayAddress: nowhere\n");
    refused(SERVER, &["--settings", &file], &["MR0002", "line 1"]);
    refused(SERVER, &["--settings", "missing.yaml"], &["MR0001", "missing.yaml"]);
    refused(SERVER, &[], &["MR0600", "--management-directory"]);
    refused(SERVER, &["--tls-mode", "mutual"], &["MR0003", "mutual", "own-certificates"]);
    refused(AGENT, &[], &["MR0700", "--cluster"]);
    refused(AGENT, &["--cluster", "west"], &["MR0700", "--directory"]);
    refused(AGENT, &["--cluster", "West_1", "--directory", "."], &["West_1"]);
    refused(AGENT, &["--cluster", "west", "--directory", "."], &["relay-root-tls-secret/ca.crt"]);
    let own = ["--management-directory", ".", "--tls-mode", "own-certificates"];
    refused(SERVER, &own, &["MR0600", "tlsCertificate"]);
    assert_eq!(run(command(SERVER).arg("--frobnicate")).code, 2);
    assert_eq!(run(command(AGENT).args(["--stats-address", "x"])).code, 2);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let any = "127.0.0.1:0";
    let addresses = ["--health-address", any, "--stats-address", any, "--relay-address", &taken];
    let arguments: Vec<&str> = addresses.into_iter().chain(["--management-directory", "."]).collect();
    refused(SERVER, &arguments, &["MR0601", &taken, "another process"]);
}

#[test]
fn secrets_are_for_their_owner_alone_and_in_no_log() {
    use std::os::unix::fs::PermissionsExt as _;
    let fleet = Fleet::bookinfo(PROGRAMS);
    let (server, [one, _two]) = install(&fleet);
    let token = fleet.secret("server", TOKEN_FILE);
    for process in [&server.process, &one.process] {
        assert!(!process.has_line(&[token.trim()]) && !process.has_line(&["PRIVATE KEY"]));
    }
    for (of, key) in [("server", "relay-tls-signing-secret/tls.key"), ("cluster1", "relay-client-tls-secret/tls.key")] {
        let mode = std::fs::metadata(fleet.state(of).join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{key} of {of}");
    }
}
