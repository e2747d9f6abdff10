//! What must be true of a cluster, and for how long it may not be.
//!
//! | at any time | bound |
//! | --- | --- |
//! | a connected part with a router in it has a holder | the longest Active_Down_Interval after it last had one |
//! | not two holders in one connected part | an advert interval and the linger, or a dead holder's lease |
//!
//! Both start again at every fault that is injected; the second is asked in good weather only. Settled, and during a
//! planned move, there is no bound: exactly one, or at least one, always.
use crate::net::DELAY;
use crate::node::{CLAIM, LEASE};
use lb_common::model::Version;
use lb_common::time::{Duration, Instant};

/// How long the worst may take in one world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Without any holder.
    pub(crate) none: Duration,
    /// With two of them.
    pub(crate) two: Duration,
    /// Until everything is settled after the last fault.
    pub(crate) settle: Duration,
}

impl Bounds {
    pub(crate) fn new(
        version: Version,
        interval: Duration,
        linger: Duration,
        preempt_delay: Duration,
        grouped: bool,
    ) -> Self {
        // By the RFCs' text and not by the code that is tried: three intervals and Skew_Time at priority 1, or a little
        // more (RFC 3768 §6.1, RFC 9568 §6.1).
        let down = match version {
            Version::V2 => interval * 3 + Duration::from_secs(1),
            Version::V3 => interval * 4,
        };
        let slack = CLAIM + DELAY * 2 + Duration::from_millis(65);
        // A group waits for its slowest member, and a member that was shortened by a goodbye waits for the others.
        let rounds = if grouped { 2 } else { 1 };
        Self {
            none: down * rounds + slack,
            two: LEASE.max(interval + linger + slack) + slack,
            // One wait to notice, one to preempt, one for whoever left to give up; then the loser lingers.
            settle: preempt_delay + down * 3 * rounds + linger * 2 + LEASE + slack,
        }
    }
}

/// What is asked of the cluster beyond the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// The bounds.
    Bounds,
    /// A planned move: always a holder.
    Never0,
    /// Settled: always exactly one.
    Exactly1,
}

/// Of one instance in one connected part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Addresses with a living daemon behind them.
    pub(crate) holders: usize,
    /// Addresses altogether.
    pub(crate) answering: usize,
    /// Routers that take part.
    pub(crate) routers: usize,
}

/// One connected part's view of one instance.
#[derive(Clone, Copy, Debug)]
struct Part {
    held_at: Instant,
    two_since: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) bounds: Bounds,
    pub(crate) demand: Demand,
    pub(crate) fair_weather: bool,
    /// The last fault.
    pub(crate) disturbed: Instant,
    last: Instant,
    parts: Vec<Part>,
    instances: usize,
}

impl Checker {
    pub(crate) fn new(bounds: Bounds, nodes: usize, instances: usize, now: Instant) -> Self {
        let part = Part {
            held_at: now,
            two_since: None,
        };
        Self {
            bounds,
            demand: Demand::Bounds,
            fair_weather: true,
            disturbed: now,
            last: now,
            parts: vec![part; nodes * instances],
            instances,
        }
    }

    /// The cluster was as it is from the last call until `now`, in one connected part.
    pub(crate) fn part(
        &mut self,
        now: Instant,
        part: usize,
        instance: usize,
        count: Count,
    ) -> Result<(), String> {
        let Count {
            holders,
            answering,
            routers,
        } = count;
        let p = &mut self.parts[part * self.instances + instance];
        let lasted = now > self.last;
        if holders > 0 || routers == 0 {
            p.held_at = now;
        } else if lasted && self.demand != Demand::Bounds {
            return Err(format!(
                "instance {instance} in part {part}: no holder during {:?}",
                self.demand
            ));
        } else if now.saturating_since(p.held_at.max(self.disturbed)) > self.bounds.none {
            return Err(format!(
                "instance {instance} in part {part}: no holder for longer than {:?}",
                self.bounds.none
            ));
        }
        // Without a router that takes part, those who leave wait for a successor, each by itself, and then give up.
        if answering < 2 || routers == 0 || !self.fair_weather {
            p.two_since = None;
            return Ok(());
        }
        if lasted && self.demand == Demand::Exactly1 {
            return Err(format!(
                "instance {instance} in part {part}: {answering} holders though settled"
            ));
        }
        let since = *p.two_since.get_or_insert(self.last);
        if now.saturating_since(since.max(self.disturbed)) > self.bounds.two {
            return Err(format!(
                "instance {instance} in part {part}: {answering} holders for longer than {:?}",
                self.bounds.two
            ));
        }
        Ok(())
    }

    /// Every part was asked for `now`.
    pub(crate) fn done(&mut self, now: Instant) {
        self.last = now;
    }
}
