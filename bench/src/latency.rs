//! Time from a changed file to the applied outputs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use meshrelay_cluster::{object_path, output_folder};
use meshrelay_meshctl::sandbox::{Sandbox, work_folder};
use meshrelay_process::logging;
use meshrelay_snapshot::{Object, to_yaml};
use serde_json::Value;

use crate::enrolment::enrol;
use crate::fleet::{self, Size};
use crate::summary::{Times, line};
use crate::wait::wait_until;

/// How often an output is looked at, and so how exact the measured times are.
const LOOK: Duration = Duration::from_micros(500);

#[derive(Debug, clap::Args)]
pub(crate) struct LatencyArguments {
    /// Agents, the management cluster's included
    #[arg(long, default_value_t = 10)]
    agents: usize,
    /// Edits of RouteTables, each followed by the next
    #[arg(long, default_value_t = 200)]
    edits: usize,
    /// Edits of a VirtualDestination that every cluster sees
    #[arg(long, default_value_t = 200)]
    shared_edits: usize,
    /// Services per cluster
    #[arg(long, default_value_t = 10)]
    services: usize,
    /// RouteTables per cluster
    #[arg(long, default_value_t = 10)]
    routes: usize,
    /// Log filter; the log goes into the fleet folder
    #[arg(long, default_value = "warn")]
    log_level: String,
    /// Folder for the fleet; a temporary one if it is not given
    #[arg(long)]
    folder: Option<PathBuf>,
}

pub(crate) fn run(arguments: &LatencyArguments) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.as_deref().unwrap_or_else(|| temporary.path());
    let size = Size {
        clusters: arguments.agents.saturating_sub(1).max(1),
        services: arguments.services.max(1),
        routes: arguments.routes.max(1),
        destinations: 1,
        federated: 0,
        isolation: false,
        seed: 1,
    };
    fleet::write(folder, &size)?;
    enrol(&work_folder(folder).join("state"), fleet::clusters(&size))?;
    logging::init_file(&arguments.log_level, &folder.join("bench.log"))?;
    // As `meshctl sandbox` runs.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let sandbox = runtime.block_on(Sandbox::start(folder, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    wait_until("the first outputs", LOOK, || Ok(sandbox.is_settled()))?;
    line(&format!(
        "{} agents, {} services and {} RouteTables each; all in place after {:.1} s",
        sandbox.agents.len(),
        size.services,
        size.routes,
        started.elapsed().as_secs_f64()
    ))?;
    let (mut times, mut translations) = (Vec::new(), Vec::new());
    for edit in 1..=arguments.edits {
        // Clusters and tables in turn, so that nothing is warm for one edit only.
        let (cluster, route) = (edit % size.clusters, edit % size.routes);
        let name = fleet::cluster(cluster);
        let output = find(&output_folder(folder, &name), "virtualservice-", &format!("route-{route}-"))?;
        let expected = fleet::edit_mark(edit);
        times.push(measure(&folder.join(&name), &fleet::route_table(cluster, route, size.services, edit), || {
            contains(&output, &expected)
        })?);
        translations.push(sandbox.server.status().borrow().translation_time);
    }
    line(&format!("one RouteTable, one cluster         {}", Times::new(times)))?;
    line(&format!("  translation of it                 {}", Times::new(translations)))?;
    let (mut times, mut translations) = (Vec::new(), Vec::new());
    for edit in 1..=arguments.shared_edits {
        let outputs = (0..size.clusters)
            .map(|cluster| find(&output_folder(folder, &fleet::cluster(cluster)), "serviceentry-", "shared-0"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let expected = format!("number: {}", fleet::edit_port(edit));
        let mut waiting = outputs;
        times.push(measure(&folder.join(fleet::cluster(0)), &fleet::virtual_destination(0, &size, edit), || {
            while let Some(output) = waiting.last() {
                if !contains(output, &expected)? {
                    return Ok(false);
                }
                waiting.pop();
            }
            Ok(true)
        })?);
        translations.push(sandbox.server.status().borrow().translation_time);
    }
    line(&format!("one VirtualDestination, all clusters {}", Times::new(times)))?;
    line(&format!("  translation of it                 {}", Times::new(translations)))?;
    runtime.block_on(sandbox.stop());
    Ok(())
}

/// Puts an object into its cluster's folder by renaming; how long it takes from there until `applied`.
fn measure(cluster: &Path, value: &Value, applied: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<Duration> {
    let path = cluster.join(object_path(Object::from_value(value)?.key()));
    let temporary = path.with_extension("new");
    fs::write(&temporary, to_yaml(value))?;
    let started = Instant::now();
    fs::rename(&temporary, &path)?;
    wait_until("an applied output", LOOK, applied)?;
    let took = started.elapsed();
    Ok(took)
}

fn contains(path: &Path, text: &str) -> anyhow::Result<bool> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(content.contains(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The output file below a folder whose name begins so and that names its parent.
fn find(folder: &Path, prefix: &str, parent: &str) -> anyhow::Result<PathBuf> {
    for namespace in fs::read_dir(folder)? {
        let namespace = namespace?.path();
        if !namespace.is_dir() {
            continue;
        }
        for file in fs::read_dir(namespace)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(prefix) && name.contains(parent) {
                return Ok(file.path());
            }
        }
    }
    bail!("expected a file {prefix}…{parent}… below {}, found none", folder.display())
}
