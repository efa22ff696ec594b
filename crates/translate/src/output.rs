//! Generated objects: their metadata, and how they are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::{OutputKind, labels};
use meshrelay_snapshot::{DEPENDS_ON, Gvk, Name, Object, ObjectKey, Pieces, canonical_json};
use serde::Serialize;

use crate::depends::DependsOn;
use crate::names;
use crate::report::Notes;
use crate::unit::{Batch, Unit, UnitId, UnitKind, UnitReads};
use crate::{ContextId, ResourceRef};

/// Annotation with all resources that had a part in a generated object, see [`shaped_by`].
pub const SHAPED_BY: &str = "meshrelay.io/shaped-by";

/// A resource as the annotation [`SHAPED_BY`] names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shaper {
    /// Kind, such as `VirtualDestination`.
    pub kind: Name,
    /// Cluster that holds it.
    pub cluster: Name,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: Name,
    /// Name.
    pub name: Name,
}

/// The resources that had a part in a generated object, ordered; nothing for objects that are not generated.
pub fn shaped_by(object: &Object) -> Vec<Shaper> {
    let text = object.annotation(SHAPED_BY).unwrap_or_default();
    text.split(',')
        .filter_map(|entry| {
            let mut parts = entry.splitn(4, '/').map(Name::from);
            Some(Shaper { kind: parts.next()?, cluster: parts.next()?, namespace: parts.next()?, name: parts.next()? })
        })
        .collect()
}

/// The resources that had a part in some objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shapers(BTreeSet<ResourceRef>);

impl Shapers {
    /// These and more.
    pub(crate) fn with<'a>(&self, more: impl IntoIterator<Item = &'a ResourceRef>) -> Self {
        let mut all = self.clone();
        all.0.extend(more.into_iter().cloned());
        all
    }

    fn annotation(&self) -> String {
        let entries: BTreeSet<String> = self
            .0
            .iter()
            .map(|ResourceRef { cluster, key }| format!("{}/{cluster}/{}/{}", key.gvk.kind, key.namespace, key.name))
            .collect();
        entries.into_iter().collect::<Vec<_>>().join(",")
    }
}

impl<'a> FromIterator<&'a ResourceRef> for Shapers {
    fn from_iter<I: IntoIterator<Item = &'a ResourceRef>>(resources: I) -> Self {
        Self(resources.into_iter().cloned().collect())
    }
}

/// A `spec` with its shapers, rendered once for all the contexts in which it is the same.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    gvk: Gvk,
    /// The JSON of the spec.
    spec: Pieces,
    shapers: Arc<Shaping>,
}

/// Who shaped a body, with what follows from that.
#[derive(Debug)]
struct Shaping {
    shapers: Shapers,
    /// The JSON of what [`SHAPED_BY`] says.
    annotation: Arc<[u8]>,
    reads: Arc<UnitReads>,
    /// The clusters in `reads`.
    clusters: BTreeSet<Name>,
}

impl Shaping {
    fn new(shapers: Shapers, annotation: Arc<[u8]>, reads: UnitReads) -> Self {
        let clusters = reads.clusters();
        Self { shapers, annotation, reads: Arc::new(reads), clusters }
    }
}

impl Body {
    pub(crate) fn new<S: OutputKind>(spec: &S, shapers: Shapers) -> Self {
        Self::written(Gvk::new(S::GROUP, S::VERSION, S::KIND), written(spec).into(), shapers)
    }

    /// The `spec` of a kind that is not Istio's.
    pub(crate) fn of(gvk: Gvk, spec: &serde_json::Value, shapers: Shapers) -> Self {
        Self::written(gvk, canonical_json(spec).into(), shapers)
    }

    /// The `spec` of a kind as canonical JSON.
    pub(crate) fn written(gvk: Gvk, spec: Pieces, shapers: Shapers) -> Self {
        let annotation = quoted(&shapers.annotation()).into();
        let reads = shapers.0.iter().map(|shaper| (shaper.cluster.clone(), shaper.key.gvk.clone()));
        let reads = UnitReads::new(reads);
        Self { gvk, spec: spec.into_shared(), shapers: Arc::new(Shaping::new(shapers, annotation, reads)) }
    }

    /// The same with more kinds of clusters that had a part: too many resources to name them all.
    pub(crate) fn reading<'a>(self, more: impl IntoIterator<Item = &'a Arc<BTreeSet<(Name, Gvk)>>>) -> Self {
        let Shaping { shapers, annotation, reads, clusters } = &*self.shapers;
        let mut all = UnitReads::clone(reads);
        let mut clusters = clusters.clone();
        let mut is_more = false;
        for more in more {
            if !more.is_empty() && all.add(more) {
                is_more = true;
                clusters.extend(more.iter().map(|(cluster, _)| cluster.clone()));
            }
        }
        if !is_more {
            return self;
        }
        let (shapers, annotation, reads) = (shapers.clone(), Arc::clone(annotation), Arc::new(all));
        Self { shapers: Arc::new(Shaping { shapers, annotation, reads, clusters }), ..self }
    }
}

/// Collects what the units of one parent produce.
#[derive(Debug)]
pub(crate) struct Emission<'a> {
    parent: &'a ResourceRef,
    kind: UnitKind,
    /// Labels that are the same in all contexts, and the end of the JSON of an object's labels.
    parent_labels: Vec<(&'static str, Name)>,
    written_labels: Arc<[u8]>,
    units: BTreeMap<ContextId, Unit>,
    pub(crate) notes: Notes,
    /// Unions of two sets that were made before: most units of a parent read the same.
    merged: Vec<[Arc<UnitReads>; 3]>,
    depends_on: DependsOn,
}

/// What an object has beside its spec. Annotations and labels that the system sets cannot be overridden.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) annotations: Option<&'a BTreeMap<String, String>>,
}

/// Labels that say where an object is, in the order of their keys, before all of the parent's.
const CONTEXT_LABELS: [&str; 3] = [labels::CONTEXT_CLUSTER, labels::CONTEXT_NAMESPACE, labels::CONTEXT_WORKSPACE];

impl<'a> Emission<'a> {
    pub(crate) fn new(kind: UnitKind, parent: &'a ResourceRef) -> Self {
        let ResourceRef { cluster, key } = parent;
        let parent_labels = vec![
            (labels::PARENT_CLUSTER, label(cluster)),
            (labels::PARENT_GROUP, label(&key.gvk.group)),
            (labels::PARENT_KIND, label(&key.gvk.kind)),
            (labels::PARENT_NAME, label(&key.name)),
            (labels::PARENT_NAMESPACE, label(&key.namespace)),
            (labels::PARENT_VERSION, label(&key.gvk.version)),
            // As the original writes it.
            (labels::RECONCILER, Name::from("translator")),
        ];
        let mut written = Pieces::default();
        add_map(&mut written, &parent_labels.iter().map(|(key, value)| (*key, Text::Plain(value))).collect());
        let written_labels = written.bytes()[1..].into();
        Self {
            parent,
            kind,
            parent_labels,
            written_labels,
            units: BTreeMap::new(),
            notes: Notes::default(),
            merged: Vec::new(),
            depends_on: DependsOn::default(),
        }
    }

    /// Emits an object into a context.
    pub(crate) fn emit(&mut self, context: &ContextId, name: &str, body: &Body, extra: Extra<'_>) {
        let key = ObjectKey { gvk: body.gvk.clone(), namespace: context.namespace.clone(), name: Name::from(name) };
        // Canonical: keys in byte order, no spaces.
        let mut json = Pieces::default();
        json.add(b"{\"apiVersion\":");
        json.add(&quoted(&body.gvk.api_version()));
        json.add(b",\"kind\":");
        json.add(&quoted(&body.gvk.kind));
        json.add(b",\"metadata\":{\"annotations\":");
        let own = extra.annotations.into_iter().flatten();
        let mut annotations: BTreeMap<&str, Text<'_>> =
            own.map(|(key, value)| (key.as_str(), Text::Plain(value))).collect();
        annotations.insert(labels::CLUSTER, Text::Plain(&context.cluster));
        annotations.insert(SHAPED_BY, Text::Quoted(&body.shapers.annotation));
        let depends_on = self.depends_on.written(&body.shapers.clusters, &context.cluster);
        match &depends_on {
            Some(others) => drop(annotations.insert(DEPENDS_ON, Text::Quoted(others))),
            None => drop(annotations.remove(DEPENDS_ON)),
        }
        add_map(&mut json, &annotations);
        json.add(b",\"labels\":");
        self.add_labels(&mut json, context, extra.labels);
        json.add(b",\"name\":");
        json.add(&quoted(name));
        json.add(b",\"namespace\":");
        json.add(&quoted(&context.namespace));
        json.add(b"},\"spec\":");
        json.extend(&body.spec);
        json.add(b"}");
        self.add(context, Object::from_written(key, json), &body.shapers);
    }

    fn add_labels(&self, json: &mut Pieces, context: &ContextId, own: Option<&BTreeMap<String, String>>) {
        let context = [&context.cluster, &context.namespace, &context.workspace].map(label);
        let context = CONTEXT_LABELS.into_iter().zip(context.iter().map(|value| Text::Plain(value)));
        match own.filter(|own| !own.is_empty()) {
            // Those of the parent come last, and are the same in all contexts.
            None => {
                for (key, value) in context {
                    json.add(if key == CONTEXT_LABELS[0] { b"{" } else { b"," });
                    add_field(json, key, value);
                }
                json.add(b",");
                json.share(&self.written_labels);
            }
            Some(own) => {
                let own = own.iter().map(|(key, value)| (key.as_str(), Text::Plain(value)));
                let parent = self.parent_labels.iter().map(|(key, value)| (*key, Text::Plain(value)));
                add_map(json, &own.chain(parent).chain(context).collect());
            }
        }
    }

    fn add(&mut self, context: &ContextId, object: Object, shaping: &Shaping) {
        let output = (context.cluster.clone(), object.key().clone());
        for shaper in shaping.shapers.0.iter().filter(|shaper| is_reported(shaper)) {
            self.notes.shaped(shaper, output.clone());
            // An east-west gateway may stand in a namespace that no workspace owns.
            if !context.workspace.is_empty() {
                self.notes.effective_in(shaper, &context.workspace);
            }
        }
        let unit = self.units.entry(context.clone()).or_insert_with(|| {
            let id = UnitId { context: context.clone(), kind: self.kind, parent: self.parent.clone() };
            Unit { id: Arc::new(id), reads: Arc::clone(&shaping.reads), objects: Vec::new() }
        });
        if !Arc::ptr_eq(&unit.reads, &shaping.reads) {
            unit.reads = merge(&mut self.merged, &unit.reads, &shaping.reads);
        }
        unit.objects.push(Arc::new(object));
    }

    pub(crate) fn finish(self) -> Batch {
        let mut units: Vec<Unit> = self.units.into_values().collect();
        for unit in &mut units {
            unit.objects.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        }
        Batch { units, notes: self.notes }
    }
}

/// The union of two sets, shared between those who need the same.
fn merge(known: &mut Vec<[Arc<UnitReads>; 3]>, one: &Arc<UnitReads>, other: &Arc<UnitReads>) -> Arc<UnitReads> {
    let is_it = |[a, b, _]: &&[Arc<UnitReads>; 3]| Arc::ptr_eq(a, one) && Arc::ptr_eq(b, other);
    if let Some([_, _, union]) = known.iter().rev().find(is_it) {
        return Arc::clone(union);
    }
    let union = Arc::new(one.union(other));
    known.push([Arc::clone(one), Arc::clone(other), Arc::clone(&union)]);
    union
}

/// A value as a label takes it.
fn label(value: &Name) -> Name {
    if value.len() <= names::MAX { value.clone() } else { Name::from(names::label_value(value)) }
}

/// Shapers whose reports list the generated objects: what users write to get objects. Workspaces and their settings
/// have a part in everything, so a list would say nothing.
fn is_reported(shaper: &ResourceRef) -> bool {
    let group = shaper.key.gvk.group.as_str();
    group.ends_with(".gloo.solo.io")
        && group != "internal.gloo.solo.io"
        && !shaper.key.gvk.kind.starts_with("Workspace")
}

/// A text in JSON.
#[derive(Clone, Copy)]
enum Text<'a> {
    Plain(&'a str),
    /// Written, and shared.
    Quoted(&'a Arc<[u8]>),
}

pub(crate) fn quoted(text: &str) -> Vec<u8> {
    // Writing a text into memory cannot fail.
    serde_json::to_vec(text).unwrap_or_default()
}

fn add_field(json: &mut Pieces, key: &str, value: Text<'_>) {
    json.add(&quoted(key));
    json.add(b":");
    match value {
        Text::Plain(text) => json.add(&quoted(text)),
        Text::Quoted(text) => json.share(text),
    }
}

fn add_map(json: &mut Pieces, map: &BTreeMap<&str, Text<'_>>) {
    for (index, (key, value)) in map.iter().enumerate() {
        json.add(if index == 0 { b"{" } else { b"," });
        add_field(json, key, *value);
    }
    json.add(b"}");
}

/// A part of a spec as canonical JSON.
pub(crate) fn written<T: Serialize>(value: &T) -> Vec<u8> {
    // Specs have string keys and finite numbers only, so rendering cannot fail.
    canonical_json(&serde_json::to_value(value).unwrap_or_default())
}

/// Adds an object with a field that comes before all those of another.
pub(crate) fn add_with_first_field(json: &mut Pieces, name: &str, value: &Pieces, rest: &[u8]) {
    json.add(b"{\"");
    json.add(name.as_bytes());
    json.add(b"\":");
    json.extend(value);
    let rest = rest.strip_prefix(b"{").unwrap_or(rest);
    json.add(if rest == b"}" { b"" } else { b"," });
    json.add(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshrelay_api::istio::Gateway;

    #[test]
    fn an_object_is_canonical_and_says_what_shaped_it() {
        let parent = ResourceRef {
            cluster: "mgmt".into(),
            key: ObjectKey::new(Gvk::new("networking.gloo.solo.io", "v2", "RouteTable"), "n", "a\"b"),
        };
        let node = ResourceRef { cluster: "c".into(), key: ObjectKey::new(Gvk::new("", "v1", "Node"), "", "node-1") };
        let context = ContextId { cluster: "c".into(), namespace: "n".into(), workspace: "w".into() };
        let shapers: Shapers = [&parent, &node].into_iter().collect();
        let spec = Gateway { selector: BTreeMap::from([("b".to_owned(), "c".to_owned())]), ..Gateway::default() };
        let body = Body::new(&spec, shapers);
        let mut emission = Emission::new(UnitKind::RouteTable, &parent);
        let user = BTreeMap::from([("x".to_owned(), "y".to_owned()), (labels::RECONCILER.to_owned(), "me".to_owned())]);
        emission.emit(&context, "name", &body, Extra { labels: Some(&user), ..Extra::default() });
        let batch = emission.finish();
        let object = &batch.units[0].objects[0];
        assert_eq!(*object.body(), canonical_json(&object.value()));
        assert_eq!(object.labels()["x"], "y");
        assert_eq!(object.labels()[labels::RECONCILER], "translator");
        assert_eq!(object.labels().len(), 11);
        let shapers = shaped_by(object);
        assert_eq!(shapers.len(), 2);
        assert_eq!((&*shapers[0].kind, &*shapers[0].namespace, &*shapers[1].name), ("Node", "", "a\"b"));
        assert_eq!(batch.notes.0.len(), 1, "nodes get no report");
    }
}
