//! Time of translations.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meshrelay_agent::discovery;
use meshrelay_meshctl::sandbox::agent_settings;
use meshrelay_snapshot::{Fleet, Name, Object, Snapshot};
use meshrelay_translate::{Inputs, Options, Translation, Translator};

use crate::fleet::{self, Size};
use crate::summary::{Times, line};

#[derive(Debug, clap::Args)]
pub(crate) struct TranslateArguments {
    #[command(flatten)]
    size: Size,
    /// Translations from scratch
    #[arg(long, default_value_t = 10)]
    scratch: usize,
    /// Edits of a RouteTable, and as many of a VirtualDestination and of a Service
    #[arg(long, default_value_t = 200)]
    edits: usize,
}

/// What agents and the server do with a fleet, without what is between them.
pub(crate) struct Work {
    discovery: BTreeMap<Name, discovery::Input>,
    pub(crate) inputs: Inputs,
    translator: Translator,
}

impl Work {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut discovery = BTreeMap::new();
        let mut clusters = BTreeMap::new();
        for (name, snapshot) in &fleet.clusters {
            let settings = agent_settings(Path::new(""), &fleet.settings, name, nowhere).discovery();
            let mut input = discovery::Input::new(name.clone(), settings);
            clusters.insert(name.clone(), input.update(snapshot));
            discovery.insert(name.clone(), input);
        }
        let inputs = Inputs { management_cluster: fleet.settings.management_cluster.clone(), clusters };
        Self { discovery, inputs, translator: Translator::new(Options::default()) }
    }

    /// A cluster holds something else.
    fn update(&mut self, cluster: &Name, snapshot: &Snapshot) {
        if let Some(input) = self.discovery.get_mut(cluster) {
            self.inputs.clusters.insert(cluster.clone(), input.update(snapshot));
        }
    }

    pub(crate) fn translate(&mut self) -> Translation {
        self.translator.translate(&self.inputs)
    }
}

pub(crate) fn run(arguments: &TranslateArguments) -> anyhow::Result<()> {
    let size = &arguments.size;
    let mut generated = fleet::generate(size)?;
    let inputs: usize = generated.clusters.values().map(|snapshot| snapshot.len()).sum();
    let mut work = Work::new(&generated);
    let times = (0..arguments.scratch).map(|_| {
        work.translator = Translator::new(Options::default());
        timed(|| work.translate()).0
    });
    let times = Times::new(times.collect());
    let translation = work.translate();
    let (stats, bytes) = (translation.stats, output_bytes(&translation));
    drop(translation);
    line(&format!(
        "fleet: {} clusters, {inputs} objects in, {} parents, {} units, {} objects out, {:.1} MB",
        size.clusters + 1,
        stats.parents,
        stats.units,
        stats.objects,
        bytes as f64 / 1e6
    ))?;
    line(&format!("from scratch                {times}"))?;
    let nothing = (0..arguments.edits).map(|_| timed(|| work.translate()).0);
    line(&format!("no change                   {}", Times::new(nothing.collect())))?;
    let edits: [(&str, &dyn Fn(usize) -> serde_json::Value); 3] = [
        ("one RouteTable             ", &|edit| fleet::route_table(0, 0, size.services, edit)),
        ("one VirtualDestination     ", &|edit| fleet::virtual_destination(0, size, edit)),
        ("one Service                ", &|edit| fleet::service(0, size, edit)),
    ];
    let cluster = Name::from(fleet::cluster(0));
    for (what, object) in edits {
        let (mut discovering, mut translating, mut recomputed) = (Vec::new(), Vec::new(), 0);
        for edit in 1..=arguments.edits {
            let mut snapshot = generated.clusters[&cluster].as_ref().clone();
            snapshot.insert(Arc::new(Object::from_value(&object(edit))?));
            discovering.push(timed(|| work.update(&cluster, &snapshot)).0);
            generated.clusters.insert(cluster.clone(), Arc::new(snapshot));
            let (took, translation) = timed(|| work.translate());
            translating.push(took);
            recomputed = translation.stats.recomputed;
        }
        line(&format!("{what} {}  units {recomputed}", Times::new(translating)))?;
        line(&format!("  its discovery in the agent{}", Times::new(discovering)))?;
    }
    line(&format!("peak memory                 {:.0} MiB", peak_memory()? / 1024.0))?;
    Ok(())
}

fn output_bytes(translation: &Translation) -> usize {
    let objects = translation.outputs.values().flat_map(|snapshot| snapshot.iter());
    objects.map(|object| object.pieces().len()).sum()
}

/// The largest resident memory of this process so far, KiB.
fn peak_memory() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed(), result)
}
