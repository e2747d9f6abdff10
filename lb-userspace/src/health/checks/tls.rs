//! `tls`: a handshake succeeds, with somebody who may be the server.
use super::Verdict;
use super::connect::{Way, connect, failed};
use super::credentials::{Watched, client, files};
use lb_common::health::TlsProbe;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a check's TLS connections are made with.
#[derive(Debug)]
pub(super) struct Shaker {
    probe: TlsProbe,
    protocols: &'static [&'static [u8]],
    config: Watched<ClientConfig>,
}

impl Shaker {
    pub(super) fn new(probe: &TlsProbe, protocols: &'static [&'static [u8]]) -> Self {
        Self {
            probe: probe.clone(),
            protocols,
            config: Watched::new(files(probe)),
        }
    }

    /// What the certificate must be good for, and what is asked for.
    pub(super) fn name(&self, way: &Way) -> String {
        let address = || way.to.ip().to_string();
        self.probe.server_name.clone().unwrap_or_else(address)
    }

    /// A TLS connection, or what not getting one says of the server.
    pub(super) async fn shake(&mut self, way: &Way) -> Result<TlsStream<TcpStream>, Verdict> {
        let (probe, protocols) = (&self.probe, self.protocols);
        let config = self
            .config
            .get(|| client(probe, protocols))
            .map_err(Verdict::Unknown)?;
        let name = self.name(way);
        let name = ServerName::try_from(name.clone())
            .map_err(|_| Verdict::Unknown(format!("{name} is no name that a certificate could have")))?;
        let stream = connect(way).await?;
        let connector = TlsConnector::from(config);
        connector.connect(name, stream).await.map_err(|e| refused(&e))
    }

    /// Whether a client certificate is shown.
    pub(super) const fn is_known(&self) -> bool {
        self.probe.identity.is_some()
    }
}

/// Somebody who answers with something else than a handshake lives: what it serves already is not to be cut.
fn refused(error: &io::Error) -> Verdict {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(why) => Verdict::Unready(format!(
            "it accepts connections, but the TLS handshake failed: {why}"
        )),
        None => match failed(error) {
            Verdict::Dead(why) => Verdict::Dead(format!("the TLS handshake broke off: {why}")),
            other => other,
        },
    }
}

/// Shakes hands, and leaves with a reset so that nothing is left in TIME_WAIT.
pub(super) async fn probe(shaker: &mut Shaker, way: &Way) -> Verdict {
    match shaker.shake(way).await {
        Ok(stream) => {
            let _ = stream.get_ref().0.set_zero_linger();
            Verdict::Good(None)
        }
        Err(verdict) => verdict,
    }
}
