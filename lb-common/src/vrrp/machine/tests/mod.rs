//! The rig that the machine's tests stand in. `table`: every state with every input. `traps`: one test for each way in
//! which other implementations went wrong. `leaving`: make before break. `sequences`: properties of any sequence of
//! inputs.
mod leaving;
mod sequences;
mod table;
mod traps;

use super::*;
use crate::model::AdvertInterval;
use std::string::String;
use std::vec::Vec;

const US: &str = "10.0.0.20";
const PEER: &str = "10.0.0.30";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Instant {
    Instant::from_millis(n)
}

fn params() -> Params {
    Params {
        version: Version::V3,
        priority: Priority::new(100).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: AdvertInterval::SECOND,
        source: US.parse().unwrap(),
        linger: ms(500),
        announce_delay: ms(5000),
        announce_refresh: Some(ms(60_000)),
        gated: false,
    }
}

fn advert(source: &str, priority: u8) -> Advert {
    Advert {
        source: source.parse().unwrap(),
        priority,
        interval_cs: 100,
    }
}

/// A machine with its clock.
#[derive(Clone)]
struct Rig {
    m: Machine,
    now: Instant,
}

impl Rig {
    fn new(params: Params) -> Self {
        Self {
            m: Machine::new(params),
            now: at(1_000_000),
        }
    }

    /// Started, and waiting.
    fn backup(params: Params) -> Self {
        let mut rig = Self::new(params);
        rig.give(Input::Startup);
        rig
    }

    /// Active with its addresses in place.
    fn active(params: Params) -> Self {
        let mut rig = Self::backup(params);
        while rig.m.state() != State::Active {
            rig.expire();
        }
        rig.give(Input::Claimed);
        rig
    }

    fn actions(&mut self) -> Vec<Action> {
        core::iter::from_fn(|| self.m.poll_action()).collect()
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        self.m.handle(self.now, input);
        self.actions()
    }

    fn hear(&mut self, source: &str, priority: u8) -> Vec<Action> {
        self.give(Input::Advert(advert(source, priority)))
    }

    /// Goes on to the next timer.
    fn expire(&mut self) -> Vec<Action> {
        if let Some(at) = self.m.poll_timeout() {
            self.now = self.now.max(at);
            self.m.handle_timeout(self.now);
        }
        self.actions()
    }

    /// Lets `d` pass, firing timers on the way; what they did, with the time since now.
    fn pass(&mut self, d: Duration) -> Vec<(Duration, Action)> {
        let (from, to) = (self.now, self.now + d);
        let mut out = Vec::new();
        while let Some(at) = self.m.poll_timeout().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.m.handle_timeout(self.now);
            let since = self.now.saturating_since(from);
            out.extend(self.actions().into_iter().map(|a| (since, a)));
        }
        self.now = to;
        out
    }

    fn until_timeout(&self) -> Option<Duration> {
        self.m.poll_timeout().map(|at| at.saturating_since(self.now))
    }
}

/// Everything of a machine that can change what it does: not what it only tells.
fn essence(m: &Machine) -> impl PartialEq + core::fmt::Debug {
    (
        (m.state, m.weight, m.fault, m.holds, m.claimed, m.params.clone()),
        (m.active_interval, m.adopted, m.started, m.successor),
        (m.watch.since, m.watch.short, m.watch.willing, m.timers.clone()),
        m.actions.clone(),
    )
}

fn short(actions: &[Action]) -> String {
    let one = |a: &Action| match a {
        Action::SendAdvert { priority } => std::format!("advert {priority}"),
        Action::Claim => "claim".into(),
        Action::Announce => "announce".into(),
        Action::Release => "release".into(),
        Action::Willing => "willing".into(),
        Action::Transition { from, to, reason } => std::format!("{from}>{to} {reason:?}"),
    };
    actions.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether the actions send an advert with a priority above 0.
fn sends(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|a| matches!(a, Action::SendAdvert { priority: 1.. }))
}
