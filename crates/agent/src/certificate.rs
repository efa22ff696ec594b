use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_pki::reload::ReloadingClientCert;
use meshrelay_pki::tls::system_time;
use meshrelay_pki::{AgentState, ClientTls, ClusterName, ExpiryState, GraceRatio, TlsMode};
use meshrelay_relay::grpc::{Client, Issued, Registration};
use meshrelay_relay::{End, RefusalReason};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::Metrics;
use crate::connector::{Connector, endpoints};

/// How often it is looked whether the certificate has to be renewed.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

/// Keeps the agent's client certificate: registers for the first one, renews it before it ends, and gets a new one with
/// the old key or a token after it has ended.
pub(crate) struct Certificate {
    pub(crate) cluster: ClusterName,
    pub(crate) state: AgentState,
    pub(crate) token: Option<String>,
    pub(crate) grace: GraceRatio,
    pub(crate) in_use: Arc<ReloadingClientCert>,
    pub(crate) connector: Connector,
    pub(crate) client: Arc<Client>,
    pub(crate) metrics: Metrics,
    /// Where a renewal is asked for.
    pub(crate) addresses: Vec<String>,
    /// The connection and the renewal may both find that a certificate is needed; one of them gets it.
    pub(crate) registering: Mutex<()>,
}

impl Certificate {
    /// Makes sure that there is a valid certificate that the server accepts, which has the address `endpoint`. The message of a
    /// failure is for a person.
    pub(crate) async fn ensure(&self, address: &str, endpoint: SocketAddr) -> Result<(), String> {
        let _one = self.registering.lock().await;
        match self.expiry()? {
            None | Some(ExpiryState::Expired) => {}
            // Valid to us and yet refused: the server has another authority by now, or another clock.
            Some(_) if self.connector.is_certificate_refused() => {}
            Some(_) => return Ok(()),
        }
        self.register(address, endpoint).await
    }

    /// Renews the certificate in time, until stopped. The one in use stays in force until the new one is there.
    pub(crate) async fn keep_renewed(&self, stop: CancellationToken) {
        let mut check = tokio::time::interval(RENEWAL_CHECK);
        loop {
            tokio::select! {
                _ = check.tick() => {}
                () = stop.cancelled() => return,
            }
            let _one = self.registering.lock().await;
            match self.expiry() {
                Ok(None | Some(ExpiryState::Ok | ExpiryState::Expired)) => {}
                Ok(Some(state)) => match self.register_anywhere().await {
                    Ok(()) => {}
                    Err(error) if state == ExpiryState::LastFifth => {
                        tracing::error!(error, "the client certificate is close to its end and cannot be renewed");
                    }
                    Err(error) => tracing::warn!(error, "the client certificate could not be renewed yet"),
                },
                Err(error) => tracing::error!(error, "the client certificate cannot be read"),
            }
        }
    }

    fn expiry(&self) -> Result<Option<ExpiryState>, String> {
        let certificate = self.state.certificate().map_err(|error| error.to_string())?;
        let Some(certificate) = certificate else { return Ok(None) };
        self.metrics.certificate_expires.set(certificate.validity.not_after.as_second());
        Ok(Some(certificate.validity.state(self.grace, Timestamp::now())))
    }

    /// With the first of the servers that does it: they all speak for the same authority.
    async fn register_anywhere(&self) -> Result<(), String> {
        let mut reasons = Vec::new();
        for address in &self.addresses {
            let found = endpoints(address).await.unwrap_or_else(|reason| {
                reasons.push(reason);
                Vec::new()
            });
            for endpoint in found {
                match self.register(address, endpoint).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => reasons.push(reason),
                }
            }
        }
        Err(reasons.join("; "))
    }

    async fn register(&self, address: &str, endpoint: SocketAddr) -> Result<(), String> {
        let text = |error: meshrelay_pki::PkiError| error.to_string();
        let csr = self.state.signing_request(&self.cluster).map_err(text)?;
        let stored = self.state.token().map_err(text)?.map(|token| token.reveal().to_owned());
        let registration = Registration {
            cluster: self.cluster.to_string(),
            token: self.token.clone().or(stored).unwrap_or_default(),
            csr,
            agent_version: meshrelay_process::VERSION.to_owned(),
        };
        let has_token = !registration.token.is_empty();
        self.connector.take_refusal();
        let mut issued = self.ask(&self.connector, address, endpoint, registration.clone()).await;
        if issued.is_err() && has_token && self.connector.take_refusal().is_some() {
            // The server does not let the certificate in that we have, as when it ended long ago: the token may do.
            let files = self.state.simple_tls_files();
            let tls = ClientTls::load(TlsMode::SimpleTls, &files, system_time()).map_err(text)?;
            issued = self.ask(&self.connector.with(&tls).map_err(text)?, address, endpoint, registration).await;
        }
        let issued = issued?;
        let validity = self.state.store(&issued.certificate, &issued.ca_bundle).map_err(text)?;
        self.state.load_into(&self.in_use).map_err(text)?;
        self.connector.forget_certificate_refused();
        self.metrics.certificate_expires.set(validity.not_after.as_second());
        tracing::info!(until = %validity.not_after, "the server issued a client certificate");
        Ok(())
    }

    async fn ask(
        &self,
        connector: &Connector,
        address: &str,
        endpoint: SocketAddr,
        registration: Registration,
    ) -> Result<Issued, String> {
        let channel = connector.connect(address, endpoint).await?;
        // Only now: a server that is down has not been asked, and the next one is.
        self.connector.forget_certificate_refused();
        self.client.register(channel, registration).await.map_err(|end| {
            if let End::Refused(refusal) = &end {
                self.metrics.refused(refusal.reason);
            }
            format!("the server did not register cluster {}: {}", self.cluster, advise(&end))
        })
    }
}

/// What to do about a refusal, where the agent's side can tell.
fn advise(end: &End) -> String {
    let advice = match end {
        End::Refused(refusal) => match refusal.reason {
            RefusalReason::UnknownCluster => "; create a KubernetesCluster of that name in the management cluster",
            RefusalReason::WrongToken | RefusalReason::UsedToken | RefusalReason::ExpiredToken => {
                "; put the server's relay-identity-token-secret into the agent's state folder, or a fresh token"
            }
            _ => "",
        },
        _ => "",
    };
    format!("{end}{advice}")
}
