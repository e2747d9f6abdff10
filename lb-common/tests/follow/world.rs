//! Nodes that check servers, and elect by what they see: real gates, real machines, a clock of steps, one seed.
use crate::rng::Rng;
use lb_common::health::{Follow, Gate, HealthCheck, HealthView, Outcome, Probe, Start, pace};
use lb_common::model::{
    AdvertInterval, Forwarding, Priority, Protocol, Scheduler, SchedulerFlags, ServiceKey, Version,
};
use lb_common::spec::{DatapathKind, RealServer, Track, Tracked, VirtualServer};
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::track::{Outside, TrackServers};
use lb_common::vrrp::{Action, Advert, Input, Machine, Params, State};
use std::net::{IpAddr, SocketAddr};

/// Everything happens at multiples of this.
const STEP: Duration = Duration::from_millis(10);
/// Adverts arrive a step later.
const OBSERVED_EVERY: Duration = Duration::from_secs(1);

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Well,
    /// It answers that it should get nothing new.
    Stopping,
    /// Its port is closed.
    Refuses,
    /// It answers nothing: every try takes its whole time.
    Silent,
}

struct Checker {
    gate: Gate,
    next: Instant,
    /// What comes of the try under way, and when.
    pending: Option<(Instant, Outcome)>,
}

struct Node {
    machine: Machine,
    checkers: Vec<Checker>,
    follow: Follow,
    observe: Instant,
    weight: i32,
}

/// What a run is made of.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) nodes: usize,
    /// Node `n` has the first minus `n` times the second.
    pub(crate) priority: (u8, u8),
    /// In centiseconds.
    pub(crate) advert: u16,
    /// Of a hundred tries, so many are lost for no reason.
    pub(crate) lost: usize,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) servers: Vec<Server>,
    /// Whether node (first) reaches server (second).
    pub(crate) reaches: Vec<Vec<bool>>,
    /// How often the address went to another node. Several of one priority may be Active for an instant; who is left
    /// counts.
    pub(crate) moves: usize,
    held_by: Option<usize>,
    setting: Setting,
    service: VirtualServer,
    track: Vec<Track>,
    nodes: Vec<Node>,
    adverts: Vec<(usize, Advert)>,
}

fn address(last: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(last + 1).expect("few")])
}

fn service(nodes: usize) -> VirtualServer {
    VirtualServer {
        name: "api".into(),
        key: ServiceKey {
            address: address(199),
            port: 6443,
            protocol: Protocol::Tcp,
        },
        instance: 0,
        datapath: DatapathKind::Auto,
        scheduler: Scheduler::RoundRobin,
        flags: SchedulerFlags::default(),
        forwarding: Forwarding::DirectRouting,
        persistence: None,
        health_check: HealthCheck::new(Probe::Tcp),
        slow_start: Duration::ZERO,
        quorum: None,
        hysteresis: 0,
        sorry_server: None,
        proxy_protocol: lb_common::spec::ProxyProtocol::default(),
        real_servers: (0..nodes).map(|n| RealServer::new(address(n), 6443)).collect(),
    }
}

impl World {
    /// Every node has a server, checks all, and has settled on a holder.
    pub(crate) fn new(seed: u64, setting: Setting) -> Self {
        let mut rng = Rng::new(seed);
        let now = Instant::from_millis(1_000);
        let service = service(setting.nodes);
        let nodes = (0..setting.nodes)
            .map(|n| Node::new(&mut rng, n, setting, &service))
            .collect();
        let mut world = Self {
            rng,
            now,
            servers: vec![Server::Well; setting.nodes],
            reaches: vec![vec![true; setting.nodes]; setting.nodes],
            moves: 0,
            held_by: None,
            setting,
            service,
            track: vec![Track {
                what: Tracked::VirtualServers(TrackServers::default()),
                weight: -253,
            }],
            nodes,
            adverts: Vec::new(),
        };
        for node in &mut world.nodes {
            node.machine.handle(now, Input::Startup);
        }
        world.run(Duration::from_secs(20));
        world.moves = 0;
        world
    }

    /// The only node that is Active.
    pub(crate) fn holder(&self) -> usize {
        let all = self.active();
        assert_eq!(all.len(), 1, "holders at {}: {all:?}", self.now);
        all[0]
    }

    fn active(&self) -> Vec<usize> {
        let active = |n: &usize| self.nodes[*n].machine.state() == State::Active;
        (0..self.nodes.len()).filter(active).collect()
    }

    fn count_moves(&mut self) {
        if let [holder] = self.active()[..]
            && self.held_by.replace(holder) != Some(holder)
        {
            self.moves += 1;
        }
    }

    /// Whether a node counts itself able to serve.
    pub(crate) fn is_able(&self, node: usize) -> bool {
        self.nodes[node].follow.is_up()
    }

    pub(crate) fn run(&mut self, d: Duration) {
        let end = self.now + d;
        while self.now < end {
            self.now += STEP;
            for n in 0..self.nodes.len() {
                self.check(n);
                self.observe(n);
                self.elect(n);
            }
            for (from, advert) in std::mem::take(&mut self.adverts) {
                for n in (0..self.nodes.len()).filter(|n| *n != from) {
                    self.nodes[n].machine.handle(self.now, Input::Advert(advert));
                }
            }
            self.count_moves();
        }
    }

    fn check(&mut self, n: usize) {
        let check = &self.service.health_check;
        for (s, checker) in self.nodes[n].checkers.iter_mut().enumerate() {
            if let Some((_, outcome)) = checker.pending.take_if(|(at, _)| *at <= self.now) {
                checker.gate.handle(outcome);
            }
            if checker.pending.is_some() || checker.next > self.now {
                continue;
            }
            let lost = self.rng.chance(self.setting.lost) || !self.reaches[n][s];
            let (takes, outcome) = match self.servers[s] {
                _ if lost => (check.timeout, Outcome::Dead),
                Server::Silent => (check.timeout, Outcome::Dead),
                Server::Refuses => (STEP, Outcome::Dead),
                Server::Stopping => (STEP, Outcome::Unready),
                Server::Well => (STEP, Outcome::Good),
            };
            checker.pending = Some((self.now + takes, outcome));
            checker.next = (self.now + pace::next(check, &checker.gate)).max(self.now + takes);
        }
    }

    fn observe(&mut self, n: usize) {
        let view = self.view(n);
        let node = &mut self.nodes[n];
        if node.observe > self.now {
            return;
        }
        node.observe = self.now + OBSERVED_EVERY;
        let holds = node.machine.holds();
        node.follow.handle(self.now, holds, view.can_serve(&self.service));
        let weight = Outside::of(&self.track, |_| Some(node.follow.is_up())).weight;
        if weight != node.weight {
            node.weight = weight;
            node.machine.handle(self.now, Input::Weight(weight));
        }
    }

    fn view(&self, n: usize) -> HealthView {
        let mut view = HealthView::default();
        for (s, checker) in self.nodes[n].checkers.iter().enumerate() {
            let seat = (self.service.key, SocketAddr::new(address(s), 6443));
            match checker.gate.health() {
                lb_common::health::Health::Up => {}
                lb_common::health::Health::Unready => drop(view.unready.insert(seat)),
                lb_common::health::Health::Down => drop(view.down.insert(seat)),
            }
        }
        view
    }

    fn elect(&mut self, n: usize) {
        let machine = &mut self.nodes[n].machine;
        machine.handle_timeout(self.now);
        while let Some(action) = machine.poll_action() {
            match action {
                Action::SendAdvert { priority } => self.adverts.push((
                    n,
                    Advert {
                        source: address(n),
                        priority,
                        interval_cs: self.setting.advert,
                    },
                )),
                Action::Claim => machine.handle(self.now, Input::Claimed),
                Action::Transition { .. } | Action::Willing | Action::Announce | Action::Release => {}
            }
        }
    }
}

impl Node {
    fn new(rng: &mut Rng, n: usize, setting: Setting, service: &VirtualServer) -> Self {
        let (first, less) = setting.priority;
        let priority = first - u8::try_from(n).expect("few") * less;
        let check = &service.health_check;
        let mut checkers = Vec::new();
        for _ in 0..setting.nodes {
            checkers.push(Checker {
                gate: Gate::new(check.rise, check.fall, Start::Undecided),
                next: Instant::ZERO + rng.duration(check.interval),
                pending: None,
            });
        }
        Self {
            machine: Machine::new(Params {
                version: Version::V3,
                priority: Priority::new(priority).expect("not 0"),
                preempt: true,
                preempt_delay: Duration::ZERO,
                advert_interval: AdvertInterval::new(Version::V3, setting.advert).expect("legal"),
                source: address(n),
                linger: Duration::from_millis(500),
                announce_delay: Duration::from_secs(5),
                announce_refresh: None,
                gated: false,
            }),
            checkers,
            follow: Follow::new(3, 3),
            observe: Instant::ZERO + rng.duration(OBSERVED_EVERY),
            weight: 0,
        }
    }
}
