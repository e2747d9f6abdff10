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
use std::time::Duration;

/// What a health check by HTTP is told.
const READY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
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

/// Runs a server in this process until it is killed.
pub fn serve(options: &Options) -> Result<()> {
    let mut server = Server::new(options)?;
    println!("listening");
    loop {
        server.turn()?;
    }
}

struct Server {
    name: String,
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
    /// In the head of an HTTP request.
    head: bool,
    /// What is answered then.
    owed: bool,
}

impl Server {
    fn new(options: &Options) -> Result<Self> {
        let mut server = Self {
            name: options.name.clone(),
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

    fn turn(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
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
                if !served.go_on(&self.name).unwrap_or(false) {
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
                head: false,
                owed: false,
            };
            self.served.insert(key, served);
        }
        Ok(())
    }
}

impl Served {
    /// `false`: it is over.
    fn go_on(&mut self, name: &str) -> std::io::Result<bool> {
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
            if self.head || line.starts_with("GET /") {
                self.head = !line.trim_end().is_empty();
                if !self.head {
                    self.conduit.send(READY);
                }
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
