//! The turn: what happens each time the thread wakes, and in which order.
//!
//! A turn is bounded: a socket is read at most [`DRAIN`] times, which is more than its queue can hold, so what had
//! arrived before the turn has been read when a timer is believed. A turn that was cut short by that bound is followed by
//! a rest as long as itself, so that a storm of packets takes at most half of one processor from everybody else; and
//! since the thread sleeps then, the limit on real-time processor time does not take the storm for a runaway.
mod act;
mod host;
mod reload;

use super::limiter::Limiter;
use super::member::Member;
use super::pool::{Pool, VrrpKey};
use super::publish::{MANY, Publisher};
use super::resolve::Vips;
use super::{Command, Config, DriverError, Heartbeat, RoleView};
use crate::clock;
use crate::sys::linkmon::LinkMonitor;
use crate::sys::realtime;
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::{GroupId, Input, InstanceId, Router};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use tokio::sync::watch;

/// The heartbeat beats at least this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// A gap between two turns that makes the thread doubt what it knows.
const LATE: Duration = Duration::from_secs(1);
/// Reads of one socket in one turn.
const DRAIN: usize = 4096;
/// How long the daemon may take to say that the last view was applied, before the thread ends all the same.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Processor time without a pause that ends a real-time thread, and with it the process.
const RUNAWAY: Duration = Duration::from_secs(1);
/// Rounds of "actions cause inputs cause actions" in one turn; what is left waits for the next.
const ROUNDS: usize = 4;
/// After a turn that was cut short.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// After a turn that was cut short.
const LONGEST_REST: Duration = Duration::from_millis(10);
/// The longest advert: 255 IPv6 addresses; and an IPv4 header with options.
const BUFFER: usize = 8192;

/// The thread's ends of what the driver's owner holds.
pub(super) struct Wiring {
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) wake: Arc<EventFd>,
    pub(super) roles: watch::Sender<Arc<RoleView>>,
    pub(super) heartbeat: Arc<Heartbeat>,
}

/// Everything that the thread owns.
pub(super) struct Engine {
    inbox: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
    heartbeat: Arc<Heartbeat>,
    monitor: LinkMonitor,
    pool: Pool,
    router: Router,
    members: Vec<Member>,
    /// Where in `members` each machine's surroundings are.
    index: BTreeMap<InstanceId, usize>,
    group_ids: BTreeMap<String, GroupId>,
    publisher: Publisher,
    limiter: Limiter,
    linger: Duration,
    realtime: Option<u8>,
    next_id: u32,
    vips: Vips,
    /// Who takes a packet with this VRID on this socket: one, or several by unicast whose peers are apart.
    routes: BTreeMap<(VrrpKey, u8), Vec<usize>>,
    /// Interfaces, settings or faults changed: look at everything again.
    host_changed: bool,
    /// Sockets may be unneeded.
    sweep: bool,
    stopping: bool,
    /// Another process goes on: nothing is said or done any more.
    abandoned: bool,
    over_since: Option<Instant>,
    last_turn: Instant,
    /// The daemon said that a view was applied.
    applied_changed: bool,
    /// A bound of the turn was reached: rest.
    cut_short: bool,
    /// Something is left to do: do not sleep.
    again: bool,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

impl Engine {
    pub(super) fn new(config: Config, wiring: Wiring) -> Result<Self, DriverError> {
        let mut engine = Self {
            inbox: wiring.inbox,
            wake: wiring.wake,
            heartbeat: wiring.heartbeat,
            monitor: LinkMonitor::open()?,
            pool: Pool::default(),
            router: Router::new(),
            members: Vec::new(),
            index: BTreeMap::new(),
            group_ids: BTreeMap::new(),
            publisher: Publisher::new(wiring.roles),
            limiter: Limiter::default(),
            linger: config.linger,
            realtime: config.realtime,
            next_id: 0,
            vips: Vips::new(),
            routes: BTreeMap::new(),
            host_changed: true,
            sweep: false,
            stopping: config.leaving,
            abandoned: false,
            over_since: None,
            last_turn: clock::now(),
            applied_changed: false,
            cut_short: false,
            again: false,
            buffer: vec![0; BUFFER],
            scratch: Vec::with_capacity(BUFFER),
        };
        engine.populate(config);
        // A reader that looks before the first turn sees the instances, in Initialize.
        let now = clock::now();
        engine.publisher.publish(now, &engine.router, &mut engine.members);
        Ok(engine)
    }

    fn populate(&mut self, config: Config) {
        let named = config.instances.len();
        for spec in config.instances {
            // A machine that is to leave is made when it is known from where.
            let member = if config.leaving {
                Member::inherited(spec, self.new_id(), self.linger)
            } else {
                let resumed = config.resumed.contains(&spec.name);
                let mut member = self.start(spec);
                member.resumed = resumed;
                member
            };
            self.members.push(member);
        }
        if !config.leaving {
            self.regroup(clock::now(), &config.sync_groups, named);
        }
        self.reindex();
    }

    /// Until everything was left well.
    pub(super) fn run(mut self) -> Result<(), DriverError> {
        if let Some(priority) = self.realtime {
            for refused in realtime::engage(priority, RUNAWAY) {
                tracing::warn!(error = &refused as &dyn std::error::Error, "{refused}");
            }
        }
        self.last_turn = clock::now();
        loop {
            if self.turn()? {
                return Ok(());
            }
            self.sleep()?;
        }
    }

    /// True when the thread has nothing left to do for good.
    fn turn(&mut self) -> Result<bool, DriverError> {
        let started = clock::now();
        self.cut_short = false;
        self.again = false;
        self.late(started);
        // Before the commands, which may change who takes a packet.
        self.drain(started)?;
        self.commands(started);
        if self.abandoned {
            return Ok(true);
        }
        let now = clock::now();
        self.host_changed |= self
            .members
            .iter()
            .any(|m| m.retry_at().is_some_and(|at| at <= now));
        if self.host_changed && self.monitor.synced() {
            self.look_at_host(now);
        }
        if self.router.poll_timeout().is_some_and(|at| at <= now) {
            self.router.handle_timeout(now);
        }
        self.actions(now);
        self.drop_those_over(now);
        if self.publisher.publish(now, &self.router, &mut self.members) {
            self.applied_changed = true;
            self.again = true;
        }
        self.announce(now);
        if std::mem::take(&mut self.sweep) {
            self.sweep();
        }
        let end = clock::now();
        self.heartbeat.beat(end);
        self.last_turn = end;
        if self.cut_short {
            let rest = end.saturating_since(started);
            std::thread::sleep(rest.clamp(SHORTEST_REST, LONGEST_REST));
        }
        Ok(self.is_finished(end))
    }

    /// A process that was stopped, or a host that was suspended, does not know who is Active: the machines whose
    /// Active_Down_Interval passed meanwhile look at the wire first.
    fn late(&mut self, now: Instant) {
        let gap = now.saturating_since(self.last_turn);
        if gap <= LATE {
            return;
        }
        let late: Vec<InstanceId> = self
            .router
            .iter()
            .filter(|(_, m)| gap > m.active_down_interval())
            .map(|(id, _)| id)
            .collect();
        tracing::warn!(
            gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
            doubtful = late.len(),
            "the election's thread did not run for a long time"
        );
        for id in late {
            self.router.handle(now, id, Input::Overslept);
        }
    }

    fn is_finished(&mut self, now: Instant) -> bool {
        if !self.stopping || !self.members.iter().all(|m| m.is_over(&self.router)) {
            self.over_since = None;
            return false;
        }
        let since = *self.over_since.get_or_insert(now);
        self.publisher.is_applied() || now.saturating_since(since) >= LAST_WORD
    }

    /// Where many instances beat at different moments, those of one millisecond share a turn. Nothing adds up: the
    /// machines keep their beat.
    fn grouped(&self, at: Instant) -> Instant {
        if self.members.len() <= MANY {
            return at;
        }
        Instant::from_nanos(at.as_nanos().next_multiple_of(1_000_000))
    }

    /// Waits for a packet, a command or the next deadline.
    fn sleep(&self) -> Result<(), DriverError> {
        let now = clock::now();
        let around = self.members.iter().filter_map(Member::due).min();
        let wait = match self.router.poll_timeout().into_iter().chain(around).min() {
            _ if self.again => Duration::ZERO,
            Some(at) => self.grouped(at).saturating_since(now).min(LONGEST_SLEEP),
            None => LONGEST_SLEEP,
        };
        let fixed = [self.wake.as_fd(), self.monitor.as_fd()];
        let mut fds: Vec<PollFd<'_>> = fixed
            .into_iter()
            .chain(self.pool.fds())
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(DriverError::Poll(e)),
        }
    }
}

fn indices_where(members: &[Member], mut f: impl FnMut(&Member) -> bool) -> Vec<usize> {
    let all = members.iter().enumerate();
    all.filter(|(_, m)| f(m)).map(|(i, _)| i).collect()
}
