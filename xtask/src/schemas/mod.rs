//! Custom resource definitions, as an API server holds objects against them, except for rules in CEL: those are for
//! `cargo xtask istioctl`, which has the API server's own code.

mod structure;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::codegen::documents;
use crate::codegen::go_module::Unreachable;
use crate::codegen::istio;
use crate::say;
use structure::Check;

/// The schemas of definitions by API version and kind.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    by_kind: BTreeMap<(String, String), Value>,
}

impl Schemas {
    /// The definitions below a directory, or else those of Istio's Go module; `None`, and a line that says so, if the
    /// module cannot be had here and now.
    ///
    /// # Errors
    /// When definitions are there and cannot be read.
    pub(crate) fn wanted(directory: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let definitions = match directory {
            Some(directory) => {
                documents::below(directory)?.into_iter().flat_map(|(_, found)| found.unwrap_or_default()).collect()
            }
            None => match istio::definitions() {
                Ok(definitions) => definitions,
                Err(error) if error.is::<Unreachable>() => {
                    say(&format!("SKIPPED schemas of generated objects: {error:#}\n"));
                    return Ok(None);
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Some(Self::of(definitions)))
    }

    fn of(definitions: Vec<Value>) -> Self {
        let mut schemas = Self::default();
        for definition in definitions.into_iter().filter(|document| document["kind"] == "CustomResourceDefinition") {
            let spec = &definition["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for version in spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true)
            {
                let api_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                let schema = version["schema"]["openAPIV3Schema"].clone();
                schemas.by_kind.insert((api_version, text(&spec["names"]["kind"])), schema);
            }
        }
        schemas
    }

    /// Whether there is a definition of that kind.
    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.by_kind.keys().any(|(_, known)| known == kind)
    }

    /// Why an API server would not take an object; nothing for kinds without a definition.
    pub(crate) fn problems(&self, object: &Value) -> Vec<String> {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        match self.by_kind.get(&(api_version.clone(), kind.clone())) {
            Some(schema) => Check::default().object(schema, object),
            None if self.knows(&kind) => vec![format!("apiVersion: {kind} has no version {api_version}")],
            None => Vec::new(),
        }
    }
}

/// Holds every expected object of the golden fleets against its definition, prints what is wrong, and tells whether all
/// is well.
///
/// # Errors
/// When fleets or definitions cannot be read.
pub(crate) fn validate_fleets(root: &Path, crds: Option<&Path>) -> anyhow::Result<bool> {
    let Some(schemas) = Schemas::wanted(crds)? else { return Ok(true) };
    let Checked { objects, without, problems } = fleets(root, &schemas)?;
    for problem in &problems {
        say(&format!("{problem}\n"));
    }
    let without = without.into_iter().collect::<Vec<_>>().join(", ");
    let without = if without.is_empty() { "none".to_owned() } else { without };
    say(&format!("{objects} objects, {} problems; kinds without a definition: {without}\n", problems.len()));
    Ok(problems.is_empty())
}

#[derive(Debug, Default)]
struct Checked {
    objects: usize,
    without: BTreeSet<String>,
    problems: Vec<String>,
}

fn fleets(root: &Path, schemas: &Schemas) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    let fleets = root.join("tests/fleets");
    for (path, documents) in documents::below(&fleets)? {
        let below = path.strip_prefix(&fleets).unwrap_or(&path);
        if below.iter().nth(1).is_none_or(|part| part != "expected") {
            continue;
        }
        let documents = documents.unwrap_or_else(|error| {
            checked.problems.push(format!("{}: {error}", below.display()));
            Vec::new()
        });
        for object in documents.iter().filter(|document| document["kind"].is_string()) {
            let (kind, name) = (object["kind"].as_str().unwrap_or_default(), &object["metadata"]["name"]);
            checked.objects += 1;
            if !schemas.knows(kind) {
                checked.without.insert(kind.to_owned());
            }
            let found = schemas.problems(object).into_iter();
            checked.problems.extend(found.map(|problem| format!("{}: {kind} {name}: {problem}", below.display())));
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expected_objects_satisfy_their_definitions() {
        let Some(schemas) = Schemas::wanted(None).unwrap() else { return };
        let Checked { objects, problems, .. } = fleets(&crate::repository(), &schemas).unwrap();
        assert!(objects > 100, "{objects}");
        assert!(problems.is_empty(), "{problems:#?}");
    }

    #[test]
    fn what_istio_would_not_take_is_found() {
        let Some(schemas) = Schemas::wanted(None).unwrap() else { return };
        let object = |spec: Value| {
            json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
                "metadata": {"name": "x", "namespace": "y"}, "spec": spec})
        };
        assert_eq!(schemas.problems(&object(json!({"host": "a", "subsets": [{"name": "v1"}]}))), [] as [&str; 0]);
        let wrong = [
            (json!({}), "spec: host is missing"),
            (json!({"host": "a", "hosts": []}), "spec.hosts: no such field"),
            (json!({"host": 1}), "spec.host: expected string, found 1"),
            (
                json!({"host": "a", "trafficPolicy": {"tls": {"mode": "HARD"}}}),
                "spec.trafficPolicy.tls.mode: expected one of",
            ),
            (
                json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM", "consistentHash": {}}}}),
                "spec.trafficPolicy.loadBalancer: expected exactly one",
            ),
        ];
        for (spec, expected) in wrong {
            let problems = schemas.problems(&object(spec.clone()));
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{spec}: {problems:?}");
        }
        let mut old = object(json!({"host": "a"}));
        old["apiVersion"] = "networking.istio.io/v0".into();
        assert_eq!(schemas.problems(&old).len(), 1);
    }
}
