use crate::selectors::{ObjectSelector, PortSelector, RouteFilter, WorkloadSelector};
use crate::status::Status;

message! {
    /// What gateways listen for and which routes they take.
    #[schemars(extend("required" = ["listeners"]))]
    pub struct VirtualGatewaySpec {
        /// The gateways, of the same workspace; empty means all.
        pub workloads: Vec<WorkloadSelector>,
        /// What they listen for.
        #[schemars(length(min = 1, max = 300_000))]
        pub listeners: Vec<Listener>,
    }
}

message! {
    /// What a gateway listens for on one port.
    #[schemars(extend("required" = ["port"], "x-kubernetes-validations" = [
        {
            "rule": "!has(self.appProtocol) || self.appProtocol.upperAscii() in \
                ['GRPC','GRPC-WEB','HTTP','HTTP_PROXY','HTTP2','HTTPS','TCP','TLS','MONGO','REDIS','MYSQL']",
            "message": "expected appProtocol to be GRPC, GRPC-WEB, HTTP, HTTP_PROXY, HTTP2, HTTPS, TCP, TLS, MONGO, \
                REDIS or MYSQL"
        },
        {
            "rule": "has(self.http) && has(self.tls) ? !has(self.appProtocol) || \
                self.appProtocol.upperAscii() == 'HTTPS' : true",
            "message": "expected appProtocol to be HTTPS or absent for http with tls"
        },
        {
            "rule": "has(self.http) && !has(self.tls) ? !has(self.appProtocol) || self.appProtocol.upperAscii() in \
                ['GRPC','GRPC-WEB','HTTP','HTTP_PROXY','HTTP2'] : true",
            "message": "expected appProtocol to be GRPC, GRPC-WEB, HTTP, HTTP_PROXY, HTTP2 or absent for http without \
                tls"
        },
        {
            "rule": "!has(self.http) ? !has(self.httpsRedirect) : true",
            "message": "httpsRedirect needs http"
        },
        {
            "rule": "!has(self.http) && has(self.tls) ? !has(self.appProtocol) || \
                self.appProtocol.upperAscii() == 'TLS' : true",
            "message": "expected appProtocol to be TLS or absent for tcp with tls"
        },
        {
            "rule": "!has(self.http) && !has(self.tls) ? !has(self.appProtocol) || self.appProtocol.upperAscii() in \
                ['TCP','MONGO','REDIS','MYSQL'] : true",
            "message": "expected appProtocol to be TCP, MONGO, REDIS, MYSQL or absent for tcp without tls"
        }
    ]))]
    pub struct Listener {
        /// Port of the gateway's Service, not of its pods.
        #[schemars(extend("x-kubernetes-validations" = [
            {"rule": "has(self.number) || has(self.name)", "message": "expected a number or a name"}
        ]))]
        pub port: Option<PortSelector>,
        /// TLS at this port.
        pub tls: Option<TlsConfig>,
        /// Whether clients are sent to HTTPS.
        pub https_redirect: Option<bool>,
        /// HTTP is spoken.
        pub http: Option<HttpServer>,
        /// TCP is spoken; so it is when neither is given.
        pub tcp: Option<TcpServer>,
        /// Which route tables are served; empty means any.
        pub allowed_route_tables: Vec<RouteTableFilter>,
        /// Which external services can be reached through the gateway; empty means any.
        pub exposed_external_services: Vec<ExternalServiceFilter>,
        /// Protocol, if it does not follow from the rest.
        #[schemars(length(max = 10))]
        pub app_protocol: String,
    }

    /// What happens to connections without TLS.
    oneof tls_settings: TlsSettings { tls: Tls(TlsConfig), https_redirect: HttpsRedirect(bool), }

    /// What is spoken.
    oneof listener_type: ListenerType { http: Http(HttpServer), tcp: Tcp(TcpServer), }
}

message! {
    /// HTTP settings of a listener; there are none, and what older versions had here is ignored.
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub struct HttpServer {}
}

message! {
    /// TCP settings of a listener; there are none.
    pub struct TcpServer {}
}

message! {
    /// Route tables that a listener serves.
    #[schemars(extend("required" = ["host"]))]
    pub struct RouteTableFilter {
        /// Host names as `[namespace/]name`, where the first label may be `*`.
        pub host: String,
        /// Which tables; absent means all.
        pub selector: Option<ObjectSelector>,
        /// Which of their routes; empty means all.
        pub allowed_routes: Vec<RouteFilter>,
    }
}

message! {
    /// External services that can be reached through a listener.
    #[schemars(extend("required" = ["host"]))]
    pub struct ExternalServiceFilter {
        /// Host names as `[namespace/]name`, where the first label may be `*`.
        pub host: String,
        /// Which external services; absent means all.
        pub selector: Option<ObjectSelector>,
    }
}

message! {
    /// TLS at a listener.
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "has(self.mode) && self.mode == 'SIMPLE' ? has(self.secretName) || \
                (has(self.files) && has(self.files.serverCert)) : true",
            "message": "mode SIMPLE needs secretName, or files with serverCert and privateKey"
        },
        {
            "rule": "has(self.mode) && self.mode == 'SIMPLE' ? has(self.secretName) || \
                (has(self.files) && has(self.files.privateKey)) : true",
            "message": "mode SIMPLE needs secretName, or files with serverCert and privateKey"
        },
        {
            "rule": "has(self.mode) && self.mode == 'MUTUAL' ? has(self.secretName) || \
                (has(self.files) && has(self.files.serverCert)) : true",
            "message": "mode MUTUAL needs secretName, or files with serverCert, privateKey and caCerts"
        },
        {
            "rule": "has(self.mode) && self.mode == 'MUTUAL' ? has(self.secretName) || \
                (has(self.files) && has(self.files.privateKey)) : true",
            "message": "mode MUTUAL needs secretName, or files with serverCert, privateKey and caCerts"
        },
        {
            "rule": "has(self.mode) && self.mode == 'MUTUAL' ? has(self.secretName) || \
                (has(self.files) && has(self.files.caCerts)) : true",
            "message": "mode MUTUAL needs secretName, or files with serverCert, privateKey and caCerts"
        },
        {
            "rule": "has(self.mode) && self.mode == 'ISTIO_MUTUAL' ? !has(self.secretName) : true",
            "message": "mode ISTIO_MUTUAL uses the mesh's certificates: remove secretName"
        },
        {
            "rule": "has(self.mode) && self.mode == 'ISTIO_MUTUAL' ? !has(self.files) : true",
            "message": "mode ISTIO_MUTUAL uses the mesh's certificates: remove files"
        }
    ]))]
    pub struct TlsConfig {
        /// Secret with certificate and key, in the namespace of the gateway.
        pub secret_name: Option<String>,
        /// Files within the proxy with certificate and key.
        pub files: Option<TlsFiles>,
        /// Names of which a client's certificate must have one.
        pub verify_subject_alt_name: Vec<String>,
        /// Versions and ciphers.
        pub parameters: Option<TlsParameters>,
        /// How both sides prove who they are.
        pub mode: TlsMode,
    }

    /// Where certificate and key are.
    oneof certificates: Certificates { secret_name: SecretName(String), files: Files(TlsFiles), }
}

message! {
    /// Paths within the proxy.
    pub struct TlsFiles {
        /// The server's certificate.
        pub server_cert: String,
        /// The server's key.
        pub private_key: String,
        /// Certificates to check clients with.
        pub ca_certs: String,
    }
}

message! {
    /// Versions and ciphers of TLS.
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "has(self.minimumProtocolVersion) && self.minimumProtocolVersion == 'TLSv1_0' ? \
                has(self.cipherSuites) : true",
            "message": "minimumProtocolVersion TLSv1_0 needs cipherSuites"
        },
        {
            "rule": "has(self.minimumProtocolVersion) && self.minimumProtocolVersion == 'TLSv1_1' ? \
                has(self.cipherSuites) : true",
            "message": "minimumProtocolVersion TLSv1_1 needs cipherSuites"
        }
    ]))]
    pub struct TlsParameters {
        /// Lowest version; 1.2 by default.
        pub minimum_protocol_version: TlsProtocolVersion,
        /// Highest version.
        pub maximum_protocol_version: TlsProtocolVersion,
        /// Names of the ciphers, best first.
        pub cipher_suites: Vec<String>,
    }
}

named_values! {
    /// A version of TLS.
    pub enum TlsProtocolVersion {
        /// Chosen by the proxy.
        Auto = "TLS_AUTO",
        /// 1.0.
        V1_0 = "TLSv1_0",
        /// 1.1.
        V1_1 = "TLSv1_1",
        /// 1.2.
        V1_2 = "TLSv1_2",
        /// 1.3.
        V1_3 = "TLSv1_3",
    }
}

named_values! {
    /// How both sides of a listener's TLS prove who they are.
    pub enum TlsMode {
        /// TLS is passed on unread, by server name and route.
        Passthrough = "PASSTHROUGH",
        /// The server does.
        Simple = "SIMPLE",
        /// Both do, with given certificates.
        Mutual = "MUTUAL",
        /// TLS is passed on unread, by a server name that already tells the destination.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// Both do, with the mesh's certificates.
        IstioMutual = "ISTIO_MUTUAL",
    }
}

message! {
    /// What the server tells about a virtual gateway.
    pub struct VirtualGatewayStatus {
        /// The outcome.
        pub common: Option<Status>,
        /// Number of route tables that it serves.
        pub route_tables_count: u32,
        /// Number of gateways that it selects.
        pub selected_workloads_count: u32,
        /// Number of external services that can be reached through it.
        pub external_services_count: u32,
    }
}
