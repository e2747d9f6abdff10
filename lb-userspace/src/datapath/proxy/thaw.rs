//! Sessions that stand still and go on in another process: the thread's part of it.
use super::backend::{Backend, Seat};
use super::frozen::FrozenSession;
use super::session::{Due, Session, Stage};
use super::worker::{Source, Worker};
use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// A session with its sockets.
#[derive(Debug)]
pub(super) struct Still {
    pub(super) session: FrozenSession,
    pub(super) client: OwnedFd,
    pub(super) server: Option<OwnedFd>,
    /// What it holds, of each direction.
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<u8>,
}

/// The same where it goes on.
#[derive(Debug)]
pub(super) struct Thawed {
    pub(super) still: Still,
    /// The virtual server's number here; none has 0.
    pub(super) service: u32,
    pub(super) backend: Option<Arc<Backend>>,
}

impl Worker {
    /// Gives up every session as it is. Nothing is told to anybody.
    pub(super) fn freeze(&mut self) -> Vec<Still> {
        let all = self.sessions.find(|_| true);
        all.into_iter()
            .filter_map(|id| {
                self.set_due(id, Due::Nothing);
                self.lists.silent.remove(&mut self.sessions, id.index);
                let session = self.sessions.remove(id)?;
                self.shared.leave();
                Some(self.still(session))
            })
            .collect()
    }

    fn still(&mut self, mut session: Session) -> Still {
        let service = self.table.services.get(&session.service);
        // A connection that is not made yet is begun again: nothing was said on it.
        let server = session.server.take().filter(|_| session.stage == Stage::Open);
        let address = session.seat.as_ref().map(|s| s.backend().address);
        let ((up, up_held), (down, down_held)) = (
            session.up.freeze(&mut self.pipes, &self.shared.budget),
            session.down.freeze(&mut self.pipes, &self.shared.budget),
        );
        Still {
            session: FrozenSession {
                key: service.map(|s| s.key),
                connected: server.is_some(),
                server: address.filter(|_| server.is_some()),
                headless: session.stage == Stage::Header,
                addresses: session.addresses.map(|a| *a),
                up,
                down,
            },
            client: session.client,
            server,
            up: up_held,
            down: down_held,
        }
    }

    /// Goes on with sessions of another process.
    pub(super) fn thaw(&mut self, sessions: Vec<Thawed>) {
        for thawed in sessions {
            self.shared.enter();
            let Thawed {
                still,
                service,
                backend,
            } = thawed;
            let mut session = Session::new(still.client, service, self.now);
            session.addresses = still.session.addresses.map(Box::new);
            session.up.thaw(&still.session.up, still.up, &self.shared.budget);
            session
                .down
                .thaw(&still.session.down, still.down, &self.shared.budget);
            session.seat = backend.as_ref().and_then(|b| Seat::take(b, 0, 0));
            session.server = still.server;
            session.stage = match (session.server.is_some(), still.session.headless) {
                (true, _) => Stage::Open,
                (false, true) => Stage::Header,
                (false, false) => Stage::Queued,
            };
            self.go_on_with(session);
        }
    }

    fn go_on_with(&mut self, session: Session) {
        let id = self.sessions.insert(session);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        (session.client_asked, session.server_asked) = (true, true);
        let silent = !session.down.began;
        let stage = session.stage;
        // Edge-triggered, and new here: what is true now is told at once.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let client = epoll::add(&self.epoll, &session.client, Source::Client(id).data(), flags);
        let server = match session.server.as_ref() {
            Some(server) => epoll::add(&self.epoll, server, Source::Server(id).data(), flags),
            None => Ok(()),
        };
        if client.and(server).is_err() {
            self.end(id, true);
            return;
        }
        match stage {
            Stage::Open => {
                if silent {
                    self.lists.silent.push(&mut self.sessions, id.index);
                }
                self.set_due(id, Due::Idle);
                self.go_on(id);
            }
            Stage::Header => self.wait_in_queue(id),
            Stage::Queued | Stage::Connecting => self.dial(id),
        }
    }
}
