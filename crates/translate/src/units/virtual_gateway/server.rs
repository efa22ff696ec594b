use std::collections::BTreeSet;

use meshrelay_api::istio::gateway::{Port, Server, ServerTlsSettings, ServerTlsSettingsMode, TlsProtocol};
use meshrelay_api::networking::{Listener, TlsConfig, TlsMode, TlsProtocolVersion};

use crate::names;

/// What a listener does with traffic, as far as routes care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Requests, after TLS if there is any.
    Http,
    /// TLS that is passed on unread.
    Tls,
    /// Bytes, after TLS if there is any.
    Tcp,
}

/// Which routes a listener can serve.
pub(super) fn traffic(listener: &Listener) -> Traffic {
    let passes_on =
        listener.tls.as_ref().is_some_and(|tls| matches!(tls.mode, TlsMode::Passthrough | TlsMode::AutoPassthrough));
    match (passes_on, &listener.http) {
        (true, _) => Traffic::Tls,
        (false, Some(_)) => Traffic::Http,
        (false, None) => Traffic::Tcp,
    }
}

/// The protocol of a listener in Istio's words.
pub(super) fn protocol(listener: &Listener) -> String {
    if !listener.app_protocol.is_empty() {
        return listener.app_protocol.to_uppercase();
    }
    let protocol = match (&listener.http, &listener.tls) {
        (Some(_), Some(_)) => "HTTPS",
        (Some(_), None) => "HTTP",
        (None, Some(_)) => "TLS",
        (None, None) => "TCP",
    };
    protocol.to_owned()
}

/// Why Istio would refuse the TLS settings of a listener, and with them the whole gateway.
pub(super) fn tls_problem(listener: &Listener) -> Option<String> {
    let tls = listener.tls.as_ref()?;
    let files = tls.files.as_ref();
    let has_secret = tls.secret_name.as_ref().is_some_and(|name| !name.is_empty());
    let has_pair = files.is_some_and(|files| !files.server_cert.is_empty() && !files.private_key.is_empty());
    let has_ca = files.is_some_and(|files| !files.ca_certs.is_empty());
    if matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual) && has_secret && has_pair {
        return Some("expected secretName or files, found both".to_owned());
    }
    match &tls.mode {
        TlsMode::Simple if !has_secret && !has_pair => {
            Some("mode SIMPLE needs secretName, or files with serverCert and privateKey".to_owned())
        }
        TlsMode::Mutual if !(has_secret || has_pair && has_ca) => {
            Some("mode MUTUAL needs secretName, or files with serverCert, privateKey and caCerts".to_owned())
        }
        TlsMode::Unknown(mode) => Some(format!("mode {mode} is not known")),
        _ => None,
    }
}

/// A server of an Istio Gateway.
pub(super) fn render(listener: &Listener, number: u32, hosts: &[String]) -> Server {
    let protocol = protocol(listener);
    let label = if hosts == ["*"] { "all".to_owned() } else { hosts.join("-") };
    let name = names::sanitize(&format!("{}-{number}-{label}", protocol.to_lowercase()));
    let tls = if listener.https_redirect == Some(true) {
        Some(ServerTlsSettings { https_redirect: Some(true), ..ServerTlsSettings::default() })
    } else {
        listener.tls.as_ref().map(render_tls)
    };
    let port = Port { name, number, protocol, target_port: None };
    Server { hosts: hosts.to_vec(), port, tls, ..Server::default() }
}

/// Gives servers names of their own where the recipe takes their hosts for each other: Istio refuses a gateway that has a
/// name twice.
pub(super) fn tell_apart(servers: &mut [Server]) {
    let mut taken = BTreeSet::new();
    for server in servers {
        if !taken.insert(server.port.name.clone()) {
            let hosts: Vec<&str> = server.hosts.iter().map(String::as_str).collect();
            server.port.name = names::identified(&server.port.name, &hosts);
        }
    }
}

fn render_tls(tls: &TlsConfig) -> ServerTlsSettings {
    let mode = match tls.mode {
        TlsMode::Passthrough | TlsMode::Unknown(_) => ServerTlsSettingsMode::Passthrough,
        TlsMode::Simple => ServerTlsSettingsMode::Simple,
        TlsMode::Mutual => ServerTlsSettingsMode::Mutual,
        TlsMode::AutoPassthrough => ServerTlsSettingsMode::AutoPassthrough,
        TlsMode::IstioMutual => ServerTlsSettingsMode::IstioMutual,
    };
    let mut settings = ServerTlsSettings { mode: Some(mode), ..ServerTlsSettings::default() };
    if matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual) {
        let path = |path: &String| Some(path.clone()).filter(|path| !path.is_empty());
        settings.credential_name.clone_from(&tls.secret_name);
        if let Some(files) = &tls.files {
            settings.server_certificate = path(&files.server_cert);
            settings.private_key = path(&files.private_key);
            settings.ca_certificates = path(&files.ca_certs);
        }
    }
    if !matches!(tls.mode, TlsMode::Passthrough | TlsMode::AutoPassthrough) {
        settings.subject_alt_names.clone_from(&tls.verify_subject_alt_name);
        if let Some(parameters) = &tls.parameters {
            settings.min_protocol_version = version(&parameters.minimum_protocol_version);
            settings.max_protocol_version = version(&parameters.maximum_protocol_version);
            settings.cipher_suites.clone_from(&parameters.cipher_suites);
        }
    }
    settings
}

/// Istio's name of a version of TLS; `None` leaves the choice to the proxy.
fn version(version: &TlsProtocolVersion) -> Option<TlsProtocol> {
    match version {
        TlsProtocolVersion::Auto | TlsProtocolVersion::Unknown(_) => None,
        TlsProtocolVersion::V1_0 => Some(TlsProtocol::Tlsv1_0),
        TlsProtocolVersion::V1_1 => Some(TlsProtocol::Tlsv1_1),
        TlsProtocolVersion::V1_2 => Some(TlsProtocol::Tlsv1_2),
        TlsProtocolVersion::V1_3 => Some(TlsProtocol::Tlsv1_3),
    }
}
