use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A message without fields whose presence alone means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("maxProperties" = 0))]
pub struct Empty {}

/// Several fields are set of which at most one may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MR0104: expected at most one of {}, found {} together: keep one", .allowed.join(", "), .found.join(" and "))]
pub struct OneofConflict {
    /// The fields that are set, by their JSON names.
    pub found: Vec<String>,
    /// All fields of the group, by their JSON names.
    pub allowed: Vec<String>,
}

/// Whether a field is left out when written, as protobuf's JSON does with zero values.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `sub_zone` → `subZone`: the JSON name of a field.
pub(crate) fn json_name(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    let mut upper = false;
    for c in field.trim_start_matches("r#").chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                name.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => name.push(c),
        }
    }
    name
}

/// Declares a message: a struct with the JSON rules of protobuf, and for each of its oneofs a choice type and a method.
///
/// The members of a oneof are plain `Option` fields, because a document may set none, one or (wrongly) several: the
/// method tells which.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $ty:ty, )* }
        $(
            $(#[$oneof_meta:meta])*
            oneof $oneof:ident: $choice:ident { $( $member:ident: $variant:ident($member_ty:ty), )+ }
        )*
    ) => {
        #[derive(Clone, Debug, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        $(#[$meta])*
        #[serde(rename_all = "camelCase", default)]
        #[schemars(transform = crate::schema::Oneofs($name::ONEOFS))]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::message::is_default")]
                pub $field: $ty,
            )*
        }

        impl $name {
            /// The members of each oneof, by their Rust names.
            const ONEOFS: &'static [&'static [&'static str]] = &[ $( &[ $( stringify!($member) ),+ ] ),* ];

            $(
                $(#[$oneof_meta])*
                ///
                /// `None` when no member is set.
                ///
                /// # Errors
                /// When several members are set.
                pub fn $oneof(&self) -> Result<Option<$choice<'_>>, crate::OneofConflict> {
                    let mut chosen = None;
                    let mut found: Vec<&'static str> = Vec::new();
                    $(
                        if let Some(member) = &self.$member {
                            chosen = Some($choice::$variant(member));
                            found.push(stringify!($member));
                        }
                    )+
                    if found.len() < 2 {
                        return Ok(chosen);
                    }
                    Err(crate::OneofConflict {
                        found: found.into_iter().map(crate::message::json_name).collect(),
                        allowed: [$( stringify!($member) ),+].into_iter().map(crate::message::json_name).collect(),
                    })
                }
            )*
        }

        $(
            #[doc = concat!("The member that is set, see [`", stringify!($name), "::", stringify!($oneof), "`].")]
            #[derive(Clone, Copy, Debug, PartialEq)]
            pub enum $choice<'a> {
                $(
                    #[doc = concat!("`", stringify!($member), "` is set.")]
                    $variant(&'a $member_ty),
                )+
            }
        )*
    };
}

/// Declares an enum of named values. The first is the default, which is never written; a value that this version does
/// not know stays readable as `Unknown`.
macro_rules! named_values {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$first_meta:meta])* $first:ident = $first_text:literal,
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $(#[$first_meta])*
            #[default]
            $first,
            $( $(#[$variant_meta])* $variant, )*
            /// A value that this version does not know, as it was written.
            Unknown(String),
        }

        impl $name {
            /// The names of all known values; the position is the number of the value.
            pub const VALUES: &'static [&'static str] = &[$first_text $(, $text)*];

            /// The name of the value.
            pub fn as_str(&self) -> &str {
                match self {
                    Self::$first => $first_text,
                    $( Self::$variant => $text, )*
                    Self::Unknown(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $first_text => Self::$first,
                    $( $text => Self::$variant, )*
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(crate::message::NameOrNumber(Self::VALUES)).map(|text| Self::from(&*text))
            }
        }

        impl ::schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({ "type": "string", "enum": Self::VALUES })
            }
        }
    };
}

/// Reads the name of a value, or its number as protobuf's JSON allows.
pub(crate) struct NameOrNumber(pub(crate) &'static [&'static str]);

impl serde::de::Visitor<'_> for NameOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "one of {}", self.0.join(", "))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
        let name = usize::try_from(number).ok().and_then(|index| self.0.get(index));
        Ok(name.map_or_else(|| number.to_string(), |name| (*name).to_owned()))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
        u64::try_from(number).map_or_else(|_| Ok(number.to_string()), |number| self.visit_u64(number))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Empty;
    use crate::client_mode::{ClientMode, ClientModeChoice};
    use crate::references::{DestinationKind, DestinationReference};
    use crate::selectors::PortSelector;
    use crate::status::Approval;

    #[test]
    fn zero_values_are_left_out_and_presence_is_kept() {
        let reference = DestinationReference {
            kind: DestinationKind::Service,
            port: Some(PortSelector::default()),
            ..DestinationReference::default()
        };
        assert_eq!(serde_json::to_value(&reference).unwrap(), json!({"port": {}}));
        let number = PortSelector { number: Some(0), name: None };
        assert_eq!(serde_json::to_value(&number).unwrap(), json!({"number": 0}));
    }

    #[test]
    fn a_oneof_tells_none_one_and_many() {
        let mut mode = ClientMode::default();
        assert_eq!(mode.client_mode(), Ok(None));
        mode.sni_routing = Some(Empty {});
        assert_eq!(mode.client_mode(), Ok(Some(ClientModeChoice::SniRouting(&Empty {}))));
        mode.auto = Some(Empty {});
        assert_eq!(
            mode.client_mode().unwrap_err().to_string(),
            "MR0104: expected at most one of auto, sniRouting, tlsTermination, found auto and sniRouting together: \
             keep one"
        );
    }

    #[test]
    fn named_values_read_names_numbers_and_the_unknown() {
        let read = |value| serde_json::from_value::<Approval>(value).unwrap();
        assert_eq!(read(json!("WARNING")), Approval::Warning);
        assert_eq!(read(json!(3)), Approval::Warning);
        assert_eq!(read(json!("BETTER")), Approval::Unknown("BETTER".to_owned()));
        assert_eq!(serde_json::to_value(read(json!(77))).unwrap(), json!("77"));
        assert_eq!(serde_json::to_value(read(json!("BETTER"))).unwrap(), json!("BETTER"));
        let wrong = serde_json::from_value::<Approval>(json!({})).unwrap_err().to_string();
        assert!(wrong.starts_with("invalid type: map, expected one of PENDING, ACCEPTED"), "{wrong}");
    }
}
