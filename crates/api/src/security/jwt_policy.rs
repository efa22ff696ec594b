use std::collections::BTreeMap;

use crate::Duration;
use crate::phases::PrioritizedPhase;
use crate::references::{DestinationReference, ObjectReference};
use crate::selectors::{DestinationSelector, RouteSelector};
use crate::status::Status;

message! {
    /// Which JSON web tokens requests must bring along.
    pub struct JwtPolicySpec {
        /// The routes; if neither routes nor destinations are given, all of the workspace.
        pub apply_to_routes: Vec<RouteSelector>,
        /// The destinations, Services only.
        pub apply_to_destinations: Vec<DestinationSelector>,
        /// What is demanded.
        pub config: Option<JwtConfig>,
    }
}

named_values! {
    /// Whether the route is chosen again after tokens were read.
    pub enum ClearRouteCache {
        /// If claims are copied to headers, so that routes can match them.
        Auto = "AUTO",
        /// Never.
        False = "FALSE",
        /// Always.
        True = "TRUE",
    }
}

named_values! {
    /// Which requests pass.
    pub enum ValidationPolicy {
        /// Only those with a valid token.
        RequireValid = "REQUIRE_VALID",
        /// Also those without a token.
        AllowMissing = "ALLOW_MISSING",
        /// All of them; valid tokens are read all the same.
        AllowMissingOrFailed = "ALLOW_MISSING_OR_FAILED",
    }
}

message! {
    /// What is demanded.
    pub struct JwtConfig {
        /// Who issues tokens, by a name for logs.
        pub providers: BTreeMap<String, JwtProvider>,
        /// Before or after external authorization; before it by default.
        pub phase: Option<PrioritizedPhase>,
        /// Old form of `validationPolicy: ALLOW_MISSING_OR_FAILED`.
        pub allow_missing_or_failed: bool,
        /// Whether the route is chosen again after tokens were read.
        pub clear_route_cache: ClearRouteCache,
        /// Claims that a token must hold, all of them.
        pub claims: Vec<ClaimMatcher>,
        /// Scopes that a token must hold, all of them.
        pub required_scopes: Vec<String>,
        /// Which requests pass.
        pub validation_policy: ValidationPolicy,
    }
}

message! {
    /// An issuer of tokens.
    pub struct JwtProvider {
        /// The `iss` claim; empty means that it is not looked at.
        pub issuer: String,
        /// Values of the `aud` claim of which one is needed; empty means any.
        pub audiences: Vec<String>,
        /// Where tokens are found; absent means the header `Authorization: Bearer` and the parameter `access_token`.
        pub token_source: Option<TokenSource>,
        /// Keys that are given here.
        pub local: Option<LocalJwks>,
        /// Keys that are fetched.
        pub remote: Option<RemoteJwks>,
        /// Claims that are copied to request headers.
        pub claims_to_headers: Vec<ClaimToHeader>,
        /// Whether the token stays in the request.
        pub keep_token: bool,
        /// How far clocks may differ; 60 seconds by default.
        #[schemars(extend("nullable" = true))]
        pub clock_skew_seconds: Option<u32>,
        /// Request header for the whole payload, encoded as base64url.
        pub output_payload_to_header: String,
    }

    /// Where keys come from.
    oneof jwks_source: JwksSource { local: Local(LocalJwks), remote: Remote(RemoteJwks), }
}

message! {
    /// Where tokens are found.
    pub struct TokenSource {
        /// Request headers.
        pub headers: Vec<TokenHeader>,
        /// Parameters of the query.
        pub query_params: Vec<String>,
    }
}

message! {
    /// A request header with a token.
    pub struct TokenHeader {
        /// Name of the header.
        pub name: String,
        /// What stands before the token.
        pub prefix: String,
    }
}

message! {
    /// Keys that are given here.
    pub struct LocalJwks {
        /// In a Secret.
        pub secret_ref: Option<JwksSecret>,
        /// As JWKS or as a public key in PEM.
        pub inline: Option<String>,
    }

    /// Where they are.
    oneof specifier: LocalJwksSpecifier { secret_ref: SecretRef(JwksSecret), inline: Inline(String), }
}

message! {
    /// Keys in a Secret.
    pub struct JwksSecret {
        /// The Secret.
        pub object_ref: Option<ObjectReference>,
        /// The key within its data.
        pub key: String,
    }
}

message! {
    /// Keys that are fetched.
    pub struct RemoteJwks {
        /// Their address.
        pub url: String,
        /// The destination that answers there.
        pub destination_ref: Option<DestinationReference>,
        /// How long they are kept; 5 minutes by default.
        pub cache_duration: Option<Duration>,
        /// How long fetching may take; 5 seconds by default.
        pub timeout: Option<Duration>,
        /// Whether they are fetched before the first request comes.
        pub enable_async_fetch: bool,
    }
}

message! {
    /// A claim that is copied to a request header.
    pub struct ClaimToHeader {
        /// The claim.
        pub claim: String,
        /// The header.
        pub header: String,
        /// Whether values that the header has already stay.
        pub append: bool,
    }
}

message! {
    /// A claim that a token must hold.
    pub struct ClaimMatcher {
        /// The claim.
        pub key: String,
        /// Values of which one is needed; a `*` at the beginning or the end stands for anything.
        pub values: Vec<String>,
        /// Values of which none may be there.
        pub not_values: Vec<String>,
        /// What divides the steps of `key` if the claim lies within others; empty means that it does not.
        pub nested_claim_delimiter: String,
    }
}

message! {
    /// What the server tells about the policy.
    pub struct JwtPolicyStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of routes that it applies to.
        pub num_selected_routes: u32,
        /// Number of ports of destinations that it applies to.
        pub num_selected_destination_ports: u32,
    }
}
