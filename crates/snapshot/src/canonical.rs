use serde_json::Value;

/// Writes a value as JSON with object keys in byte order and no white space, so that equal values give equal bytes
/// whatever map type the JSON library was built with.
pub fn canonical_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
            out.push(b'{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_scalar(&Value::String(key.clone()), out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &Value, out: &mut Vec<u8>) {
    // A scalar has only string keys and finite numbers, so writing it into memory cannot fail.
    out.extend_from_slice(value.to_string().as_bytes());
}

/// Writes a value as YAML for people: keys in byte order, which puts `apiVersion`, `kind`, `metadata`, `spec` and
/// `status` in the order that Kubernetes users expect.
pub fn to_yaml(value: &Value) -> String {
    serde_saphyr::to_string(&sorted(value)).unwrap_or_else(|error| format!("# not expressible as YAML: {error}\n"))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_nothing_else_changes() {
        let value = json!({"b": [1, {"z": null, "a": "x\n\"y"}], "a": 1.5});
        assert_eq!(String::from_utf8(canonical_json(&value)).unwrap(), r#"{"a":1.5,"b":[1,{"a":"x\n\"y","z":null}]}"#);
    }

    #[test]
    fn yaml_round_trips_strings_that_look_like_other_types() {
        let value = json!({
            "strings": ["yes", "no", "on", "1", "1.5", "0x10", "null", "~", "", "2024-01-01", "a: b", "# c", "*", "-", "true"],
            "text": "line one\nline two\n",
            "numbers": [1, -2, 1.5],
            "empty": {"map": {}, "list": []},
        });
        let read: Value = serde_saphyr::from_str(&to_yaml(&value)).unwrap();
        assert_eq!(read, value);
    }
}
