//! `udp`: a datagram is not answered with "port unreachable", or is answered.
use super::Verdict;
use super::connect::{Way, failed};
use lb_common::health::UdpProbe;
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Sends one datagram. Silence is a good answer unless one is required, and takes the whole of `limit` to be heard.
pub(super) async fn probe(probe: &UdpProbe, way: &Way, limit: Duration) -> Verdict {
    let socket = match open(way).await {
        Ok(socket) => socket,
        Err(e) => return Verdict::Unknown(format!("no socket to ask with: {e}")),
    };
    match tokio::time::timeout(limit, ask(&socket, probe, way)).await {
        Ok(Ok(())) => Verdict::Good(None),
        Ok(Err(e)) => failed(&e),
        Err(_) if probe.require_reply => Verdict::Dead(format!("no answer within {limit:?}")),
        Err(_) => Verdict::Good(None),
    }
}

async fn open(way: &Way) -> io::Result<UdpSocket> {
    let any: IpAddr = if way.to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(way.source.unwrap_or(any), 0)).await?;
    if let Some(mark) = way.mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    Ok(socket)
}

async fn ask(socket: &UdpSocket, probe: &UdpProbe, way: &Way) -> io::Result<()> {
    socket.connect(way.to).await?;
    socket.send(&probe.payload).await?;
    socket.recv(&mut [0; 1]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_dead_and_a_silent_one_is_not_unless_it_must_answer() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let way = Way {
            to: server.local_addr().unwrap(),
            source: None,
            mark: None,
        };
        let mut asks = UdpProbe::default();
        let limit = Duration::from_millis(50);
        assert_eq!(probe(&asks, &way, limit).await, Verdict::Good(None));
        asks.require_reply = true;
        assert!(matches!(probe(&asks, &way, limit).await, Verdict::Dead(_)));
        let answers = tokio::spawn(async move {
            let (n, from) = server.recv_from(&mut [0; 16]).await.unwrap();
            server.send_to(b"pong", from).await.unwrap();
            n
        });
        // What the two before sent is still in its queue, from sockets that are gone.
        assert!(matches!(probe(&asks, &way, limit).await, Verdict::Dead(_)));
        answers.await.unwrap();
        let why = probe(&asks, &way, Duration::from_secs(5)).await;
        assert!(
            matches!(&why, Verdict::Dead(w) if w.contains("refused")),
            "{why:?}"
        );
    }
}
