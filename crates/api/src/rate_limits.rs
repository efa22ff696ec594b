//! Rate limiting in the words of Envoy's rate limit service: clients describe requests, servers count what is described.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

message! {
    /// How requests are described to the server.
    pub struct RawRateLimits {
        /// Descriptions; each is counted on its own.
        pub rate_limits: Vec<RateLimitActions>,
    }
}

message! {
    /// One description of a request.
    pub struct RateLimitActions {
        /// Parts of an ordered description; it holds for a request only if every part does.
        pub actions: Vec<Action>,
        /// Parts of an unordered description, which the server's set descriptors match.
        pub set_actions: Vec<Action>,
        /// A limit that the request itself brings along.
        pub limit: Option<Override>,
    }
}

message! {
    /// One part of a description: a key and where its value comes from.
    pub struct Action {
        /// Key `source_cluster`: the cluster of the proxy.
        pub source_cluster: Option<ClusterAction>,
        /// Key `destination_cluster`: the upstream cluster that the request goes to.
        pub destination_cluster: Option<ClusterAction>,
        /// The value of a request header.
        pub request_headers: Option<RequestHeaders>,
        /// Key `remote_address`: the address of the client.
        pub remote_address: Option<RemoteAddress>,
        /// Key `generic_key` with a fixed value.
        pub generic_key: Option<GenericKey>,
        /// Key `header_match` with a fixed value, if request headers match.
        pub header_value_match: Option<HeaderValueMatch>,
        /// A value out of metadata.
        pub metadata: Option<MetaData>,
    }

    /// Where the value comes from.
    oneof action_specifier: ActionSpecifier {
        source_cluster: SourceCluster(ClusterAction),
        destination_cluster: DestinationCluster(ClusterAction),
        request_headers: RequestHeaders(RequestHeaders),
        remote_address: RemoteAddress(RemoteAddress),
        generic_key: GenericKey(GenericKey),
        header_value_match: HeaderValueMatch(HeaderValueMatch),
        metadata: Metadata(MetaData),
    }
}

message! {
    /// The name of an Envoy cluster.
    pub struct ClusterAction {}
}

message! {
    /// The address of the client.
    pub struct RemoteAddress {}
}

message! {
    /// The value of a request header.
    pub struct RequestHeaders {
        /// Name of the header.
        pub header_name: String,
        /// The key of the part.
        pub descriptor_key: String,
    }
}

message! {
    /// A fixed value.
    pub struct GenericKey {
        /// The value.
        pub descriptor_value: String,
    }
}

message! {
    /// A fixed value, if request headers match.
    pub struct HeaderValueMatch {
        /// The value.
        pub descriptor_value: String,
        /// Whether the headers must match (the default), or must not.
        #[schemars(extend("nullable" = true))]
        pub expect_match: Option<bool>,
        /// Conditions that must all hold.
        pub headers: Vec<HeaderCondition>,
    }
}

message! {
    /// A condition on a request header; without a way of matching, the header must be present.
    pub struct HeaderCondition {
        /// Name of the header.
        pub name: String,
        /// The whole value.
        pub exact_match: Option<String>,
        /// A regular expression for the whole value.
        pub regex_match: Option<String>,
        /// The value is a whole number of a range.
        pub range_match: Option<Int64Range>,
        /// Whether the header is there.
        pub present_match: Option<bool>,
        /// Beginning of the value.
        pub prefix_match: Option<String>,
        /// End of the value.
        pub suffix_match: Option<String>,
        /// Whether the condition is turned round.
        pub invert_match: bool,
    }

    /// The way of matching.
    oneof header_match_specifier: HeaderMatchSpecifier {
        exact_match: Exact(String),
        regex_match: Regex(String),
        range_match: Range(Int64Range),
        present_match: Present(bool),
        prefix_match: Prefix(String),
        suffix_match: Suffix(String),
    }
}

message! {
    /// Whole numbers from `start` up to but without `end`.
    pub struct Int64Range {
        /// The first number.
        pub start: i64,
        /// The number behind the last.
        pub end: i64,
    }
}

named_values! {
    /// Which metadata is read.
    pub enum MetadataSource {
        /// What filters wrote about the request.
        Dynamic = "DYNAMIC",
        /// What the route is configured with.
        RouteEntry = "ROUTE_ENTRY",
    }
}

message! {
    /// A value out of metadata.
    pub struct MetaData {
        /// The key of the part.
        pub descriptor_key: String,
        /// Where the value is.
        pub metadata_key: Option<MetadataKey>,
        /// The value when there is none.
        pub default_value: String,
        /// Which metadata is read.
        pub source: MetadataSource,
    }
}

message! {
    /// A place in metadata.
    pub struct MetadataKey {
        /// The namespace, as a rule the name of the filter that wrote it.
        pub key: String,
        /// Keys from the namespace down to the value.
        pub path: Vec<PathSegment>,
    }
}

message! {
    /// One step of a path.
    pub struct PathSegment {
        /// The key of a map.
        pub key: Option<String>,
    }

    /// What kind of step.
    oneof segment: PathStep { key: Key(String), }
}

message! {
    /// A limit that the request itself brings along.
    pub struct Override {
        /// It is in dynamic metadata.
        pub dynamic_metadata: Option<DynamicMetadata>,
    }

    /// Where it is.
    oneof override_specifier: OverrideSpecifier { dynamic_metadata: DynamicMetadata(DynamicMetadata), }
}

message! {
    /// A limit in dynamic metadata: a struct with `requests_per_unit` and `unit`.
    pub struct DynamicMetadata {
        /// Where the struct is.
        pub metadata_key: Option<MetadataKey>,
    }
}

message! {
    /// What the server counts, as the server reads it.
    pub struct RawServerConfig {
        /// A tree of keys; descriptions are matched in order.
        #[schemars(with = "Vec<Opaque>")]
        pub descriptors: Vec<Descriptor>,
        /// Sets of keys; descriptions are matched whatever their order.
        #[schemars(with = "Vec<Opaque>")]
        pub set_descriptors: Vec<SetDescriptor>,
    }
}

message! {
    /// A node of the tree.
    pub struct Descriptor {
        /// The key.
        pub key: String,
        /// The value; empty means any, each counted on its own.
        pub value: String,
        /// How many requests may come.
        pub rate_limit: Option<RateLimit>,
        /// What may follow.
        pub descriptors: Vec<Descriptor>,
        /// Of several that match, those of the highest weight count.
        pub weight: u32,
        /// Whether this counts whatever its weight.
        pub always_apply: bool,
    }
}

message! {
    /// A set of keys.
    pub struct SetDescriptor {
        /// The keys; a description may hold more.
        pub simple_descriptors: Vec<SimpleDescriptor>,
        /// How many requests may come.
        pub rate_limit: Option<RateLimit>,
        /// Whether this counts even if an earlier set matched.
        pub always_apply: bool,
    }
}

message! {
    /// A key of a set.
    pub struct SimpleDescriptor {
        /// The key.
        pub key: String,
        /// The value; empty means any, each counted on its own.
        pub value: String,
    }
}

named_values! {
    /// A span of time.
    pub enum RateLimitUnit {
        /// None is given.
        Unspecified = "UNKNOWN",
        /// A second.
        Second = "SECOND",
        /// A minute.
        Minute = "MINUTE",
        /// An hour.
        Hour = "HOUR",
        /// A day.
        Day = "DAY",
    }
}

message! {
    /// How many requests may come in which time.
    pub struct RateLimit {
        /// The time.
        pub unit: RateLimitUnit,
        /// The number of requests.
        pub requests_per_unit: u32,
    }
}

/// The schema of what recursion keeps out of a structural schema.
struct Opaque;

impl JsonSchema for Opaque {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Opaque".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trees_of_descriptors_are_read_whole_and_written_alike() {
        let document = json!({
            "descriptors": [{
                "key": "generic_key",
                "value": "counter",
                "descriptors": [{"key": "user", "rateLimit": {"unit": "MINUTE", "requestsPerUnit": 3}, "weight": 1}],
            }],
            "setDescriptors": [{"simpleDescriptors": [{"key": "a"}], "alwaysApply": true}],
        });
        let raw: RawServerConfig = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(raw.descriptors[0].descriptors[0].rate_limit.as_ref().unwrap().unit, RateLimitUnit::Minute);
        assert_eq!(serde_json::to_value(&raw).unwrap(), document);
    }
}
