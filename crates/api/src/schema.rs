use schemars::generate::SchemaSettings;
use schemars::transform::Transform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::message::json_name;

/// The structural OpenAPI schemas of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSchema {
    /// Schema of `spec`.
    pub spec: Value,
    /// Schema of `status`.
    pub status: Value,
}

impl KindSchema {
    pub(crate) fn of<Spec: JsonSchema, Status: JsonSchema>() -> Self {
        Self { spec: structural::<Spec>(), status: structural::<Status>() }
    }
}

/// Demands at most one member of each oneof, as a structural schema can say it.
pub(crate) struct Oneofs(pub(crate) &'static [&'static [&'static str]]);

impl Transform for Oneofs {
    fn transform(&mut self, schema: &mut Schema) {
        let mut groups = self.0.iter().map(|members| {
            let required: Vec<Value> = members.iter().map(|member| json!({"required": [json_name(member)]})).collect();
            let none = json!({"not": {"anyOf": required}});
            std::iter::once(none).chain(required).collect::<Value>()
        });
        match self.0.len() {
            0 => {}
            1 => schema.ensure_object().extend(groups.next().map(|choices| ("oneOf".to_owned(), choices))),
            _ => {
                let all: Value = groups.map(|choices| json!({"oneOf": choices})).collect();
                schema.insert("allOf".to_owned(), all);
            }
        }
    }
}

/// The schema of a type in the form that Kubernetes demands: nothing by reference, one type per node, no defaults.
fn structural<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    clean(&mut schema);
    schema
}

fn clean(schema: &mut Value) {
    let Value::Object(node) = schema else { return };
    node.remove("title");
    node.remove("default");
    drop_null(node);
    bound_integers(node);
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(clean);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = node.get_mut(key) {
            clean(inner);
        }
    }
}

/// `Option` fields come as "this type or null"; absence is all that our `Option`s mean.
fn drop_null(node: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|name| name != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            node.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = node.get_mut("anyOf") else { return };
    choices.retain(|choice| *choice != json!({"type": "null"}));
    if let [Value::Object(only)] = choices.as_mut_slice() {
        let only = std::mem::take(only);
        node.remove("anyOf");
        for (key, value) in only {
            // What the field says itself, such as its description, goes before what its type says.
            node.entry(key).or_insert(value);
        }
    }
}

fn bound_integers(node: &mut Map<String, Value>) {
    match node.get("format").and_then(Value::as_str) {
        Some("uint32") => {
            node.remove("format");
            node.entry("minimum").or_insert_with(|| json!(0));
            node.entry("maximum").or_insert_with(|| json!(u32::MAX));
        }
        // Wrapped numbers come without a format.
        Some("int32") if node.get("nullable") == Some(&json!(true)) => {
            node.remove("format");
            node.entry("minimum").or_insert_with(|| json!(i32::MIN));
            node.entry("maximum").or_insert_with(|| json!(i32::MAX));
        }
        Some("double") => {
            node.remove("format");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::references::DestinationReference;
    use crate::selectors::PortSelector;

    fn without_descriptions(mut schema: Value) -> Value {
        fn strip(node: &mut Value) {
            let Value::Object(node) = node else { return };
            node.remove("description");
            if let Some(Value::Object(properties)) = node.get_mut("properties") {
                properties.values_mut().for_each(strip);
            }
        }
        strip(&mut schema);
        schema
    }

    #[test]
    fn a_oneof_becomes_at_most_one_of() {
        assert_eq!(
            without_descriptions(structural::<PortSelector>()),
            json!({
                "type": "object",
                "properties": {
                    "number": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "name": {"type": "string"}
                },
                "oneOf": [
                    {"not": {"anyOf": [{"required": ["number"]}, {"required": ["name"]}]}},
                    {"required": ["number"]},
                    {"required": ["name"]}
                ]
            })
        );
    }

    #[test]
    fn a_field_keeps_its_own_description_over_that_of_its_type() {
        let schema = structural::<DestinationReference>();
        assert_eq!(schema["properties"]["ref"]["type"], "object");
        assert!(schema["properties"]["ref"]["description"].as_str().unwrap().starts_with("The destination"));
        assert_eq!(schema["properties"]["weight"]["maximum"], u32::MAX);
        assert_eq!(schema["oneOf"][1]["required"], json!(["ref"]));
    }
}
