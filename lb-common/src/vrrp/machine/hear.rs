//! What an advert of another router changes, in each state.
//!
//! A packet that does not change the election changes no timer either (T7): neither the beat of an Active router nor
//! the patience of a Backup one.
use super::super::election::{beats_active, satisfies_backup};
use super::super::timers::Timer;
use super::super::{Action, Advert, Reason, State};
use super::{Heard, Machine, Version};
use crate::time::{Duration, Instant};

impl Machine {
    // RFC 9568 §6.4.2
    pub(super) fn backup_hears(&mut self, now: Instant, advert: Advert) {
        if advert.source == self.params.source {
            return;
        }
        if advert.priority == 0 {
            self.heard = None;
            self.backup_hears_goodbye(now);
            return;
        }
        self.heard = Some(Heard { advert, at: now });
        let preempt = self.params.preempt && now >= self.started + self.params.preempt_delay;
        if satisfies_backup(&advert, self.effective_priority(), preempt) {
            self.adopt(&advert);
            self.watch(now);
        } else if self.watch.reason == Reason::ActiveDown {
            self.watch.reason = Reason::Preempted;
        }
    }

    /// T23: the timer becomes Skew_Time and nobody becomes Active at once.
    ///
    /// DEVIATION(RFC 9568 §6.4.2): only the first goodbye sets it. One that is repeated must not put the takeover off
    /// again and again.
    fn backup_hears_goodbye(&mut self, now: Instant) {
        if self.watch.short || self.watch.willing {
            return;
        }
        self.watch.short = true;
        self.watch.since = now;
        self.watch.reason = Reason::ActiveLeft;
        self.set_down_timer(now);
    }

    // RFC 9568 §6.4.3
    pub(super) fn active_hears(&mut self, now: Instant, advert: Advert) {
        // Equal addresses: our own packet, reflected by a bridge or a macvlan (T10).
        if advert.source == self.params.source {
            return;
        }
        if advert.priority == 0 {
            self.answer_goodbye(now, advert);
        } else if beats_active(&advert, self.effective_priority(), self.params.source) {
            self.heard = Some(Heard { advert, at: now });
            self.adopt(&advert);
            self.last_word();
            self.become_backup(
                now,
                Reason::Better {
                    by: advert.source,
                    priority: advert.priority,
                },
            );
        } else {
            self.answer_worse(now);
        }
    }

    /// The better router may have been Active all along, behind a cable that was cut until now. As far as clients and
    /// bridges know, its addresses are here, and it would not know that it has to announce them: a worse advert tells it.
    ///
    /// DEVIATION(RFC 9568 §6.4.3): nothing is sent there, and the clients stay with the loser until something else
    /// makes them ask.
    fn last_word(&mut self) {
        if self.claimed {
            self.send(self.effective_priority().get());
        }
    }

    /// Whether `advert` would end this router's being Active.
    pub(in super::super) fn would_yield_to(&self, advert: &Advert) -> bool {
        self.state == State::Active
            && advert.source != self.params.source
            && beats_active(advert, self.effective_priority(), self.params.source)
    }

    /// RFC 9568 §6.4.3: somebody leaves, so say at once that we are here; every backup has just set its timer to
    /// Skew_Time.
    ///
    /// DEVIATION(RFC 9568 §6.4.3): once for each sender and interval, or a stream of goodbyes would be answered one by
    /// one.
    fn answer_goodbye(&mut self, now: Instant, advert: Advert) {
        if self
            .answer_zero_at
            .is_some_and(|(to, at)| to == advert.source && now < at)
        {
            return;
        }
        self.answer_zero_at = Some((advert.source, now + self.active_interval));
        self.send(self.effective_priority().get());
        // The one that leaves may have had the addresses: another member of its group that yields says so, see `last_word`.
        if self.claimed {
            self.actions.push_back(Action::Announce);
        }
        self.timers.set(Timer::Adver, now + self.active_interval);
    }

    /// RFC 9568 §6.4.3: a worse router believes that it is Active. Tell it and the bridges at once (T9).
    ///
    /// DEVIATION(RFC 9568 §6.4.3): no more than once an interval, and without touching the beat. keepalived answers
    /// every packet and restarts its timer for each, so that a stream of them multiplies its adverts or silences it.
    /// DEVIATION(RFC 3768 §6.4.3): in version 2 too, where the RFC discards in silence; keepalived does the same.
    fn answer_worse(&mut self, now: Instant) {
        if now < self.answer_worse_at {
            return;
        }
        self.answer_worse_at = now + self.active_interval;
        self.send(self.effective_priority().get());
        if self.claimed {
            self.actions.push_back(Action::Announce);
        }
    }

    /// Anybody else who is Active is a successor.
    pub(super) fn leaving_hears(&mut self, now: Instant, advert: Advert) {
        if advert.source == self.params.source || advert.priority == 0 || self.successor.is_some() {
            return;
        }
        self.successor = Some(advert.source);
        self.heard = Some(Heard { advert, at: now });
        self.adopt(&advert);
        self.timers.cancel_all();
        if self.params.linger.is_zero() {
            self.stop(Reason::Succeeded { by: advert.source });
        } else {
            self.timers.set(Timer::Linger, now + self.params.linger);
        }
    }

    /// T4: version 3 takes Active_Adver_Interval from the Active router. In version 2 a different one was refused.
    fn adopt(&mut self, advert: &Advert) {
        match self.params.version {
            Version::V2 => {}
            Version::V3 => {
                // Reception refuses 0 (erratum 8301); a timer of 0 must not come of it even so.
                let cs = u64::from(advert.interval_cs.max(1));
                self.active_interval = Duration::from_millis(cs * 10);
                self.adopted = true;
            }
        }
    }
}
