//! A node: a real [`Router`] with the driver's duties around it. It encodes what it sends, receives what arrives, puts
//! addresses in place a little later than it was asked to, and can be killed, stopped and woken.
use crate::net::Packet;
use crate::rng::Rng;
use lb_common::model::{AuthPass, Family, Version, Vrid};
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::{
    Action, GroupId, Input, InstanceId, PacketMeta, Params, ReceiveConfig, Router, State, receive,
};
use lb_common::wire::vrrp::{Addresses, Advertisement, Auth, ChecksumForm, HOP_LIMIT, group};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

/// The kernel drops an address so long after its last renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// Putting an address in place takes at most so long.
pub(crate) const CLAIM: Duration = Duration::from_millis(20);

/// What an instance is on every node.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) vrid: Vrid,
    pub(crate) version: Version,
    pub(crate) auth: Option<AuthPass>,
    pub(crate) vips: Vec<IpAddr>,
    /// The nodes' addresses: where adverts come from.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) unicast: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// Not started, or ended well.
    Stopped,
    Running,
    /// Killed: its addresses stay for their lease.
    Dead,
    /// Stopped by a signal or starved.
    Hung {
        since: Instant,
    },
}

/// One VIP's address on one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Address {
    pub(crate) in_place: bool,
    /// Being put there.
    coming: Option<Instant>,
    /// Nobody renews it: it falls.
    falls: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    pub(crate) process: Process,
    /// The interface is there.
    pub(crate) link: bool,
    pub(crate) router: Router,
    pub(crate) params: Vec<Params>,
    pub(crate) weight: i32,
    pub(crate) addresses: Vec<Address>,
    rx: Vec<ReceiveConfig>,
    inbox: VecDeque<Packet>,
    grouped: bool,
    /// When something is due by the clock, as of the last time it was awake.
    pub(crate) next: Option<Instant>,
}

/// What a node wants of the world.
pub(crate) enum Effect {
    Send { instance: usize, priority: u8 },
    Log(usize, Action),
}

pub(crate) fn id(instance: usize) -> InstanceId {
    InstanceId(u32::try_from(instance).expect("few"))
}

impl Node {
    pub(crate) fn new(index: usize, commons: &[Common], params: Vec<Params>, grouped: bool) -> Self {
        let rx = commons
            .iter()
            .zip(&params)
            .map(|(c, p)| ReceiveConfig {
                version: c.version,
                vrid: c.vrid,
                advert_interval: p.advert_interval,
                auth_pass: c.auth,
                source: p.source,
                addresses: c.vips.clone(),
                peers: if c.unicast {
                    c.sources.iter().copied().filter(|s| *s != p.source).collect()
                } else {
                    vec![]
                },
                unicast_min_hop_limit: c.unicast.then_some(HOP_LIMIT),
            })
            .collect();
        Self {
            index,
            process: Process::Stopped,
            link: true,
            router: Router::new(),
            addresses: vec![Address::default(); params.len()],
            params,
            weight: 0,
            rx,
            inbox: VecDeque::new(),
            grouped,
            next: None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process == Process::Running
    }

    pub(crate) fn state(&self, instance: usize) -> State {
        self.router
            .get(id(instance))
            .map_or(State::Initialize, |m| m.state())
    }

    /// A new process: it removes what a dead one left behind.
    pub(crate) fn start(&mut self, now: Instant) {
        self.process = Process::Running;
        self.router = Router::new();
        self.inbox.clear();
        self.addresses.fill(Address::default());
        let group = self.grouped.then_some(GroupId(0));
        for (i, params) in self.params.iter().enumerate() {
            self.router.insert(id(i), params.clone(), group);
        }
        for i in 0..self.params.len() {
            self.router.handle(now, id(i), Input::Weight(self.weight));
        }
        self.all(now, if self.link { &Input::Startup } else { &DOWN });
    }

    pub(crate) fn all(&mut self, now: Instant, input: &Input) {
        for i in 0..self.params.len() {
            self.router.handle(now, id(i), input.clone());
        }
    }

    /// Nobody renews its addresses any more.
    pub(crate) fn abandon_addresses(&mut self, rng: &mut Rng, now: Instant) {
        for a in &mut self.addresses {
            a.coming = None;
            // The last renewal was up to a second ago.
            a.falls = a
                .in_place
                .then(|| now + (LEASE - rng.duration(Duration::from_secs(1))));
        }
    }

    /// Whatever arrived while it hung is in the socket; that it hung, it sees by the clock.
    pub(crate) fn resume(&mut self, now: Instant) {
        let Process::Hung { since } = self.process else {
            return;
        };
        self.process = Process::Running;
        let slept = now.saturating_since(since);
        for i in 0..self.params.len() {
            if slept > self.params[i].advert_interval.duration() * 2 {
                self.router.handle(now, id(i), Input::Overslept);
            }
        }
        for (i, a) in self.addresses.iter_mut().enumerate() {
            a.falls = None;
            // The renewal puts back what the kernel dropped.
            a.in_place |= self.router.get(id(i)).is_some_and(|m| m.holds());
        }
    }

    pub(crate) fn deliver(&mut self, packet: Packet) {
        match self.process {
            Process::Running | Process::Hung { .. } if self.link && self.inbox.len() < 256 => {
                self.inbox.push_back(packet);
            }
            Process::Running | Process::Hung { .. } | Process::Stopped | Process::Dead => {}
        }
    }

    /// Whether there is something to do now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|at| at <= now) || (self.is_running() && !self.inbox.is_empty())
    }

    /// When something is due by the clock.
    pub(crate) fn due(&self) -> Option<Instant> {
        let timer = if self.is_running() {
            self.router.poll_timeout()
        } else {
            None
        };
        let addresses = self
            .addresses
            .iter()
            .filter_map(|a| a.coming.into_iter().chain(a.falls).min());
        timer.into_iter().chain(addresses).min()
    }

    /// What the driver does when it wakes, in its order: packets, timers, actions.
    pub(crate) fn wake(&mut self, rng: &mut Rng, now: Instant, out: &mut Vec<Effect>) -> Result<(), String> {
        for i in 0..self.addresses.len() {
            let a = &mut self.addresses[i];
            if a.falls.is_some_and(|at| at <= now) {
                *a = Address::default();
            }
            if a.coming.is_some_and(|at| at <= now) {
                (a.coming, a.in_place) = (None, true);
                self.router.handle(now, id(i), Input::Claimed);
            }
        }
        if !self.is_running() {
            return Ok(());
        }
        while let Some(packet) = self.inbox.pop_front() {
            let meta = PacketMeta {
                source: packet.source,
                destination: Some(packet.destination),
                hop_limit: Some(packet.hop_limit),
            };
            if let Ok((advert, _)) = receive(&self.rx[packet.instance], meta, &packet.bytes) {
                self.router
                    .handle(now, id(packet.instance), Input::Advert(advert));
            }
        }
        self.router.handle_timeout(now);
        if self.router.poll_timeout().is_some_and(|t| t <= now) {
            return Err(format!("node {} would spin", self.index));
        }
        while let Some((InstanceId(i), action)) = self.router.poll_action() {
            self.act(rng, now, usize::try_from(i).expect("few"), action, out)?;
        }
        if self
            .router
            .iter()
            .all(|(_, m)| m.state() == State::Initialize && m.fault().is_none())
        {
            self.process = Process::Stopped;
        }
        Ok(())
    }

    fn act(
        &mut self,
        rng: &mut Rng,
        now: Instant,
        i: usize,
        action: Action,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let a = &mut self.addresses[i];
        match action {
            Action::SendAdvert { priority } => out.push(Effect::Send {
                instance: i,
                priority,
            }),
            Action::Claim => {
                a.coming =
                    Some(now + Duration::from_micros(100) + rng.duration(CLAIM - Duration::from_micros(100)))
            }
            Action::Release => *a = Address::default(),
            Action::Announce if !a.in_place => {
                return Err(format!(
                    "node {} announced instance {i} before its address was in place",
                    self.index
                ));
            }
            Action::Willing => return Err("Willing left its group".into()),
            Action::Announce | Action::Transition { .. } => {}
        }
        out.push(Effect::Log(i, action));
        Ok(())
    }

    /// The advert as bytes, to each of its destinations.
    pub(crate) fn advert(&self, common: &Common, instance: usize, priority: u8) -> Vec<Packet> {
        let params = self
            .router
            .get(id(instance))
            .map_or(&self.params[instance], |m| m.params());
        let family = Family::of(params.source);
        let advert = Advertisement {
            version: common.version,
            vrid: common.vrid,
            priority,
            interval_cs: params.advert_interval.centiseconds(),
            reserved: 0,
            auth: (common.version == Version::V2).then(|| Auth::from_pass(common.auth)),
            addresses: Addresses::of(family, common.vips.iter().copied()),
            // Both forms are in use, and a network may have both.
            checksum_form: if self.index.is_multiple_of(2) {
                ChecksumForm::PseudoHeader
            } else {
                ChecksumForm::MessageOnly
            },
        };
        let destinations = if common.unicast {
            common.sources.clone()
        } else {
            vec![group(family)]
        };
        destinations
            .into_iter()
            .map(|destination| {
                let mut bytes = Vec::new();
                advert
                    .encode(params.source, destination, &mut bytes)
                    .expect("an advert that can be sent");
                Packet {
                    instance,
                    source: params.source,
                    destination,
                    hop_limit: HOP_LIMIT,
                    bytes: Rc::new(bytes),
                }
            })
            .collect()
    }

    /// New priority or interval, as a reload brings it.
    pub(crate) fn reconfigure(&mut self, now: Instant, instance: usize, params: Params) {
        self.rx[instance].advert_interval = params.advert_interval;
        self.params[instance] = params.clone();
        self.router
            .handle(now, id(instance), Input::Reconfigure(Box::new(params)));
    }
}

/// What a node without a link is told.
pub(crate) const DOWN: Input = Input::Fault(lb_common::vrrp::FaultReason::InterfaceDown);
