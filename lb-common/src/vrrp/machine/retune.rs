//! New weights and new configuration: the state stays, and what is under way goes on as far as it can.
use super::super::Params;
use super::super::timers::Timer;
use super::{Machine, Version};
use crate::time::Instant;

impl Machine {
    pub(super) fn weigh_in_backup(&mut self, now: Instant, weight: i32) {
        let before = self.effective_priority();
        self.weight = weight;
        if self.effective_priority() != before && !self.watch.willing {
            self.set_down_timer(now);
        }
    }

    pub(super) fn weigh_in_active(&mut self, weight: i32) {
        let before = self.effective_priority();
        self.weight = weight;
        // Others shall know at once; the beat goes on as it was.
        if self.effective_priority() != before {
            self.send(self.effective_priority().get());
        }
    }

    pub(super) fn reconfigure_backup(&mut self, now: Instant, params: Params) {
        if params == self.params {
            return;
        }
        let was_owner = self.effective_priority().is_owner();
        self.params = params;
        if self.params.version == Version::V2 || !self.adopted {
            self.active_interval = self.params.advert_interval.duration();
        }
        if self.watch.willing {
            if !self.params.gated {
                self.become_active(now, self.watch.reason);
            }
            return;
        }
        self.set_down_timer(now);
        // One that always was an owner is here because it lost to another.
        if !was_owner {
            self.stand_as_owner(now);
        }
    }

    pub(super) fn reconfigure_active(&mut self, now: Instant, params: Params) {
        if params == self.params {
            return;
        }
        let schedule = |p: &Params| (p.announce_delay, p.announce_refresh);
        let new_schedule = schedule(&params) != schedule(&self.params);
        self.params = params;
        self.active_interval = self.params.advert_interval.duration();
        self.send(self.effective_priority().get());
        self.timers.set(Timer::Adver, now + self.active_interval);
        if self.claimed && new_schedule {
            self.plan_announcements(now);
        }
    }
}
