//! What others change: link, address, neighbour and route notifications, coalesced.
//!
//! Notifications that our own requests caused carry the port of our socket (`nlmsg_pid`) and are passed over, so that
//! renewing a lease every second wakes nobody. The kernel does not wait for a slow reader: what does not fit the
//! receive buffer is lost and `recv()` says ENOBUFS once, which becomes [`Change::Resync`].
use super::{RtnlError, address, channel, decode, neighbour, route};
use lb_common::plan::AddressKey;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

/// RTMGRP_LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE: bit n-1 for group n of `enum rtnetlink_groups`.
const GROUPS: u32 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;
/// Room for a storm. Forced beyond `net.core.rmem_max` where we may.
const RECEIVE_BUFFER: u32 = 1 << 20;
const DATAGRAM: usize = 64 * 1024;

/// Something is not as it was. Read the list anew: the change says where, not what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Notifications were lost: read everything anew.
    Resync,
    /// The link of that index appeared, changed or went.
    Link(u32),
    /// The address appeared, changed or went.
    Address(AddressKey),
    /// The entry appeared, changed or went.
    Neighbour {
        /// On which interface.
        interface: u32,
        /// Whose.
        ip: IpAddr,
    },
    /// A route of the main table appeared, changed or went.
    Route,
}

/// A subscription to changes that others make.
pub struct Watch {
    socket: TokioSocket,
    own_port: u32,
    pending: BTreeSet<Change>,
    buffer: Vec<u8>,
}

impl Watch {
    pub(super) fn open(own_port: u32) -> Result<Self, RtnlError> {
        let socket = subscribe().map_err(|source| RtnlError::Socket {
            action: "subscribing to link and address changes".to_owned(),
            source,
        })?;
        Ok(Self {
            socket,
            own_port,
            pending: BTreeSet::new(),
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits for changes and gives all that are there, each once. Cancel-safe: what was read and not given is kept.
    pub async fn next(&mut self) -> Result<BTreeSet<Change>, RtnlError> {
        while self.pending.is_empty() {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            let received = self.socket.recv_from(&mut self.buffer).await;
            self.take(received)?;
            self.drain()?;
        }
        Ok(std::mem::take(&mut self.pending))
    }

    fn drain(&mut self) -> Result<(), RtnlError> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            let received = self
                .socket
                .socket_ref()
                .recv_from(&mut self.buffer, 0)
                .map(|(_, from)| from);
            match received {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => self.take(received)?,
            }
        }
    }

    fn take(&mut self, received: io::Result<SocketAddr>) -> Result<(), RtnlError> {
        match received {
            Ok(from) if from.port_number() == 0 => {
                for (header, body) in channel::messages(&self.buffer) {
                    if header.port != self.own_port {
                        self.pending.extend(change(header.kind, body));
                    }
                }
                Ok(())
            }
            // Another process may write to our port; it is not the kernel.
            Ok(_) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                self.pending.insert(Change::Resync);
                Ok(())
            }
            Err(source) => Err(RtnlError::Socket {
                action: "reading link and address changes".to_owned(),
                source,
            }),
        }
    }
}

fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    let forced = nix::sys::socket::setsockopt(
        socket.socket_ref(),
        nix::sys::socket::sockopt::RcvBufForce,
        &usize::try_from(RECEIVE_BUFFER).unwrap_or_default(),
    );
    if forced.is_err() {
        // Without CAP_NET_ADMIN over the host the limit of the host stands; an overflow only costs a resync.
        socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER)?;
    }
    socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
    Ok(socket)
}

fn change(kind: u16, body: &[u8]) -> Option<Change> {
    match decode(kind, body)? {
        RouteNetlinkMessage::NewLink(m) | RouteNetlinkMessage::DelLink(m) => {
            Some(Change::Link(m.header.index))
        }
        RouteNetlinkMessage::NewAddress(m) | RouteNetlinkMessage::DelAddress(m) => {
            address::from_message(&m).map(|a| Change::Address(a.key))
        }
        RouteNetlinkMessage::NewNeighbour(m) | RouteNetlinkMessage::DelNeighbour(m) => {
            neighbour::neighbour(&m).map(|n| Change::Neighbour {
                interface: m.header.ifindex,
                ip: n.ip,
            })
        }
        RouteNetlinkMessage::NewRoute(m) | RouteNetlinkMessage::DelRoute(m) => {
            route::in_main_table(&m).then_some(Change::Route)
        }
        _ => None,
    }
}
