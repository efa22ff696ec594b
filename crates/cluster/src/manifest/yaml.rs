use serde_json::{Number, Value};
use serde_saphyr::{Error, Options};

use super::YamlProblem;
use super::problem::shortened;

/// Deepest nesting that is read. The schemas in the CRDs that embed pods have about 30 levels; in a debug build the
/// parser takes 27 KB of stack for each, and threads have 2 MiB.
const MAX_DEPTH: usize = 48;

/// Reads one document. Positions are those within `text`.
pub(super) fn parse(text: &str) -> Result<Value, YamlProblem> {
    serde_saphyr::from_str_with_options(text, options()).map(whole_numbers).map_err(|error| problem(text, &error))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            // A 10 MiB document of real resources has about 400,000 nodes.
            max_nodes: 1_000_000,
            max_events: 3_000_000,
        },
        // Enough for any hand-written document with anchors, and too little for an alias bomb.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // kubectl reads `defaultMode: 0644` as 420.
        legacy_octal_numbers: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// Numbers as kubectl hands them on: `1.0` and `1e3` are the integers 1 and 1000 in its JSON.
pub(super) fn whole_numbers(value: Value) -> Value {
    // Beyond 2^53 a float does not tell which integer was meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 2^53")]
                let whole = float as i64;
                Value::Number(Number::from(whole))
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect(),
        other => other,
    }
}

fn problem(text: &str, error: &Error) -> YamlProblem {
    let place = error.location().map(|at| (at.line(), at.column())).unwrap_or((1, 1));
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).max(1);
    let (line, column) = (number(place.0), number(place.1));
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    if let Some((line, written)) = missing_colon(text, line, message) {
        let column = 1 + written.len() - written.trim_start().len();
        return YamlProblem::syntax(line, column, "`key: value`", format!("`{}`", shortened(written.trim())));
    }
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    let here = if written.is_empty() { "nothing".to_owned() } else { format!("`{}`", shortened(written)) };
    if let Some(limit) = limit(error) {
        return YamlProblem::limit(line, column, limit, "more");
    }
    if let Error::DuplicateMappingKey { key, .. } = error.without_snippet() {
        let key = key.as_deref().map_or_else(|| here.clone(), |key| format!("`{}`", shortened(key)));
        return YamlProblem::syntax(line, column, "each key once in a mapping", format!("{key} a second time"));
    }
    let known = EXPECTATIONS.iter().find(|(part, _)| message.contains(part)).map(|(_, expected)| *expected);
    match known {
        _ if written.contains("{{") => YamlProblem::syntax(line, column, "plain YAML (render templates first)", here),
        Some(expected) => YamlProblem::syntax(line, column, expected, here),
        None => YamlProblem::syntax(line, column, format!("valid YAML ({})", shortened(message)), here),
    }
}

/// The line above the place of the error, if what is wrong is that it has no colon: then YAML takes it and the next
/// line for one text, and complains only about the next colon.
fn missing_colon<'a>(text: &'a str, line: usize, message: &str) -> Option<(usize, &'a str)> {
    if !message.contains("mapping values are not allowed") {
        return None;
    }
    let mut lines = text.lines().skip(line.checked_sub(2)?);
    let (above, here) = (lines.next()?, lines.next()?);
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let plain = !above.contains(':') && !above.trim_start().starts_with(['#', '-']) && !above.trim().is_empty();
    (plain && indentation(above) == indentation(here)).then_some((line - 1, above))
}

fn limit(error: &Error) -> Option<String> {
    Some(match error.without_snippet() {
        Error::ExternalMessage { msg, .. } if msg.contains("recursion limit exceeded") => {
            format!("at most {MAX_DEPTH} levels of nesting")
        }
        Error::Budget { breach, .. } => match breach {
            serde_saphyr::budget::BudgetBreach::Depth { .. } => format!("at most {MAX_DEPTH} levels of nesting"),
            _ => "a document within the limits of size".to_owned(),
        },
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "aliases that stay small when they are expanded".to_owned(),
        Error::AliasError { error, .. } => return limit(error),
        _ => return None,
    })
}

/// What a person should have written, by a part of the parser's message.
const EXPECTATIONS: [(&str, &str); 11] = [
    ("mapping values are not allowed", "a key at the indentation of its neighbours, or a value in quotes"),
    ("tabs disallowed", "spaces for indentation, not tabs"),
    ("expected ':'", "`key: value`"),
    ("did not find expected key", "a key at the indentation of its neighbours"),
    ("did not find expected '-'", "a list item `- …` or the end of the list"),
    ("block sequence entries are not allowed", "a list on lines of its own"),
    ("unclosed quote", "a closing quote"),
    ("unclosed bracket", "a closing bracket"),
    ("illegal placement of ':'", "a closing bracket before the next key"),
    ("unknown anchor", "an anchor that is defined above in the same document"),
    ("expected string scalar", "text as the key"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_come_out_as_kubectl_makes_them() {
        let text = "octal: 0644\nfloat: 1.0\nexponent: 1e3\nbig: 18446744073709551615\nyes: yes\noff: off\n\
            date: 2026-01-02\ntime: 2026-01-02T03:04:05Z\nquoted: '1'\nnothing: ~\nversion: 1.10\nclock: 12:30:45\n\
            hex: 0x1F\nbase: &base {a: 1, b: 2}\nmerged: {<<: *base, b: 3}\ntext: |\n  x\n  y\n";
        let expected = json!({
            "octal": 420, "float": 1, "exponent": 1000, "big": 18_446_744_073_709_551_615_u64, "yes": true,
            "off": false,
            "date": "2026-01-02", "time": "2026-01-02T03:04:05Z", "quoted": "1", "nothing": null, "version": 1.1,
            "clock": "12:30:45", "hex": 31, "base": {"a": 1, "b": 2}, "merged": {"a": 1, "b": 3}, "text": "x\ny\n",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }
}
