//! Events of a session's sockets, and what follows from them.
use super::half::Moved;
use super::session::{Due, Session, Stage};
use super::slab::Id;
use super::worker::{Source, Worker};
use rustix::event::epoll::{self, EventFlags};
use rustix::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

const GONE: EventFlags = EventFlags::ERR.union(EventFlags::HUP);

impl Worker {
    /// The client's socket says something.
    pub(super) fn on_client(&mut self, id: Id, flags: EventFlags) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        session.up.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | GONE);
        session.up.hung_up |= flags.intersects(EventFlags::RDHUP | GONE);
        session.down.writable |= flags.intersects(EventFlags::OUT | GONE);
        match session.stage {
            Stage::Open => self.go_on(id),
            Stage::Header | Stage::Queued | Stage::Connecting if flags.intersects(GONE) => self.end(id, true),
            Stage::Header => self.read_header(id),
            Stage::Queued | Stage::Connecting => {}
        }
    }

    /// The server's socket says something.
    pub(super) fn on_server(&mut self, id: Id, flags: EventFlags) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        session.down.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | GONE);
        session.down.hung_up |= flags.intersects(EventFlags::RDHUP | GONE);
        session.up.writable |= flags.intersects(EventFlags::OUT | GONE);
        match session.stage {
            Stage::Open => self.go_on(id),
            Stage::Connecting if flags.intersects(EventFlags::OUT | GONE) => self.connected(id),
            Stage::Connecting | Stage::Header | Stage::Queued => {}
        }
    }

    /// Moves what can be moved, in both directions.
    pub(super) fn go_on(&mut self, id: Id) {
        let now = self.now;
        let (mut lent, sessions) = self.lend();
        let Some(session) = sessions.get(id).filter(|s| s.stage == Stage::Open) else {
            return;
        };
        let Some(server) = session.server.as_ref() else {
            return;
        };
        let (client, server) = (session.client.as_fd(), server.as_fd());
        let up = session.up.advance(client, server, &mut lent);
        let down = session.down.advance(server, client, &mut lent);
        let moved = account(session);
        if up == Moved::Broken || down == Moved::Broken {
            self.end(id, true);
            return;
        }
        if session.up.is_done() && session.down.is_done() {
            self.end(id, false);
            return;
        }
        let more = (up == Moved::More || down == Moved::More) && !session.ready;
        session.ready |= more;
        let ends = session.up.has_ended() || session.down.has_ended();
        let spoke = session.down.began;
        let asks = (!session.down.writable && !session.client_asked)
            || (!session.up.writable && !session.server_asked);
        if moved {
            session.moved_at = now;
        }
        if asks {
            self.ask_for_room(id);
        }
        if more {
            self.ready.push(id);
        }
        if ends {
            self.note_half_closed(id, moved);
        }
        if spoke {
            self.lists.silent.remove(&mut self.sessions, id.index);
        }
    }

    /// From now on the kernel says when a socket takes bytes again. Most sessions never need it, so most are spared the
    /// event.
    fn ask_for_room(&mut self, id: Id) {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if !session.down.writable && !session.client_asked {
            session.client_asked = true;
            let _ = epoll::modify(&self.epoll, &session.client, Source::Client(id).data(), flags);
        }
        if let Some(server) = session.server.as_ref()
            && !session.up.writable
            && !session.server_asked
        {
            session.server_asked = true;
            let _ = epoll::modify(&self.epoll, server, Source::Server(id).data(), flags);
        }
    }

    /// One side has said its last word: the other is given a while.
    fn note_half_closed(&mut self, id: Id, moved: bool) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.due != Due::HalfClosed || moved {
            self.set_due(id, Due::HalfClosed);
        }
    }

    /// The end of a session. With `reset` both ends learn that it was cut.
    pub(super) fn end(&mut self, id: Id, reset: bool) {
        self.set_due(id, Due::Nothing);
        self.lists.silent.remove(&mut self.sessions, id.index);
        let Some(mut session) = self.sessions.remove(id) else {
            return;
        };
        account(&mut session);
        session.up.release(&mut self.pipes, &self.shared.budget);
        session.down.release(&mut self.pipes, &self.shared.budget);
        if reset {
            session.reset();
        }
        self.shared.leave();
    }

    /// The server is dead: a client that is connected to it learns so now and not in a quarter of an hour (kubernetes
    /// #48638). One that was still on its way there goes elsewhere.
    pub(super) fn lose_server(&mut self, id: Id) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.stage == Stage::Connecting {
            session.server = None;
            session.seat = None;
            self.set_due(id, Due::Nothing);
            self.dial(id);
        } else {
            self.end(id, true);
        }
    }
}

/// Counts what moved; whether anything did.
fn account(session: &mut Session) -> bool {
    let (up, down) = (session.up.take_moved(), session.down.take_moved());
    if let Some(seat) = &session.seat {
        let backend = seat.backend();
        if up > 0 {
            backend.to_server.fetch_add(up, Relaxed);
        }
        if down > 0 {
            backend.to_client.fetch_add(down, Relaxed);
        }
    }
    up + down > 0
}
