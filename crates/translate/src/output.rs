//! Generated objects: their metadata, and how they are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use meshrelay_api::{OutputKind, labels};
use meshrelay_snapshot::{Gvk, Name, Object, ObjectKey, canonical_json};
use serde::Serialize;

use crate::names;
use crate::report::Notes;
use crate::unit::{Batch, Unit, UnitId, UnitKind, UnitReads};
use crate::{ContextId, ResourceRef};

/// Annotation with all resources that had a part in a generated object, see [`shaped_by`].
pub const SHAPED_BY: &str = "meshrelay.io/shaped-by";

/// Value of the reconciler's label, as the original writes it.
const TRANSLATOR: &str = "translator";

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
    /// The JSON of the spec and the end of the object.
    spec: Vec<Arc<[u8]>>,
    shapers: Arc<Shaping>,
}

/// Who shaped a body, with what follows from that.
#[derive(Debug)]
struct Shaping {
    shapers: Shapers,
    annotation: String,
    reads: Arc<UnitReads>,
}

impl Body {
    pub(crate) fn new<S: OutputKind>(spec: &S, shapers: Shapers) -> Self {
        let mut json = Json::default();
        json.add(&written(spec));
        Self::written(Gvk::new(S::GROUP, S::VERSION, S::KIND), json, shapers)
    }

    /// The `spec` of a kind that is not Istio's.
    pub(crate) fn of(gvk: Gvk, spec: &serde_json::Value, shapers: Shapers) -> Self {
        let mut json = Json::default();
        json.add(&canonical_json(spec));
        Self::written(gvk, json, shapers)
    }

    /// The `spec` of a kind as canonical JSON.
    pub(crate) fn written(gvk: Gvk, mut spec: Json, shapers: Shapers) -> Self {
        spec.add(b"}");
        let annotation = shapers.annotation();
        let reads = shapers.0.iter().map(|shaper| (shaper.cluster.clone(), shaper.key.gvk.clone()));
        let reads = Arc::new(UnitReads::new(reads));
        Self { gvk, spec: spec.finish(), shapers: Arc::new(Shaping { shapers, annotation, reads }) }
    }

    /// The same with more kinds of clusters that had a part: too many resources to name them all.
    pub(crate) fn reading<'a>(self, more: impl IntoIterator<Item = &'a Arc<BTreeSet<(Name, Gvk)>>>) -> Self {
        let Shaping { shapers, annotation, reads } = &*self.shapers;
        let reads = Arc::new(more.into_iter().fold((**reads).clone(), |reads, more| reads.with(more)));
        let shaping = Shaping { shapers: shapers.clone(), annotation: annotation.clone(), reads };
        Self { shapers: Arc::new(shaping), ..self }
    }
}

/// Collects what the units of one parent produce.
#[derive(Debug)]
pub(crate) struct Emission<'a> {
    parent: &'a ResourceRef,
    kind: UnitKind,
    parent_labels: Vec<(Name, Name)>,
    units: BTreeMap<ContextId, Unit>,
    pub(crate) notes: Notes,
    /// Unions of two sets that were made before: most units of a parent read the same.
    merged: Vec<[Arc<UnitReads>; 3]>,
}

/// What an object has beside its spec. Annotations and labels that the system sets cannot be overridden.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) annotations: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct Head<'a> {
    annotations: BTreeMap<&'a str, &'a str>,
    labels: &'a BTreeMap<Name, Name>,
    name: &'a Name,
    namespace: &'a Name,
}

/// The keys of the labels that every generated object has.
struct LabelKeys {
    context: [Name; 3],
    parent: [Name; 6],
    reconciler: (Name, Name),
}

static LABEL_KEYS: LazyLock<LabelKeys> = LazyLock::new(|| LabelKeys {
    context: [labels::CONTEXT_CLUSTER, labels::CONTEXT_NAMESPACE, labels::CONTEXT_WORKSPACE].map(Name::from),
    parent: [
        labels::PARENT_CLUSTER,
        labels::PARENT_GROUP,
        labels::PARENT_KIND,
        labels::PARENT_NAME,
        labels::PARENT_NAMESPACE,
        labels::PARENT_VERSION,
    ]
    .map(Name::from),
    reconciler: (labels::RECONCILER.into(), TRANSLATOR.into()),
});

impl<'a> Emission<'a> {
    pub(crate) fn new(kind: UnitKind, parent: &'a ResourceRef) -> Self {
        let ResourceRef { cluster, key } = parent;
        let values = [cluster, &key.gvk.group, &key.gvk.kind, &key.name, &key.namespace, &key.gvk.version];
        let parent_labels = LABEL_KEYS.parent.iter().cloned().zip(values.map(label)).collect();
        Self { parent, kind, parent_labels, units: BTreeMap::new(), notes: Notes::default(), merged: Vec::new() }
    }

    /// Emits an object into a context.
    pub(crate) fn emit(&mut self, context: &ContextId, name: &str, body: &Body, extra: Extra<'_>) {
        let own = extra.labels.into_iter().flatten().map(|(key, value)| (Name::from(key), Name::from(value)));
        let mut all_labels: BTreeMap<Name, Name> = own.collect();
        all_labels.extend(self.parent_labels.iter().cloned());
        let values = [&context.cluster, &context.namespace, &context.workspace];
        all_labels.extend(LABEL_KEYS.context.iter().cloned().zip(values.map(label)));
        let (key, value) = &LABEL_KEYS.reconciler;
        all_labels.insert(key.clone(), value.clone());
        let mut annotations: BTreeMap<&str, &str> =
            extra.annotations.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        annotations.insert(labels::CLUSTER, &context.cluster);
        annotations.insert(SHAPED_BY, &body.shapers.annotation);
        let key = ObjectKey { gvk: body.gvk.clone(), namespace: context.namespace.clone(), name: Name::from(name) };
        let head = Head { annotations, labels: &all_labels, name: &key.name, namespace: &key.namespace };
        if let Some(start) = start(&body.gvk, &head) {
            let parts: Box<[_]> = [start].into_iter().chain(body.spec.iter().cloned()).collect();
            self.add(context, Object::from_written(key, all_labels, parts), &body.shapers);
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

/// Writes the canonical JSON up to the spec directly: keys in byte order, no spaces.
fn start(gvk: &Gvk, head: &Head<'_>) -> Option<Arc<[u8]>> {
    let mut body = Vec::with_capacity(1024);
    let api_version = gvk.api_version();
    body.extend_from_slice(b"{\"apiVersion\":");
    serde_json::to_writer(&mut body, &api_version).ok()?;
    body.extend_from_slice(b",\"kind\":");
    serde_json::to_writer(&mut body, &gvk.kind).ok()?;
    body.extend_from_slice(b",\"metadata\":");
    serde_json::to_writer(&mut body, head).ok()?;
    body.extend_from_slice(b",\"spec\":");
    Some(body.into())
}

/// A part of a spec as canonical JSON.
pub(crate) fn written<T: Serialize>(value: &T) -> Vec<u8> {
    // Specs have string keys and finite numbers only, so rendering cannot fail.
    canonical_json(&serde_json::to_value(value).unwrap_or_default())
}

/// Canonical JSON that is put together from pieces, some of them shared between objects.
#[derive(Debug, Default)]
pub(crate) struct Json {
    parts: Vec<Arc<[u8]>>,
    open: Vec<u8>,
}

impl Json {
    /// Below this, a copy is as small as what it takes to share a piece.
    const WORTH_SHARING: usize = 128;

    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.open.extend_from_slice(piece);
    }

    pub(crate) fn share(&mut self, piece: &Arc<[u8]>) {
        if piece.len() < Self::WORTH_SHARING {
            return self.add(piece);
        }
        self.close();
        self.parts.push(Arc::clone(piece));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.open.is_empty()
    }

    /// Adds an object with a field that comes before all those of another.
    pub(crate) fn add_first_field(&mut self, name: &str, value: Self, rest: &[u8]) {
        self.add(b"{\"");
        self.add(name.as_bytes());
        self.add(b"\":");
        for part in value.finish() {
            self.share(&part);
        }
        let rest = rest.strip_prefix(b"{").unwrap_or(rest);
        self.add(if rest == b"}" { b"" } else { b"," });
        self.add(rest);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.parts.push(std::mem::take(&mut self.open).into());
        }
    }

    fn finish(mut self) -> Vec<Arc<[u8]>> {
        self.close();
        self.parts
    }
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
