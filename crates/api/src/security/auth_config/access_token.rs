use std::collections::BTreeMap;

use crate::Duration;
use crate::references::ObjectRef;

message! {
    /// Access tokens that clients bring.
    pub struct AccessTokenValidation {
        /// The old form of `introspection.introspectionUrl`.
        #[schemars(length(min = 1))]
        pub introspection_url: Option<String>,
        /// The token is a JWT.
        pub jwt: Option<JwtValidation>,
        /// The provider says what the token is worth.
        #[schemars(extend("x-kubernetes-validations" = [{
            "rule": "has(self.clientId) && size(self.clientId) > 0 ? has(self.clientSecretRef) || \
                (has(self.disableClientSecret) && self.disableClientSecret) : !has(self.clientSecretRef)",
            "message": "expected clientSecretRef or disableClientSecret: true beside clientId, and no clientSecretRef \
                without it"
        }]))]
        pub introspection: Option<IntrospectionValidation>,
        /// Where the provider tells about users.
        pub userinfo_url: String,
        /// How long answers are kept.
        pub cache_timeout: Option<Duration>,
        /// What the token must be good for.
        pub required_scopes: Option<ScopeList>,
        /// Claims by the name of the metadata that they go into.
        pub dynamic_metadata_from_claims: BTreeMap<String, String>,
    }

    /// How tokens are validated.
    oneof validation_type: TokenValidation {
        introspection_url: IntrospectionUrl(String), jwt: Jwt(JwtValidation),
        introspection: Introspection(IntrospectionValidation),
    }

    /// How scopes are validated.
    oneof scope_validation: ScopeValidation { required_scopes: RequiredScopes(ScopeList), }
}

message! {
    /// Tokens that are signed.
    pub struct JwtValidation {
        /// Keys at an address.
        pub remote_jwks: Option<RemoteJwks>,
        /// Keys that are written here.
        pub local_jwks: Option<LocalJwks>,
        /// Who must have issued the token.
        pub issuer: String,
    }

    /// Where the keys are.
    oneof jwks_source_specifier: JwksSource { remote_jwks: Remote(RemoteJwks), local_jwks: Local(LocalJwks), }
}

message! {
    /// Keys at an address.
    #[schemars(extend("required" = ["url"]))]
    pub struct RemoteJwks {
        /// The address.
        #[schemars(length(min = 1))]
        pub url: String,
        /// How often they are read.
        pub refresh_interval: Option<Duration>,
    }
}

message! {
    /// Keys that are written here.
    #[schemars(extend("required" = ["inlineString"]))]
    pub struct LocalJwks {
        /// The keys.
        #[schemars(length(min = 1))]
        pub inline_string: String,
    }
}

message! {
    /// The provider says what a token is worth.
    #[schemars(extend("required" = ["introspectionUrl"]))]
    pub struct IntrospectionValidation {
        /// Where it is asked.
        #[schemars(length(min = 1))]
        pub introspection_url: String,
        /// Identifies us to the provider.
        pub client_id: String,
        /// Secret with the password that goes with it.
        pub client_secret_ref: Option<ObjectRef>,
        /// Field of the answer that names the user.
        pub user_id_attribute_name: String,
        /// Whether the provider wants no password of us.
        #[schemars(extend("nullable" = true))]
        pub disable_client_secret: Option<bool>,
    }
}

message! {
    /// Scopes.
    pub struct ScopeList {
        /// All of them.
        pub scope: Vec<String>,
    }
}
