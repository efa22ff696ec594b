use std::collections::BTreeMap;

use super::{RedisOptions, UserSession};
use crate::references::ObjectRef;
use crate::{Duration, Empty};

message! {
    /// A login with an OpenID provider.
    #[schemars(extend("required" = ["clientId", "issuerUrl", "appUrl", "callbackPath"]))]
    pub struct OidcAuthorizationCode {
        /// Identifies us to the provider.
        #[schemars(length(min = 1))]
        pub client_id: String,
        /// The old form of `clientAuthentication.clientSecret.clientSecretRef`.
        pub client_secret_ref: Option<ObjectRef>,
        /// Address of the provider.
        #[schemars(length(min = 1))]
        pub issuer_url: String,
        /// Parameters of the request to log in.
        pub auth_endpoint_query_params: BTreeMap<String, String>,
        /// Parameters of the request for tokens.
        pub token_endpoint_query_params: BTreeMap<String, String>,
        /// Address of the application.
        #[schemars(length(min = 1))]
        pub app_url: String,
        /// Path that the provider sends users back to.
        #[schemars(length(min = 1))]
        pub callback_path: String,
        /// Path that ends the session.
        pub logout_path: String,
        /// Where users are sent when the session has ended.
        pub after_logout_url: String,
        /// What the application asks for, beside `openid`.
        pub scopes: Vec<String>,
        /// How the login is remembered.
        pub session: Option<UserSession>,
        /// Headers in which the application gets the tokens.
        pub headers: Option<TokenHeaders>,
        /// Replaces what the provider says about itself.
        pub discovery_override: Option<DiscoveryOverride>,
        /// How often the provider is asked about itself.
        pub discovery_poll_interval: Option<Duration>,
        /// When the provider is asked for keys out of turn.
        pub jwks_cache_refresh_policy: Option<JwksRefreshPolicy>,
        /// The old form of `session.redis.headerName`.
        pub session_id_header_name: String,
        /// Whether `callbackPath` is a regular expression.
        pub parse_callback_path_as_regex: bool,
        /// Takes settings from metadata of the request.
        pub auto_map_from_metadata: Option<AutoMapFromMetadata>,
        /// How the provider is told that a session ends.
        pub end_session_properties: Option<EndSessionProperties>,
        /// Claims by the name of the metadata that they go into.
        pub dynamic_metadata_from_claims: BTreeMap<String, String>,
        /// The old form of `clientAuthentication.clientSecret.disableClientSecret`.
        #[schemars(extend("nullable" = true))]
        pub disable_client_secret: Option<bool>,
        /// What is taken from the access token.
        pub access_token: Option<TokenClaims>,
        /// What is taken from the identity token.
        pub identity_token: Option<TokenClaims>,
        /// How we prove to the provider who we are.
        #[schemars(extend("x-kubernetes-validations" = [{
            "rule": "has(self.clientSecret) || has(self.privateKeyJwt)",
            "message": "expected clientSecret or privateKeyJwt"
        }]))]
        pub client_authentication: Option<ClientAuthentication>,
        /// The provider has no peculiarities.
        pub default: Option<DefaultProvider>,
        /// The provider is Azure.
        pub azure: Option<Azure>,
    }

    /// Peculiarities of the provider.
    oneof provider: OidcProvider { default: Default(DefaultProvider), azure: Azure(Azure), }
}

message! {
    /// A provider without peculiarities.
    pub struct DefaultProvider {}
}

message! {
    /// Headers in which the application gets the tokens.
    pub struct TokenHeaders {
        /// For the identity token.
        pub id_token_header: String,
        /// For the access token.
        pub access_token_header: String,
        /// Whether `Bearer ` goes before the access token.
        #[schemars(extend("nullable" = true))]
        pub use_bearer_schema_for_authorization: Option<bool>,
    }
}

message! {
    /// Replaces what the provider says about itself; what is empty stays.
    pub struct DiscoveryOverride {
        /// Where users log in.
        pub auth_endpoint: String,
        /// Where tokens are given out.
        pub token_endpoint: String,
        /// Where the keys are.
        pub jwks_uri: String,
        /// Scopes that it knows.
        pub scopes: Vec<String>,
        /// Types of responses that it knows.
        pub response_types: Vec<String>,
        /// Types of subjects that it knows.
        pub subjects: Vec<String>,
        /// Algorithms that sign identity tokens.
        pub id_token_algs: Vec<String>,
        /// How it wants to be told who we are.
        pub auth_methods: Vec<String>,
        /// Claims that it gives.
        pub claims: Vec<String>,
        /// Where tokens are taken back.
        pub revocation_endpoint: String,
        /// Where sessions end.
        pub end_session_endpoint: String,
    }
}

message! {
    /// When the provider is asked for keys although they are in the cache.
    pub struct JwksRefreshPolicy {
        /// Never.
        pub never: Option<Empty>,
        /// Whenever a key is not known.
        pub always: Option<Empty>,
        /// When a key is not known, so many times between two turns.
        pub max_idp_req_per_polling_interval: Option<u32>,
    }

    /// When.
    oneof policy: JwksRefresh {
        never: Never(Empty), always: Always(Empty), max_idp_req_per_polling_interval: AtMost(u32),
    }
}

message! {
    /// Settings that come from metadata of the request.
    pub struct AutoMapFromMetadata {
        /// Namespace of the metadata.
        pub namespace: String,
    }
}

message! {
    /// How the provider is told that a session ends.
    pub struct EndSessionProperties {
        /// Method of the request.
        pub method_type: EndSessionMethod,
    }
}

named_values! {
    /// Method of a request.
    pub enum EndSessionMethod {
        /// GET.
        Get = "GetMethod",
        /// POST.
        Post = "PostMethod",
    }
}

message! {
    /// What is taken from a token.
    pub struct TokenClaims {
        /// Claims that go into headers.
        pub claims_to_headers: Vec<ClaimToHeader>,
    }
}

message! {
    /// A claim that goes into a header.
    pub struct ClaimToHeader {
        /// Name of the claim.
        pub claim: String,
        /// Name of the header.
        pub header: String,
        /// Whether what the header has already stays.
        pub append: bool,
    }
}

message! {
    /// How we prove to the provider who we are.
    pub struct ClientAuthentication {
        /// By a password.
        #[schemars(extend("x-kubernetes-validations" = [{
            "rule": "has(self.clientSecretRef) || (has(self.disableClientSecret) && self.disableClientSecret)",
            "message": "expected clientSecretRef or disableClientSecret: true"
        }]))]
        pub client_secret: Option<ClientSecret>,
        /// By a token that we sign.
        pub private_key_jwt: Option<PrivateKeyJwt>,
    }

    /// The way.
    oneof client_authentication_config: ClientAuthenticationType {
        client_secret: ClientSecret(ClientSecret), private_key_jwt: PrivateKeyJwt(PrivateKeyJwt),
    }
}

message! {
    /// A password.
    pub struct ClientSecret {
        /// Secret with the password.
        pub client_secret_ref: Option<ObjectRef>,
        /// Whether the provider wants none.
        #[schemars(extend("nullable" = true))]
        pub disable_client_secret: Option<bool>,
    }
}

message! {
    /// A token that we sign.
    #[schemars(extend("required" = ["signingKeyRef"]))]
    pub struct PrivateKeyJwt {
        /// Secret with the key.
        pub signing_key_ref: Option<ObjectRef>,
        /// How long a token is valid.
        pub valid_for: Option<Duration>,
    }
}

message! {
    /// Settings of Azure.
    pub struct Azure {
        /// Identifies us to Azure.
        pub client_id: String,
        /// The tenant there.
        pub tenant_id: String,
        /// Secret with the password.
        pub client_secret: Option<ObjectRef>,
        /// Where claims are kept.
        pub claims_caching_options: Option<RedisOptions>,
    }
}
