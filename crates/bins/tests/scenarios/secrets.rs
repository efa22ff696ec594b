use std::fs;

use meshrelay_testbed::{Redis, TOKEN_FILE, wait_for};

use crate::PROGRAMS;
use crate::plane::{CLUSTERS, Plane};

/// Contents of Secrets: as text and as it is written in `data`.
const CONTENTS: [&str; 2] = ["correct-horse-battery-staple-91", "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZS05MQ=="];

/// The password of Redis.
const PASSWORD: &str = "password-of-redis-that-nobody-reads";

/// Secrets of all sorts that clusters have, each also in the annotation in which kubectl keeps what it applied.
fn secrets(namespace: &str) -> String {
    let [text, data] = CONTENTS;
    let secret = |name: &str, kind: &str, label: &str, field: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {{{label}}}\n  \
             annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{{\"stringData\":{{\"a\":\"{text}\"}}}}'\n\
             type: {kind}\ndata:\n  {field}: {data}\nstringData:\n  further: {text}\n"
        )
    };
    [
        secret("oauth", "extauth.solo.io/oauth", "team: a", "client-secret"),
        secret("key", "extauth.solo.io/apikey", "team: a", "api-key"),
        secret("certificate", "kubernetes.io/tls", "team: b", "tls.key"),
        secret("token", "kubernetes.io/service-account-token", "team: b", "token"),
        secret("cacerts", "Opaque", "team: b", "ca-key.pem"),
    ]
    .concat()
}

/// The values of Redis as they were before they were packed.
fn unpacked(redis: &Redis) -> String {
    let mut all = String::new();
    for text in redis.contents() {
        let plain = match text.split_first() {
            Some((1, packed)) => packed.get(4..).and_then(|frame| zstd::decode_all(frame).ok()),
            _ => None,
        };
        all += &String::from_utf8_lossy(&plain.unwrap_or(text));
        all.push('\n');
    }
    all
}

/// A line from the middle of a key, which no other has.
fn line_of_key(pem: &str) -> String {
    let lines: Vec<&str> = pem.lines().collect();
    assert!(pem.contains("PRIVATE KEY") && lines.len() > 3, "a key in PEM");
    lines[2].to_owned()
}

fn nobody_tells(tls_mode: &str) {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let password = write("password", PASSWORD);
    let settings = write(
        "settings.yaml",
        &format!(
            "clock: 2026-01-01T00:00:00Z\nredis:\n  auth:\n    enabled: true\n    passwordFile: {password}\n    \
             usernameFile: {password}.none\n"
        ),
    );
    let all = ["--log-level", "trace", "--tls-mode", tls_mode];
    let options = [&["--settings", &settings][..], &all].concat();
    let plane = Plane::start_so(&CLUSTERS, 2, &options, &all, Redis::start(&["--requirepass", PASSWORD]));
    for cluster in CLUSTERS {
        for namespace in ["istio-gateways", "bookinfo-backends"] {
            plane.fleet.write(&format!("{cluster}/secrets-of-{namespace}.yaml"), &secrets(namespace));
        }
    }
    plane.fleet.write("mgmt/secrets.yaml", &secrets("gloo-mesh"));
    // Behind them comes an edit, so they have been read when it has got through.
    plane.edit(80, 60);
    plane.fleet.wait_until_converged();
    wait_for("all inputs in Redis", || {
        let found = unpacked(&plane.redis);
        let there = CLUSTERS[1..].iter().all(|cluster| found.contains(&format!("ratings-of-{cluster}")));
        if there { Ok(()) } else { Err(format!("{} bytes", found.len())) }
    });

    let mut secrets: Vec<String> = CONTENTS.map(str::to_owned).into();
    secrets.push(PASSWORD.to_owned());
    secrets.push(plane.fleet.secret("server0", TOKEN_FILE).trim().to_owned());
    secrets.push(line_of_key(&plane.fleet.secret("server0", "relay-tls-signing-secret/tls.key")));
    if tls_mode == "mtls" {
        secrets.extend(
            CLUSTERS.map(|cluster| line_of_key(&plane.fleet.secret(cluster, "relay-client-tls-secret/tls.key"))),
        );
    }

    let mut told = vec![("Redis", unpacked(&plane.redis))];
    for server in plane.running() {
        told.push(("the log of a server", server.process.lines().join("\n")));
        told.push(("a server's status", server.endpoints.status().to_string()));
        told.push(("a server's metrics", server.endpoints.metrics()));
        let shown = PROGRAMS.meshctl(&["get", "clusters", "--server", &server.endpoints.url()]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        told.push(("meshctl get clusters", shown.stdout));
    }
    for agent in plane.agents.values() {
        told.push(("the log of an agent", agent.process.lines().join("\n")));
        told.push(("an agent's status", agent.endpoints.status().to_string()));
        told.push(("an agent's metrics", agent.endpoints.metrics()));
        let shown = PROGRAMS.meshctl(&["agent", "status", "--agent", &agent.endpoints.url()]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        told.push(("meshctl agent status", shown.stdout));
    }
    for cluster in CLUSTERS {
        let outputs = plane.fleet.applied(cluster).into_values().collect::<String>();
        told.push(("what is applied", outputs));
    }
    let log = told.iter().find(|(place, _)| *place == "the log of a server").unwrap();
    assert!(log.1.contains("\"TRACE\"") && log.1.contains("\"DEBUG\""), "it is a log of everything");
    for (place, text) in &told {
        assert!(!text.is_empty(), "{place} says something");
        for (number, secret) in secrets.iter().enumerate() {
            assert!(secret.len() > 15, "secret {number} is one");
            if let Some(line) = text.lines().find(|line| line.contains(secret.as_str())) {
                panic!("{place} tells secret {number}: {line}");
            }
        }
    }
    plane.settles();
}

#[test]
fn nobody_tells_a_secret() {
    nobody_tells("mtls");
}

#[test]
fn nobody_tells_a_token_that_goes_with_every_stream() {
    nobody_tells("simple-tls");
}
