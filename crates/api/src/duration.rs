use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000_000;

/// Every unit that Go's `time.ParseDuration` knows, in nanoseconds; both micro signs are in use.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// A span of time in nanoseconds, about ±292 years.
///
/// Reads what Go's `time.ParseDuration` reads (`1m30s`, `500ms`, `1.5h`) and writes seconds as protobuf's JSON does
/// (`90s`, `0.500s`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

/// Some text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration like 1m30s, 500ms or 1.5h, found {0:?}")]
pub struct ParseDurationError(String);

impl Duration {
    /// From a number of nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The whole span in nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whether Istio takes it: a millisecond or more, and nothing finer.
    pub const fn is_whole_milliseconds(self) -> bool {
        self.0 > 0 && self.0 % 1_000_000 == 0
    }

    /// As the standard library's type; `None` when negative.
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.0).ok().map(std::time::Duration::from_nanos)
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        parse(text).map(Self).ok_or_else(|| ParseDurationError(text.to_owned()))
    }
}

/// Go's grammar: an optional sign, then `0` or one or more decimal numbers with a unit each.
fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(fraction_of(fraction, unit))?;
        rest = after;
    }
    // The smallest i64 has no positive counterpart.
    if negative { 0_i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `0.fraction` of a unit, cut off below a nanosecond; 14 digits say all there is to say about an hour.
fn fraction_of(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0_u128, 1_u128);
    for digit in fraction.bytes().take(14) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(value * u128::from(unit) / scale).unwrap_or(unit)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, nanos) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (seconds, fraction) = (nanos / SECOND, nanos % SECOND);
        match fraction {
            0 => write!(f, "{sign}{seconds}s"),
            _ if fraction % 1_000_000 == 0 => write!(f, "{sign}{seconds}.{:03}s", fraction / 1_000_000),
            _ if fraction % 1_000 == 0 => write!(f, "{sign}{seconds}.{:06}s", fraction / 1_000),
            _ => write!(f, "{sign}{seconds}.{fraction:09}s"),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Rules for fields with durations that Istio takes, see [`Duration::is_whole_milliseconds`].
pub(crate) fn whole_milliseconds() -> Value {
    let too_fine = "expected a whole number of milliseconds";
    json!([
        {"rule": "duration(self) >= duration('1ms')", "message": "expected at least 1ms"},
        {"rule": "!self.contains('ns') && !self.contains('us') && !self.contains('μs')", "message": too_fine},
        {
            "rule": "(duration(self)-duration('1ns')).getMilliseconds() == duration(self).getMilliseconds()-1",
            "message": too_fine,
        },
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(text: &str) -> String {
        text.parse::<Duration>().unwrap().to_string()
    }

    #[test]
    fn reads_what_go_reads_and_writes_seconds() {
        for (text, expected) in [
            ("0", "0s"),
            ("5s", "5s"),
            ("1m30s", "90s"),
            ("500ms", "0.500s"),
            ("1.5h", "5400s"),
            ("-1.5s", "-1.500s"),
            ("+.5s", "0.500s"),
            ("1.s", "1s"),
            ("1us", "0.000001s"),
            ("3µs", "0.000003s"),
            ("3μs", "0.000003s"),
            ("1ns", "0.000000001s"),
            ("1h1m1.001s", "3661.001s"),
            ("0.3333333333333333333h", "1199.999999999s"),
            ("-9223372036854775808ns", "-9223372036.854775808s"),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in
            ["", "5", "s", ".", ".s", "-", "1d", "1 s", "1s ", "1e3s", "--1s", "9223372036854775808ns", "3000000h"]
        {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {text:?}")), "{error}");
        }
    }

    #[test]
    fn whole_milliseconds_are_told_from_finer_ones() {
        let is_whole = |text: &str| text.parse::<Duration>().unwrap().is_whole_milliseconds();
        assert!(["1ms", "1.5s", "1000us", "2h"].into_iter().all(is_whole));
        assert!(!["0s", "-1s", "1us", "1.5ms"].into_iter().any(is_whole));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(nanos: i64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+]?[0-9.µμnumsh ]{0,12}") {
            let _ = text.parse::<Duration>();
        }
    }
}
