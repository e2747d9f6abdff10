//! What goes out: what the machines want done, and announcements after that.
use super::super::limiter::Key;
use super::super::member::{Claim, Member};
use super::super::say;
use super::{Engine, ROUNDS};
use lb_common::time::Instant;
use lb_common::vrrp::{Action, Input, InstanceId, State};

/// Frames in one turn; what is left goes out in the next, after the adverts that have become due.
const FRAMES: u64 = 512;

impl Engine {
    /// Does what the machines say, and tells them what has been applied, until they are content.
    pub(super) fn actions(&mut self, now: Instant) {
        for _ in 0..ROUNDS {
            while let Some((id, action)) = self.router.poll_action() {
                self.perform(now, id, action);
            }
            if !self.tell_applied(now) {
                return;
            }
        }
        self.again = true;
    }

    fn perform(&mut self, now: Instant, id: InstanceId, action: Action) {
        let Some(m) = self.index.get(&id).and_then(|i| self.members.get_mut(*i)) else {
            return;
        };
        match action {
            Action::SendAdvert { priority } => return self.send_advert(now, id, priority),
            Action::Willing => return,
            Action::Claim => {
                m.holds = true;
                m.claim = Some(Claim::Unpublished);
                m.watch.holding(now, self.linger);
            }
            Action::Announce => m.announcer.start(now, &m.spec.announce),
            Action::Release => release(m),
            Action::Transition { from, to, reason } => {
                let machine = self.router.get(id);
                let priority = machine.map_or(m.spec.priority, |p| p.effective_priority());
                say::transition(m, priority, from, to, reason);
                m.transition(from, to, reason);
                // Also while the addresses are still here: from now on it is the successor's part to say who has them,
                // and his saying so is no conflict.
                if to != State::Active {
                    m.announcer.stop();
                    m.watch.released();
                }
            }
        }
        self.publisher.touch();
    }

    fn send_advert(&mut self, now: Instant, id: InstanceId, priority: u8) {
        let Some(m) = self.index.get(&id).and_then(|i| self.members.get_mut(*i)) else {
            return;
        };
        let Err(error) = m.send(&self.pool, priority, &mut self.scratch) else {
            return;
        };
        let key = Key {
            instance: id,
            kind: "send",
            source: None,
        };
        if let Some(suppressed) = self.limiter.admit(key, now) {
            say::send_failed(&m.spec, &error, suppressed);
        }
        if m.is_mute() && m.own_fault().is_none() {
            let wait = m.socket_failed(now);
            say::socket(&m.spec, &error, wait);
            if let Some(key) = m.vrrp_key() {
                self.pool.discard(key);
            }
            self.host_changed = true;
            self.again = true;
        }
    }

    /// Passes on that what was claimed is in place. True when a machine was told.
    fn tell_applied(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.applied_changed) {
            return false;
        }
        let mut told = false;
        for m in &mut self.members {
            if self.publisher.is_due(m.claim) {
                m.claim = None;
                self.router.handle(now, m.id, Input::Claimed);
                told = true;
            }
            if self.publisher.is_due(m.announce_at) {
                m.announce_at = None;
                m.announcer.start(now, &m.spec.announce);
            }
        }
        told
    }

    /// Rounds of announcements, and questions to others who may have the addresses, where they are due. After the
    /// adverts, and after the view, whose reader has addresses to write.
    pub(super) fn announce(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut frames = 0;
        for m in &mut self.members {
            if !due(m.announcer.due()) && !due(m.watch.due()) {
                continue;
            }
            if frames >= FRAMES {
                self.again = true;
                return;
            }
            let socket = m.packet_key().and_then(|k| self.pool.packet(k));
            if due(m.announcer.due()) {
                match socket {
                    Some(socket) => {
                        let sent = m.announcer.round(socket, now, &m.spec.announce);
                        m.counters.announced += sent.frames;
                        frames += sent.frames + sent.refused;
                    }
                    None => m.announcer.stop(),
                }
            }
            if m.watch.tick(now) {
                self.publisher.touch();
                if let Some(socket) = socket {
                    m.announcer.probe(socket);
                }
            }
        }
    }
}

fn release(m: &mut Member) {
    m.holds = false;
    m.claim = None;
    m.announce_at = None;
    m.announcer.stop();
    m.watch.released();
}
