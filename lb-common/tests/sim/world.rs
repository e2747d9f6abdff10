//! Nodes, a network and a clock, all from one seed.
use crate::check::{Bounds, Checker, Count, Demand};
use crate::fault::Fault;
use crate::net::Net;
use crate::node::{Common, Effect, Node, Process};
use crate::rng::Rng;
use lb_common::model::{AdvertInterval, AuthPass, Priority, Version, Vrid};
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::{Action, Params, Reason, State};
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const LINGER: Duration = Duration::from_millis(300);

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) commons: Vec<Common>,
    pub(crate) net: Net,
    pub(crate) checker: Checker,
    pub(crate) grouped: bool,
    /// Everybody takes over from a worse router at once: the best one must win.
    pub(crate) all_preempt: bool,
    /// The longest advert interval that any node may have, in centiseconds.
    pub(crate) longest_cs: u16,
    pub(crate) base_cs: u16,
    pub(crate) later: Vec<(Instant, Fault)>,
    pub(crate) trace: Option<VecDeque<String>>,
    pub(crate) steps: u64,
    /// Why states changed, by name.
    pub(crate) reasons: BTreeSet<&'static str>,
    /// Something was done to the nodes from outside.
    pub(crate) poked: bool,
    counts: Vec<Count>,
    effects: Vec<Effect>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let count = rng.between(3, 9);
        let instances = rng.between(1, 3);
        let grouped = instances > 1 && rng.chance(35);
        let version = rng.pick(&[Version::V2, Version::V3, Version::V3]);
        let base_cs = match version {
            Version::V2 => 100,
            Version::V3 => rng.pick(&[5, 10, 30, 100]),
        };
        let longest_cs = match version {
            Version::V2 => base_cs,
            // More than three of the others': whoever does not adopt it would not bear it.
            Version::V3 => base_cs * 4,
        };
        let all_preempt = rng.chance(50);
        let interval = Duration::from_millis(u64::from(longest_cs) * 10);
        let preempt_delay = if !all_preempt && rng.chance(30) {
            interval * 5
        } else {
            Duration::ZERO
        };
        let commons: Vec<_> = (0..instances)
            .map(|i| common(&mut rng, i, count, version))
            .collect();
        let start = Instant::from_millis(1000);
        let mut world = Self {
            nodes: Vec::new(),
            net: Net::new(count),
            checker: Checker::new(
                Bounds::new(version, interval, LINGER, preempt_delay, grouped),
                count,
                instances,
                start,
            ),
            now: start,
            commons,
            grouped,
            all_preempt,
            longest_cs,
            base_cs,
            later: Vec::new(),
            trace: trace.then(VecDeque::new),
            steps: 0,
            reasons: BTreeSet::new(),
            poked: true,
            counts: Vec::new(),
            effects: Vec::new(),
            rng,
        };
        for n in 0..count {
            let params = (0..instances)
                .map(|i| world.params(n, i, version, preempt_delay))
                .collect();
            world.nodes.push(Node::new(n, &world.commons, params, grouped));
        }
        let bounds = world.checker.bounds;
        world.say(format_args!(
            "{count} nodes, {instances} instances, grouped {grouped}, {version}, {base_cs} cs, {bounds:?}"
        ));
        world
    }

    fn params(&mut self, node: usize, instance: usize, version: Version, preempt_delay: Duration) -> Params {
        let cs = if version == Version::V3 && self.rng.chance(15) {
            self.longest_cs
        } else {
            self.base_cs
        };
        let priority = self.rng.pick(&[1, 90, 100, 100, 100, 101, 150, 200, 254, 255]);
        Params {
            version,
            priority: Priority::new(priority).expect("not 0"),
            preempt: self.all_preempt || self.rng.chance(50),
            preempt_delay,
            advert_interval: AdvertInterval::new(version, cs).expect("legal"),
            source: self.commons[instance].sources[node],
            linger: LINGER,
            announce_delay: Duration::from_secs(1),
            announce_refresh: Some(Duration::from_secs(7)),
            gated: false,
        }
    }

    pub(crate) fn say(&mut self, what: impl Display) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            if trace.len() == 4000 {
                trace.pop_front();
            }
            trace.push_back(format!("{now} {what}"));
        }
    }

    /// Lets time pass, and everything in it happen.
    pub(crate) fn run(&mut self, d: Duration) -> Result<(), String> {
        let end = self.now + d;
        // What was injected just now has an effect at once.
        self.happen()?;
        loop {
            let next = self.next().filter(|at| *at <= end);
            let to = next.unwrap_or(end).max(self.now);
            self.pass_to(to)?;
            if next.is_none() {
                return Ok(());
            }
            self.happen()?;
        }
    }

    fn next(&self) -> Option<Instant> {
        let nodes = self.nodes.iter().filter_map(|n| n.next).min();
        let later = self.later.iter().map(|(at, _)| *at).min();
        nodes.into_iter().chain(self.net.next()).chain(later).min()
    }

    /// Nothing changes until `to`: what is now has been so until then.
    fn pass_to(&mut self, to: Instant) -> Result<(), String> {
        let instances = self.commons.len();
        for (at, count) in self.counts.iter().enumerate() {
            self.checker.part(to, at / instances, at % instances, *count)?;
        }
        self.checker.done(to);
        self.now = to;
        Ok(())
    }

    /// Who holds, answers and takes part, in every part of the network.
    fn count(&mut self) {
        let instances = self.commons.len();
        self.counts.clear();
        self.counts.resize(self.nodes.len() * instances, Count::default());
        for (node, part) in self.nodes.iter().zip(&self.net.part).filter(|(n, _)| n.link) {
            for instance in 0..instances {
                let count = &mut self.counts[part * instances + instance];
                let here = usize::from(node.addresses[instance].in_place);
                count.answering += here;
                if node.is_running() {
                    count.holders += here;
                    count.routers +=
                        usize::from(matches!(node.state(instance), State::Backup | State::Active));
                }
            }
        }
    }

    fn happen(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > 3_000_000 {
            return Err("it never ends: somebody is busy doing nothing".into());
        }
        while let Some(at) = self.later.iter().position(|(at, _)| *at <= self.now) {
            let (_, fault) = self.later.swap_remove(at);
            self.inject(fault);
        }
        while let Some((to, packet)) = self.net.arrive(self.now) {
            self.nodes[to].deliver(packet);
        }
        self.wake_all()?;
        self.count();
        Ok(())
    }

    /// Every node does what it has to do by now.
    fn wake_all(&mut self) -> Result<(), String> {
        let poked = core::mem::take(&mut self.poked);
        for n in 0..self.nodes.len() {
            if !poked && !self.nodes[n].is_due(self.now) {
                continue;
            }
            let mut effects = core::mem::take(&mut self.effects);
            self.nodes[n].wake(&mut self.rng, self.now, &mut effects)?;
            self.nodes[n].next = self.nodes[n].due();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Log(i, action) => self.log(n, i, action),
                    Effect::Send { instance, priority } => self.send(n, instance, priority),
                }
            }
            self.effects = effects;
        }
        Ok(())
    }

    fn log(&mut self, node: usize, instance: usize, action: Action) {
        if let Action::Transition { reason, .. } = action {
            self.reasons.insert(reason_name(reason));
        }
        self.say(format_args!("node {node} instance {instance}: {action:?}"));
    }

    fn send(&mut self, from: usize, instance: usize, priority: u8) {
        if !self.nodes[from].link {
            return;
        }
        let packets = self.nodes[from].advert(&self.commons[instance], instance, priority);
        for packet in packets {
            for to in 0..self.nodes.len() {
                let for_it = packet.destination.is_multicast()
                    || self.commons[instance].sources[to] == packet.destination;
                // The sender hears its own multicast too, as over a macvlan (T10).
                if for_it && (to != from || self.rng.chance(5)) {
                    self.net.send(&mut self.rng, self.now, from, to, &packet);
                }
            }
        }
    }

    /// In every connected part with a router in it: one Active, the others Backup, and the addresses with the Active.
    pub(crate) fn check_settled(&self) -> Result<(), String> {
        for part in 0..self.nodes.len() {
            let mut holders = Vec::new();
            for instance in 0..self.commons.len() {
                let there: Vec<_> = (0..self.nodes.len())
                    .filter(|n| {
                        self.net.part[*n] == part && self.nodes[*n].is_running() && self.nodes[*n].link
                    })
                    .collect();
                if there.is_empty() {
                    continue;
                }
                let active: Vec<_> = there
                    .iter()
                    .copied()
                    .filter(|n| self.nodes[*n].state(instance) == State::Active)
                    .collect();
                let [holder] = *active else {
                    return Err(format!(
                        "part {part} instance {instance}: Active are {active:?} of {there:?}"
                    ));
                };
                if there
                    .iter()
                    .any(|n| self.nodes[*n].addresses[instance].in_place != (*n == holder))
                {
                    return Err(format!(
                        "part {part} instance {instance}: addresses are not with node {holder}"
                    ));
                }
                self.check_best(instance, holder, &there)?;
                holders.push(holder);
            }
            if self.grouped && holders.windows(2).any(|w| w[0] != w[1]) {
                return Err(format!("part {part}: the group is torn: {holders:?}"));
            }
        }
        Ok(())
    }

    fn check_best(&self, instance: usize, holder: usize, there: &[usize]) -> Result<(), String> {
        let priority = |n: usize| {
            self.nodes[n]
                .router
                .get(crate::node::id(instance))
                .map_or(0, |m| m.effective_priority().get())
        };
        let best = there.iter().map(|n| priority(*n)).max().unwrap_or(0);
        if self.all_preempt && !self.grouped && priority(holder) != best {
            return Err(format!(
                "instance {instance}: node {holder} holds with {} below {best}",
                priority(holder)
            ));
        }
        Ok(())
    }

    /// Whoever is Active for the first instance in the part where most nodes are.
    pub(crate) fn some_holder(&self) -> Option<usize> {
        (0..self.nodes.len())
            .find(|n| self.nodes[*n].is_running() && self.nodes[*n].state(0) == State::Active)
    }

    pub(crate) fn running(&self) -> usize {
        self.nodes
            .iter()
            .filter(|n| n.process == Process::Running && n.link)
            .count()
    }

    /// Waits until everything must be settled, then looks for a while.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.run(self.checker.bounds.settle)?;
        self.check_settled()?;
        self.checker.demand = Demand::Exactly1;
        self.run(Duration::from_millis(u64::from(self.longest_cs) * 10 * 8))?;
        self.check_settled()?;
        self.checker.demand = Demand::Bounds;
        Ok(())
    }
}

fn common(rng: &mut Rng, instance: usize, nodes: usize, version: Version) -> Common {
    let six = version == Version::V3 && rng.chance(35);
    let i = u8::try_from(instance).expect("few");
    // Shuffled, so that the order of the addresses differs from instance to instance.
    let mut hosts: Vec<u8> = (1..=u8::try_from(nodes).expect("few")).collect();
    for n in (1..hosts.len()).rev() {
        hosts.swap(n, rng.below(n + 1));
    }
    let vips = if six {
        vec![
            IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, 51 + u16::from(i))),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 51 + u16::from(i))),
        ]
    } else {
        vec![IpAddr::V4(Ipv4Addr::new(10, 9, i, 100))]
    };
    let source = |h: u8| {
        if six {
            IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(h)))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, 9, i, h))
        }
    };
    Common {
        vrid: Vrid::new(51 + i).expect("not 0"),
        version,
        auth: (version == Version::V2 && rng.chance(50)).then(|| AuthPass::new("secret").expect("short")),
        vips,
        sources: hosts.into_iter().map(source).collect(),
        unicast: rng.chance(25),
    }
}

/// Every reason there is; a long enough simulation must have seen them all.
pub(crate) const REASONS: [&str; 12] = [
    "Startup",
    "ActiveDown",
    "ActiveLeft",
    "Preempted",
    "Better",
    "Shutdown",
    "Succeeded",
    "NoSuccessor",
    "Overslept",
    "SyncGroup",
    "Fault",
    "Owner",
];

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Startup => "Startup",
        Reason::Resumed => "Resumed",
        Reason::Owner => "Owner",
        Reason::ActiveDown => "ActiveDown",
        Reason::ActiveLeft => "ActiveLeft",
        Reason::Preempted => "Preempted",
        Reason::Better { .. } => "Better",
        Reason::Shutdown => "Shutdown",
        Reason::Succeeded { .. } => "Succeeded",
        Reason::NoSuccessor => "NoSuccessor",
        Reason::Overslept => "Overslept",
        Reason::SyncGroup => "SyncGroup",
        Reason::Fault(_) => "Fault",
    }
}
