//! The server: one thread, any number of connections and ports. It is a program of its own (`crowd`), since the two
//! ends of 10,000 connections are more descriptors than a process may have on small machines.
use super::Word;
use super::conduit::Conduit;
use crate::apiserver::Authority;
use crate::daemon::Daemon;
use crate::topology::Node;
use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{Connection, ServerConfig, ServerConnection};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What `/readyz` says from SIGTERM on, as an API server does.
const STOPPING: &str = "[+]ping ok\n[-]shutdown failed: reason withheld\n";
/// Bytes of a long answer.
const FILLER: u8 = b'.';

/// What a server is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it calls itself.
    pub name: String,
    /// TCP on every address, and UDP on each of `vips`.
    pub ports: Vec<u16>,
    /// The same with TLS, and without UDP.
    pub tls_ports: Vec<u16>,
    /// Need not be on the node yet.
    pub vips: Vec<IpAddr>,
    /// Certificate and key, DER.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long it serves after SIGTERM, while `/readyz` fails; `None`: SIGTERM ends it at once.
    pub grace: Option<Duration>,
}

/// What is started in a node.
#[derive(Clone, Copy, Default)]
pub struct Service<'s> {
    /// TCP and UDP.
    pub ports: &'s [u16],
    /// TLS, with certificates of this authority.
    pub tls: Option<(&'s [u16], &'s Authority)>,
    /// What certificates are good for, besides the node's own addresses, and where UDP is answered.
    pub vips: &'s [IpAddr],
    /// How long it serves after SIGTERM, while `/readyz` fails.
    pub grace: Option<Duration>,
}

/// Starts one as a program in the node, and waits until it listens.
pub fn start(node: &Node, service: Service<'_>) -> Result<Daemon> {
    let mut command = Command::new(crate::programs::crowd()?);
    command.args(["--name", node.name()]);
    for port in service.ports {
        command.args(["--port", &port.to_string()]);
    }
    for vip in service.vips {
        command.args(["--vip", &vip.to_string()]);
    }
    if let Some(grace) = service.grace {
        command.args(["--grace", &grace.as_millis().to_string()]);
    }
    if let Some((ports, authority)) = service.tls {
        for port in ports {
            command.args(["--tls-port", &port.to_string()]);
        }
        let mut addresses = service.vips.to_vec();
        addresses.extend(node.address(false).ok());
        addresses.extend(node.address(true).ok());
        let (certificate, key) = authority.issue(node.name(), &addresses)?;
        for (option, bytes) in [("--certificate", certificate.as_ref()), ("--key", &key)] {
            let path = node.dir().join(option.trim_start_matches('-'));
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            command.arg(option).arg(path);
        }
    }
    let mut daemon = Daemon::start(node, "crowd", command)?;
    let listening = wait::until("a server that listens", Duration::from_secs(20), || {
        (daemon.log().contains("listening") || !daemon.running()).then_some(())
    });
    listening.with_context(|| daemon.log())?;
    ensure!(
        daemon.running(),
        "the server on {}: {}",
        node.name(),
        daemon.log()
    );
    Ok(daemon)
}

/// Runs a server in this process until it is killed, or told to stop.
pub fn serve(options: &Options) -> Result<()> {
    let signals = options.grace.map(|_| listen_for_sigterm()).transpose()?;
    let mut server = Server::new(options)?;
    println!("listening");
    loop {
        let left = server.ends.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(());
        }
        // Seldom enough not to matter, often enough to end in time.
        let patience = signals
            .as_ref()
            .map_or(EpollTimeout::NONE, |_| EpollTimeout::from(20_u8));
        server.turn(patience)?;
        let told = signals
            .as_ref()
            .is_some_and(|s| matches!(s.read_signal(), Ok(Some(_))));
        if told && server.ends.is_none() {
            server.ends = Some(Instant::now() + options.grace.unwrap_or_default());
        }
    }
}

/// Instead of ending by it.
fn listen_for_sigterm() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

/// An answer in HTTP: `/readyz` tells whether it is stopping, everything else who it is.
fn page(name: &str, request: &str, stopping: bool) -> String {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        "/readyz" if stopping => ("500 Internal Server Error", STOPPING),
        "/readyz" => ("200 OK", "ok"),
        _ => ("200 OK", name),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}")
}

struct Server {
    name: String,
    /// It was told to stop, and does so then.
    ends: Option<Instant>,
    epoll: Epoll,
    listeners: HashMap<u64, (TcpListener, Option<Arc<ServerConfig>>)>,
    datagrams: HashMap<u64, UdpSocket>,
    served: HashMap<u64, Served>,
}

struct Served {
    conduit: Conduit,
    from: SocketAddr,
    count: u64,
    /// Bytes of a `put` that are still to come.
    swallow: usize,
    /// The first line of an HTTP request whose head is being read.
    head: Option<String>,
    /// What is answered then.
    owed: bool,
}

impl Server {
    fn new(options: &Options) -> Result<Self> {
        let mut server = Self {
            name: options.name.clone(),
            ends: None,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            listeners: HashMap::new(),
            datagrams: HashMap::new(),
            served: HashMap::new(),
        };
        for port in &options.ports {
            server.listen(*port, None)?;
            for vip in &options.vips {
                server.datagrams(SocketAddr::new(*vip, *port))?;
            }
        }
        let tls = options.tls.as_ref().map(server_config).transpose()?;
        for port in &options.tls_ports {
            server.listen(
                *port,
                Some(tls.clone().context("TLS wants a certificate and a key")?),
            )?;
        }
        Ok(server)
    }

    fn listen(&mut self, port: u16, tls: Option<Arc<ServerConfig>>) -> Result<()> {
        let listener = listen(port).with_context(|| format!("port {port}"))?;
        let key = token(&listener);
        self.epoll
            .add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        self.listeners.insert(key, (listener, tls));
        Ok(())
    }

    fn datagrams(&mut self, at: SocketAddr) -> Result<()> {
        let socket = datagrams(at).with_context(|| format!("UDP at {at}"))?;
        let key = token(&socket);
        self.epoll
            .add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        self.datagrams.insert(key, socket);
        Ok(())
    }

    fn turn(&mut self, patience: EpollTimeout) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = match self.epoll.wait(&mut events, patience) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let key = event.data();
            if let Some(socket) = self.datagrams.get(&key) {
                answer_datagrams(socket, &self.name);
            } else if self.listeners.contains_key(&key) {
                self.accept(key)?;
            } else if let Some(served) = self.served.get_mut(&key) {
                // Clients come and go as they like: an error is an end like any other.
                if !served.go_on(&self.name, self.ends.is_some()).unwrap_or(false) {
                    self.served.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, key: u64) -> Result<()> {
        while let Some((listener, tls)) = self.listeners.get(&key)
            && let Ok((stream, from)) = listener.accept()
        {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let tls = tls.clone().map(ServerConnection::new).transpose()?;
            let key = token(&stream);
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            self.epoll.add(&stream, EpollEvent::new(interest, key))?;
            let served = Served {
                conduit: Conduit::new(stream, tls.map(Connection::Server)),
                from: SocketAddr::new(from.ip().to_canonical(), from.port()),
                count: 0,
                swallow: 0,
                head: None,
                owed: false,
            };
            self.served.insert(key, served);
        }
        Ok(())
    }
}

impl Served {
    /// `false`: it is over.
    fn go_on(&mut self, name: &str, stopping: bool) -> std::io::Result<bool> {
        let open = self.conduit.pump()?;
        loop {
            let swallowed = self.swallow.min(self.conduit.input.len());
            self.conduit.input.drain(..swallowed);
            self.swallow -= swallowed;
            if self.swallow > 0 {
                break;
            }
            if std::mem::take(&mut self.owed) {
                self.answer(name);
            }
            let Some(line) = self.conduit.line() else { break };
            if let Some(request) = self.head.take_if(|_| line.trim_end().is_empty()) {
                self.conduit.send(page(name, &request, stopping).as_bytes());
                continue;
            }
            if self.head.is_some() {
                continue;
            }
            if line.starts_with("GET /") {
                self.head = Some(line);
                continue;
            }
            self.count += 1;
            match line.split_once(' ') {
                Some(("put", count)) => {
                    self.swallow = count.parse().unwrap_or(0);
                    self.owed = true;
                }
                Some(("get", count)) => {
                    self.answer(name);
                    self.conduit.send(&vec![FILLER; count.parse().unwrap_or(0)]);
                }
                _ => self.answer(name),
            }
        }
        self.conduit.flush()?;
        Ok(open)
    }

    fn answer(&mut self, name: &str) {
        let word = word(name, self.from, self.count);
        self.conduit.send(word.as_bytes());
    }
}

fn word(name: &str, client: SocketAddr, count: u64) -> String {
    let node = name.to_owned();
    Word { node, client, count }.render()
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(word(name, from, 1).as_bytes(), from);
    }
}

fn token(fd: &impl AsRawFd) -> u64 {
    u64::from(fd.as_raw_fd().cast_unsigned())
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Answers have to come from the address that was asked, so each has a socket of its own.
fn datagrams(at: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking().cloexec(), None)?;
    match at {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&at.into())?;
    Ok(socket.into())
}

fn server_config((certificate, key): &(PathBuf, PathBuf)) -> Result<Arc<ServerConfig>> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(read(key)?));
    let chain = vec![CertificateDer::from(read(certificate)?)];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}
