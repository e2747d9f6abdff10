//! One virtual router: the table of RFC 9568 §6.4, with the make-before-break of `super`'s diagram.
//!
//! Order of actions, which the caller keeps:
//! * becoming Active: `Transition`, `SendAdvert`, `Claim`; `Announce` only after `Input::Claimed`, because a gratuitous
//!   ARP must not precede the address (T13). Adverts first, so that many instances that move at once are all settled
//!   before the first address is written (T24);
//! * losing to a router that was heard: `Transition`, and `Release` after [`Params::linger`]; becoming Active again
//!   before that repeats `Claim` and drops the `Release`;
//! * leaving the election: `SendAdvert { priority: 0 }`, `Release`, `Transition` to Initialize.
//!
//! Here is the table; `moves` has the steps between states, `hear` what an advert changes, `retune` what new
//! configuration does.
mod hear;
mod moves;
mod retune;
#[cfg(test)]
mod tests;

use super::timers::{Timer, Timers, active_down_interval};
use super::{Action, Advert, FaultReason, Input, Params, Reason, State};
use crate::model::{Priority, Version};
use crate::time::{Duration, Instant};
use alloc::collections::VecDeque;
use core::net::IpAddr;

/// No timer that repeats does so faster, whatever the configuration says: the fastest advert interval there is.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The last advert of another router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub advert: Advert,
    /// When.
    pub at: Instant,
}

/// How a Backup router waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watch {
    /// When Active_Down_Timer was last set.
    since: Instant,
    /// Set to Skew_Time by a priority 0, not to Active_Down_Interval.
    short: bool,
    /// Why it would become Active.
    reason: Reason,
    /// Gated: the timer has fired and the group was told.
    willing: bool,
}

/// One virtual router. See the module.
#[derive(Clone, Debug)]
pub struct Machine {
    params: Params,
    state: State,
    weight: i32,
    fault: Option<FaultReason>,
    /// `Claim` was asked for and `Release` was not.
    holds: bool,
    /// The addresses are in place.
    claimed: bool,
    /// Active_Adver_Interval.
    active_interval: Duration,
    /// It came from an advert and not from our configuration.
    adopted: bool,
    started: Instant,
    watch: Watch,
    heard: Option<Heard>,
    successor: Option<IpAddr>,
    /// No answer to a worse router before this.
    answer_worse_at: Instant,
    /// No second answer to this router's priority 0 before this.
    answer_zero_at: Option<(IpAddr, Instant)>,
    timers: Timers,
    actions: VecDeque<Action>,
}

impl Machine {
    /// In Initialize, waiting for `Input::Startup`.
    pub fn new(params: Params) -> Self {
        Self {
            state: State::Initialize,
            weight: 0,
            fault: None,
            holds: false,
            claimed: false,
            active_interval: params.advert_interval.duration(),
            adopted: false,
            started: Instant::ZERO,
            watch: Watch {
                since: Instant::ZERO,
                short: false,
                reason: Reason::ActiveDown,
                willing: false,
            },
            heard: None,
            successor: None,
            answer_worse_at: Instant::ZERO,
            answer_zero_at: None,
            timers: Timers::default(),
            actions: VecDeque::new(),
            params,
        }
    }

    /// In Leaving, with the addresses in place: for the process that says goodbye in a dead one's stead.
    pub fn leaving(params: Params, now: Instant) -> Self {
        let mut machine = Self::new(params);
        machine.state = State::Active;
        machine.holds = true;
        machine.claimed = true;
        machine.leave(now);
        machine
    }

    /// What happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match (self.state, input) {
            (State::Initialize, Input::Startup) => self.start(now),
            (State::Initialize, Input::Resume) => self.resume(now),
            (State::Initialize, Input::Fault(reason)) => self.fault = Some(reason),
            (State::Initialize, Input::Weight(weight)) => self.weight = weight,
            (State::Initialize, Input::Reconfigure(params)) => self.params = *params,
            (
                State::Initialize,
                Input::Shutdown
                | Input::Advert(_)
                | Input::Overslept
                | Input::Promote
                | Input::Demote
                | Input::Claimed,
            )
            | (State::Backup, Input::Startup | Input::Resume | Input::Claimed)
            | (State::Active, Input::Startup | Input::Resume | Input::Promote)
            | (
                State::Leaving,
                Input::Resume | Input::Shutdown | Input::Promote | Input::Demote | Input::Claimed,
            ) => {}

            (State::Backup, Input::Shutdown) => self.stop(Reason::Shutdown),
            (State::Backup, Input::Fault(reason)) => self.fail(reason),
            (State::Backup, Input::Advert(advert)) => self.backup_hears(now, advert),
            (State::Backup, Input::Weight(weight)) => self.weigh_in_backup(now, weight),
            (State::Backup, Input::Reconfigure(params)) => self.reconfigure_backup(now, *params),
            (State::Backup, Input::Overslept) => {
                self.release();
                self.watch(now);
            }
            (State::Backup, Input::Promote) => {
                let reason = if self.watch.willing {
                    self.watch.reason
                } else {
                    Reason::SyncGroup
                };
                self.become_active(now, reason);
            }
            (State::Backup, Input::Demote) => self.watch(now),

            (State::Active, Input::Shutdown) => self.leave(now),
            (State::Active, Input::Fault(reason)) => {
                self.send(0);
                self.fail(reason);
            }
            (State::Active, Input::Advert(advert)) => self.active_hears(now, advert),
            (State::Active, Input::Weight(weight)) => self.weigh_in_active(weight),
            (State::Active, Input::Reconfigure(params)) => self.reconfigure_active(now, *params),
            (State::Active, Input::Overslept) => {
                // Others must have taken over: answering for one moment longer is answering twice.
                self.release();
                self.become_backup(now, Reason::Overslept);
            }
            (State::Active, Input::Demote) => {
                self.send(0);
                self.become_backup(now, Reason::SyncGroup);
            }
            (State::Active, Input::Claimed) => self.addresses_in_place(now),

            (State::Leaving, Input::Startup) => self.return_from_leaving(now),
            (State::Leaving, Input::Fault(reason)) => self.fail(reason),
            (State::Leaving, Input::Advert(advert)) => self.leaving_hears(now, advert),
            (State::Leaving, Input::Weight(weight)) => self.weight = weight,
            (State::Leaving, Input::Reconfigure(params)) => self.params = *params,
            (State::Leaving, Input::Overslept) => self.stop(Reason::Overslept),
        }
    }

    /// Fires every timer that is due. Afterwards [`Self::poll_timeout`] lies after `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((timer, at)) = self.timers.pop_due(now) {
            match (timer, self.state) {
                (Timer::ActiveDown, State::Backup) => self.active_is_down(now),
                (Timer::Adver, State::Active) => {
                    self.send(self.effective_priority().get());
                    self.repeat(Timer::Adver, at, now, self.active_interval);
                }
                (Timer::Adver, State::Leaving) => {
                    self.send(0);
                    self.repeat(Timer::Adver, at, now, self.goodbye_period());
                }
                (Timer::Announce, State::Active) => {
                    self.actions.push_back(Action::Announce);
                    if let Some(refresh) = self.params.announce_refresh {
                        self.repeat(Timer::Announce, at, now, refresh);
                    }
                }
                (Timer::Linger, State::Backup) => self.release(),
                (Timer::Linger, State::Leaving) => self.stop(
                    self.successor
                        .map_or(Reason::NoSuccessor, |by| Reason::Succeeded { by }),
                ),
                (Timer::GiveUp, State::Leaving) => self.stop(Reason::NoSuccessor),
                // Every change of state cancels the timers of the old one.
                (Timer::ActiveDown, State::Initialize | State::Active | State::Leaving)
                | (Timer::Adver, State::Initialize | State::Backup)
                | (Timer::Announce, State::Initialize | State::Backup | State::Leaving)
                | (Timer::Linger, State::Initialize | State::Active)
                | (Timer::GiveUp, State::Initialize | State::Backup | State::Active) => {}
            }
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the addresses are, or are being put, in place here: in Active and Leaving, and in Backup while it
    /// lingers.
    pub const fn holds(&self) -> bool {
        self.holds
    }

    /// Gated, and waiting for the rest of its group.
    pub const fn is_willing(&self) -> bool {
        matches!(self.state, State::Backup) && self.watch.willing
    }

    /// The priority that it sends and compares with.
    pub fn effective_priority(&self) -> Priority {
        self.params.priority.weighted(self.weight)
    }

    /// The other router that was last heard as Active.
    pub const fn active(&self) -> Option<&Heard> {
        self.heard.as_ref()
    }

    /// Why it can take no part.
    pub const fn fault(&self) -> Option<FaultReason> {
        self.fault
    }

    /// Its configuration.
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// Active_Down_Interval as it is now: past this without an advert, somebody else must have taken over.
    pub fn active_down_interval(&self) -> Duration {
        active_down_interval(
            self.params.version,
            self.effective_priority(),
            self.active_interval,
        )
    }
}
