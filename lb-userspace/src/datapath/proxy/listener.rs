//! Listening sockets, and what every TCP socket of ours is told.
use lb_common::proxy::Keepalive;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt,
};
use std::net::SocketAddr;
use std::time::Duration;

/// As many clients as the kernel lets wait (`net.core.somaxconn`).
const BACKLOG: i32 = 65_535;

/// No delay, and keepalive. A socket that is accepted has them from the one that listens.
///
/// `TCP_USER_TIMEOUT` is deliberately absent: with it the kernel also ends a connection whose receiver answers and takes
/// nothing (`tcp_probe_timer`), which is what `kubectl logs | less` does.
pub(super) fn tune(socket: impl AsFd, keepalive: Option<&Keepalive>) -> Result<(), Errno> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, keepalive.is_some())?;
    if let Some(keepalive) = keepalive {
        let whole = |d: Duration| d.max(Duration::from_secs(1));
        sockopt::set_tcp_keepidle(socket, whole(keepalive.idle))?;
        sockopt::set_tcp_keepintvl(socket, whole(keepalive.interval))?;
        sockopt::set_tcp_keepcnt(socket, u32::from(keepalive.probes).max(1))?;
    }
    Ok(())
}

/// The port that a socket listens on.
pub(super) fn port(socket: &OwnedFd) -> Result<u16, Errno> {
    SocketAddr::try_from(getsockname(socket)?).map(|a| a.port())
}

/// Listens on `address`, which need not be on this host now: a virtual IP is often on another.
pub(super) fn open(address: SocketAddr, keepalive: Option<&Keepalive>) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Past connections of an earlier run do not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    tune(&socket, keepalive)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
