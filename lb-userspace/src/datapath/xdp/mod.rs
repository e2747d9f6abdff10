//! Our own forwarding, in an XDP program.
//!
//! ```text
//! Xdp          what is wanted made true, one turn at a time
//!   object     the eBPF object in this binary, loaded          verifier   its log, kept to what helps
//!   control    side, lease, units: the program that sets them  tables     the maps
//!   place      where on an interface, decided                  attach     there
//!   owner      whose program is there already                  chain      living beside it
//!   standing   the program where it belongs, each turn         show       counters
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
mod show;
mod standing;
mod tables;
pub mod trace;
mod verifier;
pub mod view;

pub use foresee::foresee;

use crate::sys::rtnl::{Link, Rtnl, RtnlError};
use attach::Attachment;
use chain::{Next, Root};
use control::Clock;
use lb_common::plan::Forwarding;
use lb_common::spec::RootArray;
use lb_common::xdp::{Image, Numbers, Resolved, compile};
use neighbours::{Facts, Found, Freshness};
use object::{Globals, Object, ObjectError};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tables::Tables;
use trace::Trace;
use view::FlowsView;

/// How long the program directs when nobody renews. A little longer than the addresses' lease: the address goes first.
const LEASE: Duration = Duration::from_secs(4);
/// How often a MAC address that was right some time ago is asked for again.
const REFRESH: Duration = Duration::from_secs(15);
/// How often one that is not known is asked for.
const ASK: Duration = Duration::from_secs(1);
/// After so long without an answer it is said.
const SILENCE: Duration = Duration::from_secs(3);

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
    /// Neighbours without a MAC address, since when.
    silent: BTreeMap<(u32, IpAddr), Instant>,
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
        let began = Instant::now();
        let object = Object::load(globals)?;
        tracing::debug!(took = ?began.elapsed(), "the XDP program is loaded");
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
            silent: BTreeMap::new(),
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
        let entered = self
            .root
            .as_ref()
            .is_none_or(|r| array.is_some_and(|a| r.is_intact(a)));
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
            problems.push(error.to_string());
        }
        // Whatever is in force goes on, also when what is wanted now cannot be, or cannot be read.
        if !wanted.vips.is_empty()
            && let Err(error) = self.clock.lease(&self.object, LEASE)
        {
            problems.push(error.to_string());
        }
        problems
    }

    async fn try_maintain(
        &mut self,
        wanted: &Forwarding,
        rtnl: &mut Rtnl,
        problems: &mut Vec<String>,
    ) -> Result<(), RtnlError> {
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
        self.note_silent(problems);
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
        if let Err(error) = self.write(wanted).await {
            problems.push(format!("{error:#}"));
        }
        self.ask(rtnl).await;
        Ok(())
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

    /// A real server that does not tell its MAC address gets nothing. One that was not asked for a moment ago is no news.
    fn note_silent(&mut self, problems: &mut Vec<String>) {
        let now = Instant::now();
        let unknown = |f: &Freshness| *f == Freshness::Unknown;
        let watched = &self.found.watched;
        self.silent.retain(|key, _| watched.get(key).is_some_and(unknown));
        for (key, _) in watched.iter().filter(|(_, f)| unknown(f)) {
            let since = *self.silent.entry(*key).or_insert(now);
            if now.duration_since(since) >= SILENCE {
                let name = self
                    .links
                    .get(&key.0)
                    .map_or("its interface", |l| l.name.as_str());
                problems.push(format!(
                    "{} does not tell its MAC address on {name}: packets that go there are dropped (`no_neighbour`)",
                    key.1
                ));
            }
        }
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
}
