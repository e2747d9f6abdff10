//! Every kernel facility that the writer uses, opened once, and what is remembered between turns.
use super::facilities::LOOK_AGAIN;
use super::journal::Journal;
use super::proxy::ProxyHand;
use crate::admin::ServiceView;
use crate::datapath::ipvs::{self, Ipvs};
use crate::datapath::xdp::Xdp;
use crate::sys::guard::Guard;
use crate::sys::rtnl::{Change, Rtnl, Watch};
use lb_common::health::HealthView;
use lb_common::model::{MacAddr, ServiceKey};
use lb_common::plan::{self, AddressKey, Desired, Lifetime, Op, Place, Role, desired, diff};
use lb_common::spec::{IpvsTimeouts, Spec};
use lb_common::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// How often the MAC address of another director is asked for.
const ASK_NEIGHBOURS: Duration = Duration::from_secs(15);

/// The kernel as the one writer sees it.
pub struct Kernel {
    pub(super) rtnl: Rtnl,
    watch: Watch,
    pub(super) ipvs: Option<Ipvs>,
    pub(super) guard: Option<Guard>,
    pub(super) xdp: Option<Xdp>,
    pub(super) proxy: ProxyHand,
    pub(super) journal: Journal,
    pub(super) purpose: Purpose,
    pub(super) local: Local,
    /// What this process put, for kernels that keep no mark on an address.
    pub(super) put: BTreeSet<AddressKey>,
    /// Virtual IPs of an owner that are the node's own addresses, as last read.
    pub(super) own: BTreeSet<IpAddr>,
    pub(super) peers: BTreeSet<MacAddr>,
    pub(super) known_macs: BTreeMap<IpAddr, MacAddr>,
    /// What the guard was last told that this node directs.
    pub(super) directing: Vec<IpAddr>,
    /// Packets that the guard kept from circling, as last read.
    pub(super) guarded: u64,
    pub(super) looked: Option<Instant>,
    asked: Option<Instant>,
    pub(super) looked_for_xdp: Option<Instant>,
    pub(super) ipvs_missing: Option<String>,
    pub(super) xdp_missing: Option<String>,
    pub(super) guard_missing: Option<String>,
    pub(super) changes: u64,
    pub(super) renewals: u64,
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
    pub(super) unable: BTreeSet<ServiceKey>,
    pub(super) services: Vec<ServiceView>,
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
            proxy: ProxyHand::default(),
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

    /// Reads the journal again.
    pub(super) fn read_journal(&mut self, journal: &Path) {
        self.journal = Journal::open(journal, self.purpose == Purpose::Look);
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

    /// Waits until somebody else changed an address or a link, or a neighbour that the XDP program sends to. Other
    /// neighbours, and routes, come and go (with every pod); they are read when they are needed.
    pub async fn changed(&mut self) {
        loop {
            match self.watch.next().await {
                Ok(changes) => {
                    let xdp = self.xdp.as_ref();
                    let concerns_us = |c: &Change| match c {
                        Change::Resync | Change::Link(_) | Change::Address(_) => true,
                        Change::Neighbour { interface, ip } => {
                            xdp.is_some_and(|x| x.watches(*interface, *ip))
                        }
                        Change::Route => false,
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

    /// One whole turn: read back, plan, apply.
    pub async fn bring_to(&mut self, spec: &Spec, roles: &[Role], health: &HealthView, renew: bool) -> Turn {
        let now = crate::clock::now();
        let due = |last: Option<Instant>, every| last.is_none_or(|at| now.saturating_since(at) >= every);
        let mut turn = Turn::default();
        if !spec.virtual_servers.is_empty() && spec.enabled {
            if due(self.looked, LOOK_AGAIN) {
                self.look_again(spec);
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
        if self.purpose == Purpose::Leave {
            // Its sessions died with the daemon.
            want.proxy = None;
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
        self.maintain_proxy(&ops, turn).await;
        let failed = self.apply(&ops, turn).await;
        turn.unable.extend(failed.iter().flat_map(carries));
        turn.addresses_in_place = !failed
            .iter()
            .any(|op| matches!(op, Op::PutAddress(a, _) if a.place != Place::Local));
        if ops.iter().any(|op| matches!(op, Op::SetGuard(_))) {
            self.renew_guard(want, roles, turn).await;
        }
        turn.services = self.service_views(want);
        let mut seen = BTreeSet::new();
        turn.problems.retain(|p| seen.insert(p.clone()));
        self.say_problems(&turn.problems);
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

/// The virtual servers that are not carried while this change fails.
fn carries(op: &Op) -> Vec<ServiceKey> {
    match op {
        Op::AddService(s) | Op::SetService(s) => vec![s.key],
        Op::SetForwarding(f) => f.services.keys().copied().collect(),
        _ => vec![],
    }
}
