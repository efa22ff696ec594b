use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use crate::process::Programs;
use crate::wait::wait_for;

/// Contents by path.
pub type Files = BTreeMap<String, String>;

/// The clusters of the example that have workloads.
pub const WORKLOAD_CLUSTERS: [&str; 2] = ["cluster1", "cluster2"];

/// A fleet folder of its own for one test, with an address of its own.
#[derive(Debug)]
pub struct Fleet {
    programs: Programs,
    clusters: Vec<String>,
    folder: TempDir,
    host: IpAddr,
}

impl Fleet {
    /// A copy of the example.
    pub fn bookinfo(programs: Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bookinfo"), folder.path());
        // A server that is restarted must find its port free, so tests that run side by side do not share an address.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let own = if cfg!(target_os = "linux") { NEXT.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let host = IpAddr::V4(Ipv4Addr::new(127, 0, own, 1));
        Self { programs, clusters: WORKLOAD_CLUSTERS.map(str::to_owned).into(), folder, host }
    }

    /// The example with `count` workload clusters, all but the first of them alike, in which each needs the others: every
    /// further cluster has a VirtualDestination of the Services of all, and the gateway of the first routes to it.
    pub fn wide(programs: Programs, count: u8) -> Self {
        let mut fleet = Self::bookinfo(programs);
        let clusters = fleet.read("mgmt/clusters.yaml");
        let second = clusters.split("---\n").find(|document| document.contains("name: cluster2\n")).unwrap().to_owned();
        let mut all = clusters;
        for number in 3..=count {
            let name = format!("cluster{number}");
            let like =
                |text: &str| text.replace("cluster2", &name).replace("203.0.113.2", &format!("203.0.113.{number}"));
            fs::create_dir(fleet.folder().join(&name)).unwrap();
            for file in ["bookinfo.yaml", "gateways.yaml", "istio.yaml", "namespaces.yaml", "nodes.yaml"] {
                fleet.write(&format!("{name}/{file}"), &like(&fleet.read(&format!("cluster2/{file}"))));
            }
            all = format!("{all}---\n{}", like(&second));
            for namespaces in [["istio-gateways", "gloo-mesh-addons"], ["bookinfo-frontends", "bookinfo-backends"]] {
                let [one, two] = namespaces;
                let entry = format!("  - name: cluster2\n    namespaces:\n    - name: {one}\n    - name: {two}\n");
                fleet.edit("mgmt/workspaces.yaml", &[(&entry, &format!("{entry}{}", like(&entry)))]);
            }
            fleet.clusters.push(name);
        }
        fleet.write("mgmt/clusters.yaml", &all);
        let mut routes = String::new();
        for cluster in &fleet.clusters[1..] {
            fleet.write(&format!("{cluster}/shared.yaml"), &shared_ratings(cluster));
            routes += &route_to_ratings(cluster);
        }
        fleet.write("cluster1/shared.yaml", &routes);
        fleet
    }

    /// The names of its workload clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.iter().map(String::as_str)
    }

    /// What is run for it.
    pub fn programs(&self) -> Programs {
        self.programs
    }

    /// A free port of the address.
    pub fn any_port(&self) -> SocketAddr {
        SocketAddr::new(self.host, 0)
    }

    /// Where its manifests are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path as an argument.
    pub fn argument(&self) -> &str {
        self.folder().to_str().unwrap()
    }

    /// The state folder of the server or of an agent.
    pub fn state(&self, of: &str) -> PathBuf {
        self.folder().join(".state").join(of)
    }

    /// Where the agent of a cluster puts its outputs if it is not told otherwise.
    pub fn output(&self, cluster: &str) -> PathBuf {
        self.folder().join(".meshrelay").join(cluster)
    }

    /// A file of the fleet.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder().join(path)).unwrap()
    }

    /// Writes a file of the fleet.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.folder().join(path), text).unwrap();
    }

    /// Changes a file; every text to be replaced must occur in it.
    pub fn edit(&self, path: &str, changes: &[(&str, &str)]) {
        let mut text = self.read(path);
        for (from, to) in changes {
            assert!(text.contains(from), "{path} has {from:?}");
            text = text.replace(from, to);
        }
        self.write(path, &text);
    }

    /// Sends `percent` of the traffic to the old reviews instead of `before`, and the rest to the new ones.
    pub fn shift_traffic(&self, before: u32, percent: u32) {
        let weight = |percent| format!("weight: {percent}\n");
        let (old, new) = (weight(before), weight(100 - before));
        self.edit("cluster1/bookinfo-config.yaml", &[(&old, &weight(percent)), (&new, &weight(100 - percent))]);
    }

    /// True if the applied VirtualService has these weights.
    pub fn traffic_is_shifted(&self, percent: u32) -> bool {
        let applied = self.applied("cluster1");
        let service = applied.iter().find(|(path, _)| path.contains("virtualservice-routetable-reviews"));
        service.is_some_and(|(_, text)| {
            text.contains(&format!("weight: {percent}\n")) && text.contains(&format!("weight: {}\n", 100 - percent))
        })
    }

    /// Waits until the applied VirtualService has these weights.
    pub fn wait_for_shifted_traffic(&self, percent: u32) {
        wait_for(format_args!("a weight of {percent} in the VirtualService"), || {
            if self.traffic_is_shifted(percent) { Ok(()) } else { Err("other weights".to_owned()) }
        });
    }

    /// Removes the KubernetesCluster of a cluster; returns what has to be written to have it back.
    pub fn unregister(&self, cluster: &str) -> String {
        let path = "mgmt/clusters.yaml";
        let before = self.read(path);
        let others: Vec<&str> =
            before.split("---\n").filter(|document| !document.contains(&format!("name: {cluster}\n"))).collect();
        assert_eq!(others.len(), self.clusters.len(), "the other clusters and the management cluster");
        self.write(path, &others.join("---\n"));
        before
    }

    /// Undoes [`Fleet::unregister`].
    pub fn register_again(&self, before: &str) {
        self.write("mgmt/clusters.yaml", before);
    }

    /// Gives an agent what an installation gives it: the server's root certificate and the token.
    pub fn bootstrap(&self, cluster: &str) {
        self.give(cluster, "relay-root-tls-secret/ca.crt", &self.secret("server", "relay-root-tls-secret/ca.crt"));
        self.give(cluster, TOKEN_FILE, &self.secret("server", TOKEN_FILE));
    }

    /// A file of the state folder of the server or of an agent.
    pub fn secret(&self, of: &str, path: &str) -> String {
        fs::read_to_string(self.state(of).join(path)).unwrap()
    }

    /// Puts a file into the state folder of an agent.
    pub fn give(&self, cluster: &str, path: &str, text: &str) {
        let path = self.state(cluster).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What is applied in a cluster.
    pub fn applied(&self, cluster: &str) -> Files {
        yaml_files(&self.output(cluster))
    }

    /// What should be applied in each cluster for the manifests as they are now.
    pub fn expected(&self) -> BTreeMap<String, Files> {
        let out = tempfile::tempdir().unwrap();
        let answer = self.programs.meshctl(&["translate", self.argument(), "-o", out.path().to_str().unwrap()]);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        self.clusters().map(|cluster| (cluster.to_owned(), yaml_files(&out.path().join(cluster)))).collect()
    }

    /// Waits until the agents have applied what `meshctl translate` makes of the manifests, byte for byte.
    pub fn wait_until_converged(&self) {
        let expected = self.expected();
        for (cluster, expected) in &expected {
            assert!(!expected.is_empty());
            wait_for(format_args!("the outputs of {cluster}"), || difference(expected, &self.applied(cluster)));
        }
    }
}

/// A host name for the ratings of all clusters, of a cluster's own making.
fn shared_ratings(cluster: &str) -> String {
    format!(
        "apiVersion: networking.gloo.solo.io/v2\nkind: VirtualDestination\nmetadata:\n  name: ratings-of-{cluster}\n  \
         namespace: bookinfo-backends\n  labels:\n    expose: \"true\"\nspec:\n  hosts:\n  - ratings.{cluster}.internal\n  services:\n  \
         - namespace: bookinfo-backends\n    labels:\n      app: ratings\n  ports:\n  - number: 9080\n    protocol: HTTP\n"
    )
}

/// A route from the gateway of the first cluster to that host name.
fn route_to_ratings(cluster: &str) -> String {
    format!(
        "---\napiVersion: networking.gloo.solo.io/v2\nkind: RouteTable\nmetadata:\n  name: ratings-of-{cluster}\n  \
         namespace: bookinfo-frontends\n  labels:\n    expose: \"true\"\nspec:\n  hosts:\n  - ratings.{cluster}.example.com\n  \
         virtualGateways:\n  - name: north-south-gw\n    namespace: istio-gateways\n    cluster: cluster1\n  http:\n  - name: all\n    \
         forwardTo:\n      destinations:\n      - kind: VIRTUAL_DESTINATION\n        ref:\n          name: ratings-of-{cluster}\n          \
         namespace: bookinfo-backends\n          cluster: {cluster}\n        port:\n          number: 9080\n"
    )
}

/// File with the token that agents register with, in a state folder.
pub const TOKEN_FILE: &str = "relay-identity-token-secret/token";

/// Ok if both are the same, otherwise what differs.
pub fn difference(expected: &Files, found: &Files) -> Result<(), String> {
    let differing: Vec<&String> =
        expected.keys().chain(found.keys()).filter(|path| expected.get(*path) != found.get(*path)).collect();
    if differing.is_empty() { Ok(()) } else { Err(format!("differences in {differing:?}")) }
}

/// The YAML files below a folder.
pub fn yaml_files(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        // Folders and files may go while they are looked at.
        for entry in fs::read_dir(&current).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml")
                && let Ok(text) = fs::read_to_string(&path)
            {
                files.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), text);
            }
        }
    }
    files
}

/// Copies a folder, following links, without what begins with `.meshrelay`.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if name.to_string_lossy().starts_with(".meshrelay") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
