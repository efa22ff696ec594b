//! Certificates for agents before they start, as agents of a running fleet have them: the server's limit on registrations
//! from one address would make hundreds of agents on one machine wait for minutes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use meshrelay_pki::rate::RateLimit;
use meshrelay_pki::registration::{Registrar, RegistrarOptions, RegistrationRequest};
use meshrelay_pki::{AgentState, ServerOptions, ServerState};

/// Makes what the server needs in its state folder, and registers the clusters; `agent` is the name of a cluster's state
/// folder beside the server's, which is `server`.
pub(crate) fn enrol(states: &Path, clusters: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let server = ServerState::load_or_create(&states.join("server"), &ServerOptions::new("gloo-mesh"), now)?;
    let rate = RateLimit { burst: u32::from(u16::MAX), ..RateLimit::default() };
    let options = RegistrarOptions { rate, ..RegistrarOptions::default() };
    let token = server.shared_token().context("expected the server to have made a token, found none")?;
    let registrar = Registrar::new(server.authority(), Some(token), server.tokens(), options)?;
    for cluster in clusters {
        let agent = AgentState::open(&states.join(&cluster))?;
        agent.bootstrap(&server.root_ca_pem(), Some(token))?;
        let cluster = registrar.admit(IpAddr::V4(Ipv4Addr::LOCALHOST), &cluster, now)?;
        let csr = agent.signing_request(&cluster)?;
        let request = RegistrationRequest { token: token.reveal(), csr: &csr, peer: None };
        let registration = registrar.register(&cluster, &request, now)?;
        agent.store(&registration.certificate.chain_pem, &registration.certificate.ca_pem)?;
    }
    Ok(())
}
