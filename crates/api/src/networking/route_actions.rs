use crate::references::{ClusterObjectRef, DestinationReference};
use crate::regex::RegexMatchAndSubstitute;
use crate::selectors::{ObjectSelector, RouteFilter};

message! {
    /// Sends requests on.
    pub struct ForwardToAction {
        /// Where to, by weight; empty means the table's default destination.
        #[schemars(length(max = 100))]
        pub destinations: Vec<DestinationReference>,
        /// Replaces the prefix that was matched, or the whole path if the whole was matched.
        pub path_rewrite: Option<String>,
        /// Replaces what a regular expression finds in the path.
        pub regex_rewrite: Option<RegexMatchAndSubstitute>,
        /// Replaces the host.
        pub host_rewrite: Option<String>,
        /// Whether the host is replaced by that of the destination.
        pub auto_host_rewrite: Option<bool>,
    }

    /// What happens to the path.
    oneof path_rewrite_specifier: PathRewrite {
        path_rewrite: Path(String), regex_rewrite: Regex(RegexMatchAndSubstitute),
    }

    /// What happens to the host.
    oneof host_rewrite_specifier: HostRewrite { host_rewrite: Host(String), auto_host_rewrite: Auto(bool), }
}

message! {
    /// Leaves requests to the routes of other tables.
    pub struct DelegateAction {
        /// The tables, owned or imported.
        pub route_tables: Vec<ObjectSelector>,
        /// Which routes they may bring along; empty means all.
        pub allowed_routes: Vec<RouteFilter>,
        /// In which order their routes are tried.
        pub sort_method: SortMethod,
    }
}

named_values! {
    /// Order of the routes of several tables.
    pub enum SortMethod {
        /// By the weight of the tables, the highest first.
        TableWeight = "TABLE_WEIGHT",
        /// The most specific path first.
        RouteSpecificity = "ROUTE_SPECIFICITY",
    }
}

message! {
    /// Sends clients elsewhere.
    pub struct RedirectAction {
        /// Host to go to; empty means the same.
        pub host_redirect: String,
        /// Path to go to, as a whole; absent means the same.
        pub path_redirect: Option<String>,
        /// Status of the response.
        pub response_code: RedirectResponseCode,
    }

    /// What happens to the path.
    oneof path_rewrite_specifier: PathRedirect { path_redirect: Path(String), }
}

named_values! {
    /// Status of a redirect.
    pub enum RedirectResponseCode {
        /// 301.
        MovedPermanently = "MOVED_PERMANENTLY",
        /// 302.
        Found = "FOUND",
        /// 303.
        SeeOther = "SEE_OTHER",
        /// 307.
        TemporaryRedirect = "TEMPORARY_REDIRECT",
        /// 308.
        PermanentRedirect = "PERMANENT_REDIRECT",
    }
}

message! {
    /// Answers by itself.
    #[schemars(extend("required" = ["status"]))]
    pub struct DirectResponseAction {
        /// HTTP status.
        #[schemars(range(min = 100, max = 599))]
        pub status: u32,
        /// Body of the response, up to 1 MiB.
        #[schemars(length(max = 1_048_576))]
        pub body: String,
    }
}

message! {
    /// Answers GraphQL queries.
    pub struct GraphqlAction {
        /// The GraphQLSchema.
        pub schema: Option<ClusterObjectRef>,
        /// The GraphQLStitchedSchema.
        pub stitched_schema: Option<ClusterObjectRef>,
        /// Further settings.
        pub options: Option<GraphqlOptions>,
    }

    /// Where the schema comes from.
    oneof graphql_schema: GraphqlSchemaSource {
        schema: Schema(ClusterObjectRef), stitched_schema: StitchedSchema(ClusterObjectRef),
    }
}

message! {
    /// Settings of a GraphQL route.
    pub struct GraphqlOptions {
        /// Whether data of requests and responses may be logged.
        #[schemars(extend("nullable" = true))]
        pub log_sensitive_info: Option<bool>,
    }
}
