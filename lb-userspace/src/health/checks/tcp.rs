//! `tcp`: a connection is accepted.
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Connects, and resets at once: a server under check each second from every node should not collect TIME_WAIT.
pub(super) async fn probe(address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_zero_linger()
}
