//! Asks a running daemon over its socket.
use super::Status;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no cplb answers at {path}: is it running, and with this --run-dir?")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error(
        "the cplb at {0} did not answer within 5 s: it hangs (its kernel lease drops the virtual IPs by itself)"
    )]
    Slow(PathBuf),
    /// It is not a daemon of this version, or it broke.
    #[error("the cplb at {0} answered something else than its status: {1}")]
    Odd(PathBuf, String),
}

/// The daemon's status.
pub async fn fetch_status(socket: &Path) -> Result<Status, ClientError> {
    let limit = Duration::from_secs(5);
    match tokio::time::timeout(limit, fetch(socket)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Slow(socket.to_owned())),
    }
}

async fn fetch(socket: &Path) -> Result<Status, ClientError> {
    let odd = |e: String| ClientError::Odd(socket.to_owned(), e);
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| ClientError::NotRunning {
            path: socket.to_owned(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| odd(e.to_string()))?;
    tokio::spawn(connection);
    let request = Request::get("/v1/status")
        .header(hyper::header::HOST, "cplb")
        .body(Empty::<Bytes>::new())
        .map_err(|e| odd(e.to_string()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| odd(e.to_string()))?;
    if !response.status().is_success() {
        return Err(odd(response.status().to_string()));
    }
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| odd(e.to_string()))?
        .to_bytes();
    serde_json::from_slice(&body).map_err(|e| odd(e.to_string()))
}
