//! How long a replica with nothing of its own takes to have what the others have, and what it needs for it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use meshrelay_cluster::write_fleet;
use meshrelay_store::{SnapshotId, SnapshotStore as _, Stored};
use serde_json::Value;

use crate::fleet::{self, Size};
use crate::program::{LOOK, Program, free_address, text};
use crate::store::{connected, megabytes};
use crate::summary::line;
use crate::translate::Work;
use crate::wait::wait_until;

/// Name of the management cluster, and so of the plane in Redis.
const PLANE: &str = "mgmt";

#[derive(Debug, clap::Args)]
pub(crate) struct ColdStartArguments {
    /// A Redis without log-in that holds nothing of value: the plane `mgmt` of it is written
    #[arg(long)]
    address: String,
    /// Starts that are measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// Folder with the programs; default is the one of this program
    #[arg(long)]
    programs: Option<PathBuf>,
    #[command(flatten)]
    size: Size,
}

pub(crate) fn run(arguments: &ColdStartArguments) -> anyhow::Result<()> {
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("this program is in no folder")?.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path();
    let ids = runtime.block_on(fill(arguments, folder))?;
    let measured = measure(arguments, &programs, folder);
    // Also after a failure: what is left in Redis would be there for the next one who measures.
    let removed = runtime.block_on(async {
        let store = connected(&arguments.address, PLANE).await?;
        for id in &ids {
            store.remove(id).await?;
        }
        Ok(())
    });
    measured.and(removed)
}

fn measure(arguments: &ColdStartArguments, programs: &Path, folder: &Path) -> anyhow::Result<()> {
    for number in 0..arguments.starts {
        let health = free_address()?;
        let begun = Instant::now();
        let server = Program::start(
            "server",
            &programs.join("gloo-mesh-mgmt-server"),
            &folder.join(format!("server-{number}.log")),
            &[
                ("--management-cluster", PLANE.to_owned()),
                ("--management-directory", text(&folder.join(PLANE))),
                ("--state-directory", text(&folder.join(format!("state-{number}")))),
                ("--tls-mode", "insecure".to_owned()),
                ("--redis-address", arguments.address.clone()),
                ("--relay-address", free_address()?.to_string()),
                ("--health-address", health.to_string()),
                ("--stats-address", free_address()?.to_string()),
            ],
        )?;
        let mut objects = 0;
        wait_until("a first translation", LOOK, || {
            let Ok(status) = status(health) else { return Ok(false) };
            objects = status["stats"]["objects"].as_u64().unwrap_or_default();
            Ok(status["translations"].as_u64().is_some_and(|translations| translations > 0))
        })?;
        let took = begun.elapsed();
        let status = status(health)?;
        let translation = status["translationTime"]["secs"].as_f64().unwrap_or_default()
            + status["translationTime"]["nanos"].as_f64().unwrap_or_default() / 1e9;
        let [resident, own, peak] = server.memory()?.map(|kibibytes| kibibytes as f64 / 1024.0);
        line(&format!(
            "start {number}: outputs of {objects} objects after {:.2} s, {translation:.2} s of it the translation; \
             resident {resident:.0} MiB, {own:.0} MiB without mapped files, peak {peak:.0} MiB",
            took.as_secs_f64()
        ))?;
    }
    Ok(())
}

/// Writes the inputs of all workload clusters as a replica would, and the management cluster as a folder.
async fn fill(arguments: &ColdStartArguments, folder: &Path) -> anyhow::Result<Vec<SnapshotId>> {
    let mut fleet = fleet::generate(&arguments.size)?;
    let store = connected(&arguments.address, PLANE).await?;
    let (mut ids, mut objects, mut bytes) = (Vec::new(), 0, 0);
    // As agents send them, with what they discovered.
    let inputs = Work::new(&fleet).inputs.clusters;
    for (cluster, snapshot) in inputs.iter().filter(|(cluster, _)| cluster.as_str() != PLANE) {
        let id = SnapshotId::input(cluster.clone());
        objects += snapshot.len();
        bytes += snapshot.iter().map(|object| object.body().len() as u64).sum::<u64>();
        store.put(&id, &Stored::new(1, Arc::clone(snapshot), Value::Null, "bench")).await?;
        ids.push(id);
    }
    line(&format!("{} inputs, {objects} objects, {} of JSON", ids.len(), megabytes(bytes)))?;
    fleet.clusters.retain(|cluster, _| cluster.as_str() == PLANE);
    write_fleet(folder, &fleet, false)?;
    Ok(ids)
}

fn status(address: SocketAddr) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /status HTTP/1.0\r\nHost: bench\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(serde_json::from_str(body)?)
}
