use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use meshrelay_pki::tls::{ClientTls, server_name};
use meshrelay_pki::{PkiError, TlsRefusal};
use meshrelay_relay::grpc::{Transport, tune_endpoint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::Metrics;
use crate::certificate::Certificate;
use crate::core::Dial;

/// How long an address may take to stand for something, or to let the agent in: far above any round trip. A machine that is
/// gone says nothing.
const DEADLINE: Duration = Duration::from_secs(5);

/// Opens connections to management servers.
#[derive(Clone)]
pub(crate) struct Connector {
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    refusals: Refusals,
}

/// Connects over TCP and TLS, with a client certificate where there is to be one.
pub(crate) struct Dialer {
    pub(crate) connector: Connector,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl Dial for Dialer {
    fn endpoints<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Vec<SocketAddr>, String>> {
        endpoints(address).boxed()
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
        endpoint: SocketAddr,
    ) -> BoxFuture<'a, Result<Arc<dyn Transport>, String>> {
        async move { Ok(Arc::new(self.connector.connect(address, endpoint).await?) as Arc<dyn Transport>) }.boxed()
    }

    fn prepare<'a>(&'a self, address: &'a str, endpoint: SocketAddr) -> BoxFuture<'a, Result<(), String>> {
        async move {
            match &self.certificate {
                Some(certificate) => certificate.ensure(address, endpoint).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn refused(&self) {
        self.connector.certificate_refused();
    }
}

/// Takes note of why TLS connections fail, before they or after they were made.
#[derive(Clone)]
struct Refusals {
    metrics: Metrics,
    last: Arc<Mutex<Option<TlsRefusal>>>,
    /// The server does not accept the certificate of this agent.
    certificate: Arc<AtomicBool>,
}

impl Connector {
    pub(crate) fn new(authority: &str, tls: &ClientTls, metrics: Metrics) -> Result<Self, PkiError> {
        let refusals = Refusals { metrics, last: Arc::default(), certificate: Arc::default() };
        Self { authority: authority.to_owned(), tls: None, refusals }.with(tls)
    }

    /// Connects to the same servers in another way.
    pub(crate) fn with(&self, tls: &ClientTls) -> Result<Self, PkiError> {
        let tls = match tls {
            ClientTls::Tls(live) => Some((Arc::clone(&live.config), server_name(&self.authority)?)),
            ClientTls::Insecure => None,
        };
        Ok(Self { tls, ..self.clone() })
    }

    /// Why TLS failed last; asked for once.
    pub(crate) fn take_refusal(&self) -> Option<TlsRefusal> {
        self.refusals.last.lock().take()
    }

    /// Takes note that the server does not accept the certificate of this agent.
    pub(crate) fn certificate_refused(&self) {
        self.refusals.certificate.store(true, Ordering::Relaxed);
    }

    /// True if a server has refused the certificate of this agent since [`Connector::forget_certificate_refused`].
    pub(crate) fn is_certificate_refused(&self) -> bool {
        self.refusals.certificate.load(Ordering::Relaxed)
    }

    /// Takes note that the certificate is another one, or that a server is being asked for one.
    pub(crate) fn forget_certificate_refused(&self) {
        self.refusals.certificate.store(false, Ordering::Relaxed);
    }

    /// A new connection to `endpoint`, which `address` stands for. The message of a failure says what to look at.
    pub(crate) async fn connect(&self, address: &str, endpoint: SocketAddr) -> Result<Channel, String> {
        let shown = if address == endpoint.to_string() { String::new() } else { format!(" ({endpoint})") };
        let Self { authority, tls, refusals } = self.clone();
        // The scheme says nothing here: the connector below decides about TLS.
        let channel = Endpoint::from_shared(format!("http://{authority}")).map_err(|error| error.to_string())?;
        let connect = service_fn(move |_| {
            let (tls, refusals) = (tls.clone(), refusals.clone());
            async move {
                let stream = TcpStream::connect(endpoint).await?;
                stream.set_nodelay(true)?;
                io::Result::Ok(TokioIo::new(match tls {
                    None => Either::Left(stream),
                    Some((config, name)) => {
                        let connected = TlsConnector::from(config).connect(name, stream).await;
                        let stream = Box::new(connected.inspect_err(|error| refusals.note(error))?);
                        Either::Right(Noted { stream, refusals })
                    }
                }))
            }
        });
        let connected = tokio::time::timeout(DEADLINE, tune_endpoint(channel).connect_with_connector(connect)).await;
        let reason = match connected {
            Ok(Ok(channel)) => return Ok(channel),
            Ok(Err(error)) => explain(&error),
            Err(_) => silence(),
        };
        Err(format!("cannot connect to {address}{shown}: {reason}"))
    }
}

/// What a `host:port` stands for now.
pub(crate) async fn endpoints(address: &str) -> Result<Vec<SocketAddr>, String> {
    let reason = match tokio::time::timeout(DEADLINE, tokio::net::lookup_host(address)).await {
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if !found.is_empty() {
                return Ok(found);
            }
            "the name has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => silence(),
    };
    Err(format!("cannot connect to {address}: {reason}"))
}

fn silence() -> String {
    format!("no answer within {} s", DEADLINE.as_secs())
}

/// The innermost cause, or the TLS refusal behind it.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(refusal) = TlsRefusal::of(error) {
        return refusal.to_string();
    }
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Refusals {
    fn note(&self, error: &io::Error) {
        let Some(refusal) = TlsRefusal::of(error) else { return };
        self.metrics.handshake_failed(refusal);
        tracing::error!(code = refusal.code(), %refusal, "no TLS connection to the server");
        *self.last.lock() = Some(refusal);
        if matches!(refusal, TlsRefusal::OwnAuthorityUnknown | TlsRefusal::OwnExpired | TlsRefusal::OwnRefused) {
            self.certificate.store(true, Ordering::Relaxed);
        }
    }
}

/// A TLS stream that notes why it failed: with TLS 1.3 a server judges the certificate of a client only when the client
/// is done with the handshake already.
struct Noted {
    stream: Box<TlsStream<TcpStream>>,
    refusals: Refusals,
}

impl Noted {
    /// When writing fails, what the server said last may still be unread.
    fn hear(&mut self, context: &mut Context<'_>) {
        let mut unread = [0; 1024];
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut unread)) {
            self.refusals.note(&error);
        }
    }
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.refusals.note(error);
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        if let Poll::Ready(Err(_)) = &written {
            self.hear(context);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Err(_)) = &flushed {
            self.hear(context);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
