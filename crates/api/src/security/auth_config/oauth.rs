use std::collections::BTreeMap;

use super::{AccessTokenValidation, OidcAuthorizationCode, UserSession};
use crate::references::ObjectRef;

message! {
    /// The old form of a login by OpenID Connect.
    #[schemars(extend("required" = ["appUrl"]))]
    pub struct OAuth {
        /// Identifies us to the provider.
        pub client_id: String,
        /// Secret with the password that goes with it.
        pub client_secret_ref: Option<ObjectRef>,
        /// Address of the provider.
        pub issuer_url: String,
        /// Parameters of the request to log in.
        pub auth_endpoint_query_params: BTreeMap<String, String>,
        /// Address of the application.
        #[schemars(length(min = 1))]
        pub app_url: String,
        /// Path that the provider sends users back to.
        pub callback_path: String,
        /// What the application asks for, beside `openid`.
        pub scopes: Vec<String>,
    }
}

message! {
    /// OpenID Connect and OAuth 2.0.
    pub struct OAuth2 {
        /// Users log in with an OpenID provider.
        #[schemars(extend("x-kubernetes-validations" = [{
            "rule": "has(self.clientAuthentication) ? !has(self.clientSecretRef) && !has(self.disableClientSecret) : \
                has(self.clientSecretRef) || (has(self.disableClientSecret) && self.disableClientSecret)",
            "message": "expected clientAuthentication, clientSecretRef or disableClientSecret: true, and the last two \
                not beside the first"
        }]))]
        pub oidc_authorization_code: Option<OidcAuthorizationCode>,
        /// Clients bring an access token.
        pub access_token_validation: Option<AccessTokenValidation>,
        /// Users log in with a provider of plain OAuth 2.0.
        #[schemars(extend("x-kubernetes-validations" = [{
            "rule": "has(self.clientSecretRef) || (has(self.disableClientSecret) && self.disableClientSecret)",
            "message": "expected clientSecretRef or disableClientSecret: true"
        }]))]
        pub oauth2: Option<PlainOAuth2>,
    }

    /// The way.
    oneof oauth_type: OAuthType {
        oidc_authorization_code: OidcAuthorizationCode(OidcAuthorizationCode),
        access_token_validation: AccessTokenValidation(AccessTokenValidation), oauth2: OAuth2(PlainOAuth2),
    }
}

message! {
    /// A login with a provider of plain OAuth 2.0.
    #[schemars(extend("required" = ["clientId", "appUrl", "callbackPath", "authEndpoint", "tokenEndpoint"]))]
    pub struct PlainOAuth2 {
        /// Identifies us to the provider.
        #[schemars(length(min = 1))]
        pub client_id: String,
        /// Secret with the password that goes with it.
        pub client_secret_ref: Option<ObjectRef>,
        /// Parameters of the request to log in.
        pub auth_endpoint_query_params: BTreeMap<String, String>,
        /// Address of the application.
        #[schemars(length(min = 1))]
        pub app_url: String,
        /// Path that the provider sends users back to.
        #[schemars(length(min = 1))]
        pub callback_path: String,
        /// What the application asks for.
        pub scopes: Vec<String>,
        /// How the login is remembered.
        pub session: Option<UserSession>,
        /// Path that ends the session.
        pub logout_path: String,
        /// Parameters of the request for tokens.
        pub token_endpoint_query_params: BTreeMap<String, String>,
        /// Where users are sent when the session has ended.
        pub after_logout_url: String,
        /// Where users log in.
        #[schemars(length(min = 1))]
        pub auth_endpoint: String,
        /// Where tokens are given out.
        #[schemars(length(min = 1))]
        pub token_endpoint: String,
        /// Where tokens are taken back.
        pub revocation_endpoint: String,
        /// Whether the provider wants no password of us.
        #[schemars(extend("nullable" = true))]
        pub disable_client_secret: Option<bool>,
    }
}
