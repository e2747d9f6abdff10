//! A TLS client that lives in a node.
use crate::apiserver::Authority;
use crate::topology::Node;
use anyhow::{Context, Result, bail};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::Deserialize;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Opens connections from a node and trusts the lab's authority, nothing else.
pub struct Client<'lab> {
    node: &'lab Node,
    config: Arc<ClientConfig>,
    limit: Duration,
}

/// What a server of the lab says of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// Which node served it.
    pub node: String,
    /// Whose connection the server saw.
    pub client: SocketAddr,
    /// What was asked for.
    pub path: String,
}

/// An open connection; each [`Session::get`] is one request on it.
pub struct Session {
    tls: StreamOwned<ClientConnection, TcpStream>,
    local: SocketAddr,
}

impl<'lab> Client<'lab> {
    /// From this node; every step of a connection has 2 s.
    pub fn new(node: &'lab Node, authority: &Authority) -> Result<Self> {
        Ok(Self {
            node,
            config: Arc::new(authority.client_config()?),
            limit: Duration::from_secs(2),
        })
    }

    /// With another limit.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// One request on a connection of its own.
    pub fn get(&self, to: SocketAddr, path: &str) -> Result<Answer> {
        self.connect(to)?.get(path)
    }

    /// The same from one of the node's other addresses.
    pub fn get_from(&self, source: IpAddr, to: SocketAddr, path: &str) -> Result<Answer> {
        self.connect_from(Some(source), to)?.get(path)
    }

    /// Connects and shakes hands.
    pub fn connect(&self, to: SocketAddr) -> Result<Session> {
        self.connect_from(None, to)
    }

    /// Connects from one of the node's other addresses.
    pub fn connect_from(&self, source: Option<IpAddr>, to: SocketAddr) -> Result<Session> {
        let open = || -> Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
            socket.connect_timeout(&to.into(), self.limit)?;
            socket.set_read_timeout(Some(self.limit))?;
            socket.set_write_timeout(Some(self.limit))?;
            socket.set_tcp_nodelay(true)?;
            Ok(socket.into())
        };
        let stream = self
            .node
            .netns()
            .run(open)?
            .with_context(|| format!("connecting to {to}"))?;
        let local = stream.local_addr()?;
        let connection = ClientConnection::new(self.config.clone(), ServerName::from(to.ip()))?;
        let mut tls = StreamOwned::new(connection, stream);
        while tls.conn.is_handshaking() {
            tls.conn
                .complete_io(&mut tls.sock)
                .with_context(|| format!("handshake with {to}"))?;
        }
        Ok(Session { tls, local })
    }
}

impl Session {
    /// One request; `path` may not be `/readyz`, whose answer is no [`Answer`].
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        let (status, body) = self.request(path)?;
        if status != 200 {
            bail!("{path}: status {status}");
        }
        serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))
    }

    /// One request: status and body.
    pub fn request(&mut self, path: &str) -> Result<(u16, String)> {
        write!(self.tls, "GET {path} HTTP/1.1\r\nhost: lab\r\n\r\n")?;
        self.tls.flush()?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.tls.read_exact(&mut byte).context("the answer")?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .context("a status line")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("a length")?;
        let mut body = vec![0; length.trim().parse()?];
        self.tls.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The client's end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What the server showed.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.tls
            .conn
            .peer_certificates()?
            .first()
            .map(|c| c.clone().into_owned())
    }
}
