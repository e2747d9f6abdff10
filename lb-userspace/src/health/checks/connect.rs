//! A TCP connection as a check has it: to where, from where, with which mark; and what a failure says.
use super::Verdict;
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// Where a check goes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) mark: Option<u32>,
}

/// A connection, or what not getting one says of the server.
pub(super) async fn connect(way: &Way) -> Result<TcpStream, Verdict> {
    let socket = open(way).map_err(|e| Verdict::Unknown(format!("no socket to ask with: {e}")))?;
    let stream = socket.connect(way.to).await.map_err(|e| failed(&e))?;
    // A small request should not wait for more.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn open(way: &Way) -> io::Result<TcpSocket> {
    let socket = if way.to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(mark) = way.mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    if let Some(source) = way.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// What an error of the connection says: nothing where this node itself is short of something.
pub(super) fn failed(error: &io::Error) -> Verdict {
    if is_own(error) {
        Verdict::Unknown(format!("this node cannot ask: {error}"))
    } else {
        Verdict::Dead(error.to_string())
    }
}

/// Whether the error is this node's lack of descriptors, memory or local ports.
pub(super) fn is_own(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    const EADDRNOTAVAIL: i32 = 99;
    matches!(
        error.raw_os_error(),
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL)
    )
}
