//! Generated objects: their metadata, and how they are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_api::{OutputKind, labels};
use meshrelay_snapshot::{Gvk, Name, Object, canonical_json};
use serde::Serialize;

use crate::names::label_value;
use crate::report::Notes;
use crate::unit::{Batch, Unit, UnitId, UnitKind};
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
    let text = object.annotations().get(SHAPED_BY).map(AsRef::as_ref).unwrap_or_default();
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
    spec: Arc<[u8]>,
    shapers: Arc<(Shapers, String)>,
}

impl Body {
    pub(crate) fn new<S: OutputKind>(spec: &S, shapers: Shapers) -> Self {
        let gvk = Gvk::new(S::GROUP, S::VERSION, S::KIND);
        // Specs have string keys and finite numbers only, so rendering cannot fail.
        let spec = canonical_json(&serde_json::to_value(spec).unwrap_or_default());
        let annotation = shapers.annotation();
        Self { gvk, spec: spec.into(), shapers: Arc::new((shapers, annotation)) }
    }
}

/// Collects what the units of one parent produce.
#[derive(Debug)]
pub(crate) struct Emission<'a> {
    parent: &'a ResourceRef,
    kind: UnitKind,
    units: BTreeMap<ContextId, Unit>,
    pub(crate) notes: Notes,
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
    labels: BTreeMap<&'a str, &'a str>,
    name: &'a str,
    namespace: &'a str,
}

impl<'a> Emission<'a> {
    pub(crate) fn new(kind: UnitKind, parent: &'a ResourceRef) -> Self {
        Self { parent, kind, units: BTreeMap::new(), notes: Notes::default() }
    }

    /// Emits an object into a context.
    pub(crate) fn emit(&mut self, context: &ContextId, name: &str, body: &Body, extra: Extra<'_>) {
        let ResourceRef { cluster: parent_cluster, key: parent } = self.parent;
        let system = [
            (labels::CONTEXT_CLUSTER, context.cluster.as_str()),
            (labels::CONTEXT_NAMESPACE, &context.namespace),
            (labels::CONTEXT_WORKSPACE, &context.workspace),
            (labels::PARENT_CLUSTER, parent_cluster),
            (labels::PARENT_GROUP, &parent.gvk.group),
            (labels::PARENT_KIND, &parent.gvk.kind),
            (labels::PARENT_NAME, &parent.name),
            (labels::PARENT_NAMESPACE, &parent.namespace),
            (labels::PARENT_VERSION, &parent.gvk.version),
        ]
        .map(|(key, value)| (key, label_value(value)));
        let mut all_labels: BTreeMap<&str, &str> =
            extra.labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        all_labels.extend(system.iter().map(|(key, value)| (*key, value.as_str())));
        all_labels.insert(labels::RECONCILER, TRANSLATOR);
        let mut annotations: BTreeMap<&str, &str> =
            extra.annotations.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        annotations.insert(labels::CLUSTER, &context.cluster);
        annotations.insert(SHAPED_BY, &body.shapers.1);
        let head = Head { annotations, labels: all_labels, name, namespace: &context.namespace };
        if let Some(object) = assemble(&body.gvk, &head, &body.spec) {
            self.add(context, object, &body.shapers.0);
        }
    }

    fn add(&mut self, context: &ContextId, object: Object, shapers: &Shapers) {
        let output = (context.cluster.clone(), object.key().clone());
        for shaper in shapers.0.iter().filter(|shaper| is_reported(shaper)) {
            self.notes.shaped(shaper, output.clone());
            // An east-west gateway may stand in a namespace that no workspace owns.
            if !context.workspace.is_empty() {
                self.notes.effective_in(shaper, &context.workspace);
            }
        }
        let unit = self.units.entry(context.clone()).or_insert_with(|| {
            let id = UnitId { context: context.clone(), kind: self.kind, parent: self.parent.clone() };
            Unit { id, reads: BTreeSet::new(), objects: Vec::new() }
        });
        let reads = shapers.0.iter().map(|shaper| (shaper.cluster.clone(), shaper.key.gvk.clone()));
        unit.reads.extend(reads);
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

/// Shapers whose reports list the generated objects: what users write to get objects. Workspaces and their settings
/// have a part in everything, so a list would say nothing.
fn is_reported(shaper: &ResourceRef) -> bool {
    let group = shaper.key.gvk.group.as_str();
    group.ends_with(".gloo.solo.io")
        && group != "internal.gloo.solo.io"
        && !shaper.key.gvk.kind.starts_with("Workspace")
}

/// Writes the canonical JSON directly: keys in byte order, no spaces.
fn assemble(gvk: &Gvk, head: &Head<'_>, spec: &[u8]) -> Option<Object> {
    let mut body = Vec::with_capacity(spec.len() + 1024);
    let api_version = gvk.api_version();
    body.extend_from_slice(b"{\"apiVersion\":");
    serde_json::to_writer(&mut body, &api_version).ok()?;
    body.extend_from_slice(b",\"kind\":");
    serde_json::to_writer(&mut body, &gvk.kind).ok()?;
    body.extend_from_slice(b",\"metadata\":");
    serde_json::to_writer(&mut body, head).ok()?;
    body.extend_from_slice(b",\"spec\":");
    body.extend_from_slice(spec);
    body.push(b'}');
    Object::from_canonical(body).ok()
}

#[cfg(test)]
mod tests {
    use meshrelay_api::istio::Gateway;
    use meshrelay_snapshot::ObjectKey;

    use super::*;

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
        assert_eq!(object.body(), canonical_json(&object.value()));
        assert_eq!(object.labels()["x"], "y");
        assert_eq!(object.labels()[labels::RECONCILER], "translator");
        assert_eq!(object.labels().len(), 11);
        let shapers = shaped_by(object);
        assert_eq!(shapers.len(), 2);
        assert_eq!((&*shapers[0].kind, &*shapers[0].namespace, &*shapers[1].name), ("Node", "", "a\"b"));
        assert_eq!(batch.notes.0.len(), 1, "nodes get no report");
    }
}
