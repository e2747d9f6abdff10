//! `http` and `https`: a request is answered with an expected status.
use super::Verdict;
use super::connect::{Way, connect, failed};
use super::credentials::{Watched, token};
use super::tls::Shaker;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lb_common::health::HttpProbe;
use std::error::Error;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

/// What is offered in a TLS handshake.
pub(super) const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];
/// An answer is read to its end or to this.
const LONGEST: usize = 64 * 1024;
/// So much of an answer is shown.
const SHOWN: usize = 160;

/// What a check's requests are made with.
#[derive(Debug)]
pub(super) struct Asker {
    probe: HttpProbe,
    token: Option<(String, Watched<String>)>,
}

impl Asker {
    pub(super) fn new(probe: &HttpProbe) -> Self {
        let watched = |path: &String| (path.clone(), Watched::new(vec![path.clone()]));
        Self {
            probe: probe.clone(),
            token: probe.token.as_ref().map(watched),
        }
    }

    /// `name`: whom the server is expected to be.
    fn request(&mut self, name: &str, way: &Way) -> Result<Request<Empty<Bytes>>, String> {
        let host = self.probe.host.clone().unwrap_or_else(|| authority(name, way));
        let mut request = Request::get(self.probe.path.as_str())
            .header(HOST, host)
            .header(USER_AGENT, concat!("cplb/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        if let Some((path, watched)) = &mut self.token {
            let token = watched.get(|| token(path))?;
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| format!("{path}: this is no bearer token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(Empty::new())
            .map_err(|e| format!("{} cannot be asked for: {e}", self.probe.path))
    }
}

/// As a Host header has it.
fn authority(name: &str, way: &Way) -> String {
    let port = way.to.port();
    if name.contains(':') {
        format!("[{name}]:{port}")
    } else {
        format!("{name}:{port}")
    }
}

/// Without TLS.
pub(super) async fn plain(asker: &mut Asker, way: &Way) -> Verdict {
    let request = match asker.request(&way.to.ip().to_string(), way) {
        Ok(request) => request,
        Err(why) => return Verdict::Unknown(why),
    };
    match connect(way).await {
        Ok(stream) => ask(&asker.probe, stream, request, asker.token.is_some()).await,
        Err(verdict) => verdict,
    }
}

/// With TLS.
pub(super) async fn secure(shaker: &mut Shaker, asker: &mut Asker, way: &Way) -> Verdict {
    let request = match asker.request(&shaker.name(way), way) {
        Ok(request) => request,
        Err(why) => return Verdict::Unknown(why),
    };
    let known = asker.token.is_some() || shaker.is_known();
    match shaker.shake(way).await {
        Ok(stream) => ask(&asker.probe, stream, request, known).await,
        Err(verdict) => verdict,
    }
}

async fn ask(
    probe: &HttpProbe,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
    known: bool,
) -> Verdict {
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(e) => return broken(&e),
    };
    let connection = Connection(tokio::spawn(connection));
    let verdict = match sender.send_request(request).await {
        Ok(response) => judge(probe, response, known).await,
        Err(e) => broken(&e),
    };
    drop(connection);
    verdict
}

/// The task that moves the bytes; it ends with the check.
struct Connection(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bytes that are no HTTP come from somebody who lives; an end in the middle from somebody who does not.
fn broken(error: &hyper::Error) -> Verdict {
    if error.is_parse() {
        return Verdict::Unready(format!("it answers, but not in HTTP: {error}"));
    }
    match error.source().and_then(|e| e.downcast_ref::<io::Error>()) {
        Some(e) => failed(e),
        None => Verdict::Dead(format!("the request broke off: {error}")),
    }
}

async fn judge(probe: &HttpProbe, response: Response<Incoming>, known: bool) -> Verdict {
    let status = response.status();
    if probe.accepts(status.as_u16(), known) {
        let hides = probe.expected.is_empty() && status != StatusCode::OK;
        return Verdict::Good(hides.then(|| {
            format!(
                "{} answers {} to strangers: it lives, but whether it is ready is not known. Give healthCheck a \
                 client certificate or a token",
                probe.path,
                status.as_u16()
            )
        }));
    }
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let text = body.map(|b| b.to_bytes()).unwrap_or_default();
    let said = telling(&String::from_utf8_lossy(&text));
    let colon = if said.is_empty() { "" } else { ": " };
    Verdict::Unready(format!("{} answers {}{colon}{said}", probe.path, status.as_u16()))
}

/// What of an answer says why: the failing lines of an API server's `[-]name failed`, else its beginning.
fn telling(text: &str) -> String {
    let failing: Vec<&str> = text.lines().filter(|l| l.starts_with("[-]")).collect();
    let shown = if failing.is_empty() {
        text.to_owned()
    } else {
        failing.join(", ")
    };
    let clean = shown.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(SHOWN).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_api_server_says_is_cut_to_what_fails() {
        let text = "[+]ping ok\n[-]shutdown failed: reason withheld\n[+]etcd ok\n[-]informer-sync failed\nreadyz check failed\n";
        assert_eq!(
            telling(text),
            "[-]shutdown failed: reason withheld, [-]informer-sync failed"
        );
        assert_eq!(telling("no\r\n\u{1b}[31mred"), "no   [31mred");
        assert_eq!(telling(&"x".repeat(1000)).len(), SHOWN);
    }

    #[test]
    fn a_host_is_written_as_urls_have_it() {
        let way = |to: &str| Way {
            to: to.parse().unwrap(),
            source: None,
            mark: None,
        };
        assert_eq!(authority("192.0.2.1", &way("192.0.2.1:6443")), "192.0.2.1:6443");
        assert_eq!(
            authority("2001:db8::1", &way("[2001:db8::1]:6443")),
            "[2001:db8::1]:6443"
        );
        assert_eq!(authority("kubernetes", &way("[2001:db8::1]:1")), "kubernetes:1");
    }
}
