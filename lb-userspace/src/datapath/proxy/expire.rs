//! What happens to a session because of time.
use super::session::{Due, Stage};
use super::slab::Id;
use super::table::count;
use super::worker::Worker;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often a queue is looked through while somebody waits in it: room is made by other threads as well.
const QUEUE_TURN: u64 = 10;
/// A session whose server has not said a word for so long may be cut when there is no room for another.
const SILENCE: u64 = 5_000;

impl Worker {
    /// Puts a session into the list of `due`, and out of whichever it was in.
    pub(super) fn set_due(&mut self, id: Id, due: Due) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let before = std::mem::replace(&mut session.due, due);
        let settings = &self.table.settings;
        let after = match due {
            Due::Nothing => None,
            Due::Queue => Some(settings.queue_timeout),
            Due::Connect => Some(settings.connect_timeout),
            Due::HalfClosed => Some(settings.half_close_timeout),
            // Looked at four times: cut a quarter late at most.
            Due::Idle => settings.idle_timeout.map(|t| t / 4),
        };
        match after {
            Some(after) => session.due_at = self.now + milliseconds(after),
            None => session.due = Due::Nothing,
        }
        if let Some(list) = self.lists.of(before) {
            list.remove(&mut self.sessions, id.index);
        }
        if let Some(list) = self.lists.of(due).filter(|_| after.is_some()) {
            list.push(&mut self.sessions, id.index);
        }
    }

    /// Waits for a header or for a server with room.
    pub(super) fn wait_in_queue(&mut self, id: Id) {
        if let Some(session) = self.sessions.get(id) {
            if session.stage != Stage::Header {
                session.stage = Stage::Queued;
            }
            if session.due != Due::Queue {
                self.set_due(id, Due::Queue);
            }
        }
    }

    /// When something is due next.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        let mut next = self.paused_until;
        for due in [Due::Queue, Due::Connect, Due::HalfClosed, Due::Idle] {
            let first = self.lists.of(due).and_then(|l| l.first());
            if let Some(session) = first.and_then(|i| self.sessions.at(i)) {
                let at = if due == Due::Queue {
                    session.due_at.min(self.queue_at.max(self.now + 1))
                } else {
                    session.due_at
                };
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        }
        next
    }

    /// Does what is due.
    pub(super) fn expire(&mut self) {
        if self.paused_until.is_some_and(|at| at <= self.now) {
            self.paused_until = None;
            self.open_listeners();
        }
        for due in [Due::Queue, Due::Connect, Due::HalfClosed, Due::Idle] {
            while let Some(id) = self.overdue(due) {
                self.is_due(id, due);
            }
        }
        self.serve_queue();
    }

    fn overdue(&mut self, due: Due) -> Option<Id> {
        let first = self.lists.of(due)?.first()?;
        let session = self.sessions.at(first)?;
        if session.due_at > self.now {
            return None;
        }
        self.sessions.id(first)
    }

    fn is_due(&mut self, id: Id, due: Due) {
        match due {
            Due::Nothing => {}
            Due::Connect => {
                self.set_due(id, Due::Nothing);
                self.note_failure(id, Errno::TIMEDOUT);
                self.dial(id);
            }
            Due::Idle => {
                let idle = self.table.settings.idle_timeout.map_or(u64::MAX, milliseconds);
                let moved_at = self.sessions.get(id).map_or(0, |s| s.moved_at);
                if self.now - moved_at >= idle {
                    self.cut(id);
                } else {
                    self.set_due(id, Due::Idle);
                }
            }
            Due::Queue | Due::HalfClosed => self.cut(id),
        }
    }

    /// Ends a session for a reason of ours.
    pub(super) fn cut(&mut self, id: Id) {
        let number = self.sessions.get(id).map(|s| s.service);
        if let Some(service) = number.and_then(|n| self.table.services.get(&n)) {
            count(&service.counters.cut);
        }
        self.end(id, true);
    }

    /// Clients that wait for a server with room, in the order in which they came.
    fn serve_queue(&mut self) {
        if self.now < self.queue_at {
            return;
        }
        self.queue_at = self.now + QUEUE_TURN;
        let mut full = BTreeSet::new();
        let mut next = self.lists.queue.first();
        while let Some(id) = next.and_then(|index| self.sessions.id(index)) {
            let Some(session) = self.sessions.get(id) else {
                return;
            };
            next = session.due_links.after();
            let service = session.service;
            if session.stage != Stage::Queued || full.contains(&service) {
                continue;
            }
            self.dial(id);
            if self.sessions.get(id).is_some_and(|s| s.stage == Stage::Queued) {
                full.insert(service);
            }
        }
    }

    /// The session that has waited longest for its server's first word, if it has waited long. What its client sends
    /// meanwhile does not count: a byte now and then would hold the place for ever, and everybody's behind it in the list.
    pub(super) fn oldest_silent(&mut self) -> Option<Id> {
        let first = self.lists.silent.first()?;
        let session = self.sessions.at(first)?;
        if self.now.saturating_sub(session.opened_at) < SILENCE {
            return None;
        }
        self.sessions.id(first)
    }
}

fn milliseconds(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX / 2)
}
