//! What must hold however a fleet came about: random edits of fleets that real people wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{bail, ensure};
use meshrelay_meshctl::sandbox;
use meshrelay_snapshot::{Fleet, FleetSettings, Name, Object, ObjectKey, Snapshot};
use meshrelay_translate::{Inputs, Options, Translation, Translator, Unit, UnitId, shaped_by};
use serde_json::Value;

use super::random::Random;

/// Most edits between two translations.
const MOST_AT_ONCE: usize = 4;

/// Texts that mean something special somewhere.
const ODD_TEXTS: [&str; 8] = ["", "*", "x", "a.b", "*.example.com", "-1", "10.0.0.0/8", "0s"];

type Objects = BTreeMap<ObjectKey, Arc<Object>>;

/// A fleet that changes, and everything that was ever in it.
struct Edited {
    settings: FleetSettings,
    live: BTreeMap<Name, Objects>,
    /// Every version of every object of each cluster.
    known: BTreeMap<Name, Vec<Arc<Object>>>,
    random: Random,
}

/// Edits the largest of some fleets a number of times, bringing in what the others have, and checks after each time.
///
/// # Errors
/// When something does not hold, with the edits that led there last.
pub(super) fn check(fleets: &[Fleet], times: usize, seed: u64) -> anyhow::Result<()> {
    let size = |fleet: &&Fleet| fleet.clusters.values().map(|snapshot| snapshot.len()).sum::<usize>();
    let Some(first) = fleets.iter().max_by_key(size) else { return Ok(()) };
    let mut known: BTreeMap<Name, BTreeMap<_, Arc<Object>>> = BTreeMap::new();
    for (cluster, snapshot) in fleets.iter().flat_map(|fleet| &fleet.clusters) {
        let versions = known.entry(cluster.clone()).or_default();
        versions
            .extend(snapshot.iter().map(|object| ((object.key().clone(), object.hash().to_string()), object.clone())));
    }
    let mut edited = Edited {
        settings: first.settings.clone(),
        live: first.clusters.iter().map(|(name, snapshot)| (name.clone(), objects(snapshot))).collect(),
        known: known.into_iter().map(|(name, versions)| (name, versions.into_values().collect())).collect(),
        random: Random::new(seed),
    };
    let mut translator = Translator::new(Options::default());
    for time in 0..=times {
        let edits = if time == 0 { Vec::new() } else { edited.edit() };
        let told = || format!("after {time} times, the last: {}", edits.join("; "));
        match catch_unwind(AssertUnwindSafe(|| step(&mut edited, &mut translator))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.context(told())),
            Err(_) => bail!("{}: panicked", told()),
        }
    }
    Ok(())
}

fn objects(snapshot: &Snapshot) -> Objects {
    snapshot.iter().map(|object| (object.key().clone(), Arc::clone(object))).collect()
}

fn step(edited: &mut Edited, translator: &mut Translator) -> anyhow::Result<()> {
    let inputs = edited.inputs(false);
    let incremental = translator.translate(&inputs);
    let allocations = translator.allocations().clone();
    let fresh = |inputs: &Inputs| {
        let mut fresh = Translator::new(Options::default()).with_allocations(allocations.clone());
        let translation = fresh.translate(inputs);
        (
            translation,
            fresh.units().map(|unit| (UnitId::clone(&unit.id), unit.clone())).collect::<BTreeMap<UnitId, Unit>>(),
        )
    };
    let (scratch, units) = fresh(&edited.inputs(true));
    let difference = difference(&bytes(&incremental)?, &bytes(&scratch)?);
    ensure!(difference.is_none(), "incremental and from scratch differ: {}", difference.unwrap_or_default());
    let again = translator.translate(&inputs);
    ensure!(again.stats.recomputed == 0, "{} units recomputed without a change", again.stats.recomputed);
    one_unit_per_object(&scratch, &units)?;
    let management = &edited.settings.management_cluster;
    let others: Vec<&Name> = edited.live.keys().filter(|name| *name != management).collect();
    if let Some(gone) = edited.random.pick(&others) {
        let mut less = inputs.clone();
        less.clusters.remove(*gone);
        let (_, left) = fresh(&less);
        only_dependents_differ(gone, &units, &left)?;
    }
    Ok(())
}

impl Edited {
    fn inputs(&self, reversed: bool) -> Inputs {
        let snapshot = |objects: &Objects| -> Snapshot {
            if reversed { objects.values().rev().cloned().collect() } else { objects.values().cloned().collect() }
        };
        let clusters = self.live.iter().map(|(name, objects)| (name.clone(), Arc::new(snapshot(objects))));
        sandbox::inputs(&Fleet { settings: self.settings.clone(), clusters: clusters.collect() })
    }

    /// Some edits, in words.
    fn edit(&mut self) -> Vec<String> {
        (0..=self.random.below(MOST_AT_ONCE)).map(|_| self.edit_once()).collect()
    }

    fn edit_once(&mut self) -> String {
        let names: Vec<Name> = self.known.keys().cloned().collect();
        let Some(cluster) = self.random.pick(&names).cloned() else { return "nothing".to_owned() };
        let kind = self.random.below(20);
        if kind == 0 && self.live.contains_key(&cluster) {
            self.live.remove(&cluster);
            return format!("without {cluster}");
        }
        let back = !self.live.contains_key(&cluster);
        let live = self.live.entry(cluster.clone()).or_default();
        let known = &self.known[&cluster];
        if back {
            live.extend(known.iter().map(|object| (object.key().clone(), Arc::clone(object))));
            return format!("{cluster} back");
        }
        let keys: Vec<ObjectKey> = live.keys().cloned().collect();
        match (kind, self.random.pick(&keys).cloned()) {
            (1..=4, Some(key)) => {
                live.remove(&key);
                format!("{cluster} without {}", super::outcome::short(&key))
            }
            (5..=12, Some(key)) => {
                let mut value = live[&key].value();
                let what = change(&mut value, &mut self.random);
                match Object::from_value(&value) {
                    Ok(object) if *object.key() == key => {
                        live.insert(key.clone(), Arc::new(object));
                        format!("{cluster} {} {what}", super::outcome::short(&key))
                    }
                    _ => "nothing".to_owned(),
                }
            }
            _ => match self.random.pick(known) {
                Some(object) => {
                    live.insert(object.key().clone(), Arc::clone(object));
                    format!("{cluster} with {}", super::outcome::short(object.key()))
                }
                None => "nothing".to_owned(),
            },
        }
    }
}

/// Changes or removes something in the spec or the labels, and says what.
fn change(object: &mut Value, random: &mut Random) -> String {
    let mut paths = Vec::new();
    for root in ["/spec", "/metadata/labels"] {
        if let Some(value) = object.pointer(root) {
            collect(value, root.to_owned(), &mut paths);
        }
    }
    let Some(path) = random.pick(&paths).cloned() else { return "as it is".to_owned() };
    let Some((parent, last)) = path.rsplit_once('/') else { return "as it is".to_owned() };
    let last = last.replace("~1", "/").replace("~0", "~");
    if random.below(2) == 0 {
        match object.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(&last)),
            Some(Value::Array(items)) => {
                if let Ok(index) = last.parse::<usize>() {
                    items.remove(index);
                }
            }
            _ => {}
        }
        return format!("without {path}");
    }
    let Some(place) = object.pointer_mut(&path) else { return "as it is".to_owned() };
    *place = match place.take() {
        Value::String(text) => match random.below(3) {
            0 => Value::from(format!("{text}x")),
            1 => Value::from(text.to_uppercase()),
            _ => Value::from(*random.pick(&ODD_TEXTS).unwrap_or(&"")),
        },
        Value::Number(_) => Value::from(*random.pick(&[0_i64, -1, 1, 80, 15443, 70_000]).unwrap_or(&0)),
        Value::Bool(value) => Value::from(!value),
        Value::Array(mut items) => {
            items.extend(items.first().cloned());
            Value::Array(items)
        }
        Value::Object(_) => Value::Object(serde_json::Map::new()),
        Value::Null => Value::from("x"),
    };
    format!("with {path}: {place}")
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{path}/{name}"), paths);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, format!("{path}/{index}"), paths);
            }
        }
        _ => {}
    }
    paths.push(path);
}

/// Everything that leaves the program, by what it is.
fn bytes(translation: &Translation) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (cluster, snapshot) in &translation.outputs {
        for object in snapshot.iter() {
            let body = String::from_utf8_lossy(&object.body()).into_owned();
            all.insert(format!("{cluster}: {}", super::outcome::short(object.key())), body);
        }
        all.insert(format!("{cluster}: digest"), snapshot.digest().to_string());
    }
    for report in translation.reports.document().0 {
        all.insert(format!("report on {}", report.resource), serde_json::to_string(&report)?);
    }
    Ok(all)
}

fn difference(one: &BTreeMap<String, String>, two: &BTreeMap<String, String>) -> Option<String> {
    let keys: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    let different = keys.into_iter().find(|key| one.get(*key) != two.get(*key))?;
    let show = |all: &BTreeMap<String, String>| all.get(different).cloned().unwrap_or_else(|| "nothing".to_owned());
    Some(format!("{different}:\n  {}\n  {}", show(one), show(two)))
}

fn one_unit_per_object(translation: &Translation, units: &BTreeMap<UnitId, Unit>) -> anyhow::Result<()> {
    let mut makers: BTreeMap<(&Name, &ObjectKey), &UnitId> = BTreeMap::new();
    for unit in units.values() {
        for object in &unit.objects {
            let key = (&unit.id.context.cluster, object.key());
            if let Some(other) = makers.insert(key, &*unit.id) {
                bail!("{} of {} comes from {other:?} and {:?}", super::outcome::short(key.1), key.0, unit.id);
            }
            ensure!(
                translation.outputs.get(key.0).is_some_and(|output| output.get(key.1).is_some()),
                "{} of {} is in a unit, but not in the output",
                super::outcome::short(key.1),
                key.0
            );
        }
    }
    let published: usize = translation.outputs.values().map(|output| output.len()).sum();
    ensure!(published == makers.len(), "{published} objects in outputs, {} in units", makers.len());
    Ok(())
}

/// What a cluster that went away has no part in stays as it was.
fn only_dependents_differ(
    gone: &Name,
    before: &BTreeMap<UnitId, Unit>,
    after: &BTreeMap<UnitId, Unit>,
) -> anyhow::Result<()> {
    let depends = |unit: &Unit| {
        unit.id.context.cluster == *gone
            || unit.reads.iter().any(|(cluster, _)| cluster == gone)
            || unit.objects.iter().any(|object| shaped_by(object).iter().any(|shaper| shaper.cluster == *gone))
    };
    for id in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(id), after.get(id));
        if old == new || old.is_some_and(depends) || new.is_some_and(depends) {
            continue;
        }
        let keys = |unit: Option<&Unit>| -> Vec<String> {
            unit.into_iter().flat_map(|unit| &unit.objects).map(|object| super::outcome::short(object.key())).collect()
        };
        bail!(
            "without {gone}, {id:?} is another one, though nothing of {gone} has a part in it: {:?}, {:?}",
            keys(old),
            keys(new)
        );
    }
    Ok(())
}
