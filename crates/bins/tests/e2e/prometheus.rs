use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use meshrelay_testbed::{Fleet, Process, get, run, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// The alert rules that come with the project, and their tests.
pub(crate) fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus")
}

/// A program of the package `prometheus`, from where `cargo xtask setup` unpacks it or from the search path.
pub(crate) fn tool(name: &str) -> Command {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/prometheus/usr/bin").join(name);
    let program = if ours.is_file() { ours } else { PathBuf::from(name) };
    let runs = Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(runs, "{name} is not there: run `cargo xtask setup`, or put {name} 2.42 or newer on the search path");
    Command::new(program)
}

/// A Prometheus that scrapes some servers, evaluates the rules of the project, and answers queries.
pub(crate) struct Prometheus {
    _process: Process,
    _folder: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    /// Scrapes each of `pods`, which get that label.
    pub(crate) fn over(fleet: &Fleet, pods: &[(&str, SocketAddr)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 100ms}}\n\
             rule_files: [{:?}]\nscrape_configs:\n- job_name: servers\n  static_configs:\n",
            rules().join("alerts.yaml")
        );
        for (pod, address) in pods {
            writeln!(config, "  - {{targets: [\"{address}\"], labels: {{pod: {pod}}}}}").unwrap();
        }
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, &config).unwrap();
        let checked = run(tool("promtool").args(["check", "config"]).arg(&file));
        assert_eq!(checked.code, 0, "{config}\n{}{}", checked.stdout, checked.stderr);
        let mut command = tool("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.args([format!("--web.listen-address={}", fleet.any_port()), "--log.format=json".to_owned()]);
        let process = Process::start("prometheus", command);
        let line: Value = serde_json::from_str(&process.line(&["\"Listening on\"", "address"])).unwrap();
        let address = line["address"].as_str().unwrap().parse().unwrap();
        process.line(&["Server is ready to receive web requests"]);
        Self { _process: process, _folder: folder, address }
    }

    /// The answer to a query now: values by the label `cluster`, which is empty without one.
    pub(crate) fn query(&self, query: &str) -> BTreeMap<String, f64> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in query.bytes() {
            write!(path, "%{byte:02x}").unwrap();
        }
        let (code, text) = get(self.address, &path);
        assert_eq!(code, 200, "{query}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let series = answer["data"]["result"].as_array().unwrap().iter();
        let value = |series: &Value| {
            let cluster = series["metric"]["cluster"].as_str().unwrap_or_default();
            (cluster.to_owned(), series["value"][1].as_str().unwrap().parse().unwrap())
        };
        series.map(value).collect()
    }

    /// Waits until queries have these answers, all at the same time.
    pub(crate) fn wait_for(&self, expected: &[(&str, &[(&str, f64)])]) {
        let values = |values: &[(&str, f64)]| -> BTreeMap<String, f64> {
            values.iter().map(|(cluster, value)| ((*cluster).to_owned(), *value)).collect()
        };
        wait_for(format_args!("the answers {expected:?}"), || {
            let found: Vec<_> = expected.iter().map(|(query, _)| self.query(query)).collect();
            let good = expected.iter().zip(&found).all(|((_, wanted), found)| values(wanted) == *found);
            if good { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}
