//! What a running server or agent says of itself over HTTP.

use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Failure;

/// Longest wait for an answer: it is made from memory.
const DEADLINE: Duration = Duration::from_secs(10);

/// Largest answer, bytes: a thousand clusters take a megabyte.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Port of a URL that states none.
const HTTP_PORT: u16 = 80;

/// Reads `path` from the program at a URL such as `http://127.0.0.1:8090`.
pub(crate) fn read(url: &str, path: &str) -> Result<Bytes, Failure> {
    let unreachable = |reason: String| Failure::Unreachable { url: url.to_owned(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { tokio::time::timeout(DEADLINE, get(url, path)).await });
    match answer {
        Ok(answer) => answer.map_err(|error| unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

async fn get(url: &str, path: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let uri: Uri = url.parse()?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("expected a URL such as http://127.0.0.1:8090".into());
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(HTTP_PORT))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(header::HOST, authority.as_str()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("expected the status 200, found {status}").into());
        }
        Ok(body)
    };
    tokio::pin!(answer);
    tokio::select! {
        // The connection does the work and ends when the answer is there.
        ended = connection => {
            ended?;
            answer.await
        }
        answer = &mut answer => answer,
    }
}
