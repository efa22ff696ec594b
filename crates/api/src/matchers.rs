//! What a request must look like for a route to take it.

message! {
    /// How some text must look.
    pub struct StringMatch {
        /// The whole text.
        pub exact: Option<String>,
        /// How the text begins.
        pub prefix: Option<String>,
        /// A regular expression (RE2) for the whole text.
        pub regex: Option<String>,
        /// How the text ends.
        pub suffix: Option<String>,
        /// Whether upper and lower case are the same; not for regular expressions.
        pub ignore_case: bool,
    }

    /// The way of matching.
    oneof match_type: StringMatchType {
        exact: Exact(String), prefix: Prefix(String), regex: Regex(String), suffix: Suffix(String),
    }
}

message! {
    /// HTTP requests for which all conditions hold.
    pub struct HttpRequestMatcher {
        /// A name for the matcher; without effect.
        pub name: String,
        /// The path.
        pub uri: Option<StringMatch>,
        /// Headers.
        pub headers: Vec<HeaderMatcher>,
        /// Query parameters.
        pub query_parameters: Vec<QueryParameterMatcher>,
        /// The method; empty means any.
        pub method: String,
        /// The port that was called; 0 means any.
        #[schemars(range(min = 0, max = 65535))]
        pub port: u32,
    }
}

message! {
    /// A header of a request.
    pub struct HeaderMatcher {
        /// Name of the header.
        pub name: String,
        /// Value of the header; empty means that it only has to be there.
        pub value: String,
        /// Whether `value` is a regular expression (RE2).
        pub regex: bool,
        /// Whether the condition holds when the rest does not.
        pub invert_match: bool,
    }
}

message! {
    /// A query parameter of a request.
    pub struct QueryParameterMatcher {
        /// Name of the parameter.
        pub name: String,
        /// Value of the parameter; empty means that it only has to be there.
        pub value: String,
        /// Whether `value` is a regular expression (RE2).
        pub regex: bool,
    }
}

message! {
    /// TCP connections.
    pub struct TcpRequestMatcher {
        /// The port that was called; 0 means any.
        #[schemars(range(min = 0, max = 65535))]
        pub port: u32,
    }
}

message! {
    /// TLS connections that are passed on unread.
    pub struct TlsRequestMatcher {
        /// Server names, the first label of which may be `*`; each must be among the hosts of the table.
        pub sni_hosts: Vec<String>,
        /// The port that was called; 0 means any.
        #[schemars(range(min = 0, max = 65535))]
        pub port: u32,
    }
}
