//! One instance as it runs: its machine, where it runs, what it has sent and heard.
//!
//! The machine decides, and lives in the router; this says to it what has happened, keeps what `status` shows, and knows
//! the bytes. Router and sockets are lent to it by the engine for each call.
mod traffic;

use super::announce::Announcer;
use super::conflict::Watch;
use super::pool::{PacketKey, VrrpKey};
use super::resolve::{Resolution, Vips, resolve};
use super::{Counters, HeardFrom, InstanceView, Rejected, TransitionRecord};
use crate::sys::linkmon::LinkTable;
use crate::sys::rawsock::Destination;
use lb_common::model::Family;
use lb_common::spec::{Instance, Transport};
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::track::Outside;
use lb_common::vrrp::{
    FaultReason, Input, InstanceId, Machine, Params, Reason, ReceiveConfig, Router, State,
};
use lb_common::wire::vrrp::Advertisement;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;
use traffic::{receive_config, template};

/// Transitions that are kept.
const HISTORY: usize = 16;
/// `last_rejected` is a sentence, and a storm of bad packets must not be one of sentences.
const REJECTED_EVERY: Duration = Duration::from_millis(250);
/// So many adverts in a row that could not be sent make a fault: others no longer hear this router.
const SEND_FAILURES: u32 = 3;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Whether the machine takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was said to the machine yet.
    New,
    /// It is to say goodbye for a process that is dead; there is no machine yet.
    Inherited,
    /// It was told to start.
    Running,
    /// It was told that it cannot.
    Faulty(FaultReason),
}

/// One instance.
#[derive(Debug)]
pub(super) struct Member {
    /// Its machine's name in the router; never used twice.
    pub(super) id: InstanceId,
    pub(super) spec: Instance,
    pub(super) phase: Phase,
    pub(super) resolution: Resolution,
    /// It leaves well: removed from the file, or the thread is to end.
    pub(super) leaving: bool,
    /// It is not in the file any more.
    pub(super) removed: bool,
    /// A process before this one was Active: its machine goes on as that, once it can start.
    pub(super) resumed: bool,
    /// Its machine wants the addresses here.
    pub(super) holds: bool,
    /// To be told to the machine when the view that first said `holds` has been applied.
    pub(super) claim: Option<Claim>,
    /// VIPs were added while they were held: announce when the view with this generation has been applied.
    pub(super) announce_at: Option<Claim>,
    pub(super) announcer: Announcer,
    pub(super) watch: Watch,
    pub(super) counters: Counters,
    linger: Duration,
    outside: Outside,
    told_weight: i32,
    config: ReceiveConfig,
    advert: Advertisement,
    transitions: VecDeque<TransitionRecord>,
    transition_count: u64,
    rejected: Option<(Instant, Rejected)>,
    /// The socket could not be opened or used: when it is tried again.
    socket_fault: Option<Instant>,
    retry: Duration,
    failures: u32,
}

/// Something that waits for a view to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The view is not published yet.
    Unpublished,
    /// It has this generation.
    Published(u64),
}

impl Member {
    /// Its machine is not in a router yet; see [`Self::params`].
    pub(super) fn new(spec: Instance, id: InstanceId, linger: Duration) -> Self {
        let source = unspecified(spec.family());
        Self {
            id,
            phase: Phase::New,
            resolution: Resolution::default(),
            leaving: false,
            removed: false,
            resumed: false,
            holds: false,
            claim: None,
            announce_at: None,
            announcer: Announcer::default(),
            watch: Watch::default(),
            counters: Counters::default(),
            linger,
            outside: Outside::default(),
            told_weight: 0,
            config: receive_config(&spec, source),
            advert: template(&spec),
            transitions: VecDeque::with_capacity(HISTORY),
            transition_count: 0,
            rejected: None,
            socket_fault: None,
            retry: RETRY_FIRST,
            failures: 0,
            spec,
        }
    }

    /// One that a dead process held, and that only has to be left.
    pub(super) fn inherited(spec: Instance, id: InstanceId, linger: Duration) -> Self {
        Self {
            phase: Phase::Inherited,
            leaving: true,
            holds: true,
            ..Self::new(spec, id, linger)
        }
    }

    /// For its machine, as things stand.
    pub(super) fn params(&self) -> Params {
        let i = &self.spec;
        Params {
            version: i.version,
            priority: i.priority,
            preempt: i.preempt,
            preempt_delay: i.preempt_delay,
            advert_interval: i.advert_interval,
            source: self.source().unwrap_or_else(|| unspecified(self.family())),
            linger: self.linger,
            announce_delay: i.announce.delay,
            announce_refresh: i.announce.refresh,
            // The router knows who is in a group.
            gated: false,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.spec.family()
    }

    pub(super) fn source(&self) -> Option<IpAddr> {
        self.resolution.source
    }

    /// Looks at the host again. True when the interface is another one than before, so that the machine must stop first.
    pub(super) fn resolve(
        &mut self,
        now: Instant,
        router: &mut Router,
        table: &LinkTable,
        vips: &Vips,
    ) -> bool {
        let before = self.resolution.interface.as_ref().map(|i| i.index);
        let new = resolve(table, &self.spec, vips, before);
        let moved = self.phase == Phase::Running
            && (indices(&new) != indices(&self.resolution) && new.fault.is_none());
        let readdressed = new.source != self.resolution.source;
        let rebuilt = readdressed || new.mac != self.resolution.mac;
        self.resolution = new;
        if rebuilt {
            let r = &self.resolution;
            self.announcer.prepare(&self.spec, r.mac, r.source);
            // Neighbours know another hardware address, or none of this one.
            if self.holds && self.claim.is_none() {
                self.announcer.start(now, &self.spec.announce);
            }
        }
        if readdressed && self.resolution.source.is_some() {
            self.reconfigure(now, router);
        }
        self.weigh(now, router);
        moved
    }

    /// Takes new settings in place.
    pub(super) fn replace(&mut self, now: Instant, router: &mut Router, spec: Instance) {
        let vips_changed = spec.virtual_ips != self.spec.virtual_ips;
        self.spec = spec;
        let r = &self.resolution;
        self.announcer.prepare(&self.spec, r.mac, r.source);
        if vips_changed && self.holds {
            self.announce_at = Some(Claim::Unpublished);
        }
        self.reconfigure(now, router);
    }

    fn reconfigure(&mut self, now: Instant, router: &mut Router) {
        let params = self.params();
        self.config = receive_config(&self.spec, params.source);
        self.advert = template(&self.spec);
        router.handle(now, self.id, Input::Reconfigure(Box::new(params)));
    }

    /// What is looked at outside the driver. True when it is a fault now, or is none any more.
    pub(super) fn set_outside(&mut self, now: Instant, router: &mut Router, outside: Outside) -> bool {
        let news = self.outside.fault != outside.fault;
        self.outside = outside;
        self.weigh(now, router);
        news
    }

    fn weigh(&mut self, now: Instant, router: &mut Router) {
        let weight = self.resolution.weight.saturating_add(self.outside.weight);
        if weight != self.told_weight {
            self.told_weight = weight;
            router.handle(now, self.id, Input::Weight(weight));
        }
    }

    /// What stands in its own way, its group left out.
    pub(super) fn own_fault(&self) -> Option<FaultReason> {
        let socket = self.socket_fault.map(|_| FaultReason::Socket);
        let outside = self.outside.fault.then_some(FaultReason::Tracked);
        self.resolution.fault.or(outside).or(socket)
    }

    /// Tells the machine what is in its way, if that is news. True when it was.
    pub(super) fn set_fault(
        &mut self,
        now: Instant,
        router: &mut Router,
        fault: Option<FaultReason>,
    ) -> bool {
        let before = self.phase;
        let phase = fault.map_or(Phase::Running, Phase::Faulty);
        if phase == before {
            return false;
        }
        self.phase = phase;
        if before == Phase::Inherited {
            let machine = Machine::leaving(self.params(), now);
            router.insert_machine(self.id, machine, None);
        }
        let resumed = std::mem::take(&mut self.resumed);
        match fault {
            Some(reason) => router.handle(now, self.id, Input::Fault(reason)),
            None if self.leaving => {}
            None if resumed => router.handle(now, self.id, Input::Resume),
            None => router.handle(now, self.id, Input::Startup),
        }
        true
    }

    /// Repeats what was said last: a group knows of a member only what it was told since that joined.
    pub(super) fn say_again(&self, now: Instant, router: &mut Router) {
        match self.phase {
            Phase::Running if !self.leaving => router.handle(now, self.id, Input::Startup),
            Phase::Faulty(reason) => router.handle(now, self.id, Input::Fault(reason)),
            Phase::New | Phase::Inherited | Phase::Running => {}
        }
    }

    /// Leaves well.
    pub(super) fn shut_down(&mut self, now: Instant, router: &mut Router) {
        if !self.leaving {
            self.leaving = true;
            router.handle(now, self.id, Input::Shutdown);
        }
    }

    /// Takes part again, although it was to leave.
    pub(super) fn come_back(&mut self, now: Instant, router: &mut Router) {
        self.removed = false;
        self.leaving = false;
        if self.phase == Phase::Running {
            router.handle(now, self.id, Input::Startup);
        }
    }

    /// Whether it has left and lets go of nothing more.
    pub(super) fn is_over(&self, router: &Router) -> bool {
        let state = router.get(self.id).map_or(State::Initialize, Machine::state);
        self.leaving && state == State::Initialize && !self.holds
    }

    /// The sockets that it needs; `None` while it has a fault that makes them useless.
    pub(super) fn vrrp_key(&self) -> Option<VrrpKey> {
        let source = self.source()?;
        let destination = match &self.spec.transport {
            Transport::Multicast => Destination::Group(self.family()),
            Transport::Unicast { .. } => Destination::Own(source),
        };
        Some(VrrpKey {
            interface: self.resolution.via.as_ref()?.index,
            destination,
        })
    }

    pub(super) fn packet_key(&self) -> Option<PacketKey> {
        Some(PacketKey {
            interface: self.resolution.interface.as_ref()?.index,
            family: self.family(),
        })
    }

    /// The socket could not be opened or used. Returns how long until the next try.
    pub(super) fn socket_failed(&mut self, now: Instant) -> Duration {
        let wait = self.retry;
        self.retry = (wait * 2).min(RETRY_MOST);
        self.failures = 0;
        self.socket_fault = Some(now + wait);
        wait
    }

    /// Lifts a socket's fault when its time is over. True when it did.
    pub(super) fn retry_socket(&mut self, now: Instant) -> bool {
        let due = self.socket_fault.is_some_and(|at| now >= at);
        if due {
            self.socket_fault = None;
        }
        due
    }

    /// When [`Self::retry_socket`] has something to do.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.socket_fault
    }

    /// When there is something to do that no machine knows of.
    pub(super) fn due(&self) -> Option<Instant> {
        let all = [self.announcer.due(), self.watch.due(), self.retry_at()];
        all.into_iter().flatten().min()
    }

    /// Keeps a change of state.
    pub(super) fn transition(&mut self, from: State, to: State, reason: Reason) {
        if self.transitions.len() == HISTORY {
            self.transitions.pop_front();
        }
        self.transition_count += 1;
        self.transitions.push_back(TransitionRecord {
            number: self.transition_count,
            at_ms: wall_ms(),
            from,
            to,
            reason,
        });
    }

    pub(super) fn view(&self, router: &Router) -> InstanceView {
        let machine = router.get(self.id);
        let state = machine.map_or(State::Initialize, Machine::state);
        let own = match self.phase {
            Phase::Faulty(reason) => Some(reason),
            Phase::New | Phase::Inherited | Phase::Running => None,
        };
        let priority = machine.map_or(self.spec.priority, Machine::effective_priority);
        let heard = machine
            .and_then(Machine::active)
            .filter(|_| state != State::Active);
        InstanceView {
            name: self.spec.name.clone(),
            vrid: self.spec.vrid.get(),
            version: self.spec.version,
            family: self.family(),
            interface: self.resolution.interface.clone(),
            source: self.resolution.source,
            virtual_ips: self.spec.virtual_ips.clone(),
            state,
            holds: self.holds,
            priority: priority.get(),
            fault: own.or_else(|| machine.and_then(Machine::fault)),
            active: heard.map(|h| HeardFrom {
                address: h.advert.source,
                priority: h.advert.priority,
            }),
            transitions: self.transitions.iter().cloned().collect(),
            last_rejected: self.rejected.as_ref().map(|(_, r)| r.clone()),
            counters: self.counters.clone(),
            conflict: self.watch.sentence(),
        }
    }
}

fn indices(r: &Resolution) -> (Option<u32>, Option<u32>) {
    (
        r.interface.as_ref().map(|i| i.index),
        r.via.as_ref().map(|i| i.index),
    )
}

/// Stands in until the interface's address is known; the machine has not been started then.
fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// For people; nothing is measured with it.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
