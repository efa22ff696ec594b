//! What inputs of a fleet cost in Redis: bytes there, bytes on the network, times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use meshrelay_snapshot::{Object, Snapshot};
use meshrelay_store::{Changes, Cursor, Reach, RedisSettings, RedisStore, SnapshotId, SnapshotStore, Stored, Subject};
use serde_json::{Value, json};

use crate::fleet::{self, Size};
use crate::summary::{Times, line};

/// Longest wait for anything that has to happen.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct StoreArguments {
    /// A Redis without log-in that holds nothing of value: one plane of it is written
    #[arg(long)]
    address: String,
    /// Changes of one object that are measured
    #[arg(long, default_value_t = 500)]
    changes: usize,
    #[command(flatten)]
    size: Size,
}

pub(crate) fn run(arguments: &StoreArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(arguments))
}

/// Counters of the server.
struct Counters {
    memory: u64,
    received: u64,
    sent: u64,
}

fn counters(address: &str) -> anyhow::Result<Counters> {
    let mut connection = redis::Client::open(format!("redis://{address}"))?.get_connection()?;
    let info: String = redis::cmd("INFO").arg("everything").query(&mut connection)?;
    let number = |name: &str| -> anyhow::Result<u64> {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("INFO without {name}"))?.parse()?)
    };
    Ok(Counters {
        memory: number("used_memory")?,
        received: number("total_net_input_bytes")?,
        sent: number("total_net_output_bytes")?,
    })
}

pub(crate) async fn connected(address: &str, plane: &str) -> anyhow::Result<RedisStore> {
    let settings = RedisSettings { address: address.to_owned(), ..RedisSettings::default() };
    let store = RedisStore::start(settings, plane)?;
    let mut health = store.health();
    let connected = tokio::time::timeout(DEADLINE, health.wait_for(|health| health.is_connected())).await.is_ok();
    let reach = health.borrow().reach.clone();
    match reach {
        Reach::Away { error, .. } if !connected => Err(error.into()),
        _ => Ok(store),
    }
}

async fn measure(arguments: &StoreArguments) -> anyhow::Result<()> {
    let StoreArguments { address, changes, size } = arguments;
    let plane = format!("bench-{}", std::process::id());
    let (writer, reader) = (connected(address, &plane).await?, connected(address, &plane).await?);
    let inputs: Vec<(SnapshotId, Arc<Snapshot>)> = fleet::generate(size)?
        .clusters
        .into_iter()
        .map(|(cluster, snapshot)| (SnapshotId::input(cluster), snapshot))
        .collect();
    let objects: usize = inputs.iter().map(|(_, snapshot)| snapshot.len()).sum();
    let json: usize = inputs.iter().flat_map(|(_, snapshot)| snapshot.iter()).map(|object| object.body().len()).sum();
    line(&format!("{} snapshots, {objects} objects, {} of JSON", inputs.len(), megabytes(json as u64)))?;

    let before = counters(address)?;
    let mut times = Vec::new();
    for (id, snapshot) in &inputs {
        let new = Stored::new(1, Arc::clone(snapshot), Value::Null, "bench");
        let start = Instant::now();
        writer.put(id, &new).await?;
        times.push(start.elapsed());
    }
    let after = counters(address)?;
    line(&format!("write all        {}", Times::new(times)))?;
    line(&format!("  on the network {}", megabytes(after.received - before.received)))?;
    line(&format!("  in Redis       {}", megabytes(after.memory.saturating_sub(before.memory))))?;

    let before = counters(address)?;
    let (mut times, mut held) = (Vec::new(), Vec::new());
    for (id, _) in &inputs {
        let start = Instant::now();
        held.push(reader.load(id, None).await?.context("a snapshot is gone")?);
        times.push(start.elapsed());
    }
    line(&format!("read all         {}", Times::new(times)))?;
    line(&format!("  on the network {}", megabytes(counters(address)?.sent - before.sent)))?;

    let mut cursor = Cursor::default();
    if let Changes::CatchUp { cursor: end } = reader.changes(&cursor, DEADLINE).await? {
        cursor = end;
    }
    let before = counters(address)?;
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for number in 0..*changes {
        let at = number % inputs.len();
        let (Some((id, _)), Some(base)) = (inputs.get(at), held.get_mut(at)) else { bail!("no cluster") };
        let new = Stored::new(base.version() + 1, Arc::new(changed(base.snapshot(), number)?), Value::Null, "bench");
        let write = async {
            let start = Instant::now();
            writer.put(id, &new).await.map(|_| start.elapsed())
        };
        let start = Instant::now();
        let (written, seen) = tokio::join!(write, next(&reader, &mut cursor, id, base));
        let newer = seen?;
        reads.push(start.elapsed());
        writes.push(written?);
        anyhow::ensure!(newer.digest() == new.digest(), "expected what was written, found something else");
        *base = newer;
    }
    let after = counters(address)?;
    let each = |bytes: u64| bytes / (*changes).max(1) as u64;
    line(&format!("write one change {}", Times::new(writes)))?;
    line(&format!("  until read     {}", Times::new(reads)))?;
    line(&format!(
        "  to Redis       {} bytes each, what the reader shows included",
        each(after.received - before.received)
    ))?;
    line(&format!("  from Redis     {} bytes each", each(after.sent - before.sent)))?;
    for (id, _) in &inputs {
        writer.remove(id).await?;
    }
    Ok(())
}

/// The same with one object changed.
fn changed(snapshot: &Snapshot, number: usize) -> anyhow::Result<Snapshot> {
    let object = snapshot.iter().nth(number * 7919 % snapshot.len().max(1)).context("an empty snapshot")?;
    let mut value = object.value();
    value["metadata"]["annotations"] = json!({"bench/change": number.to_string()});
    let mut snapshot = snapshot.clone();
    snapshot.insert(Arc::new(Object::from_value(&value)?));
    Ok(snapshot)
}

/// Waits for a change of a snapshot, and reads it.
async fn next(store: &RedisStore, cursor: &mut Cursor, id: &SnapshotId, base: &Stored) -> anyhow::Result<Stored> {
    match store.changes(cursor, DEADLINE).await? {
        Changes::News { changed, cursor: end } if changed.contains_key(&Subject::Snapshot(id.clone())) => {
            *cursor = end;
            store.load(id, Some(base)).await?.context("the snapshot is gone")
        }
        found => bail!("expected a change of {id}, found {found:?}"),
    }
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
