//! Translation, remembered: the same clusters in the same variants give the same outputs, for whichever server and seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use meshrelay_agent::discovery;
use meshrelay_snapshot::{
    ClusterFacts, ContentHash, Name, Object, ObjectKey, SanitizedMirror, Snapshot, SnapshotMeta, canonical_json,
};
use meshrelay_translate::{Allocations, Inputs, LastAccepted, Options, Reports, Stats, Translation, Translator};
use parking_lot::Mutex;
use serde_json::Value;

use crate::fleet::{self, Code, MANAGEMENT};

/// The variants of the clusters that a translation has, the management cluster among them.
pub(crate) type Codes = BTreeMap<Name, Code>;

struct Remembered {
    outputs: BTreeMap<Name, Arc<Snapshot>>,
    reports: Arc<Reports>,
    stats: Stats,
    allocations: Allocations,
    last_accepted: LastAccepted,
}

/// What the clusters hold, and what the translator remembers.
type Key = (BTreeMap<Name, ContentHash>, ContentHash);

static TRANSLATIONS: LazyLock<Mutex<BTreeMap<Key, Arc<Remembered>>>> = LazyLock::new(Mutex::default);

/// Does what the translator would do with these inputs, and leaves it as it would be.
pub(crate) fn translate(translator: &mut Translator, inputs: &Inputs) -> Translation {
    let contents = inputs.clusters.iter().map(|(name, input)| (name.clone(), unmarked(input))).collect();
    let state = (translator.allocations(), translator.last_accepted());
    let key: Key = (contents, ContentHash::of(&canonical_json(&serde_json::to_value(state).unwrap())));
    let found = TRANSLATIONS.lock().get(&key).cloned();
    let remembered = found.unwrap_or_else(|| {
        let mut scratch = Translator::new(Options::default())
            .with_allocations(translator.allocations().clone())
            .with_last_accepted(translator.last_accepted().clone());
        let Translation { outputs, reports, stats } = scratch.translate(inputs);
        let (allocations, last_accepted) = (scratch.allocations().clone(), scratch.last_accepted().clone());
        let remembered = Arc::new(Remembered { outputs, reports, stats, allocations, last_accepted });
        TRANSLATIONS.lock().insert(key, Arc::clone(&remembered));
        remembered
    });
    *translator = Translator::new(Options::default())
        .with_allocations(remembered.allocations.clone())
        .with_last_accepted(remembered.last_accepted.clone());
    let Remembered { outputs, reports, stats, .. } = &*remembered;
    Translation { outputs: outputs.clone(), reports: Arc::clone(reports), stats: *stats }
}

/// What an input holds, whichever state it is marked as.
fn unmarked(input: &Snapshot) -> ContentHash {
    let mut input = input.clone();
    let facts = ClusterFacts { kubernetes_version: String::new(), ..input.meta().facts.clone() };
    input.set_meta(SnapshotMeta { facts, ..SnapshotMeta::default() });
    input.digest()
}

/// The complete picture: what all registered clusters would have if everything were known.
pub(crate) type Picture = BTreeMap<Name, BTreeMap<ObjectKey, Arc<Content>>>;

static PICTURES: LazyLock<Mutex<BTreeMap<Codes, Arc<Picture>>>> = LazyLock::new(Mutex::default);

/// Makes the complete picture of clusters in these variants. Those that are not registered count for nothing.
pub(crate) fn picture(codes: &Codes) -> Arc<Picture> {
    let management = codes[MANAGEMENT];
    let counts = |name: &Name| name == MANAGEMENT || fleet::is_registered(management, name);
    let codes: Codes = codes
        .iter()
        .filter(|(name, _)| counts(name))
        .map(|(name, code)| (name.clone(), fleet::complete(name, *code) & !skip_warming(name)))
        .collect();
    let found = PICTURES.lock().get(&codes).cloned();
    found.unwrap_or_else(|| {
        let clusters = codes.iter().map(|(name, code)| (name.clone(), input(name, *code)));
        let inputs = Inputs { management_cluster: MANAGEMENT.into(), clusters: clusters.collect() };
        let mut translator = Translator::new(Options::default());
        let outputs = translate(&mut translator, &inputs).outputs;
        let contents = |output: &Snapshot| {
            output.iter().map(|object| (object.key().clone(), content(object))).collect::<BTreeMap<_, _>>()
        };
        let picture: Picture = outputs
            .iter()
            .filter(|(name, _)| *name != MANAGEMENT)
            .map(|(name, output)| (name.clone(), contents(output)))
            .collect();
        let picture = Arc::new(picture);
        PICTURES.lock().insert(codes, Arc::clone(&picture));
        picture
    })
}

fn skip_warming(cluster: &Name) -> Code {
    if cluster == MANAGEMENT { fleet::SKIP_WARMING } else { 0 }
}

/// The input that a cluster's agent, or the server itself, makes of a variant.
fn input(cluster: &Name, code: Code) -> Arc<Snapshot> {
    let raw = &fleet::view(cluster, code, 0, true).snapshot;
    if cluster == MANAGEMENT {
        let mut mirror = SanitizedMirror::default();
        mirror.update(raw);
        return Arc::new(mirror.clean().clone());
    }
    discovery::Input::new(cluster.clone(), discovery::Settings::default()).update(raw)
}

/// What an object says, apart from virtual addresses, which depend on what was there before, and what it depends on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Hosts, endpoints, destinations, matches and identities, with their places: what can be less than it was. One that is
    /// there twice is two.
    pub(crate) entries: BTreeSet<String>,
    pub(crate) spec: Value,
    /// The clusters that it depends on.
    pub(crate) depends_on: BTreeSet<Name>,
}

static CONTENTS: LazyLock<Mutex<BTreeMap<ContentHash, Arc<Content>>>> = LazyLock::new(Mutex::default);

pub(crate) fn content(object: &Object) -> Arc<Content> {
    let found = CONTENTS.lock().get(&object.hash()).cloned();
    found.unwrap_or_else(|| {
        let mut spec = object.value()["spec"].take();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("addresses");
        }
        let mut entries = BTreeSet::new();
        collect(&spec, "", false, &mut entries);
        let depends_on = meshrelay_snapshot::depends_on(object);
        let content = Arc::new(Content { entries, spec, depends_on });
        CONTENTS.lock().insert(object.hash(), Arc::clone(&content));
        content
    })
}

/// Ends of the places of what traffic finds its way by.
const COUNTS: [&str; 6] = [".address", ".host", ".hosts[]", ".prefix", ".principals[]", ".subjectAltNames[]"];

fn collect(value: &Value, place: &str, in_list: bool, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect(value, &format!("{place}.{name}"), in_list, into));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, &format!("{place}[]"), true, into)),
        leaf if in_list && COUNTS.iter().any(|field| place.ends_with(field)) => {
            let entry = format!("{place}={leaf}");
            let nth = (2_usize..).find(|nth| !into.contains(&format!("{entry} ({nth})")));
            let is_new = into.insert(entry.clone());
            into.extend(nth.filter(|_| !is_new).map(|nth| format!("{entry} ({nth})")));
        }
        _ => {}
    }
}
