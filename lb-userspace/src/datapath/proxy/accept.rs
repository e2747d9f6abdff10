//! Taking clients in, and not taking them in.
use super::session::{Session, Stage};
use super::shared::Message;
use super::table::count;
use super::worker::{Source, Worker};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, accept_with, getpeername};
use std::net::{IpAddr, SocketAddr};

/// Clients taken in one turn, before sessions have theirs.
const BATCH: usize = 8;
/// For so long nobody is taken in after the system refused us a descriptor or memory.
const PAUSE: u64 = 100;
/// How often it is looked whether there is room again.
const LIMIT_PAUSE: u64 = 20;

impl Worker {
    /// A listening socket has clients.
    pub(super) fn accept(&mut self, index: u32) {
        for _ in 0..BATCH {
            if !self.shared.admit() && !self.make_room(index) {
                self.pause(LIMIT_PAUSE);
                return;
            }
            let Some(listening) = self.listeners.get(index as usize) else {
                self.shared.leave();
                return;
            };
            let service = listening.service;
            match accept_with(&listening.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(client) => self.welcome(client, service),
                Err(error) => {
                    self.shared.leave();
                    match error {
                        Errno::AGAIN => return,
                        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                            self.say.no_descriptors(error, self.now);
                            self.pause(PAUSE);
                            return;
                        }
                        // A client that left before it was taken in (accept(2) lists them all).
                        _ => {}
                    }
                }
            }
        }
    }

    fn welcome(&mut self, client: OwnedFd, service: u32) {
        match self.shared.less_busy(self.number, self.sessions.len()) {
            Some(other) => {
                let table = self.table.clone();
                if !self.shared.send(other, Message::Adopt(client, service, table)) {
                    self.shared.leave();
                }
            }
            None => self.adopt(client, service),
        }
    }

    /// A client that is counted already is ours from now on.
    pub(super) fn adopt(&mut self, client: OwnedFd, number: u32) {
        let Some(service) = self.service(number) else {
            self.shared.leave();
            return;
        };
        count(&service.counters.accepted);
        let speaks_for_another =
            !service.accept_header.is_empty() && peer(&client).is_none_or(|p| service.expects_header(p.ip()));
        let mut session = Session::new(client, number, self.now);
        if speaks_for_another {
            session.stage = Stage::Header;
        }
        let id = self.sessions.insert(session);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let watched = rustix::event::epoll::add(
            &self.epoll,
            &session.client,
            Source::Client(id).data(),
            EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
        );
        if let Err(error) = watched {
            tracing::debug!(%error, "a client cannot be watched");
            self.end(id, true);
        } else if speaks_for_another {
            self.wait_in_queue(id);
        } else {
            self.dial(id);
        }
    }

    /// Nobody is taken in for a while: they wait in the kernel.
    pub(super) fn pause(&mut self, milliseconds: u64) {
        // Whoever pauses for longer is not cut short.
        self.paused_until = self.paused_until.max(Some(self.now + milliseconds));
        self.close_listeners();
    }

    /// There are as many sessions as there may be. One whose server has not said a word for long gives way, so that
    /// clients who open connections and do nothing with them cannot keep everybody else out.
    fn make_room(&mut self, index: u32) -> bool {
        let waits = self
            .listeners
            .get(index as usize)
            .is_some_and(|l| has_clients(&l.socket));
        if !waits {
            return false;
        }
        self.say.at_limit(self.shared.most(), self.now);
        let Some(oldest) = self.oldest_silent() else {
            return false;
        };
        self.cut(oldest);
        self.shared.admit()
    }
}

/// Whether somebody waits to be taken in.
fn has_clients(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

/// The other end of a connection; `None` once it is gone.
pub(super) fn peer(socket: &OwnedFd) -> Option<SocketAddr> {
    let address: SocketAddrAny = getpeername(socket).ok()??;
    let address = SocketAddr::try_from(address).ok()?;
    let ip: IpAddr = address.ip().to_canonical();
    Some(SocketAddr::new(ip, address.port()))
}
