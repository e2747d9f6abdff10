//! Every kernel facility that the writer uses, opened once, and what is remembered between turns.
use super::journal::Journal;
use super::view::{GuardView, ReconcileView};
use crate::admin::{DestinationView, ServiceView};
use crate::datapath::ipvs::{self, Ipvs, IpvsError};
use crate::datapath::xdp::{Xdp, chain};
use crate::sys::guard::{Guard, GuardError};
use crate::sys::modules;
use crate::sys::rtnl::{Change, Rtnl, Watch};
use lb_common::health::HealthView;
use lb_common::model::{MacAddr, ServiceKey};
use lb_common::plan::{
    self, AddressKey, Bound, Desired, Lifetime, LocalLink, Op, Place, Role, desired, diff,
};
use lb_common::spec::{DatapathKind, IpvsTimeouts, Spec, VirtualServer};
use lb_common::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// How often something that the kernel lacked is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often the MAC address of another director is asked for.
const ASK_NEIGHBOURS: Duration = Duration::from_secs(15);

/// The kernel as the one writer sees it.
pub struct Kernel {
    pub(super) rtnl: Rtnl,
    watch: Watch,
    pub(super) ipvs: Option<Ipvs>,
    pub(super) guard: Option<Guard>,
    pub(super) xdp: Option<Xdp>,
    pub(super) journal: Journal,
    purpose: Purpose,
    pub(super) local: Local,
    /// What this process put, for kernels that keep no mark on an address.
    pub(super) put: BTreeSet<AddressKey>,
    /// Virtual IPs of an owner that are the node's own addresses, as last read.
    pub(super) own: BTreeSet<IpAddr>,
    peers: BTreeSet<MacAddr>,
    known_macs: BTreeMap<IpAddr, MacAddr>,
    /// What the guard was last told that this node directs.
    directing: Vec<IpAddr>,
    /// Packets that the guard kept from circling, as last read.
    pub(super) guarded: u64,
    looked: Option<Instant>,
    asked: Option<Instant>,
    looked_for_xdp: Option<Instant>,
    ipvs_missing: Option<String>,
    xdp_missing: Option<String>,
    pub(super) guard_missing: Option<String>,
    changes: u64,
    renewals: u64,
    said: BTreeSet<String>,
}

/// Where the addresses of direct routing are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// Not looked for yet, or taken down.
    Unknown,
    /// On [`plan::LOCAL_LINK`].
    Dummy(u32),
    /// On `lo`: the kernel has no dummy device.
    Loopback(u32),
}

/// What somebody opens the kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To hold and to balance.
    Run,
    /// To leave, or to clean up: nothing new is begun. The XDP program of a daemon that died directs until its lease
    /// has run out, and goes with whoever holds its links.
    Leave,
    /// To look, and to change nothing.
    Look,
}

/// How much is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything of ours.
    Everything,
    /// All but what lets the API server here take the packets of directors elsewhere: they go on sending them, and what
    /// they have sent is connected.
    ButRealServer,
}

/// What a turn came to.
#[derive(Debug, Default)]
pub struct Turn {
    /// Every address that the election asked for is there.
    pub addresses_in_place: bool,
    /// What went wrong, as sentences.
    pub problems: Vec<String>,
    /// Virtual servers that the datapath does not carry.
    unable: BTreeSet<ServiceKey>,
    services: Vec<ServiceView>,
}

impl Kernel {
    /// Opens what there is in the network namespace of the calling thread.
    pub async fn open(journal: &Path, purpose: Purpose) -> anyhow::Result<Self> {
        let rtnl = Rtnl::open()?;
        let watch = rtnl.watch()?;
        let mut kernel = Self {
            rtnl,
            watch,
            ipvs: None,
            guard: None,
            xdp: None,
            journal: Journal::open(journal, purpose == Purpose::Look),
            purpose,
            local: Local::Unknown,
            put: BTreeSet::new(),
            own: BTreeSet::new(),
            peers: BTreeSet::new(),
            known_macs: BTreeMap::new(),
            directing: Vec::new(),
            guarded: 0,
            looked: None,
            asked: None,
            looked_for_xdp: None,
            ipvs_missing: None,
            xdp_missing: None,
            guard_missing: None,
            changes: 0,
            renewals: 0,
            said: BTreeSet::new(),
        };
        kernel.look_for_facilities(false);
        Ok(kernel)
    }

    /// Whether virtual servers can be programmed.
    pub fn has_ipvs(&self) -> bool {
        self.ipvs.is_some()
    }

    /// MAC addresses of the other directors.
    pub fn peers(&self) -> &BTreeSet<MacAddr> {
        &self.peers
    }

    /// Whether the XDP program can be used.
    pub fn has_xdp(&self) -> bool {
        self.xdp.is_some()
    }

    /// What keeps the XDP program on its interfaces.
    pub fn xdp_links(&self) -> Vec<Arc<OwnedFd>> {
        self.xdp.as_ref().map(Xdp::held).unwrap_or_default()
    }

    /// Makes ready for the next change, when there is nothing else to do.
    pub async fn settle_xdp(&mut self) {
        if let Some(xdp) = self.xdp.as_mut() {
            xdp.settle().await;
        }
    }

    /// Waits until somebody else changed an address or a link, or a neighbour or route that the XDP program goes by. Others
    /// come and go; they are read when they are needed.
    pub async fn changed(&mut self) {
        loop {
            match self.watch.next().await {
                Ok(changes) => {
                    let xdp = self.xdp.as_ref().filter(|x| x.is_wanted());
                    let concerns_us = |c: &Change| match c {
                        Change::Resync | Change::Link(_) | Change::Address(_) => true,
                        Change::Route => xdp.is_some(),
                        Change::Neighbour { interface, ip } => {
                            xdp.is_some_and(|x| x.watches(*interface, *ip))
                        }
                    };
                    if changes.iter().any(concerns_us) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "listening to the kernel's changes failed; the next second finds them");
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// IPVS and nftables, where they are. With `load`, a module that is missing is asked for.
    fn look_for_facilities(&mut self, load: bool) {
        if self.ipvs.is_none() {
            let mut found = Ipvs::open();
            if load && matches!(found, Err(IpvsError::Unsupported)) {
                if let Err(error) = modules::ensure("ip_vs") {
                    tracing::debug!(%error, "ip_vs cannot be loaded");
                }
                found = Ipvs::open();
            }
            self.ipvs_missing = found.as_ref().err().map(ToString::to_string);
            self.ipvs = found.ok();
        }
        if self.guard.is_none() {
            let found = Guard::open();
            self.guard_missing = found.as_ref().err().map(ToString::to_string);
            self.guard = found.ok();
        }
    }

    /// The XDP program, where the file asks for it: `datapath: xdp`, or `auto` without IPVS. It is loaded to find out
    /// whether it can be.
    pub(super) async fn look_for_xdp(&mut self, spec: &Spec) {
        let has_ipvs = self.ipvs.is_some();
        let asks = |vs: &VirtualServer| match vs.datapath {
            DatapathKind::Xdp => true,
            DatapathKind::Auto => !has_ipvs,
            DatapathKind::Ipvs | DatapathKind::Proxy => false,
        };
        let now = crate::clock::now();
        let due = self
            .looked_for_xdp
            .is_none_or(|at| now.saturating_since(at) >= LOOK_AGAIN);
        if self.xdp.is_some()
            || !due
            || self.purpose == Purpose::Leave
            || !spec.enabled
            || !spec.virtual_servers.iter().any(asks)
        {
            return;
        }
        self.looked_for_xdp = Some(now);
        let found = Xdp::open().await;
        self.xdp_missing = found.as_ref().err().map(ToString::to_string);
        self.xdp = found.ok();
    }

    /// One whole turn: read back, plan, apply.
    pub async fn bring_to(&mut self, spec: &Spec, roles: &[Role], health: &HealthView, renew: bool) -> Turn {
        let now = crate::clock::now();
        let due = |last: Option<Instant>, every| last.is_none_or(|at| now.saturating_since(at) >= every);
        let mut turn = Turn::default();
        if !spec.virtual_servers.is_empty() && spec.enabled {
            if (self.ipvs.is_none() || self.guard.is_none()) && due(self.looked, LOOK_AGAIN) {
                self.looked = Some(now);
                self.look_for_facilities(true);
            }
            if renew || due(self.asked, ASK_NEIGHBOURS) {
                let ask = due(self.asked, ASK_NEIGHBOURS);
                if ask {
                    self.asked = Some(now);
                }
                self.learn_peers(spec, roles, ask).await;
            }
            self.look_for_xdp(spec).await;
            self.note_missing(spec, &mut turn);
        }
        let cx = plan::Context {
            roles,
            health,
            peers: &self.peers,
            ipvs: self.ipvs.is_some(),
            xdp: self.xdp.is_some(),
        };
        let mut want = desired(spec, &cx);
        if self.xdp.is_none() {
            want.forwarding = None;
        }
        if self.guard.is_none() {
            want.guard = None;
        }
        // Taken out of the file: back to what they were.
        want.timeouts = want.timeouts.or(self.journal.timeouts());
        self.settle(want, spec, roles, renew, &mut turn).await;
        turn
    }

    /// An owner's virtual IP may be the node's own address. That one stays as it is: on a lease, and with our mark, it
    /// would go when the owner leaves, and take the node off its network.
    pub(super) fn leave_own(&self, want: &mut Desired) {
        want.addresses
            .retain(|a, _| a.place == Place::Local || !self.own.contains(&a.address.addr()));
    }

    async fn settle(&mut self, mut want: Desired, spec: &Spec, roles: &[Role], renew: bool, turn: &mut Turn) {
        let have = match self.observe(&want, spec, &mut turn.problems).await {
            Ok(have) => have,
            Err(error) => {
                turn.problems
                    .push(format!("reading back what the kernel has: {error:#}"));
                self.say_problems(&turn.problems);
                return;
            }
        };
        self.leave_own(&mut want);
        let want = &want;
        let ops = diff(want, &have, renew);
        self.count(&ops, &have);
        // The guard's own lease first: a new holder's first packet must find it directing.
        self.renew_guard(want, roles, turn).await;
        self.claim_root_array(want, turn);
        let set = ops.iter().any(|op| matches!(op, Op::SetForwarding(_)));
        if let Some(xdp) = self.xdp.as_mut().filter(|_| !set && want.forwarding.is_some()) {
            let problems = xdp.maintain(&mut self.rtnl).await;
            turn.problems.extend(problems);
        }
        let failed = self.apply(&ops, turn).await;
        turn.unable.extend(failed.iter().flat_map(carries));
        turn.addresses_in_place = !failed
            .iter()
            .any(|op| matches!(op, Op::PutAddress(a, _) if a.place != Place::Local));
        if ops.iter().any(|op| matches!(op, Op::SetGuard(_))) {
            self.renew_guard(want, roles, turn).await;
        }
        turn.services = self.service_views(want);
        self.say_problems(&turn.problems);
    }

    /// The XDP program goes into somebody else's array of programs only where nobody's is, and after that was written
    /// down: it stays there when this process dies.
    fn claim_root_array(&mut self, want: &Desired, turn: &mut Turn) {
        let wanted = want
            .forwarding
            .as_ref()
            .and_then(|f| f.attach.root_array.as_ref());
        let Some(array) = wanted else {
            // Taken out of the file. Who only leaves lets it direct until the end.
            if self.purpose == Purpose::Run {
                self.leave_root_array(turn);
            }
            return;
        };
        let Some(xdp) = self.xdp.as_mut() else { return };
        if xdp.has_claimed(array) {
            return;
        }
        if self.journal.root_array() != Some(array) {
            if let Err(why) = chain::is_free(array) {
                turn.problems.push(why);
                return;
            }
            self.leave_root_array(turn);
            self.journal.entering(Some(array));
            if let Err(error) = self.journal.save() {
                turn.problems.push(format!("writing the journal: {error}"));
                return;
            }
        }
        if let Some(xdp) = self.xdp.as_mut() {
            xdp.claim(array);
        }
    }

    /// Takes the XDP program out of the array that the journal names.
    fn leave_root_array(&mut self, turn: &mut Turn) {
        let Some(array) = self.journal.root_array() else {
            return;
        };
        match chain::take_out(array) {
            Ok(_) => self.journal.entering(None),
            Err(why) => turn.problems.push(why),
        }
    }

    /// Renewals are the beat of a holder and no news; everything else is.
    fn count(&mut self, ops: &[Op], have: &plan::Observed) {
        for op in ops {
            match op {
                Op::PutAddress(a, Lifetime::Lease(_)) if have.addresses.contains_key(a) => self.renewals += 1,
                op => {
                    self.changes += 1;
                    tracing::debug!(%op, "changing the kernel");
                }
            }
        }
    }

    async fn renew_guard(&mut self, want: &Desired, roles: &[Role], turn: &mut Turn) {
        let (Some(guard), Some(spec)) = (self.guard.as_mut(), want.guard.as_ref()) else {
            return;
        };
        let held = |vip: &IpAddr| {
            roles
                .iter()
                .any(|r| r.holds && r.virtual_ips.iter().any(|v| v.addr() == *vip))
        };
        let directing: Vec<IpAddr> = spec.vips.iter().copied().filter(held).collect();
        if directing.is_empty() && self.directing.is_empty() {
            return;
        }
        match guard.renew(&directing, GUARD_LEASE).await {
            Ok(()) => self.directing = directing,
            // Not there yet, or flushed: the plan makes it, and then this is called again.
            Err(GuardError::Gone) => {}
            Err(error) => turn.problems.push(error.to_string()),
        }
    }

    /// Finds the MAC addresses of the other directors, and lets the kernel ask for those that it does not know.
    pub(super) async fn learn_peers(&mut self, spec: &Spec, roles: &[Role], ask: bool) {
        let mut others: BTreeSet<IpAddr> = spec
            .virtual_servers
            .iter()
            .flat_map(|v| v.real_servers.iter().map(|s| s.address))
            .collect();
        for instance in &spec.instances {
            if let lb_common::spec::Transport::Unicast { peers, .. } = &instance.transport {
                others.extend(peers);
            }
        }
        let own: BTreeSet<IpAddr> = match self.rtnl.addresses().await {
            Ok(list) => list.into_iter().map(|a| a.key.address.addr()).collect(),
            Err(_) => return,
        };
        let others: Vec<IpAddr> = others.difference(&own).copied().collect();
        let interfaces: BTreeSet<u32> = roles
            .iter()
            .filter_map(|r| r.interface.as_ref().map(|(i, _)| *i))
            .collect();
        for interface in interfaces {
            let Ok(table) = self.rtnl.neighbours(interface).await else {
                continue;
            };
            let macs: BTreeMap<IpAddr, MacAddr> = table
                .iter()
                .filter_map(|n| n.usable().map(|mac| (n.ip, mac)))
                .collect();
            for ip in &others {
                if let Some(mac) = macs.get(ip) {
                    self.known_macs.insert(*ip, *mac);
                } else if ask && self.is_on_link(interface, *ip).await {
                    let _ = self.rtnl.probe_neighbour(interface, *ip).await;
                }
            }
        }
        self.known_macs.retain(|ip, _| others.contains(ip));
        self.peers = self.known_macs.values().copied().collect();
    }

    async fn is_on_link(&mut self, interface: u32, ip: IpAddr) -> bool {
        matches!(self.rtnl.route_to(ip).await, Ok(Some(r)) if r.interface == interface && r.via.is_none())
    }

    fn note_missing(&self, spec: &Spec, turn: &mut Turn) {
        let datapaths: BTreeSet<&str> = spec.virtual_servers.iter().map(|v| self.datapath_of(v)).collect();
        for name in datapaths {
            let missing = match name {
                "ipvs" => self.ipvs_missing.as_ref(),
                "xdp" => self.xdp_missing.as_ref(),
                _ => None,
            };
            if let Some(why) = missing {
                let without = spec
                    .virtual_servers
                    .iter()
                    .filter(|v| self.datapath_of(v) == name);
                turn.unable.extend(without.map(|v| v.key));
                let tried = if name == "xdp" {
                    self.ipvs_missing.as_ref()
                } else {
                    None
                };
                let tried = tried
                    .map(|why| format!("; nor is there IPVS: {why}"))
                    .unwrap_or_default();
                turn.problems.push(format!(
                    "the virtual IPs are carried and nothing is balanced over {name}: {why}{tried}"
                ));
            }
        }
        let direct = spec
            .virtual_servers
            .iter()
            .any(|v| v.forwarding.needs_vip_on_real_server());
        if let Some(why) = self
            .guard_missing
            .as_ref()
            .filter(|_| self.guard.is_none() && direct && self.ipvs.is_some())
        {
            turn.problems.push(format!(
                "there is no guard against packets that circle between two directors during a change of holder: {why}"
            ));
        }
    }

    /// A problem is said when it appears, and not each second.
    fn say_problems(&mut self, problems: &[String]) {
        let now: BTreeSet<String> = problems.iter().cloned().collect();
        for problem in now.difference(&self.said) {
            tracing::warn!(problem, "something is wrong with what the kernel should hold");
        }
        for gone in self.said.difference(&now) {
            tracing::info!(problem = gone, "that is over");
        }
        self.said = now;
    }

    /// Takes down what is ours; what is left although it should go comes back as sentences.
    pub async fn clear(&mut self, extent: Extent) -> Vec<String> {
        self.clear_and_tell(extent).await.1
    }

    /// The same, with what was done.
    pub async fn clear_and_tell(&mut self, extent: Extent) -> (Vec<Op>, Vec<String>) {
        let mut want = Desired {
            timeouts: self.journal.timeouts(),
            ..Desired::default()
        };
        let nothing = Spec {
            name: String::new(),
            enabled: false,
            instances: vec![],
            sync_groups: vec![],
            virtual_servers: vec![],
            connection_sync: None,
            timeouts: None,
            xdp: lb_common::spec::Xdp::default(),
        };
        let mut turn = Turn::default();
        let have = match self.observe(&want, &nothing, &mut turn.problems).await {
            Ok(have) => have,
            Err(error) => {
                return (
                    vec![],
                    vec![format!("reading back what the kernel has: {error:#}")],
                );
            }
        };
        if extent == Extent::ButRealServer {
            keep_real_server(&mut want, &have);
        }
        let ops = diff(&want, &have, false);
        let failed = self.apply(&ops, &mut turn).await;
        self.leave_root_array(&mut turn);
        let done = ops.into_iter().filter(|op| !failed.contains(op)).collect();
        if turn.problems.is_empty() {
            self.journal.forget_timeouts();
            if let Err(error) = self.journal.save() {
                turn.problems.push(format!("writing the journal: {error}"));
            }
        }
        (done, turn.problems)
    }

    /// Which datapath carries a virtual server here: `ipvs`, `xdp` or `proxy`.
    fn datapath_of(&self, vs: &VirtualServer) -> &'static str {
        match vs.datapath {
            DatapathKind::Ipvs => "ipvs",
            DatapathKind::Xdp => "xdp",
            DatapathKind::Auto if self.ipvs.is_some() => "ipvs",
            DatapathKind::Auto => "xdp",
            DatapathKind::Proxy => "proxy",
        }
    }

    fn datapath_text(&self, spec: &Spec, balances: bool) -> String {
        if !balances {
            return "none asked for: the virtual IPs alone".to_owned();
        }
        let names: BTreeSet<&str> = spec.virtual_servers.iter().map(|v| self.datapath_of(v)).collect();
        let each: Vec<&str> = names
            .into_iter()
            .map(|name| match name {
                "ipvs" if self.ipvs.is_none() => "none: this kernel has no IPVS",
                "xdp" if self.xdp.is_none() => "none: there is no IPVS, and the XDP program cannot be used",
                name => name,
            })
            .collect();
        each.join(", ")
    }

    fn service_views(&mut self, want: &Desired) -> Vec<ServiceView> {
        let Some(ipvs) = self.ipvs.as_mut().filter(|_| !want.services.is_empty()) else {
            return vec![];
        };
        let Ok(list) = ipvs.services() else { return vec![] };
        list.into_iter()
            .filter(|o| want.services.contains_key(&o.service.key))
            .map(service_view)
            .collect()
    }

    /// What `status` shows of this turn.
    pub fn view(&mut self, spec: &Spec, turn: Turn) -> ReconcileView {
        let balances = spec.enabled && !spec.virtual_servers.is_empty();
        let datapath = self.datapath_text(spec, balances);
        ReconcileView {
            balances,
            datapath,
            local_link: match self.local {
                Local::Unknown => None,
                Local::Dummy(_) => Some(plan::LOCAL_LINK.into()),
                Local::Loopback(_) => Some("lo".into()),
            },
            services: turn.services,
            xdp: self.xdp.as_mut().and_then(Xdp::view),
            guard: self
                .guard
                .as_ref()
                .filter(|_| balances && self.ipvs.is_some())
                .map(|_| GuardView {
                    peers: self
                        .known_macs
                        .iter()
                        .map(|(ip, mac)| format!("{ip} {mac}"))
                        .collect(),
                    guarded_packets: self.guarded,
                }),
            unable: turn.unable,
            problems: turn.problems,
            changes: self.changes,
            renewals: self.renewals,
        }
    }
}

/// The virtual servers that are not carried while this change fails.
fn carries(op: &Op) -> Vec<ServiceKey> {
    match op {
        Op::AddService(s) | Op::SetService(s) => vec![s.key],
        Op::SetForwarding(f) => f.services.keys().copied().collect(),
        _ => vec![],
    }
}

/// The VIPs of direct routing, their labels, and the interface's silence about them, as they are now.
fn keep_real_server(want: &mut Desired, have: &plan::Observed) {
    want.local_link = have.local_link != LocalLink::Absent;
    let local = have.addresses.keys().filter(|a| a.place == Place::Local);
    want.addresses = local.map(|a| (*a, Lifetime::Forever)).collect();
    want.labels.clone_from(&have.labels);
    let about_arp = have
        .changed_sysctls
        .iter()
        .filter(|s| s.0.ends_with("/arp_ignore") || s.0.ends_with("/arp_announce"));
    want.sysctls = about_arp.map(|s| (s.clone(), Bound::AtLeast(i32::MIN))).collect();
}

/// How long the kernel lets a silent holder direct. A little longer than the addresses' lease: the address goes first.
const GUARD_LEASE: Duration = Duration::from_secs(4);

fn service_view(o: ipvs::Observed) -> ServiceView {
    ServiceView {
        service: o.service,
        connections: o.stats.conns,
        packets_in: o.stats.inpkts,
        bytes_in: o.stats.inbytes,
        destinations: o
            .destinations
            .into_iter()
            .map(|d| DestinationView {
                address: SocketAddr::new(d.destination.address, d.destination.port),
                forwarding: d.destination.forwarding.name().into(),
                weight: d.destination.weight,
                active: d.connections.active,
                inactive: d.connections.inactive,
                persistent: d.connections.persistent,
                connections: d.stats.conns,
            })
            .collect(),
    }
}

/// IPVS's timeouts as the specification has them.
pub(super) fn timeouts_of(t: &ipvs::Timeouts) -> IpvsTimeouts {
    let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    IpvsTimeouts {
        tcp: seconds(t.tcp),
        tcp_fin: seconds(t.tcp_fin),
        udp: seconds(t.udp),
    }
}
