use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshrelay_snapshot::{Name, Object, ObjectKey, Snapshot, depend_on, depends_on};
use serde_json::Value;

use crate::names;
use crate::unit::BatchId;
use crate::{Unit, UnitId};

/// The output snapshots, kept up to date as units change.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    clusters: BTreeMap<Name, ClusterOutput>,
}

#[derive(Debug, Default)]
struct ClusterOutput {
    /// Who produces an object of which key. The recipes of names are not free of collisions, so there can be several.
    claims: BTreeMap<ObjectKey, Claims>,
    /// Keys whose claims changed since the last snapshot.
    dirty: BTreeSet<ObjectKey>,
    /// For keys with several claims, under which key each but the first was published.
    renamed: BTreeMap<ObjectKey, BTreeMap<BatchId, ObjectKey>>,
    snapshot: Arc<Snapshot>,
}

/// The claims on one key, by unit. Nearly always there is one.
#[derive(Debug, Default)]
struct Claims {
    first: Option<(Arc<UnitId>, Arc<Object>)>,
    others: BTreeMap<Arc<UnitId>, Arc<Object>>,
}

impl Claims {
    fn remove(&mut self, unit: &Arc<UnitId>) {
        if self.first.as_ref().is_some_and(|(first, _)| first == unit) {
            self.first = self.others.pop_first();
        } else {
            self.others.remove(unit);
        }
    }

    fn insert(&mut self, unit: &Arc<UnitId>, object: &Arc<Object>) {
        let claim = (Arc::clone(unit), Arc::clone(object));
        let later = match &self.first {
            Some((first, _)) if first < unit => Some(claim),
            Some((first, _)) if first == unit => {
                self.first = Some(claim);
                None
            }
            _ => self.first.replace(claim),
        };
        self.others.extend(later);
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// All claims in the order of units.
    fn iter(&self) -> impl Iterator<Item = (&UnitId, &Arc<Object>)> {
        let first = self.first.iter().map(|(unit, object)| (unit, object));
        first.chain(&self.others).map(|(unit, object)| (&**unit, object))
    }
}

impl Outputs {
    /// Takes back the objects of some units and adds those of others.
    pub(super) fn replace(&mut self, before: &[Unit], after: &[Unit]) {
        for unit in before {
            let Some(output) = self.clusters.get_mut(&unit.id.context.cluster) else { continue };
            for object in &unit.objects {
                if let Some(claims) = output.claims.get_mut(object.key()) {
                    claims.remove(&unit.id);
                    if claims.is_empty() {
                        output.claims.remove(object.key());
                    }
                }
                output.dirty.insert(object.key().clone());
            }
        }
        for unit in after {
            let output = self.clusters.entry(unit.id.context.cluster.clone()).or_default();
            for object in &unit.objects {
                let claims = output.claims.entry(object.key().clone()).or_default();
                claims.insert(&unit.id, object);
                output.dirty.insert(object.key().clone());
            }
        }
    }

    /// The key under which an object was published, if another unit has the key that it was made with.
    pub(super) fn renamed(&self, cluster: &Name, key: &ObjectKey, batch: &BatchId) -> Option<&ObjectKey> {
        self.clusters.get(cluster)?.renamed.get(key)?.get(batch)
    }

    /// The snapshots of all clusters, and the batches of which objects were renamed or are not any more. Those without
    /// a change are the ones of last time.
    pub(super) fn publish<'a>(
        &mut self,
        clusters: impl Iterator<Item = &'a Name>,
    ) -> (BTreeMap<Name, Arc<Snapshot>>, BTreeSet<BatchId>) {
        let mut contested = BTreeSet::new();
        let clusters: BTreeSet<&Name> = clusters.collect();
        self.clusters.retain(|name, _| clusters.contains(name));
        let snapshots = clusters.into_iter().map(|name| {
            let output = self.clusters.entry(name.clone()).or_default();
            output.refresh(&mut contested);
            (name.clone(), Arc::clone(&output.snapshot))
        });
        (snapshots.collect(), contested)
    }
}

impl ClusterOutput {
    fn refresh(&mut self, contested: &mut BTreeSet<BatchId>) {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            return;
        }
        let snapshot = Arc::make_mut(&mut self.snapshot);
        for key in &dirty {
            for (batch, renamed) in self.renamed.remove(key).unwrap_or_default() {
                snapshot.remove(&renamed);
                contested.insert(batch);
            }
            let mut claims = self.claims.get(key).into_iter().flat_map(Claims::iter);
            let Some((_, first)) = claims.next() else {
                snapshot.remove(key);
                continue;
            };
            if snapshot.get(key).is_none_or(|known| !Arc::ptr_eq(known, first)) {
                snapshot.insert(Arc::clone(first));
            }
            let mut before = vec![first];
            for (unit, object) in claims {
                let renamed = renamed(object, unit, &before);
                before.push(object);
                if let Some(object) = renamed {
                    let batch = (unit.kind, unit.parent.clone());
                    contested.insert(batch.clone());
                    self.renamed.entry(key.clone()).or_default().insert(batch, object.key().clone());
                    snapshot.insert(Arc::new(object));
                }
            }
        }
    }
}

/// The object under a name that no other unit can have. It has it on account of those that came before it, so it depends on
/// what they depend on.
fn renamed(object: &Object, unit: &UnitId, before: &[&Arc<Object>]) -> Option<Object> {
    let mut value: Value = object.value();
    for other in before {
        depend_on(&mut value, &unit.context.cluster, &depends_on(other));
    }
    let parent = &unit.parent;
    let gvk = &parent.key.gvk;
    let identity = [
        "renamed",
        &object.key().name,
        &gvk.group,
        &gvk.kind,
        &parent.cluster,
        &parent.key.namespace,
        &parent.key.name,
    ];
    value["metadata"]["name"] = names::identified(&object.key().name, &identity).into();
    Object::from_value(&value).ok()
}

#[cfg(test)]
mod tests {
    use meshrelay_snapshot::Gvk;
    use serde_json::json;

    use super::*;
    use crate::{ContextId, ResourceRef, UnitKind};

    fn unit(parent: &str, content: u8) -> Unit {
        let value =
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "same", "namespace": "n"}, "spec": content});
        let key = ObjectKey::new(Gvk::new("g", "v1", "P"), "n", parent);
        let context = ContextId { cluster: "c".into(), namespace: "n".into(), workspace: "w".into() };
        let parent = ResourceRef { cluster: "c".into(), key };
        Unit {
            id: Arc::new(UnitId { context, kind: UnitKind::RouteTable, parent }),
            reads: Arc::default(),
            objects: vec![Arc::new(Object::from_value(&value).unwrap())],
        }
    }

    fn publish(outputs: &mut Outputs) -> Vec<(Name, Value)> {
        let snapshot = Arc::clone(&outputs.publish([&"c".into()].into_iter()).0["c"]);
        snapshot.sorted().iter().map(|object| (object.key().name.clone(), object.value()["spec"].clone())).collect()
    }

    #[test]
    fn two_units_with_one_name_both_get_through_in_any_order() {
        let (mut one, mut other) = (Outputs::default(), Outputs::default());
        one.replace(&[], &[unit("a", 1)]);
        assert_eq!(publish(&mut one), [("same".into(), json!(1))]);
        one.replace(&[], &[unit("b", 2)]);
        other.replace(&[], &[unit("b", 2)]);
        publish(&mut other);
        other.replace(&[], &[unit("a", 1)]);
        let both = publish(&mut one);
        assert_eq!(both, publish(&mut other));
        assert_eq!(both.len(), 2);
        assert!(both.contains(&("same".into(), json!(1))));
        one.replace(&[unit("a", 1)], &[]);
        assert_eq!(publish(&mut one), [("same".into(), json!(2))]);
        one.replace(&[unit("b", 2)], &[]);
        assert!(publish(&mut one).is_empty());
    }

    #[test]
    fn an_unchanged_snapshot_is_the_same_one() {
        let mut outputs = Outputs::default();
        outputs.replace(&[], &[unit("a", 1)]);
        let (first, _) = outputs.publish([&"c".into()].into_iter());
        let (second, _) = outputs.publish([&"c".into(), &"d".into()].into_iter());
        assert!(Arc::ptr_eq(&first["c"], &second["c"]));
        assert!(second["d"].is_empty());
    }
}
