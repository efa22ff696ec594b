use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that JSON holds as base64: written with padding in the standard alphabet, read in either alphabet with or
/// without padding, as protobuf's JSON allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedBytes(pub Vec<u8>);

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

impl Serialize for EncodedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for EncodedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
        GeneralPurpose::new(alphabet, LENIENT)
            .decode(&text)
            .map(Self)
            .map_err(|error| serde::de::Error::custom(format!("expected base64: {error}")))
    }
}

impl JsonSchema for EncodedBytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EncodedBytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "binary" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_alphabets_are_read_and_the_standard_one_is_written() {
        let bytes = EncodedBytes(vec![0xfb, 0xff, 0x01, 0x02]);
        for text in ["+/8BAg==", "+/8BAg", "-_8BAg=="] {
            assert_eq!(serde_json::from_value::<EncodedBytes>(json!(text)).unwrap(), bytes);
        }
        assert_eq!(serde_json::to_value(&bytes).unwrap(), json!("+/8BAg=="));
        let error = serde_json::from_value::<EncodedBytes>(json!("?")).unwrap_err().to_string();
        assert!(error.starts_with("expected base64: "), "{error}");
    }
}
