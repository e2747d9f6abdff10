//! A stand-in for the Kubernetes API server: TLS, a certificate of its own, and answers that say which node spoke
//! and whose connection it saw.
//!
//! `/readyz` (and `/livez`) answer as they are told; every other path answers `{"node":..,"client":..,"path":..}`.
use crate::topology::Node;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// An idle connection is dropped after this, so that no thread outlives its test for long.
const IDLE: Duration = Duration::from_secs(30);

/// Signs the certificates of one lab.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "cplb lab");
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        })
    }

    /// What clients trust.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// As a file that `curl --cacert` takes.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these addresses, and its key (PKCS #8, DER).
    pub fn issue(&self, name: &str, addresses: &[IpAddr]) -> Result<(CertificateDer<'static>, Vec<u8>)> {
        let mut subjects: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        subjects.push(name.to_owned());
        let mut params = CertificateParams::new(subjects)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok((certificate, key.serialize_der()))
    }

    /// A client's configuration that trusts this authority and nothing else.
    pub fn client_config(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }

    fn server_config(
        &self,
        name: &str,
        addresses: &[IpAddr],
    ) -> Result<(ServerConfig, CertificateDer<'static>)> {
        let (certificate, key) = self.issue(name, addresses)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        Ok((config, certificate))
    }
}

/// How `/readyz` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// 200.
    Ready,
    /// 500, as a real one does while it starts or stops.
    Failing,
    /// Takes the request and never answers.
    Silent,
}

struct Shared {
    node: String,
    stop: AtomicBool,
    health: AtomicU8,
    connections: AtomicUsize,
}

/// A server in a node. Dropping it closes the port.
pub struct ApiServer {
    shared: Arc<Shared>,
    certificate: CertificateDer<'static>,
    accept: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Listens on every address of the node; the certificate is good for `vips` and the node's own addresses.
    pub fn start(node: &Node, authority: &Authority, vips: &[IpAddr], port: u16) -> Result<Self> {
        let mut addresses = vips.to_vec();
        addresses.extend(node.address(false).ok());
        addresses.extend(node.address(true).ok());
        let (config, certificate) = authority.server_config(node.name(), &addresses)?;
        let listener = node
            .netns()
            .run(|| listen(port))?
            .with_context(|| format!("port {port} of {}", node.name()))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            node: node.name().to_owned(),
            stop: AtomicBool::new(false),
            health: AtomicU8::new(Health::Ready as u8),
            connections: AtomicUsize::new(0),
        });
        let (state, config) = (shared.clone(), Arc::new(config));
        let accept = Some(thread::spawn(move || accept_loop(&listener, &config, &state)));
        Ok(Self {
            shared,
            certificate,
            accept,
        })
    }

    /// What it shows in the handshake.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Changes what `/readyz` answers.
    pub fn set_health(&self, health: Health) {
        self.shared.health.store(health as u8, Ordering::Relaxed);
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.accept.take() {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

fn accept_loop(listener: &TcpListener, config: &Arc<ServerConfig>, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(50_u8));
        while let Ok((stream, from)) = listener.accept() {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let (config, shared) = (config.clone(), shared.clone());
            // Clients come and go as they like, so their errors mean nothing here.
            thread::spawn(move || drop(serve(stream, from, config, &shared)));
        }
    }
}

fn serve(stream: TcpStream, from: SocketAddr, config: Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut tls = StreamOwned::new(ServerConnection::new(config)?, stream);
    while let Some(path) = request(&mut tls)? {
        let health = shared.health.load(Ordering::Relaxed);
        let (status, body) = if path.starts_with("/readyz") || path.starts_with("/livez") {
            if health == Health::Silent as u8 {
                thread::sleep(IDLE);
                break;
            }
            if health == Health::Ready as u8 {
                ("200 OK", "ok".to_owned())
            } else {
                ("500 Failing", "no".to_owned())
            }
        } else {
            let client = SocketAddr::new(from.ip().to_canonical(), from.port());
            (
                "200 OK",
                json!({"node": shared.node, "client": client, "path": path}).to_string(),
            )
        };
        let length = body.len();
        write!(
            tls,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        tls.flush()?;
    }
    Ok(())
}

/// The path of the next request on the connection; `None` at its end.
fn request(tls: &mut impl Read) -> Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8192 || tls.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    Ok(text.split(' ').nth(1).map(str::to_owned))
}
