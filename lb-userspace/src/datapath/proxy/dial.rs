//! Finding a server for a client: the next one, and when that one does not take the connection, the one after it.
use super::accept::peer;
use super::pool::Pick;
use super::session::{Due, Stage};
use super::slab::Id;
use super::table::{Service, count};
use super::worker::{Source, Worker};
use lb_common::proxy::Keepalive;
use lb_common::wire::proxy::{Addresses, encode};
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, connect, getsockname, ipproto, socket_with, sockopt,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// No client is offered to more servers than this.
const TRIES: usize = 8;

impl Worker {
    /// Finds a server for a client. Nothing was read from the client, so nothing is lost by trying several.
    pub(super) fn dial(&mut self, id: Id) {
        loop {
            let now = self.now;
            let Some(session) = self.sessions.get(id) else {
                return;
            };
            let Some(service) = self.table.services.get(&session.service).cloned() else {
                self.end(id, true);
                return;
            };
            if usize::from(session.failed) >= service.pool.len().min(TRIES) {
                self.refuse(id, &service);
                return;
            }
            let source = || {
                let said = session.addresses.as_ref().map(|a| a.source);
                said.or_else(|| peer(&session.client)).map(|a| a.ip())
            };
            match service.pool.pick(source, now) {
                Pick::Taken(seat) => {
                    let address = seat.backend().address;
                    session.seat = Some(seat);
                    match start(address, self.table.settings.keepalive.as_ref()) {
                        Ok((server, connected)) => {
                            self.dialled(id, server, connected);
                            return;
                        }
                        Err(error) => {
                            if is_ours(error) {
                                self.say.no_descriptors(error, now);
                                self.refuse(id, &service);
                                return;
                            }
                            self.note_failure(id, error);
                        }
                    }
                }
                Pick::Full => {
                    self.wait_in_queue(id);
                    return;
                }
                Pick::Empty => {
                    self.refuse(id, &service);
                    return;
                }
            }
        }
    }

    /// There is a socket on its way to a server.
    fn dialled(&mut self, id: Id, server: OwnedFd, connected: bool) {
        let mut flags = EventFlags::IN | EventFlags::RDHUP;
        if !connected {
            flags |= EventFlags::OUT;
        }
        let watched = self.watch(&server, Source::Server(id), flags);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        session.server = Some(server);
        session.server_asked = !connected;
        session.stage = Stage::Connecting;
        if watched.is_err() {
            self.end(id, true);
        } else if connected {
            self.open(id);
        } else {
            self.set_due(id, Due::Connect);
        }
    }

    /// The kernel has finished connecting, well or not.
    pub(super) fn connected(&mut self, id: Id) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let Some(server) = session.server.as_ref() else {
            return;
        };
        match sockopt::socket_error(server) {
            Ok(Ok(())) => self.open(id),
            Ok(Err(error)) | Err(error) => {
                self.note_failure(id, error);
                self.dial(id);
            }
        }
    }

    /// A server did not take the connection: it is tried last for a while.
    pub(super) fn note_failure(&mut self, id: Id, error: Errno) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        session.server = None;
        session.failed = session.failed.saturating_add(1);
        if let Some(seat) = session.seat.take() {
            let backend = seat.backend();
            if backend.failed(self.now) {
                let address = backend.address;
                tracing::warn!(server = %address, %error, "the server does not take connections: the others are tried first for a while");
            }
        }
    }

    /// Bytes may go both ways.
    fn open(&mut self, id: Id) {
        self.set_due(id, Due::Nothing);
        let now = self.now;
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        session.stage = Stage::Open;
        session.opened_at = now;
        session.up.writable = true;
        if let Some(seat) = &session.seat {
            seat.taken();
        }
        let version = self
            .table
            .services
            .get(&session.service)
            .and_then(|s| s.send_header);
        if let Some(version) = version {
            let addresses = session
                .addresses
                .as_deref()
                .copied()
                .or_else(|| ends(&session.client));
            if let Some(addresses) = addresses {
                session
                    .up
                    .prepend(encode(version, &addresses), &self.shared.budget);
            }
        }
        session.addresses = None;
        self.lists.silent.push(&mut self.sessions, id.index);
        self.set_due(id, Due::Idle);
        self.go_on(id);
    }

    /// Nobody takes this client.
    fn refuse(&mut self, id: Id, service: &Arc<Service>) {
        count(&service.counters.unserved);
        self.say.unserved(service.key, self.now);
        self.end(id, true);
    }
}

/// Both ends of a client's connection.
fn ends(client: &OwnedFd) -> Option<Addresses> {
    let source = peer(client)?;
    let destination = SocketAddr::try_from(getsockname(client).ok()?).ok()?;
    Some(Addresses::new(source, destination))
}

/// Whether it is this host that has too little of something, not the server.
const fn is_ours(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// A socket that connects; whether it has already.
fn start(to: SocketAddr, keepalive: Option<&Keepalive>) -> Result<(OwnedFd, bool), Errno> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    super::listener::tune(&socket, keepalive)?;
    match connect(&socket, &to) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}
