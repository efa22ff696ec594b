use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::proto;
use crate::Direction;
use proto::relay_client::RelayClient;

/// The frames that come out of a stream. The status that ends it, if one does, says why.
pub type Frames = Pin<Box<dyn Stream<Item = Result<proto::Frame, Status>> + Send>>;

/// What a server answers.
pub type Reply<T> = BoxFuture<'static, Result<T, Status>>;

/// What a caller shows and expects.
#[derive(Clone)]
pub struct Call {
    /// Token to present, where certificates are not used.
    pub token: Option<String>,
    /// Largest message, bytes.
    pub message_bytes: usize,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("Call").field("message_bytes", &self.message_bytes).finish_non_exhaustive()
    }
}

/// A way to one server: a connection, or the service itself where both are in one process.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Opens a stream. `frames` are what the caller sends.
    fn open(&self, direction: Direction, call: Call, frames: mpsc::Receiver<proto::Frame>) -> Reply<Frames>;

    /// Asks whether streams would be let in.
    fn check(&self, call: Call, hello: proto::Hello) -> Reply<()>;
}

impl Transport for Channel {
    fn open(&self, direction: Direction, call: Call, frames: mpsc::Receiver<proto::Frame>) -> Reply<Frames> {
        let limit = call.message_bytes;
        let client = RelayClient::new(self.clone());
        let mut client = client.max_decoding_message_size(limit).max_encoding_message_size(limit);
        async move {
            let request = authorized(&call, ReceiverStream::new(frames))?;
            let opened = match direction {
                Direction::Push => client.push(request).await,
                Direction::Pull => client.pull(request).await,
            };
            Ok(opened?.into_inner().boxed())
        }
        .boxed()
    }

    fn check(&self, call: Call, hello: proto::Hello) -> Reply<()> {
        let mut client = RelayClient::new(self.clone());
        async move {
            let request = authorized(&call, proto::CheckRequest { hello: Some(hello) })?;
            client.check(request).await.map(|_| ())
        }
        .boxed()
    }
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn open(&self, direction: Direction, call: Call, frames: mpsc::Receiver<proto::Frame>) -> Reply<Frames> {
        (**self).open(direction, call, frames)
    }

    fn check(&self, call: Call, hello: proto::Hello) -> Reply<()> {
        (**self).check(call, hello)
    }
}

/// A request that shows the token, where there is one.
fn authorized<T>(call: &Call, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    if let Some(token) = &call.token {
        let value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Status::invalid_argument("expected a token of printable ascii characters"))?;
        request.metadata_mut().insert("authorization", value);
    }
    Ok(request)
}
