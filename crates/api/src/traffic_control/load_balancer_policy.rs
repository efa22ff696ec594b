use crate::Duration;
use crate::selectors::DestinationSelector;
use crate::status::Status;

/// That a text is a duration of any length.
macro_rules! a_duration {
    () => {
        serde_json::json!([{
            "rule": "duration(self) >= duration('0s') || duration(self) < duration('0s')",
            "message": "expected a duration such as 5s",
        }])
    };
}

message! {
    /// Which endpoint gets which request.
    #[schemars(extend("required" = ["config"]))]
    pub struct LoadBalancerPolicySpec {
        /// The destinations; empty means all that the workspace sees.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What holds for them.
        pub config: Option<LoadBalancerConfig>,
    }
}

named_values! {
    /// How endpoints take turns.
    pub enum SimpleLoadBalancer {
        /// As the mesh does by itself.
        Unspecified = "UNSPECIFIED",
        /// Any endpoint.
        Random = "RANDOM",
        /// The address that the client wanted.
        Passthrough = "PASSTHROUGH",
        /// One after the other.
        RoundRobin = "ROUND_ROBIN",
        /// The less busy one of two.
        LeastRequest = "LEAST_REQUEST",
    }
}

message! {
    /// Which endpoint gets which request.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "has(self.simple) || has(self.consistentHash)",
        "message": "expected simple or consistentHash, found neither",
    }]))]
    pub struct LoadBalancerConfig {
        /// Endpoints take turns.
        #[schemars(with = "SimpleLoadBalancer")]
        pub simple: Option<SimpleLoadBalancer>,
        /// Like requests go to one endpoint.
        pub consistent_hash: Option<ConsistentHash>,
        /// How long a new endpoint gets less than its share. Despite its name, a duration.
        #[schemars(extend("x-kubernetes-validations" = a_duration!()))]
        pub warmup_duration_secs: Option<Duration>,
        /// Share of healthy endpoints in percent below which health does not count any more.
        #[schemars(range(min = 0, max = 100), extend("nullable" = true, "x-kubernetes-validations" = [{
            "rule": "self == 0.0 || self >= 0.0001",
            "message": "expected 0 or at least 0.0001",
        }]))]
        pub healthy_panic_threshold: Option<f64>,
        /// How long changes of endpoints are gathered before they count; a second by default.
        #[schemars(extend("x-kubernetes-validations" = a_duration!()))]
        pub update_merge_window: Option<Duration>,
    }

    /// The way of choosing.
    oneof lb_policy: LbPolicy { simple: Simple(SimpleLoadBalancer), consistent_hash: ConsistentHash(ConsistentHash), }
}

message! {
    /// By what requests are like each other.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "has(self.httpHeaderName) || has(self.httpCookie) || has(self.useSourceIp) || \
                 has(self.httpQueryParameterName)",
        "message": "expected httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName, found none",
    }]))]
    pub struct ConsistentHash {
        /// By the value of this header.
        #[schemars(length(min = 1))]
        pub http_header_name: Option<String>,
        /// By a cookie.
        pub http_cookie: Option<HashCookie>,
        /// By the address of the client.
        pub use_source_ip: Option<bool>,
        /// By the value of this parameter.
        #[schemars(length(min = 1))]
        pub http_query_parameter_name: Option<String>,
    }

    /// By what requests are like each other.
    oneof hash_key: HashKey {
        http_header_name: HttpHeaderName(String), http_cookie: HttpCookie(HashCookie),
        use_source_ip: UseSourceIp(bool), http_query_parameter_name: HttpQueryParameterName(String),
    }
}

message! {
    /// A cookie that keeps a client at its endpoint.
    #[schemars(extend("required" = ["name"]))]
    pub struct HashCookie {
        /// Name of the cookie.
        #[schemars(length(min = 1))]
        pub name: String,
        /// Path that it holds for.
        pub path: String,
        /// How long it lives; with it, clients without the cookie are given one.
        #[schemars(extend("x-kubernetes-validations" = a_duration!()))]
        pub ttl: Option<Duration>,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct LoadBalancerPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of ports of destinations that it selects.
        pub num_selected_destination_ports: u32,
    }
}
