use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::Timestamp;
use meshrelay_pki::registration::{RegistrationRefusal, RegistrationRequest};
use meshrelay_pki::token_store::TokenRefusal;
use meshrelay_pki::{ClusterName, PeerIdentity, Validity};
use meshrelay_relay::grpc::{Certified, Issued, Peer, Registrar, Registration};
use meshrelay_relay::{Refusal, RefusalReason};

use crate::inputs::Inputs;

/// Answers registrations: the rate of attempts, the cluster, the token or certificate, the signing request.
pub(crate) struct ServerRegistrar {
    pub(crate) inputs: Arc<Inputs>,
    /// `None` where the server issues no certificates.
    pub(crate) pki: Option<Arc<meshrelay_pki::registration::Registrar>>,
}

impl Registrar for ServerRegistrar {
    async fn register(&self, registration: Registration, peer: Peer) -> Result<Issued, Refusal> {
        let pki = self.pki.clone().ok_or_else(|| {
            let message =
                "this server issues no client certificates: agents use their own, or a token with each stream";
            Refusal::new(RefusalReason::Internal, message)
        })?;
        let source = peer.source.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |source| source.ip());
        let cluster = pki.admit(source, &registration.cluster, Timestamp::now()).map_err(|error| refusal(&error))?;
        if !self.inputs.is_registered(cluster.as_str()) {
            return Err(unknown_cluster(cluster.as_str()));
        }
        let registrar = Arc::clone(&pki);
        let answered = tokio::task::spawn_blocking(move || {
            let peer = peer.certificate.as_ref().and_then(identity);
            let request =
                RegistrationRequest { token: &registration.token, csr: &registration.csr, peer: peer.as_ref() };
            pki.register(&cluster, &request, Timestamp::now())
        });
        let registered = answered.await.map_err(|error| {
            tracing::error!(%error, "a registration failed");
            Refusal::new(RefusalReason::Internal, "the server failed to answer; try again")
        })?;
        let registered = registered.map_err(|error| refusal(&error))?;
        registrar.succeeded(source);
        tracing::info!(
            cluster = %registered.cluster,
            until = %registered.certificate.validity.not_after,
            "issued a client certificate"
        );
        let certificate = registered.certificate;
        Ok(Issued { certificate: certificate.chain_pem, ca_bundle: certificate.ca_pem })
    }
}

/// The refusal of a cluster that has no `KubernetesCluster`.
pub(crate) fn unknown_cluster(cluster: &str) -> Refusal {
    let message = format!("expected a KubernetesCluster named {cluster} in the management cluster, found none");
    Refusal::new(RefusalReason::UnknownCluster, message)
}

fn identity(certified: &Certified) -> Option<PeerIdentity> {
    let not_after = Timestamp::from_second(certified.ends).ok()?;
    Some(PeerIdentity {
        cluster: ClusterName::new(&certified.cluster).ok()?,
        expired: certified.expired,
        validity: Validity { not_before: Timestamp::UNIX_EPOCH, not_after },
    })
}

fn refusal(error: &RegistrationRefusal) -> Refusal {
    let reason = match error {
        RegistrationRefusal::Rate(_) => RefusalReason::RateLimited,
        RegistrationRefusal::Cluster(_) => RefusalReason::InvalidCluster,
        RegistrationRefusal::Csr(_) => RefusalReason::MalformedCsr,
        RegistrationRefusal::Token(TokenRefusal::Wrong) => RefusalReason::WrongToken,
        RegistrationRefusal::Token(TokenRefusal::AlreadyUsed { .. }) => RefusalReason::UsedToken,
        RegistrationRefusal::Token(TokenRefusal::Expired { .. }) => RefusalReason::ExpiredToken,
        RegistrationRefusal::Token(TokenRefusal::OtherCluster { .. }) => RefusalReason::ForeignToken,
        RegistrationRefusal::NoCredential => RefusalReason::NoCertificate,
        RegistrationRefusal::OtherCluster { .. } => RefusalReason::ForeignCertificate,
        RegistrationRefusal::ExpiredTooLongAgo { .. } => RefusalReason::ExpiredCertificate,
        RegistrationRefusal::Internal(error) => {
            tracing::error!(%error, "a registration failed");
            return Refusal::new(RefusalReason::Internal, "the server failed to answer; try again");
        }
    };
    Refusal::new(reason, error)
}
