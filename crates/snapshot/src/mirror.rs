use std::sync::Arc;

use crate::{Delta, Object, Snapshot, sanitize};

/// A cluster's objects as they may leave it: sanitized, without Secrets and ConfigMaps.
///
/// Follows the raw snapshot change by change, so that a change costs as much as it changes and objects that did not
/// change are shared with the mirror's former states.
#[derive(Clone, Debug, Default)]
pub struct SanitizedMirror {
    raw: Snapshot,
    clean: Snapshot,
}

impl SanitizedMirror {
    /// Takes over what changed in the raw snapshot since the last call; returns that change.
    pub fn update(&mut self, raw: &Snapshot) -> Delta {
        let delta = raw.diff(&self.raw);
        for key in &delta.removes {
            self.clean.remove(key);
        }
        for object in delta.upserts.iter().filter(|object| may_leave(object)) {
            if let Some(object) = sanitized(object) {
                self.clean.insert(object);
            }
        }
        if let Some(meta) = &delta.meta {
            self.clean.set_meta(meta.clone());
        }
        self.raw = raw.clone();
        delta
    }

    /// The raw snapshot as of the last update.
    pub fn raw(&self) -> &Snapshot {
        &self.raw
    }

    /// The sanitized snapshot as of the last update.
    pub fn clean(&self) -> &Snapshot {
        &self.clean
    }
}

/// Secrets never leave their cluster with the inputs; config maps are read by discovery alone.
fn may_leave(object: &Object) -> bool {
    let gvk = &object.key().gvk;
    !(gvk.group.is_empty() && (gvk.kind == "Secret" || gvk.kind == "ConfigMap"))
}

fn sanitized(object: &Arc<Object>) -> Option<Arc<Object>> {
    let mut value = object.value();
    sanitize(&mut value);
    let sanitized = Object::from_value(&value).ok()?;
    Some(if sanitized.hash() == object.hash() { Arc::clone(object) } else { Arc::new(sanitized) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> Arc<Object> {
        Arc::new(Object::from_value(&value).unwrap())
    }

    #[test]
    fn secrets_stay_and_everything_else_follows() {
        let secret = object(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}));
        let service = |status: &str| {
            object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "status": {"x": status}}))
        };
        let mut mirror = SanitizedMirror::default();
        mirror.update(&[secret.clone(), service("1")].into_iter().collect());
        assert_eq!(mirror.clean().len(), 1);
        let before = mirror.clean().digest();
        mirror.update(&[secret, service("2")].into_iter().collect());
        assert_eq!(mirror.clean().digest(), before, "only status changed");
        mirror.update(&Snapshot::new());
        assert_eq!(*mirror.clean(), Snapshot::new());
    }
}
