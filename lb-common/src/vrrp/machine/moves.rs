//! The steps from one state to another: which timers run afterwards, and what is asked of the caller on the way.
use super::super::timers::{Timer, active_down_interval, longest_down_interval, skew_time};
use super::super::{Action, FaultReason, Reason, State};
use super::{Machine, SHORTEST_PERIOD, Watch};
use crate::time::{Duration, Instant};

impl Machine {
    // RFC 9568 §6.4.1
    pub(super) fn start(&mut self, now: Instant) {
        self.fault = None;
        self.started = now;
        self.active_interval = self.params.advert_interval.duration();
        self.adopted = false;
        if self.effective_priority().is_owner() && !self.params.gated {
            self.become_active(now, Reason::Owner);
            return;
        }
        self.become_backup(now, Reason::Startup);
        self.stand_as_owner(now);
    }

    /// Nobody else has to be asked, not even its group: it was Active, and the others have not heard of any change.
    pub(super) fn resume(&mut self, now: Instant) {
        self.fault = None;
        self.started = now;
        self.become_active(now, Reason::Resumed);
    }

    /// An owner does not wait (RFC 9568 §6.4.1); a gated one asks its group.
    pub(super) fn stand_as_owner(&mut self, now: Instant) {
        if self.effective_priority().is_owner() && !self.watch.willing {
            self.watch.reason = Reason::Owner;
            self.active_is_down(now);
        }
    }

    pub(super) fn active_is_down(&mut self, now: Instant) {
        if self.params.gated {
            self.timers.cancel(Timer::ActiveDown);
            self.watch.willing = true;
            self.actions.push_back(Action::Willing);
        } else {
            self.become_active(now, self.watch.reason);
        }
    }

    pub(super) fn become_active(&mut self, now: Instant, reason: Reason) {
        self.timers.cancel_all();
        self.active_interval = self.params.advert_interval.duration();
        self.adopted = false;
        self.watch.willing = false;
        self.heard = None;
        self.successor = None;
        self.answer_worse_at = now;
        self.answer_zero_at = None;
        self.transition(State::Active, reason);
        self.send(self.effective_priority().get());
        self.timers.set(Timer::Adver, now + self.active_interval);
        self.holds = true;
        self.claimed = false;
        self.actions.push_back(Action::Claim);
    }

    /// Whoever still holds the addresses lingers with them.
    ///
    /// DEVIATION(RFC 9568 §6.4.3): a router that lost stops answering at once there, before the network has learnt where
    /// the winner is. Two that answer for `linger` lose nothing; none that answers does.
    pub(super) fn become_backup(&mut self, now: Instant, reason: Reason) {
        self.timers.cancel_all();
        if self.params.linger.is_zero() {
            self.release();
        }
        self.transition(State::Backup, reason);
        self.watch(now);
        if self.holds {
            self.timers.set(Timer::Linger, now + self.params.linger);
        }
    }

    /// Sets Active_Down_Timer to Active_Down_Interval.
    pub(super) fn watch(&mut self, now: Instant) {
        self.watch = Watch {
            since: now,
            short: false,
            reason: Reason::ActiveDown,
            willing: false,
        };
        self.set_down_timer(now);
    }

    /// Active_Down_Timer from when it was last set, with the priority and the interval of now.
    pub(super) fn set_down_timer(&mut self, now: Instant) {
        let (version, priority) = (self.params.version, self.effective_priority());
        let wait = if self.watch.short {
            skew_time(version, priority, self.active_interval)
        } else {
            active_down_interval(version, priority, self.active_interval)
        };
        self.timers
            .set(Timer::ActiveDown, (self.watch.since + wait).max(now));
    }

    /// DEVIATION(RFC 9568 §6.4.3): Shutdown goes to Initialize there, and nobody answers for Skew_Time.
    ///
    /// Says priority 0 and goes on answering until a successor has been heard for `linger`, or for as long as the
    /// slowest backup may need when it heard nothing: the longest Active_Down_Interval there is, and `linger`.
    pub(super) fn leave(&mut self, now: Instant) {
        self.timers.cancel_all();
        self.successor = None;
        self.transition(State::Leaving, Reason::Shutdown);
        self.send(0);
        self.timers.set(Timer::Adver, now + self.goodbye_period());
        let cap = longest_down_interval(self.params.version, self.params.advert_interval.duration());
        self.timers.set(Timer::GiveUp, now + cap + self.params.linger);
    }

    /// Never sooner than the longest Skew_Time: a backup that sets its timer anew at each priority 0, as the RFC lets
    /// it, would never take over.
    pub(super) fn goodbye_period(&self) -> Duration {
        let interval = self.params.advert_interval.duration();
        let longest_skew = longest_down_interval(self.params.version, interval).saturating_sub(interval * 3);
        interval.max(longest_skew)
    }

    /// The operator changed his mind. With nobody else there it simply stays; else the successor keeps the addresses.
    pub(super) fn return_from_leaving(&mut self, now: Instant) {
        self.started = now;
        let alone = self.successor.is_none();
        if alone && !self.params.gated {
            self.become_active(now, Reason::Startup);
            return;
        }
        self.become_backup(now, Reason::Startup);
        if alone {
            self.watch.reason = Reason::Startup;
            self.active_is_down(now);
        }
    }

    /// For a router that is taken out of the set: gone at once, and said so.
    pub(in super::super) fn abandon(&mut self) {
        match self.state {
            State::Initialize => {}
            State::Active => {
                self.send(0);
                self.stop(Reason::Shutdown);
            }
            State::Backup | State::Leaving => self.stop(Reason::Shutdown),
        }
    }

    pub(super) fn fail(&mut self, reason: FaultReason) {
        self.fault = Some(reason);
        self.stop(Reason::Fault(reason));
    }

    pub(super) fn stop(&mut self, reason: Reason) {
        self.release();
        self.timers.cancel_all();
        self.watch.willing = false;
        self.heard = None;
        self.transition(State::Initialize, reason);
    }

    pub(super) fn release(&mut self) {
        self.timers.cancel(Timer::Linger);
        self.claimed = false;
        if core::mem::take(&mut self.holds) {
            self.actions.push_back(Action::Release);
        }
    }

    pub(super) fn addresses_in_place(&mut self, now: Instant) {
        self.claimed = true;
        self.actions.push_back(Action::Announce);
        self.plan_announcements(now);
    }

    pub(super) fn plan_announcements(&mut self, now: Instant) {
        self.timers.cancel(Timer::Announce);
        let first = Some(self.params.announce_delay).filter(|d| !d.is_zero());
        if let Some(wait) = first.or(self.params.announce_refresh) {
            self.timers.set(Timer::Announce, now + wait.max(SHORTEST_PERIOD));
        }
    }

    pub(super) fn send(&mut self, priority: u8) {
        self.actions.push_back(Action::SendAdvert { priority });
    }

    /// The next beat of a timer that was due at `at`: on the old beat if that is still to come.
    pub(super) fn repeat(&mut self, timer: Timer, at: Instant, now: Instant, period: Duration) {
        let period = period.max(SHORTEST_PERIOD);
        let next = at + period;
        self.timers
            .set(timer, if next > now { next } else { now + period });
    }

    pub(super) fn transition(&mut self, to: State, reason: Reason) {
        let from = core::mem::replace(&mut self.state, to);
        self.actions.push_back(Action::Transition { from, to, reason });
    }
}
