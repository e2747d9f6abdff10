//! The socket. Only root and its group may use it: the kernel checks the file's mode.
use super::Status;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// Whoever is slower than this to send a request is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the socket and answers for as long as the process lives. A file of that name left by an earlier run goes.
pub fn serve<F>(path: &Path, status: F) -> std::io::Result<()>
where
    F: Fn() -> Status + Send + Sync + 'static,
{
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let status = Arc::new(status);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(TokioIo::new(stream), status.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the status socket cannot accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

async fn connection<F>(stream: TokioIo<tokio::net::UnixStream>, status: Arc<F>)
where
    F: Fn() -> Status + Send + Sync + 'static,
{
    let service = service_fn(move |request| {
        let response = answer(&request, status.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, served).await {
        tracing::debug!(%error, "a client of the status socket went away");
    }
}

fn answer<F: Fn() -> Status>(request: &Request<Incoming>, status: &F) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => match serde_json::to_vec(&status()) {
            Ok(body) => reply(StatusCode::OK, "application/json", body),
            Err(e) => reply(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                e.to_string().into_bytes(),
            ),
        },
        (_, "/v1/status") => reply(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            b"GET only\n".to_vec(),
        ),
        _ => reply(
            StatusCode::NOT_FOUND,
            "text/plain",
            b"there is /v1/status\n".to_vec(),
        ),
    }
}

fn reply(code: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(kind),
    );
    response
}
