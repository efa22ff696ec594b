use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fleet::{Fleet, WORKLOAD_CLUSTERS};
use crate::process::{Process, command_under};
use crate::wait::wait_for;

/// A management server of a fleet.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Where agents connect.
    pub relay: SocketAddr,
    /// Where its health and metrics are.
    pub endpoints: Endpoints,
}

/// The agent of one cluster.
#[derive(Debug)]
pub struct Agent {
    /// Its process.
    pub process: Process,
    /// Where its health and metrics are.
    pub endpoints: Endpoints,
}

/// Where a program serves health and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    health: SocketAddr,
    /// Where metrics are.
    pub stats: SocketAddr,
}

impl Server {
    /// Starts at a free port.
    pub fn start(fleet: &Fleet) -> Self {
        Self::start_at(fleet, fleet.any_port(), &[])
    }

    /// Starts at an address, with further arguments.
    pub fn start_at(fleet: &Fleet, relay: SocketAddr, further: &[&str]) -> Self {
        Self::start_under(&[], fleet, relay, further)
    }

    /// As [`Server::start_at`], run by other words.
    pub fn start_under(words: &[&str], fleet: &Fleet, relay: SocketAddr, further: &[&str]) -> Self {
        let settings = fleet.folder().join("server-settings.yaml");
        // The creation time that `fleet.yaml` gives to resources without one.
        std::fs::write(&settings, "clock: 2026-01-01T00:00:00Z\n").unwrap();
        let mut command = command_under(words, fleet.programs().server);
        path(&mut command, further, "--settings", &settings);
        path(&mut command, further, "--management-directory", &fleet.folder().join("mgmt"));
        path(&mut command, further, "--state-directory", &fleet.state("server"));
        command.args(["--relay-address", &relay.to_string()]);
        any_ports(&mut command, further, fleet);
        command.args(further);
        let process = Process::start("the server", command);
        let started = process.started();
        Self { relay: address(&started, "relay_address"), endpoints: Endpoints::of(&started), process }
    }

    /// Starts again where it was, as a supervisor would.
    pub fn restart(&mut self, fleet: &Fleet) {
        self.process.kill();
        *self = Self::start_at(fleet, self.relay, &[]);
    }

    /// Waits until a refusal shows on both sides, in the logs and in the metrics.
    pub fn wait_until_refused(&self, agent: &Agent, code: &str, reason: &str) {
        agent.process.line(&[code]);
        self.process.line(&["refused a caller", code]);
        self.endpoints.wait_for_metric(&format!("meshrelay_refusals_total{{reason=\"{reason}\"}}"), |n| n >= 1.0);
        let name = format!("meshrelay_agent_refusals_total{{reason=\"{reason}\"}}");
        agent.endpoints.wait_for_metric(&name, |n| n >= 1.0);
    }

    /// Waits until a failed handshake shows on both sides, each with its view of it.
    pub fn wait_for_failed_handshake(&self, agent: &Agent, ours: (&str, &str), theirs: (&str, &str)) {
        self.process.line(&[ours.0]);
        agent.process.line(&[theirs.0]);
        let name = format!("meshrelay_handshake_failures_total{{reason=\"{}\"}}", ours.1);
        self.endpoints.wait_for_metric(&name, |n| n >= 1.0);
        let name = format!("meshrelay_agent_handshake_failures_total{{reason=\"{}\"}}", theirs.1);
        agent.endpoints.wait_for_metric(&name, |n| n >= 1.0);
    }
}

impl Agent {
    /// Starts the agent of a cluster with what an installation gives it.
    pub fn install(fleet: &Fleet, cluster: &str, server: &Server) -> Self {
        fleet.bootstrap(cluster);
        Self::start(fleet, cluster, server.relay, &[])
    }

    /// Starts the agent of a cluster with its state folder as it is, and with further arguments.
    pub fn start(fleet: &Fleet, cluster: &str, server: SocketAddr, further: &[&str]) -> Self {
        Self::start_with(fleet, cluster, &[server], further)
    }

    /// As [`Agent::start`], with several servers, the preferred one first.
    pub fn start_with(fleet: &Fleet, cluster: &str, servers: &[SocketAddr], further: &[&str]) -> Self {
        Self::start_under(&[], fleet, cluster, servers, further)
    }

    /// As [`Agent::start_with`], run by other words.
    pub fn start_under(words: &[&str], fleet: &Fleet, cluster: &str, servers: &[SocketAddr], further: &[&str]) -> Self {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let settings = fleet.folder().join(format!("{cluster}-settings.yaml"));
        std::fs::write(&settings, format!("clock: 2026-01-01T00:00:00Z\ntrustDomain: {cluster}\n")).unwrap();
        let mut command = command_under(words, fleet.programs().agent);
        path(&mut command, further, "--settings", &settings);
        path(&mut command, further, "--directory", &fleet.folder().join(cluster));
        path(&mut command, further, "--state-directory", &fleet.state(cluster));
        command.args(["--cluster", cluster, "--server-address", &servers.join(",")]);
        any_ports(&mut command, further, fleet);
        command.args(further);
        let process = Process::start(format!("the agent of {cluster}"), command);
        let started = process.started();
        Self { endpoints: Endpoints::of(&started), process }
    }
}

/// A server and the agents of both workload clusters, with everything applied.
pub fn install(fleet: &Fleet) -> (Server, [Agent; 2]) {
    let server = Server::start(fleet);
    let agents = WORKLOAD_CLUSTERS.map(|cluster| Agent::install(fleet, cluster, &server));
    fleet.wait_until_converged();
    (server, agents)
}

fn any_ports(command: &mut Command, further: &[&str], fleet: &Fleet) {
    let any = fleet.any_port().to_string();
    for option in ["--health-address", "--stats-address"] {
        if !further.contains(&option) {
            command.args([option, &any]);
        }
    }
}

/// Adds an option with a path unless the test gives its own.
fn path(command: &mut Command, further: &[&str], option: &str, path: &Path) {
    if !further.contains(&option) {
        command.arg(option).arg(path);
    }
}

fn address(started: &Value, name: &str) -> SocketAddr {
    started[name].as_str().unwrap().parse().unwrap()
}

impl Endpoints {
    fn of(started: &Value) -> Self {
        Self { health: address(started, "health_address"), stats: address(started, "stats_address") }
    }

    /// Status and body of a path of the health endpoint.
    pub fn health(self, path: &str) -> (u16, String) {
        get(self.health, path)
    }

    /// Where health and status are, as `meshctl` takes it.
    pub fn url(self) -> String {
        format!("http://{}", self.health)
    }

    /// Waits until the program says that it is ready.
    pub fn wait_until_ready(self) {
        wait_for("readiness", || match self.health("/readyz") {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status}: {text}")),
        });
    }

    /// What a server tells about itself and its clusters.
    pub fn status(self) -> Value {
        let (code, text) = self.health("/status");
        assert_eq!(code, 200);
        serde_json::from_str(&text).unwrap()
    }

    /// All metrics as text.
    pub fn metrics(self) -> String {
        let (status, text) = get(self.stats, "/metrics");
        assert_eq!(status, 200);
        text
    }

    /// The value of a metric, with its labels as they are written; `None` if there is none.
    pub fn metric(self, name: &str) -> Option<f64> {
        let text = self.metrics();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a metric has a good value.
    pub fn wait_for_metric(self, name: &str, good: impl Fn(f64) -> bool) {
        wait_for(name, || match self.metric(name) {
            Some(value) if good(value) => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }
}

/// Status and body of a path.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
