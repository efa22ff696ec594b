use super::FreeForm;
use crate::references::ObjectRef;

message! {
    /// A plugin of the server.
    #[schemars(extend("required" = ["config"]))]
    pub struct AuthPlugin {
        /// Its name.
        pub name: String,
        /// File that it is in; empty means its name and `.so`.
        pub plugin_file_name: String,
        /// Symbol that it exports; empty means its name.
        pub exported_symbol_name: String,
        /// Its settings.
        pub config: Option<FreeForm>,
    }
}

message! {
    /// A policy in Rego that the server evaluates.
    #[schemars(extend("required" = ["query"]))]
    pub struct OpaAuth {
        /// ConfigMaps with its modules.
        pub modules: Vec<ObjectRef>,
        /// What it is asked.
        #[schemars(length(min = 1))]
        pub query: String,
        /// How it is asked.
        pub options: Option<OpaAuthOptions>,
    }
}

message! {
    /// How a policy in Rego is asked.
    pub struct OpaAuthOptions {
        /// Whether the input is converted in the fast way.
        pub fast_input_conversion: bool,
        /// Whether the answer says why.
        pub return_decision_reason: bool,
    }
}

message! {
    /// A policy in Rego that another server evaluates.
    #[schemars(extend("required" = ["package"]))]
    pub struct OpaServerAuth {
        /// Its package.
        #[schemars(length(min = 1))]
        pub package: String,
        /// Its rule.
        pub rule_name: String,
        /// Where the server is.
        pub server_addr: String,
        /// How it is asked.
        pub options: Option<OpaAuthOptions>,
    }
}

message! {
    /// Members of groups of a directory.
    #[schemars(extend("required" = ["address"]))]
    pub struct Ldap {
        /// Where the directory is, as `ldap[s]://host:port`.
        #[schemars(length(min = 1))]
        pub address: String,
        /// Distinguished name of a user, where `%s` stands for the user's name.
        pub user_dn_template: String,
        /// Attribute that names a user's groups; empty means `memberOf`.
        pub membership_attribute_name: String,
        /// Distinguished names of the groups.
        pub allowed_groups: Vec<String>,
        /// How many connections are kept.
        pub pool: Option<LdapConnectionPool>,
        /// What finds users; empty means `(uid=*)`.
        pub search_filter: String,
        /// Whether groups do not matter.
        pub disable_group_checking: bool,
        /// How groups are looked up.
        pub group_lookup_settings: Option<LdapServiceAccount>,
    }
}

message! {
    /// How many connections are kept.
    pub struct LdapConnectionPool {
        /// At most.
        #[schemars(extend("nullable" = true))]
        pub max_size: Option<u32>,
        /// At first.
        #[schemars(extend("nullable" = true))]
        pub initial_size: Option<u32>,
    }
}

message! {
    /// How groups are looked up.
    pub struct LdapServiceAccount {
        /// Secret with name and password of the account.
        pub credentials_secret_ref: Option<ObjectRef>,
        /// Whether this account asks for groups, and not the user's.
        pub check_groups_with_service_account: bool,
    }
}

message! {
    /// Requests that are signed with a shared secret.
    #[schemars(extend("required" = ["secretRefs"]))]
    pub struct HmacAuth {
        /// The secrets.
        pub secret_refs: Option<SecretRefList>,
        /// The signature is in headers.
        pub parameters_in_headers: Option<HmacParametersInHeaders>,
    }

    /// What holds the secrets.
    oneof secret_storage: HmacSecrets { secret_refs: SecretRefs(SecretRefList), }

    /// Where the signature is.
    oneof implementation_type: HmacImplementation { parameters_in_headers: InHeaders(HmacParametersInHeaders), }
}

message! {
    /// A signature in headers; there are no settings.
    pub struct HmacParametersInHeaders {}
}

message! {
    /// Secrets.
    #[schemars(extend("required" = ["secretRefs"]))]
    pub struct SecretRefList {
        /// By name.
        #[schemars(length(min = 1))]
        pub secret_refs: Vec<ObjectRef>,
    }
}
