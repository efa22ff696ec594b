//! Settings in layers: defaults, then a YAML file, then the environment and flags. Unknown keys are rejected, so that a
//! misspelt setting is an error and not a surprise.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why the settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("settings file {}: {source} (MR0001)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not YAML of the expected shape.
    #[error("settings file {}: {message} (MR0002)", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        message: String,
    },
    /// Flags, environment and file together do not make valid settings.
    #[error("settings: {0} (MR0003)")]
    Invalid(#[from] serde_json::Error),
}

/// Reads the effective settings: what `flags` states (flags and environment, absent ones being `null` or left out) wins
/// over the file, which wins over the defaults of `S`.
///
/// `S` has to reject unknown fields; `flags` uses the same field names.
///
/// # Errors
/// [`SettingsError`] naming the file, line and column, or the field.
pub fn load<S>(file: Option<&Path>, flags: &impl Serialize) -> Result<S, SettingsError>
where
    S: DeserializeOwned + Serialize + Default,
{
    let mut effective = serde_json::to_value(S::default())?;
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        let parse =
            |error: serde_saphyr::Error| SettingsError::Parse { path: path.to_owned(), message: error.to_string() };
        // Read as settings first: this is where unknown keys and wrong types are refused with line and column.
        let _: S = serde_saphyr::from_str(&text).map_err(parse)?;
        overlay(&mut effective, serde_saphyr::from_str(&text).map_err(parse)?);
    }
    overlay(&mut effective, serde_json::to_value(flags)?);
    Ok(serde_json::from_value(effective)?)
}

/// Puts everything that `upper` states over `lower`; maps are merged, `null` states nothing.
fn overlay(lower: &mut Value, upper: Value) {
    match (lower, upper) {
        (_, Value::Null) => {}
        (Value::Object(lower), Value::Object(upper)) => {
            for (key, value) in upper {
                overlay(lower.entry(key).or_insert(Value::Null), value);
            }
        }
        (lower, upper) => *lower = upper,
    }
}

/// The settings as YAML, for `--print-config`.
///
/// # Errors
/// When the settings cannot be expressed as YAML.
pub fn print(settings: &impl Serialize) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(settings)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
    struct Sample {
        relay_port: u16,
        safe_mode: bool,
        sans: Vec<String>,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { relay_port: 9900, safe_mode: false, sans: vec![] }
        }
    }

    #[derive(Serialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Flags {
        relay_port: Option<u16>,
        safe_mode: Option<bool>,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("relayPort: 1\nsafeMode: true\n");
        let flags = Flags { relay_port: Some(2), ..Flags::default() };
        let settings: Sample = load(Some(file.path()), &flags).unwrap();
        assert_eq!(settings, Sample { relay_port: 2, safe_mode: true, sans: vec![] });
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let file = file("safeMode: true\nsafemode: true\n");
        let error = load::<Sample>(Some(file.path()), &Flags::default()).unwrap_err().to_string();
        assert!(error.contains("safemode") && error.contains("line 2"), "{error}");
    }
}
