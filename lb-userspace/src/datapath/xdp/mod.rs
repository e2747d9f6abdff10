//! Our own forwarding, in an XDP program.
//!
//! ```text
//! Xdp          what is wanted made true, one turn at a time
//!   object     the eBPF object in this binary, loaded          verifier   its log, kept to what helps
//!   control    side, lease, units: the program that sets them  tables     the maps
//!   place      where on an interface, decided                  attach     there
//!   owner      whose program is there already                  chain      living beside it
//!   neighbours the way to each backend                         trace      the program's own log
//!   view       what `status` shows                             foresee    what `plan` shows
//! ```
//! What the program does with a packet is `lb-ebpf`'s; what it is told is `lb_common::xdp`'s.
pub mod attach;
pub mod chain;
mod control;
mod foresee;
mod neighbours;
pub mod object;
pub mod owner;
pub mod place;
mod tables;
pub mod trace;
mod verifier;
pub mod view;

pub use foresee::foresee;

use crate::sys::bpf::XdpMode;
use crate::sys::ethtool;
use crate::sys::rtnl::{Link, Rtnl};
use attach::{AttachError, Attachment};
use chain::{Next, Root};
use control::Clock;
use lb_common::abi::flow;
use lb_common::abi::reason::{Reason, Verdict};
use lb_common::plan::{Forwarder, Forwarding};
use lb_common::spec::{self, RootArray};
use lb_common::xdp::{BackendKey, Image, Numbers, Reach, Resolved, compile};
use neighbours::{Facts, Found, Freshness};
use object::{Globals, Object, ObjectError};
use place::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tables::Tables;
use trace::Trace;
use view::{BackendView, FlowsView, ForwarderView, InterfaceView, MemberView, XdpView};

/// How long the program directs when nobody renews. A little longer than the addresses' lease: the address goes first.
const LEASE: Duration = Duration::from_secs(4);
/// How often a MAC address that was right some time ago is asked for again.
const REFRESH: Duration = Duration::from_secs(15);
/// How often one that is not known is asked for.
const ASK: Duration = Duration::from_secs(1);
/// How often the flow table is counted.
const COUNT: Duration = Duration::from_secs(5);

/// The datapath on this node.
pub struct Xdp {
    object: Object,
    clock: Clock,
    tables: Tables,
    numbers: Numbers,
    /// By the interface that it is attached to.
    attached: BTreeMap<u32, Attachment>,
    /// What was asked for last.
    wanted: Option<Forwarding>,
    /// What is in the tables.
    compiled: Option<(Forwarding, Resolved)>,
    found: Found,
    links: BTreeMap<u32, Link>,
    asked: Option<Instant>,
    refreshed: Option<Instant>,
    counted: Option<(Instant, FlowsView)>,
    traces: Vec<Trace>,
    next: Option<Next>,
    root: Option<Root>,
    /// The array that our program may be put into.
    claimed: Option<RootArray>,
}

impl Xdp {
    /// Loads the program. Nothing is attached yet.
    pub async fn open() -> Result<Self, ObjectError> {
        let globals = Globals {
            trace: trace::is_wanted(),
            chain: false,
        };
        let object = Object::load(globals)?;
        let clock = Clock::calibrate(&object).await?;
        let tables = Tables::new(&object)?;
        clock.set_units(&object, tables.processors())?;
        let mut xdp = Self {
            object,
            clock,
            tables,
            numbers: Numbers::default(),
            attached: BTreeMap::new(),
            wanted: None,
            compiled: None,
            found: Found::default(),
            links: BTreeMap::new(),
            asked: None,
            refreshed: None,
            counted: None,
            traces: Vec::new(),
            next: None,
            root: None,
            claimed: None,
        };
        xdp.read_traces();
        Ok(xdp)
    }

    /// Reads what programs log that nobody reads yet.
    fn read_traces(&mut self) {
        if self.object.globals().trace {
            self.traces.extend(Trace::start(&mut self.object));
        }
    }

    /// What was asked for, while every interface that had the program still has it.
    pub fn observed(&self) -> Option<Forwarding> {
        let wanted = self.wanted.clone()?;
        let array = wanted.attach.root_array.as_ref();
        let entered = self.root.as_ref().is_none_or(|r| array.is_some_and(|a| r.is_intact(a)));
        let attached = self.attached.values().all(Attachment::is_intact);
        (attached && entered).then_some(wanted)
    }

    /// Whether our program may be put into this array.
    pub fn has_claimed(&self, array: &RootArray) -> bool {
        self.claimed.as_ref() == Some(array)
    }

    /// Our program may be put into this array: nobody else's is there, and the place is written down.
    pub fn claim(&mut self, array: &RootArray) {
        self.claimed = Some(array.clone());
    }

    /// Puts a program with other globals in this one's place, between two packets, on every interface. What is
    /// remembered and counted goes on.
    pub fn replace(&mut self, globals: Globals) -> Result<(), ObjectError> {
        let object = self.object.reload(globals)?;
        for attachment in self.attached.values() {
            attachment.replace(&object)?;
        }
        if let Some(root) = &mut self.root {
            root.put(&object).map_err(|causes| ObjectError::Other {
                doing: "putting another program into `xdp.rootArray`".to_owned(),
                causes,
            })?;
        }
        self.traces.clear();
        self.object = object;
        self.read_traces();
        Ok(())
    }

    /// With what the program was loaded.
    pub fn globals(&self) -> Globals {
        self.object.globals()
    }

    /// Makes it so. What cannot be is said by [`Self::maintain`], now and in each turn.
    pub async fn set(&mut self, forwarding: &Forwarding, rtnl: &mut Rtnl) -> Vec<String> {
        self.wanted = Some(forwarding.clone());
        self.maintain(rtnl).await
    }

    /// One turn: interfaces that came or went, neighbours that changed, and the lease. What is in the way comes back as
    /// sentences.
    pub async fn maintain(&mut self, rtnl: &mut Rtnl) -> Vec<String> {
        let Some(wanted) = self.wanted.clone() else {
            return vec![];
        };
        let mut problems = Vec::new();
        if let Err(error) = self.try_maintain(&wanted, rtnl, &mut problems).await {
            problems.push(format!("{error:#}"));
        }
        problems
    }

    async fn try_maintain(
        &mut self,
        wanted: &Forwarding,
        rtnl: &mut Rtnl,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let links = rtnl.links().await?;
        self.links = links.into_iter().map(|l| (l.index, l)).collect();
        if let Err(error) = self.follow(wanted.attach.next.as_deref(), problems) {
            problems.push(error.to_string());
        }
        let mut facts = Facts {
            links: self.links.clone(),
            ..Facts::default()
        };
        facts.sites = self.sites(&wanted.interfaces, wanted, problems);
        let entrances = facts.sites.clone();
        facts.read(rtnl, wanted).await?;
        let exits = facts.routes.values().map(|r| r.interface);
        let exits: BTreeSet<u32> = exits.filter(|i| !wanted.interfaces.contains(i)).collect();
        facts.sites.extend(self.sites(&exits, wanted, &mut Vec::new()));
        self.found = facts.resolve(wanted, self.clock.unit());
        problems.append(&mut self.found.problems.clone());
        match &wanted.attach.root_array {
            Some(array) => {
                self.attach(&BTreeMap::new(), &BTreeMap::new(), wanted, problems);
                self.enter(array, problems);
            }
            None => {
                self.leave_array();
                self.attach(&entrances, &facts.sites, wanted, problems);
                self.open_exits(&facts.sites, wanted, problems);
            }
        }
        // Whatever is in force goes on, also when what is wanted now cannot be.
        if let Err(error) = self.write(wanted).await {
            problems.push(format!("{error:#}"));
        }
        if !wanted.vips.is_empty() {
            self.clock.lease(&self.object, LEASE)?;
        }
        self.ask(rtnl).await;
        Ok(())
    }

    /// Where the program for each of these interfaces goes.
    fn sites(
        &self,
        interfaces: &BTreeSet<u32>,
        wanted: &Forwarding,
        problems: &mut Vec<String>,
    ) -> BTreeMap<u32, Site> {
        let strips = |l: &Link| ethtool::strips_vlan_tags(&l.name).unwrap_or(true);
        let mut sites = BTreeMap::new();
        for index in interfaces {
            // One that is gone is the election's to say.
            let Some(link) = self.links.get(index) else { continue };
            match place::place(link, &self.links, wanted.attach.mode, strips) {
                Ok(site) => drop(sites.insert(*index, site)),
                Err(why) => problems.push(why),
            }
        }
        sites
    }

    /// Hands what is passed to the program that is pinned at `next`, and to the one that takes its place there.
    fn follow(&mut self, next: Option<&str>, problems: &mut Vec<String>) -> Result<(), ObjectError> {
        let globals = Globals {
            chain: next.is_some(),
            ..self.object.globals()
        };
        if globals != self.object.globals() {
            self.replace(globals)?;
            self.next = None;
        }
        let Some(path) = next else { return Ok(()) };
        match Next::open(path) {
            Ok(next) if self.next.as_ref().is_some_and(|n| n.is(&next)) => {}
            Ok(next) => match next.put_into(&mut self.object) {
                Ok(()) => self.next = Some(next),
                Err(why) => problems.push(why),
            },
            Err(why) => problems.push(why),
        }
        Ok(())
    }

    fn leave_array(&mut self) {
        if let Some(root) = self.root.take() {
            root.leave();
        }
    }

    /// Has the program in the array.
    fn enter(&mut self, array: &RootArray, problems: &mut Vec<String>) {
        if self.root.as_ref().is_some_and(|r| r.is_intact(array)) || !self.has_claimed(array) {
            return;
        }
        self.leave_array();
        match Root::enter(&mut self.object, array) {
            Ok(root) => {
                tracing::info!("the XDP program is in {}", chain::shown(array));
                self.root = Some(root);
                self.read_traces();
            }
            Err(why) => problems.push(why),
        }
    }

    /// Has the program on these places, and keeps it at most where `allowed` says.
    fn attach(
        &mut self,
        sites: &BTreeMap<u32, Site>,
        allowed: &BTreeMap<u32, Site>,
        wanted: &Forwarding,
        problems: &mut Vec<String>,
    ) {
        let mode = wanted.attach.mode;
        let places: BTreeMap<u32, &Site> = allowed.values().map(|s| (s.interface, s)).collect();
        let keep = |index: &u32, a: &Attachment| {
            let native = a.mode == XdpMode::Native;
            places.get(index).is_some_and(|s| s.generic.is_none() || !native)
                && (mode != spec::XdpMode::Native || native)
                && a.is_intact()
        };
        let attached = self.attached.iter();
        let gone: Vec<u32> = attached.filter(|(i, a)| !keep(i, a)).map(|(i, _)| *i).collect();
        for index in gone {
            self.detach(index);
        }
        // From the bottom up: the kernel takes no program below another one.
        let mut order: Vec<&Site> = sites.values().collect();
        order.sort_by_key(|s| self.links.get(&s.interface).is_some_and(|l| l.vlan.is_some()));
        for site in order {
            match self.attach_one(site, mode) {
                Ok(()) | Err(AttachError::Gone(_)) => {}
                Err(error) => problems.push(error.to_string()),
            }
        }
    }

    /// Where a native program sends a frame out of another interface, most drivers take it only while they run a program
    /// themselves.
    fn open_exits(&mut self, sites: &BTreeMap<u32, Site>, wanted: &Forwarding, problems: &mut Vec<String>) {
        let is_native = |a: &Attachment| a.mode == XdpMode::Native;
        if wanted.vips.is_empty() || !self.attached.values().any(is_native) {
            return;
        }
        let exits = self.found.egress.iter().filter(|i| !wanted.interfaces.contains(i));
        for index in exits.copied().collect::<Vec<_>>() {
            let Some(name) = self.links.get(&index).map(|l| l.name.clone()) else {
                continue;
            };
            let why = match sites.get(&index).filter(|s| s.generic.is_none()) {
                None => "no driver runs XDP on it".to_owned(),
                Some(site) => match self.attach_one(site, wanted.attach.mode) {
                    // Somebody else's will do.
                    Err(AttachError::Occupied(owner)) if owner.on.native => continue,
                    Err(error) => error.to_string(),
                    Ok(()) if self.attached.get(&site.interface).is_some_and(is_native) => continue,
                    Ok(()) => "its driver runs no XDP program".to_owned(),
                },
            };
            problems.push(format!(
                "packets to some real servers leave by {name}, which may not take them from a native XDP program ({why}); \
                 `xdp.mode: generic` needs nothing of it"
            ));
        }
    }

    fn attach_one(&mut self, site: &Site, mode: spec::XdpMode) -> Result<(), AttachError> {
        if self.attached.contains_key(&site.interface) {
            return Ok(());
        }
        let ours: Vec<u32> = self.attached.values().filter_map(Attachment::program).collect();
        let mut made = Attachment::make(&mut self.object, site, &self.links, mode, &ours);
        if let Err(AttachError::OursAbove(_, above)) = &made {
            // It is put back in the next turn.
            self.detach(*above);
            made = Attachment::make(&mut self.object, site, &self.links, mode, &ours);
        }
        let made = made?;
        match &made.why {
            None => tracing::info!(interface = site.name, "the XDP program is attached, native"),
            Some(why) => tracing::warn!(
                interface = site.name,
                why,
                "the XDP program is attached, {}",
                made.mode.name()
            ),
        }
        self.attached.insert(site.interface, made);
        self.read_traces();
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        if let Some(attachment) = self.attached.remove(&index) {
            tracing::info!(interface = attachment.site.name, "the XDP program is detached");
            attachment.detach();
        }
    }

    /// Writes the tables if anything in them changed.
    async fn write(&mut self, wanted: &Forwarding) -> anyhow::Result<()> {
        let same = self
            .compiled
            .as_ref()
            .is_some_and(|(f, r)| f == wanted && *r == self.found.resolved);
        if same {
            return Ok(());
        }
        let image: Image = compile(wanted, &self.found.resolved, &mut self.numbers)?;
        let changed = self.tables.put(&self.object, &image).await?;
        if changed {
            tracing::debug!(
                vips = image.side.vip_count,
                pools = image.rings.len(),
                "the XDP program's tables are new"
            );
        }
        self.compiled = Some((wanted.clone(), self.found.resolved.clone()));
        Ok(())
    }

    /// Asks for the MAC addresses that are not known, and again for those that may have changed.
    async fn ask(&mut self, rtnl: &mut Rtnl) {
        let now = Instant::now();
        let due = |last: Option<Instant>, every| last.is_none_or(|at| now.duration_since(at) >= every);
        let (unknown, stale) = (due(self.asked, ASK), due(self.refreshed, REFRESH));
        for ((interface, address), freshness) in &self.found.watched {
            let now = match freshness {
                Freshness::Unknown => unknown,
                Freshness::Stale => stale,
                Freshness::Fresh => false,
            };
            if now && let Err(error) = rtnl.probe_neighbour(*interface, *address).await {
                tracing::debug!(%error, "a neighbour cannot be asked for");
            }
        }
        if unknown {
            self.asked = Some(now);
        }
        if stale {
            self.refreshed = Some(now);
        }
    }

    /// Makes ready for the next change, when there is nothing else to do.
    pub async fn settle(&mut self) {
        self.tables.settle().await;
    }

    /// Whether a change of this neighbour concerns a backend.
    pub fn watches(&self, interface: u32, address: IpAddr) -> bool {
        self.found.watched.contains_key(&(interface, address))
    }

    /// Takes the program off everywhere.
    pub fn clear(&mut self) {
        self.wanted = None;
        self.found = Found::default();
        let all: Vec<u32> = self.attached.keys().copied().collect();
        for index in all {
            self.detach(index);
        }
        self.leave_array();
        self.claimed = None;
        if let Err(error) = self.clock.lease(&self.object, Duration::ZERO) {
            tracing::debug!(%error, "the lease cannot be ended; it runs out");
        }
    }

    /// What keeps the program on its interfaces.
    pub fn held(&self) -> Vec<Arc<OwnedFd>> {
        self.attached.values().map(Attachment::link).collect()
    }

    /// What `status` shows. Counters that cannot be read are zero, which is said in the log.
    pub fn view(&mut self) -> Option<XdpView> {
        let wanted = self.wanted.clone()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut view = XdpView {
            read_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            interfaces: self.attached.values().map(interface_view).collect(),
            trace: self.object.globals().trace,
            flows: self.flows(),
            next: self.next.as_ref().map(|n| n.path().to_owned()),
            root_array: self.root.as_ref().and(self.claimed.as_ref()).map(chain::shown),
            ..XdpView::default()
        };
        view.services = wanted.services.values().map(|s| self.forwarder(s)).collect();
        view.backends = self.numbers.backends().map(|(n, key)| self.backend(n, key)).collect();
        for reason in Reason::ALL {
            let count = self.tables.reason(&self.object, *reason).unwrap_or_default();
            let list = match reason.verdict() {
                Verdict::Pass => &mut view.passed,
                Verdict::Drop => &mut view.dropped,
                Verdict::Answer => &mut view.answered,
            };
            if count > 0 {
                list.insert(reason.name().to_owned(), count);
            }
        }
        Some(view)
    }

    fn flows(&mut self) -> Option<FlowsView> {
        let now = Instant::now();
        if let Some((at, view)) = self.counted
            && now.duration_since(at) < COUNT
        {
            return Some(view);
        }
        let (probation, established) = self.tables.flows()?;
        let view = FlowsView {
            probation,
            established,
            room: (flow::SETS * flow::WAYS) as u64,
        };
        self.counted = Some((now, view));
        Some(view)
    }

    fn forwarder(&self, s: &Forwarder) -> ForwarderView {
        let number = self.numbers.services().find(|(_, key)| **key == s.key);
        let traffic = number.and_then(|(n, _)| self.tables.service(&self.object, n).ok());
        let member = |b: &lb_common::plan::Backend| MemberView {
            address: b.address,
            weight: b.weight,
            up: b.up,
        };
        ForwarderView {
            key: s.key,
            method: s.method.name().to_owned(),
            affinity: s.affinity.map(|p| p.timeout.as_secs()),
            traffic: traffic.unwrap_or_default().into(),
            backends: s.backends.iter().map(member).collect(),
        }
    }

    fn backend(&self, number: u16, key: &BackendKey) -> BackendView {
        let traffic = self.tables.backend(&self.object, number).unwrap_or_default();
        let reach = self.found.resolved.backends.get(&(key.address, key.method));
        BackendView {
            address: key.address,
            method: key.method.name().to_owned(),
            way: self.way(reach.copied().unwrap_or_default()),
            traffic: traffic.into(),
        }
    }

    fn way(&self, reach: Reach) -> String {
        match reach {
            Reach::Local => "this node".into(),
            Reach::Unresolved => "its MAC address is not known".into(),
            Reach::OnLink(hop) => match self.links.get(&hop.ifindex) {
                Some(link) => format!("{} on {}", hop.mac, link.name),
                None => format!("{} on interface {}", hop.mac, hop.ifindex),
            },
        }
    }
}

fn interface_view(a: &Attachment) -> InterfaceView {
    InterfaceView {
        name: a.site.name.clone(),
        mode: a.mode.name().to_owned(),
        why: a.why.clone(),
        program: a.program(),
    }
}
