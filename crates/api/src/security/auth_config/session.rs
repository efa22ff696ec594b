use crate::Duration;
use crate::references::ObjectRef;

message! {
    /// How a login is remembered.
    pub struct UserSession {
        /// Whether requests are refused when the session cannot be read, and not sent to log in again.
        pub fail_on_fetch_failure: bool,
        /// What the cookie is like.
        pub cookie_options: Option<CookieOptions>,
        /// The cookie holds the tokens.
        pub cookie: Option<CookieSession>,
        /// Redis holds the tokens, the cookie a key.
        pub redis: Option<RedisSession>,
        /// How the cookie is encrypted.
        pub cipher_config: Option<CipherConfig>,
    }

    /// What holds the tokens.
    oneof session: SessionType { cookie: Cookie(CookieSession), redis: Redis(RedisSession), }
}

message! {
    /// What a cookie is like.
    pub struct CookieOptions {
        /// How many seconds it lives.
        #[schemars(extend("nullable" = true))]
        pub max_age: Option<u32>,
        /// Whether it is sent without TLS too.
        pub not_secure: bool,
        /// Whether scripts cannot read it; so it is by default.
        #[schemars(extend("nullable" = true))]
        pub http_only: Option<bool>,
        /// Path that it holds for.
        #[schemars(extend("nullable" = true))]
        pub path: Option<String>,
        /// Whether other sites' requests carry it.
        pub same_site: SameSite,
        /// Domain that it holds for.
        pub domain: String,
    }
}

named_values! {
    /// Whether other sites' requests carry a cookie.
    pub enum SameSite {
        /// As browsers do by default.
        Default = "DefaultMode",
        /// Only when the user goes there.
        Lax = "LaxMode",
        /// No.
        Strict = "StrictMode",
        /// Yes.
        None = "NoneMode",
    }
}

message! {
    /// Tokens in a cookie.
    pub struct CookieSession {
        /// Whether they are renewed.
        #[schemars(extend("nullable" = true))]
        pub allow_refreshing: Option<bool>,
        /// Beginning of the cookie's name.
        pub key_prefix: String,
        /// Domain that the session is for.
        pub target_domain: String,
    }
}

message! {
    /// Tokens in Redis.
    pub struct RedisSession {
        /// Where it is.
        pub options: Option<RedisOptions>,
        /// Beginning of the keys.
        pub key_prefix: String,
        /// Name of the cookie with the key.
        pub cookie_name: String,
        /// Whether tokens are renewed; so they are by default.
        #[schemars(extend("nullable" = true))]
        pub allow_refreshing: Option<bool>,
        /// How long before they expire.
        pub pre_expiry_buffer: Option<Duration>,
        /// Domain that the session is for.
        pub target_domain: String,
        /// Header that holds the key in place of the cookie.
        pub header_name: String,
    }
}

message! {
    /// Where Redis is.
    pub struct RedisOptions {
        /// Address.
        pub host: String,
        /// Number of the database.
        pub db: i32,
        /// How many connections are kept.
        pub pool_size: i32,
        /// Folder with certificates.
        pub tls_cert_mount_path: String,
        /// Whether TLS is spoken.
        pub socket_type: SocketType,
    }
}

named_values! {
    /// Whether TLS is spoken.
    pub enum SocketType {
        /// No.
        Tcp = "TCP",
        /// Yes.
        Tls = "TLS",
    }
}

message! {
    /// How a cookie is encrypted.
    pub struct CipherConfig {
        /// Secret with the key.
        pub key_ref: Option<ObjectRef>,
    }

    /// Where the key comes from.
    oneof key: CipherKey { key_ref: KeyRef(ObjectRef), }
}
