//! How an external auth server decides about requests.

mod access_token;
mod api_key;
mod basic;
mod oauth;
mod oidc;
mod pass_through;
mod session;
mod steps;

pub use access_token::*;
pub use api_key::*;
pub use basic::*;
pub use oauth::*;
pub use oidc::*;
pub use pass_through::*;
pub use session::*;
pub use steps::*;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Empty;

/// Settings of which only their reader knows the form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FreeForm(pub Map<String, Value>);

impl JsonSchema for FreeForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FreeForm".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

message! {
    /// Steps that a request has to pass.
    #[schemars(extend("required" = ["configs"]))]
    pub struct AuthConfigSpec {
        /// The steps.
        #[schemars(length(min = 1))]
        pub configs: Vec<AuthStep>,
        /// How the steps are combined, by their names with `&&`, `||`, `!` and parentheses; absent means all of them.
        #[schemars(extend("nullable" = true))]
        pub boolean_expr: Option<String>,
        /// Whether clients get status 401 where they would be sent elsewhere to log in.
        pub fail_on_redirect: bool,
    }
}

message! {
    /// One step.
    pub struct AuthStep {
        /// Name for `booleanExpr`; absent means `config_` and the position.
        #[schemars(extend("nullable" = true))]
        pub name: Option<String>,
        /// User name and password.
        #[schemars(extend("x-kubernetes-validations" = [{
            "rule": "has(self.apr) ? !has(self.encryption) && !has(self.userList) : \
                has(self.encryption) && has(self.userList)",
            "message": "expected either apr, or both encryption and userList"
        }]))]
        pub basic_auth: Option<BasicAuth>,
        /// The old form of `oauth2.oidcAuthorizationCode`.
        pub oauth: Option<OAuth>,
        /// OpenID Connect and OAuth 2.0.
        pub oauth2: Option<OAuth2>,
        /// Keys that clients send in a header.
        pub api_key_auth: Option<ApiKeyAuth>,
        /// A plugin of the server.
        pub plugin_auth: Option<AuthPlugin>,
        /// A policy in Rego that the server evaluates.
        pub opa_auth: Option<OpaAuth>,
        /// Members of groups of a directory.
        pub ldap: Option<Ldap>,
        /// A token that the proxy has verified before.
        pub jwt: Option<Empty>,
        /// Another server that decides.
        #[schemars(extend("x-kubernetes-validations" = [
            {"rule": "has(self.grpc) || has(self.http)", "message": "expected grpc or http"}
        ]))]
        pub pass_through_auth: Option<PassThroughAuth>,
        /// Requests that are signed with a shared secret.
        pub hmac_auth: Option<HmacAuth>,
        /// A policy in Rego that another server evaluates.
        pub opa_server_auth: Option<OpaServerAuth>,
    }

    /// What the step asks for.
    oneof auth_config: AuthStepType {
        basic_auth: BasicAuth(BasicAuth), oauth: OAuth(OAuth), oauth2: OAuth2(OAuth2),
        api_key_auth: ApiKeyAuth(ApiKeyAuth), plugin_auth: PluginAuth(AuthPlugin), opa_auth: OpaAuth(OpaAuth),
        ldap: Ldap(Ldap), jwt: Jwt(Empty), pass_through_auth: PassThroughAuth(PassThroughAuth),
        hmac_auth: HmacAuth(HmacAuth), opa_server_auth: OpaServerAuth(OpaServerAuth),
    }
}
