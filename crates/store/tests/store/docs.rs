//! What `docs/redis.md` says is what the program does.

use meshrelay_store::RedisSettings;
use serde_json::Value;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md")).unwrap()
}

/// Path and value of every setting.
fn settings(prefix: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    for (name, value) in value.as_object().unwrap() {
        match value {
            Value::Object(_) => settings(&format!("{prefix}{name}."), value, found),
            _ => found.push((format!("{prefix}{name}"), value.clone())),
        }
    }
}

#[test]
fn every_setting_has_its_line_with_its_default() {
    let page = page();
    let mut all = Vec::new();
    settings("", &serde_json::to_value(RedisSettings::default()).unwrap(), &mut all);
    assert!(all.len() > 25, "{all:?}");
    for (name, default) in all {
        let last = format!(".{}`", name.rsplit('.').next().unwrap());
        let names = |line: &&str| {
            let cell = line.split('|').nth(1).unwrap_or_default();
            cell.contains(&format!("`{name}`")) || cell.contains(&format!("`{last}"))
        };
        let line = page.lines().find(names);
        let line = line.unwrap_or_else(|| panic!("docs/redis.md does not tell of {name}"));
        let default = match default {
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => format!("`{text}`"),
            Value::Null => "none".to_owned(),
            other => format!("`{other}`"),
        };
        assert!(line.contains("no effect") || line.contains(&default), "{name}: expected {default} in {line}");
    }
}

#[test]
fn the_permissions_that_tests_run_with_are_those_of_the_page() {
    let permissions = crate::redis::PERMISSIONS.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page().contains(&format!(":* {permissions}\n")), "{permissions}");
    assert!(page().contains(&format!("`{}`", crate::redis::OF_A_CLUSTER)));
}
