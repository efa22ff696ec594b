use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use meshrelay_pki::authority::{DEFAULT_LEAF_VALIDITY, DEFAULT_ROOT_VALIDITY};
use meshrelay_pki::{Authority, ClusterName, ServerNames, check_csr, csr};
use meshrelay_testbed::{Agent, Fleet, Server, TOKEN_FILE, WORKLOAD_CLUSTERS, Watcher};

use crate::PROGRAMS;

#[test]
fn simple_tls_asks_for_the_token_with_every_stream() {
    const MODE: [&str; 2] = ["--tls-mode", "simple-tls"];
    let fleet = Fleet::bookinfo(PROGRAMS);
    let server = Server::start_at(&fleet, fleet.any_port(), &MODE);
    fleet.bootstrap("cluster1");
    let _one = Agent::start(&fleet, "cluster1", server.relay, &MODE);
    fleet.wait_for_shifted_traffic(80);
    let watcher = Watcher::over(&fleet, &["cluster1"]);
    fleet.bootstrap("cluster2");
    let wrong: Vec<&str> = MODE.into_iter().chain(["--token", "a-token-that-nobody-issued-to-anybody"]).collect();
    let mut two = Agent::start(&fleet, "cluster2", server.relay, &wrong);
    server.wait_until_refused(&two, "MR0200", "wrong_token");
    two.process.kill();
    let right = fleet.secret("server", TOKEN_FILE);
    two = Agent::start(&fleet, "cluster2", server.relay, &MODE);
    fleet.wait_until_converged();
    assert!(!two.process.has_line(&[right.trim()]) && !server.process.has_line(&[right.trim()]));
    assert!(!fleet.state("cluster2").join("relay-client-tls-secret").exists(), "no certificate is issued");
    watcher.finish();
}

#[test]
fn plain_text_is_spoken_only_if_both_sides_say_so() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let server = Server::start_at(&fleet, fleet.any_port(), &["--insecure"]);
    assert!(server.process.line(&["\"WARN\"", "not encrypted"]).contains("for trying things out only"));
    let plain = WORKLOAD_CLUSTERS.map(|cluster| Agent::start(&fleet, cluster, server.relay, &["--insecure"]));
    fleet.wait_until_converged();
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    drop(plain);

    // An agent that was not told so insists on TLS.
    let other = Authority::create(Timestamp::now(), DEFAULT_ROOT_VALIDITY).unwrap();
    fleet.give("cluster1", "relay-root-tls-secret/ca.crt", other.bundle_pem());
    let one = Agent::start(&fleet, "cluster1", server.relay, &[]);
    assert!(one.process.line(&["MR0349"]).contains("the same mode"));
    one.endpoints.wait_for_metric("meshrelay_agent_handshake_failures_total{reason=\"not_tls\"}", |n| n >= 1.0);
    drop((one, server));

    // And so does a server.
    let server = Server::start(&fleet);
    let one = Agent::start(&fleet, "cluster1", server.relay, &["--insecure"]);
    assert!(server.process.line(&["MR0349"]).contains("the same mode"));
    server.endpoints.wait_for_metric("meshrelay_handshake_failures_total{reason=\"not_tls\"}", |n| n >= 1.0);
    one.endpoints.wait_for_metric("gloo_mesh_relay_client_delta_push_err_total", |n| n >= 1.0);
    assert_eq!(one.endpoints.health("/readyz").0, 503);
    watcher.finish();
}

#[test]
fn own_certificates_need_no_token_and_name_their_cluster() {
    let fleet = Fleet::bookinfo(PROGRAMS);
    let own = Own::new(&fleet.folder().join(".own"));
    let pair = own.server();
    let server = Server::start_at(&fleet, fleet.any_port(), &own.options("--client-ca", &pair));
    let certificates = WORKLOAD_CLUSTERS.map(|cluster| own.client(cluster));
    let start = |cluster: &str, pair: &Pair, own: &Own| {
        Agent::start(&fleet, cluster, server.relay, &own.options("--server-ca", pair))
    };
    let _one = start("cluster1", &certificates[0], &own);
    let mut two = start("cluster2", &certificates[1], &own);
    fleet.wait_until_converged();
    let watcher = Watcher::over(&fleet, &WORKLOAD_CLUSTERS);
    two.process.kill();

    two = start("cluster2", &certificates[0], &own);
    server.wait_until_refused(&two, "MR0206", "foreign_certificate");
    two.process.kill();

    // A certificate with the right name, of an authority that the server does not know.
    let other = Own::new(&fleet.folder().join(".other"));
    let forged = other.client("cluster2");
    two = start("cluster2", &forged, &own);
    let (ours, theirs) = (("MR0340", "unknown_authority"), ("MR0346", "own_authority_unknown"));
    server.wait_for_failed_handshake(&two, ours, theirs);
    // The authority is added to the file, and counts without a restart.
    fs::write(&own.ca, own.authority.bundle_pem().to_owned() + other.authority.bundle_pem()).unwrap();
    two.endpoints.wait_until_ready();
    fleet.wait_until_converged();
    watcher.finish();
}

/// Certificates that somebody made for themselves.
struct Own {
    folder: PathBuf,
    authority: Authority,
    ca: String,
}

/// Paths of a certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Own {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let authority = Authority::create(Timestamp::now(), DEFAULT_ROOT_VALIDITY).unwrap();
        let ca = folder.join("ca.crt");
        fs::write(&ca, authority.bundle_pem()).unwrap();
        Self { folder: folder.to_owned(), authority, ca: ca.to_str().unwrap().to_owned() }
    }

    fn server(&self) -> Pair {
        let names = ServerNames { namespace: "gloo-mesh".to_owned(), additional: Vec::new(), local: false };
        let made = self.authority.sign_server(&names, Timestamp::now(), DEFAULT_LEAF_VALIDITY).unwrap();
        self.keep("server", &made.certificate.chain_pem, &made.key_pem)
    }

    fn client(&self, cluster: &str) -> Pair {
        let name = ClusterName::new(cluster).unwrap();
        let request = csr::generate(&name).unwrap();
        let checked = check_csr(&request.der, &name).unwrap();
        let issued = self.authority.sign_client(&checked, Timestamp::now(), DEFAULT_LEAF_VALIDITY).unwrap();
        self.keep(cluster, &issued.chain_pem, &request.key_pem)
    }

    fn keep(&self, name: &str, certificate: &str, key: &str) -> Pair {
        let path = |end: &str, text: &str| {
            let path = self.folder.join(format!("{name}.{end}"));
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        Pair { certificate: path("crt", certificate), key: path("key", key) }
    }

    /// Arguments of a program that uses these certificates.
    fn options<'a>(&'a self, ca: &'a str, pair: &'a Pair) -> [&'a str; 8] {
        let Pair { certificate, key } = pair;
        ["--tls-mode", "own-certificates", "--tls-certificate", certificate, "--tls-key", key, ca, &self.ca]
    }
}
