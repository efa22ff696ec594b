//! Accepts connections: TLS where there is any, with who the peer is beside the stream.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use meshrelay_pki::{TlsRefusal, peer_identity};
use meshrelay_relay::grpc::{Certified, Peer};
use meshrelay_snapshot::Name;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use crate::Metrics;
use crate::metrics::ReasonLabel;

/// How long a handshake may take: a peer that connects and says nothing must not hold anything for long.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a refused peer may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Handshakes under way at one time; more wait in the kernel's queue. Each costs a few milliseconds of CPU.
const HANDSHAKES: usize = 64;

/// Accepted connections that the service has not taken yet.
const ACCEPTED: usize = 16;

/// An accepted connection.
pub(crate) struct Connection {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    from: ConnectedFrom,
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(crate) struct ConnectedFrom {
    source: SocketAddr,
    chain: Arc<[CertificateDer<'static>]>,
}

impl Connected for Connection {
    type ConnectInfo = ConnectedFrom;

    fn connect_info(&self) -> ConnectedFrom {
        self.from.clone()
    }
}

/// Accepts connections until stopped.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    metrics: Metrics,
    stop: CancellationToken,
) -> ReceiverStream<std::io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(ACCEPTED);
    let acceptor = tls.map(TlsAcceptor::from);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let incoming = tokio::select! {
                incoming = listener.accept() => incoming,
                () = stop.cancelled() => return,
            };
            let (stream, source) = match incoming {
                Ok(incoming) => incoming,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors, most likely: others have to end before this can work.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, accepted, metrics) = (acceptor.clone(), accepted.clone(), metrics.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake(stream, source, acceptor));
                let (failure, stream) = match handshake.await {
                    Ok(Ok(connection)) => return drop(accepted.send(Ok(connection)).await),
                    Ok(Err((error, stream))) => (error, Some(stream)),
                    Err(_) => (std::io::ErrorKind::TimedOut.into(), None),
                };
                let refusal = TlsRefusal::of(&failure);
                let reason = refusal.map_or("other", TlsRefusal::as_str);
                metrics.handshake_failures.get_or_create(&ReasonLabel { reason }).inc();
                match refusal {
                    Some(refusal) => tracing::warn!(%source, code = refusal.code(), %refusal, "a handshake failed"),
                    None => tracing::debug!(%source, error = %failure, "a handshake failed"),
                }
                if let Some(stream) = stream {
                    let _ = tokio::time::timeout(FAREWELL, farewell(stream)).await;
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// A failure comes with the connection, on which the peer is told.
async fn handshake(
    stream: TcpStream,
    source: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) -> Result<Connection, (std::io::Error, TcpStream)> {
    if let Err(error) = stream.set_nodelay(true) {
        return Err((error, stream));
    }
    let Some(acceptor) = acceptor else {
        let from = ConnectedFrom { source, chain: Arc::from([]) };
        return Ok(Connection { stream: Either::Left(stream), from });
    };
    let stream = acceptor.accept(stream).into_fallible().await?;
    let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let from = ConnectedFrom { source, chain: chain.into() };
    Ok(Connection { stream: Either::Right(Box::new(stream)), from })
}

/// Waits until the peer has read why it was refused: a connection that is closed with data unread is reset, and the
/// alert is lost with it.
async fn farewell(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Puts who the peer is into a request, judged anew for each: connections outlive certificates.
pub(crate) fn identify(mut request: Request<()>) -> Result<Request<()>, Status> {
    let Some(ConnectedFrom { source, chain }) = request.extensions().get::<ConnectedFrom>().cloned() else {
        return Ok(request);
    };
    let mut certificate = None;
    if !chain.is_empty() {
        match peer_identity(&chain, Timestamp::now()) {
            Ok(identity) => {
                certificate = Some(Certified {
                    cluster: Name::from(identity.cluster.as_str()),
                    expired: identity.expired,
                    ends: identity.validity.not_after.as_second(),
                });
            }
            Err(error) => tracing::warn!(%source, code = error.code(), %error, "a client certificate names no cluster"),
        }
    }
    request.extensions_mut().insert(Peer { certificate, source: Some(source) });
    Ok(request)
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
