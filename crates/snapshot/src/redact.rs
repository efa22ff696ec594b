use serde_json::{Value, json};

use crate::{Object, ObjectError};

/// The same object without secrets: each value of a `Secret`'s `data` and `stringData` is replaced by its length.
/// Anything else comes back as it is. For logs, dumps and bug reports.
///
/// # Errors
/// Never in practice: redaction keeps the identity of the object.
pub fn redacted(object: &Object) -> Result<Object, ObjectError> {
    if object.key().gvk.kind != "Secret" || !object.key().gvk.group.is_empty() {
        return Ok(object.clone());
    }
    let mut value = object.value();
    for field in ["data", "stringData"] {
        for (_, secret) in value.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten() {
            let length = secret.as_str().map_or(0, str::len);
            *secret = json!(format!("REDACTED ({length} characters)"));
        }
    }
    Object::from_value(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_leaves_without_its_values() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "data": {"tls.key": "c2VjcmV0"}, "stringData": {"token": "hunter2"}});
        let text = redacted(&Object::from_value(&secret).unwrap()).unwrap().value().to_string();
        assert!(!text.contains("hunter2") && !text.contains("c2VjcmV0"), "{text}");
        assert!(text.contains("REDACTED (8 characters)"), "{text}");
    }
}
