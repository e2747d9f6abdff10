//! One client's connection, with the one to a server that belongs to it.
use super::backend::Seat;
use super::half::Half;
use super::list::Links;
use lb_common::wire::proxy::Addresses;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::getsockname;
use rustix::net::sockopt::set_socket_linger;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The PROXY protocol header of whoever speaks for the client.
    Header,
    /// A server that is not full.
    Queued,
    /// A server's answer to our SYN.
    Connecting,
    /// Nothing: bytes go both ways.
    Open,
}

/// Which of its lists of dues it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// None.
    Nothing,
    /// [`Stage::Header`] and [`Stage::Queued`].
    Queue,
    /// [`Stage::Connecting`].
    Connect,
    /// One side has ended.
    HalfClosed,
    /// Looked at from time to time for having been idle.
    Idle,
}

/// Kept small: thousands of them do nothing for hours.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: OwnedFd,
    pub(super) server: Option<OwnedFd>,
    /// The virtual server, by its number.
    pub(super) service: u32,
    pub(super) stage: Stage,
    pub(super) due: Due,
    /// Dials that failed.
    pub(super) failed: u8,
    /// Whether the kernel tells us that the socket takes bytes again.
    pub(super) client_asked: bool,
    pub(super) server_asked: bool,
    /// In the list of those to be gone on with.
    pub(super) ready: bool,
    /// When it is due, and when something last moved: milliseconds of the proxy's clock.
    pub(super) due_at: u64,
    pub(super) moved_at: u64,
    /// When bytes could first go both ways.
    pub(super) opened_at: u64,
    pub(super) due_links: Links,
    pub(super) silent_links: Links,
    pub(super) seat: Option<Seat>,
    /// What the header said.
    pub(super) addresses: Option<Box<Addresses>>,
    /// Client to server.
    pub(super) up: Half,
    /// Server to client.
    pub(super) down: Half,
}

impl Session {
    pub(super) fn new(client: OwnedFd, service: u32, now: u64) -> Self {
        Self {
            client,
            server: None,
            service,
            stage: Stage::Queued,
            due: Due::Nothing,
            failed: 0,
            client_asked: false,
            server_asked: false,
            ready: false,
            due_at: 0,
            moved_at: now,
            opened_at: now,
            due_links: Links::NEW,
            silent_links: Links::NEW,
            seat: None,
            addresses: None,
            up: Half::new(),
            down: Half::new(),
        }
    }

    /// Whether the client connected to this address. It is asked for seldom, and so kept by the kernel alone.
    pub(super) fn is_to(&self, address: IpAddr) -> bool {
        let local = getsockname(&self.client).ok();
        let local = local.and_then(|a| SocketAddr::try_from(a).ok());
        local.is_some_and(|l| l.ip().to_canonical() == address)
    }

    /// Resets both ends: a stream that was cut must not look like one that ended.
    pub(super) fn reset(&self) {
        for fd in [Some(self.client.as_fd()), self.server.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
        {
            reset_on_close(fd);
        }
    }
}

/// Closing sends a reset, and forgets what was not sent.
pub(super) fn reset_on_close(fd: BorrowedFd<'_>) {
    // Fails on what is no socket; these are.
    let _ = set_socket_linger(fd, Some(Duration::ZERO));
}
