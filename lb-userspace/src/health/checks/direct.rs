//! What direct routing needs besides an API server that lives: that its node takes packets for the virtual IP.
//!
//! A controller whose cplb was stopped still answers on its own address. It no longer has the virtual IP, and every
//! connection that a director sent there would hang.
use super::Verdict;
use crate::sys::direct::{Answer, Path, ask};
use crate::sys::rtnl::{Route, RouteKind, Rtnl};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Asks `server` for its answer to `vip`. A server that is this node, or behind a router (where direct routing cannot
/// be), is not asked.
pub(super) async fn probe(server: SocketAddr, vip: IpAddr, limit: Duration) -> Result<(), Verdict> {
    let unknown = |why: String| Verdict::Unknown(format!("this node cannot ask it for {vip}: {why}"));
    let Some(path) = path(server, vip).await.map_err(unknown)? else {
        return Ok(());
    };
    // From the range that Linux does not use for its own connections by default (32768-60999).
    let now = crate::clock::now().as_nanos();
    let [.., a, b, c, d] = (now / 1000).to_be_bytes();
    let from_port = 61_000 + u16::from_be_bytes([c, d]) % 4_000;
    let sequence = u32::from_be_bytes([c, d, a, b]);
    match ask(&path, from_port, sequence, limit).await {
        Ok(Answer::Accepts) => Ok(()),
        Ok(Answer::Refuses) => Err(Verdict::Dead(format!(
            "its node takes packets for {vip}, but nothing listens there on port {}",
            server.port()
        ))),
        Ok(Answer::Silence) => Err(Verdict::Dead(format!(
            "it answers on its own address, but its node takes no packets for {vip}: does cplb run there, and is the address on dummyvip0?"
        ))),
        Err(e) => Err(unknown(e.to_string())),
    }
}

async fn path(server: SocketAddr, vip: IpAddr) -> Result<Option<Path>, String> {
    let failed = |e: crate::sys::rtnl::RtnlError| e.to_string();
    let mut rtnl = Rtnl::open().map_err(failed)?;
    let route = rtnl.route_to(server.ip()).await.map_err(failed)?;
    let Some(Route {
        interface,
        via: None,
        source: Some(own_ip),
        kind: RouteKind::Unicast,
        ..
    }) = route
    else {
        return Ok(None);
    };
    let links = rtnl.links().await.map_err(failed)?;
    let own_mac = links.iter().find(|l| l.index == interface).and_then(|l| l.mac);
    let table = rtnl.neighbours(interface).await.map_err(failed)?;
    let server_mac = table
        .iter()
        .find(|n| n.ip == server.ip())
        .and_then(|n| n.usable());
    // The connection to its own address came first, so it is known unless the link has no such thing (a tunnel, `lo`).
    let (Some(own_mac), Some(server_mac)) = (own_mac, server_mac) else {
        return Ok(None);
    };
    Ok(Some(Path {
        interface,
        own_mac,
        own_ip,
        server_mac,
        vip,
        port: server.port(),
    }))
}
